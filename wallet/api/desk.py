"""What all listeners of one wallet's API share: its commands, its tokens, and the requests that are being carried out.

*Safety:* what is begun is carried out to its end, whoever listens: a client that leaves stops nothing, and one that
asks again with the same key joins.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from layer1.errors import LocalError, Refused, WedgeError, check
from layer1.httpd.rates import RateLimit, Rates
from wallet.api.keys import Answer, KeyBook
from wallet.api.statuses import is_certain, problem_of
from wallet.api.store import Store
from wallet.api.tokens import Token, TokenBook
from wallet.api.verbs import Verb
from wallet.exits import as_refusal
from wallet.history import now_ms
from wallet.requests import Commands, Progress, Request

MAX_WORKS = 512
"""Requests that are being carried out at once, of all tokens; of the owner besides, as many."""
MAX_OF_A_TOKEN = 128
"""So that no token takes the room of others."""
PER_TOKEN = RateLimit(requests_per_s=100, burst=500, exempt=())
FAILURES = RateLimit(requests_per_s=5, burst=50, exempt=())
"""Wrong tokens of one address."""
MAX_STEPS = 64
"""Lasting steps of a request that wait for a slow reader."""
OWNER = "owner"
"""Whose keys are those that come over the Unix socket; no token has this id."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request."""

    token: Token | None
    """None for the owner of the home."""

    @property
    def name(self) -> str:
        """Whose idempotency keys are its keys."""
        return OWNER if self.token is None else self.token.id

    @property
    def limited(self) -> Token | None:
        """The token whose limits count; None for the owner and for admins, who have none."""
        return self.token if self.token is not None and self.token.limited else None

    def may(self, scopes: tuple[str, ...]) -> bool:
        """Whether one of these scopes is its."""
        return self.token is None or self.token.may(scopes)


@dataclass
class Work:
    """A request that is being carried out."""

    task: asyncio.Task[Answer]
    digest: bytes
    listeners: set[Callable[[Progress], None]] = field(default_factory=set)


class Desk:
    """Carries out requests for all listeners."""

    def __init__(self, commands: Commands, store: Store, tokens: TokenBook) -> None:
        self._commands = commands
        self._keys = KeyBook(store)
        self.tokens = tokens
        self.rates = Rates(PER_TOKEN)
        self.failures = Rates(FAILURES)
        self._works: set[asyncio.Task[Answer]] = set()
        self._begun: Counter[str] = Counter()
        """How many of them, by whose they are."""
        self._by_key: dict[tuple[str, str], Work] = {}

    async def stop(self) -> None:
        """Give up what is being carried out; of what moves money, it is then not known here what became of it."""
        for task in self._works:
            task.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    def carry_out(self, verb: Verb, asked: Request[Any], caller: Caller, key: str | None) -> Work | Answer:
        """Begin a request, or join it, or give the answer that it got before.

        Args:
            verb: What is asked.
            asked: The request.
            caller: By whom.
            key: Its idempotency key; None of what moves no money.

        Raises:
            Refused: ``busy``, and as `wallet.api.keys.KeyBook.begin`. Nothing was begun.
        """
        digest = hashlib.sha256(type(asked).__name__.encode() + b"\0" + msgspec.json.encode(asked)).digest()
        running = None if key is None else self._by_key.get((caller.name, key))
        if running is not None and running.digest == digest:
            return running
        self._check_room(caller)
        if key is not None:
            units = None if verb.spending is None else verb.spending.most(asked)
            known = self._keys.begin(caller.name, key, digest, now_ms(), token=caller.limited, units=units)
            if known is not None:
                return known
        return self._begin(verb, asked, caller, key, digest)

    def _check_room(self, caller: Caller) -> None:
        most = MAX_WORKS if caller.token is None else MAX_OF_A_TOKEN
        checked = [(self._begun[caller.name], most)]
        if caller.token is not None:
            checked.append((len(self._works) - self._begun[OWNER], MAX_WORKS))
        for count, limit in checked:
            check(count < limit, "busy", f"{count} requests are in work, at most {limit} are; try again soon")

    def _ended(self, task: asyncio.Task[Answer], name: str) -> None:
        self._works.discard(task)
        self._begun[name] -= 1
        if not self._begun[name]:
            del self._begun[name]

    def _begin(self, verb: Verb, asked: Request[Any], caller: Caller, key: str | None, digest: bytes) -> Work:
        listeners: set[Callable[[Progress], None]] = set()

        def report(progress: Progress) -> None:
            for listener in listeners:
                listener(progress)

        task = asyncio.ensure_future(self._run(verb, asked, caller, key, report))
        work = Work(task, digest, listeners)
        self._works.add(task)
        self._begun[caller.name] += 1
        task.add_done_callback(lambda done: self._ended(done, caller.name))
        if key is not None:
            name = (caller.name, key)
            self._by_key[name] = work
            task.add_done_callback(lambda _: self._by_key.pop(name, None))
        return work

    async def _run(
        self, verb: Verb, asked: Request[Any], caller: Caller, key: str | None, report: Callable[[Progress], None]
    ) -> Answer:
        most = verb.spending.most(asked) if verb.spending is not None else 0
        try:
            view = await self._commands.run(asked, report)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            answer, unmoved = self._failed(error), most if is_certain(error) else 0
        else:
            answer = 200, msgspec.json.encode(view)
            unmoved = verb.spending.unmoved(asked, view) if verb.spending is not None else 0
        if key is None:
            return answer
        try:
            self._keys.finish(caller.name, key, answer, unmoved)
        except LocalError as error:
            _log.error("the answer to a request cannot be kept: %s", error)
            return problem_of(Refused("pending", f"it was carried out, and its answer could not be kept: {error}"))
        return answer

    def _failed(self, error: Exception) -> Answer:
        if not isinstance(error, WedgeError):
            _log.exception("a request failed", exc_info=error)
        return problem_of(as_refusal(error))


def progress_of(work: Work) -> asyncio.Queue[Progress]:
    """A queue of its progress: whoever reads slowly sees fewer steps, but as many lasting ones as there is room for."""
    lines: asyncio.Queue[Progress] = asyncio.Queue(maxsize=MAX_STEPS)

    def report(progress: Progress) -> None:
        if progress.lasting or lines.empty():
            with suppress(asyncio.QueueFull):
                lines.put_nowait(progress)

    work.listeners.add(report)
    work.task.add_done_callback(lambda _: work.listeners.discard(report))
    return lines
