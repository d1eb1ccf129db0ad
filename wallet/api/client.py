"""The command line as a client of the wallet that is being served: the same API, over the owner's Unix socket."""

from __future__ import annotations

import os
import stat
import uuid
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from layer1.errors import Refused, RemoteError
from layer1.httpd.views import Problem
from layer1.sse import EventParser, RawEvent
from wallet.api.verbs import Verb, verb_of
from wallet.home import Home
from wallet.requests import Progress, Report, Request, no_report

MAX_ANSWER_BYTES = 64 * 2**20
"""Of one answer: a long history."""
R = TypeVar("R")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RemoteError)
"""What is wrong with an answer that is none of ours."""


class RemoteCommands:
    """Passes requests to the process that serves the home."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    @classmethod
    def find(cls, home: Home) -> RemoteCommands | None:
        """The way to the wallet that is served from `home`; None if none is, or its socket is not its owner's."""
        try:
            path = Path(os.fsdecode(home.control_path.read_bytes()))
            state, parent = path.lstat(), path.parent.stat()
        except OSError:
            return None
        private = stat.S_ISSOCK(state.st_mode) and state.st_uid == parent.st_uid == os.getuid()
        return cls(path) if private and not stat.S_IMODE(state.st_mode) & 0o077 else None

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        """Ask, follow the progress, give the answer.

        Raises:
            Refused: As the serving wallet says; ``home_busy`` if it does not answer.
        """
        verb, timeout = verb_of(request), aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)), timeout=timeout) as session,
                session.request(verb.method, f"http://wallet{_path(verb, request)}", **_carried(verb, request)) as said,
            ):
                if said.content_type != "text/event-stream":
                    raise refusal_of(await said.read())
                parser = EventParser(MAX_ANSWER_BYTES)
                async for data in said.content.iter_any():
                    for event in parser.feed(data):
                        if event.kind != "progress":
                            return _answer(event, request)
                        report(_progress(event))
        except (aiohttp.ClientError, OSError, *UNREADABLE) as error:
            raise self._silent(str(error)) from None
        raise self._silent("it stopped before it answered")

    def _silent(self, why: str) -> Refused:
        return Refused(
            "home_busy",
            f"the wallet that serves this home does not answer on {self._socket}: {why}. If a payment was under way, "
            "look at `wallet history` before repeating it",
        )


def refusal_of(body: bytes | str) -> Refused:
    """What a problem says.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    problem = msgspec.json.decode(body, type=Problem)
    return Refused(problem.code, problem.detail)


def _answer(event: RawEvent, request: Request[R]) -> R:
    if event.kind != "answer":
        raise refusal_of(event.data)
    found: R = msgspec.json.decode(event.data, type=request.answer)
    return found


def _progress(event: RawEvent) -> Progress:
    return msgspec.json.decode(event.data, type=Progress)


def _path(verb: Verb, request: Request[Any]) -> str:
    return verb.path.format(**{name: quote(str(getattr(request, name)), safe="") for name in verb.in_path})


def _carried(verb: Verb, request: Request[Any]) -> dict[str, Any]:
    """What a request carries besides its path."""
    headers = {"Accept": "text/event-stream"}
    if verb.moves_money:
        headers["Idempotency-Key"] = str(uuid.uuid4())  # each call of the command is a payment of its own
    given = {name: getattr(request, name) for name in verb.carried if getattr(request, name) is not None}
    if verb.has_body:
        headers["Content-Type"] = "application/json"
        return {"headers": headers, "data": msgspec.json.encode(given)}
    return {"headers": headers, "params": {name: str(value) for name, value in given.items()}}
