"""A Byzantine replica as a process: the product's own, with a lie between its core and everybody else.

The lies on links are the simulator's (`tests/simulation/byzantine`, one role per file), hosted here by a process with
real links, time and disk. Two more need a process: one leads in the past, one tells clients what was true before.

`install` changes what `layer1 start` runs in this process, which a test started for that purpose. Each lie is counted
in a file, so that a test can tell a liar from a role that found nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from layer1.api.app import create_app
from layer1.api.backend import Backend
from layer1.config import ReplicaConfig
from layer1.consensus import core as consensus_core
from layer1.consensus.events import Build
from layer1.consensus.messages import View
from layer1.crypto import SigningKey
from layer1.header import Header
from layer1.httpd.rates import RateLimit
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.link import Link
from layer1.replica import core as replica_core
from layer1.replica import driver, peers
from layer1.replica.core import consensus_config
from tests.simulation.byzantine import ROLES
from tests.simulation.byzantine.role import Host, Role

OLD_S = 3.5
"""How old the news are: less than `layer1.proof.max_age_ms`, so that age alone gives nothing away."""


class Tally:
    """Counts lies in a file, one byte each."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def lied(self) -> None:
        """Count one."""
        self._file.write(b".")


def install(name: str, tally: Path) -> None:
    """Make the replica of this process play a role."""
    if name == "backdating":
        _replace(replica_core, "Consensus", _backdating(Tally(tally)))
    elif name == "old news":
        _replace(driver, "create_app", _old_news(Tally(tally)))
    else:
        _replace(driver, "PeerLinks", _lying_links(ROLES[name], Tally(tally)))


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Put a lie into the place of something that is there."""
    if not hasattr(module, name):
        raise AttributeError(f"{module.__name__} has no {name} any more; find the new place for this lie")
    setattr(module, name, value)


# ------------------------------------------------------------------------------------------------------- lies on links


class _World:
    """What roles use of a simulated world, on the clock of a real one."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.stats = Counter[str]()

    @property
    def now_us(self) -> int:
        return int((time.monotonic() - self._started) * 1_000_000)

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_us / 1_000_000, action)

    def note(self, *_: object) -> None:
        """Nobody reads it."""


class _Seat:
    """What a role sees of its process: see `tests.simulation.byzantine.role.Host`."""

    def __init__(self, index: int, key: SigningKey, genesis: Genesis, transmit: Callable[[int | None, bytes], None]):
        self.world = _World()
        self.index = index
        self.key = key
        self.replica_set = genesis.replica_set
        self.config = consensus_config(genesis, self.replica_set)
        self.peers = tuple(number for number in self.replica_set.numbers if number != index)
        self.transmit = transmit


class LyingLinks(peers.PeerLinks):
    """Links with a role between them and the replica, their host."""

    def __init__(
        self,
        role: type[Role],
        tally: Tally,
        config: ReplicaConfig,
        genesis: Genesis,
        key: SigningKey,
        generation: Callable[[], int],
        host: peers.Host,
        *,
        sets: Callable[[], Sequence[ReplicaSet]],
    ) -> None:
        index = genesis.replicas.index(key.public)
        seat = _Seat(index, key, genesis, self._say)
        self._role = role(cast(Host, seat), Random(f"{role.__name__} {index}"))
        self._tally = tally
        self._replica = host
        super().__init__(config, genesis, key, lambda: self._claim(generation()), self, sets=sets)

    def send(self, link: Link | None, data: bytes) -> None:
        """Send what the role makes of it."""
        for receiver, one in list(self.links.items()):
            if link is not None and link is not one:
                continue
            really = list(self._role.outgoing(receiver, data))
            if really != [data]:
                self._tally.lied()
            for part in really:
                super().send(one, part)

    def received(self, peer: int, data: bytes) -> None:
        """Let the replica hear what the role lets through."""
        seen = list(self._role.incoming(peer, data))
        if seen != [data]:
            self._tally.lied()
        for part in seen:
            self._replica.received(peer, part)

    def refuse(self, peer: int, generation: int) -> bytes | None:
        """As the replica does."""
        return self._replica.refuse(peer, generation)

    def link_up(self, peer: int, generation: int) -> None:
        """Pass it on."""
        self._replica.link_up(peer, generation)

    def link_down(self, peer: int) -> None:
        """Pass it on."""
        self._replica.link_down(peer)

    def _say(self, peer: int | None, data: bytes) -> None:
        self._tally.lied()
        link = None if peer is None else self.links.get(peer)
        if peer is None or link is not None:
            super().send(link, data)

    def _claim(self, generation: int) -> int:
        return self._role.generation(generation)


def _lying_links(role: type[Role], tally: Tally) -> Callable[..., LyingLinks]:
    def make(*arguments: object, **named: object) -> LyingLinks:
        return LyingLinks(role, tally, *arguments, **named)  # type: ignore[arg-type]  # those of `PeerLinks`

    return make


# --------------------------------------------------------------------------------------------------------- other lies


def _backdating(tally: Tally) -> type[consensus_core.Consensus]:
    class Backdating(consensus_core.Consensus):
        """As leader it lets time stand still: every block has its parent's wall time."""

        def _build(self, view: View, parent: Header) -> None:
            tally.lied()
            self._asked = Build(view, self.config.epoch, parent, parent.wall_time)
            self._emit(self._asked)

    return Backdating


def _old_news(tally: Tally) -> Callable[..., web.Application]:
    """An API that shows accounts as they were, with the proofs of that time, and does everything else well."""
    said: dict[str, tuple[float, int, bytes]] = {}

    @web.middleware
    async def repeat(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/accounts"):
            return await handler(request)
        at, status, body = said.get(request.path_qs, (0.0, 0, b""))
        if time.monotonic() < at + OLD_S:
            tally.lied()
            return web.Response(status=status, body=body, content_type="application/json")
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            said[request.path_qs] = time.monotonic(), response.status, response.body
        return response

    def create(backend: Backend, rate: RateLimit, *, metrics_apart: bool) -> web.Application:
        app = create_app(backend, rate=rate, metrics_apart=metrics_apart)
        app.middlewares.insert(0, repeat)
        return app

    return create
