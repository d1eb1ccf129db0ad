"""The socket of a running ``wallet serve``: the same requests, answered by the process that holds the home.

``POST /`` with a request in JSON; the answer is a stream of JSON lines, ``{"progress": ...}`` as often as there is
news, then one ``{"view": ...}`` or ``{"error": {"code", "message"}}``.

*Safety:* only the owner of the home can connect: the socket has mode 0600 from the moment it exists, inside a
directory of mode 0700 that belongs to the same user, which the client checks too.

A path of a Unix socket has room for 107 bytes. A home that is deeper gets its socket in a fresh private directory
under the system's, and ``control.path`` in the home names it either way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from layer1.errors import Refused, WedgeError
from layer1.files import write_durably
from wallet.exits import as_refusal
from wallet.home import Home
from wallet.requests import REQUESTS, Commands, Progress, Report, Request, no_report

MAX_PATH_BYTES = 100
"""Of a socket's path; Linux takes 107, others less."""
MAX_REQUEST_BYTES = 65_536

R = TypeVar("R")
_log = logging.getLogger(__name__)
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is wrong with JSON that is none of ours."""
_ANY_REQUEST: Any = REQUESTS[0]
for _kind in REQUESTS[1:]:
    _ANY_REQUEST = _ANY_REQUEST | _kind


class _ErrorBody(msgspec.Struct):
    code: str
    message: str


class _Line(msgspec.Struct, omit_defaults=True):
    """One line of the answer; exactly one field is set."""

    progress: Progress | None = None
    view: msgspec.Raw = msgspec.Raw()
    error: _ErrorBody | None = None


class ControlServer:
    """Listens while a wallet is served."""

    def __init__(self, home: Home, commands: Commands) -> None:
        self._home = home
        self._commands = commands
        self._runner: web.AppRunner | None = None
        self._path: Path | None = None
        self._directory: Path | None = None

    async def start(self) -> None:
        """Make the socket and say in the home where it is. The home must be locked by us."""
        path = self._path = self._choose_path()
        path.unlink(missing_ok=True)
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(path)).start()
        finally:
            os.umask(before)
        write_durably(self._home.control_path, str(path).encode())

    async def stop(self) -> None:
        """Remove the socket. Requests under way are given up. Harmless when repeated."""
        self._home.control_path.unlink(missing_ok=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _choose_path(self) -> Path:
        inside = self._home.path / "control"
        if len(os.fsencode(inside)) <= MAX_PATH_BYTES:
            return inside
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        parent = runtime if runtime and Path(runtime).is_dir() and len(os.fsencode(runtime)) < 60 else "/tmp"  # noqa: S108
        self._directory = Path(tempfile.mkdtemp(prefix="wallet-", dir=parent))
        return self._directory / "control"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: asyncio.Queue[_Line] = asyncio.Queue(maxsize=1)

        def report(progress: Progress) -> None:
            with suppress(asyncio.QueueFull):  # whoever reads slowly sees fewer steps
                lines.put_nowait(_Line(progress=progress))

        work = asyncio.ensure_future(self._run(await request.read(), report))
        try:
            while not work.done():
                getter = asyncio.ensure_future(lines.get())
                await asyncio.wait({work, getter}, return_when=asyncio.FIRST_COMPLETED)
                if getter.done():
                    await response.write(msgspec.json.encode(getter.result()) + b"\n")
                else:
                    getter.cancel()
            await response.write(msgspec.json.encode(work.result()) + b"\n")
            await response.write_eof()
        except ConnectionError:
            pass  # the asker has gone; what was begun goes on, and the history tells of it
        return response

    async def _run(self, data: bytes, report: Report) -> _Line:
        try:
            request = msgspec.json.decode(data, type=_ANY_REQUEST)
            view = await self._commands.run(request, report)
        except UNREADABLE as error:
            return _Line(error=_ErrorBody("bad_usage", f"not a request of this wallet's version: {error}"))
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            if not isinstance(error, WedgeError):
                _log.exception("a request failed")
            refusal = as_refusal(error)
            return _Line(error=_ErrorBody(refusal.code, refusal.message))
        return _Line(view=msgspec.Raw(msgspec.json.encode(view)))


def _understood(data: bytes, answer: type[R], report: Report) -> R | None:
    """The answer in a line, or None if it only tells of progress.

    Raises:
        Refused: As the serving wallet says.
    """
    line = msgspec.json.decode(data, type=_Line)
    if line.progress is not None:
        report(line.progress)
    elif line.error is not None:
        raise Refused(line.error.code, line.error.message)
    elif bytes(line.view):
        found: R = msgspec.json.decode(line.view, type=answer)
        return found
    return None


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
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)), timeout=timeout) as session,
                session.post("http://wallet/", data=msgspec.json.encode(request)) as response,
            ):
                async for data in response.content:
                    view: R | None = _understood(data, request.answer, report)
                    if view is not None:
                        return view
        except (aiohttp.ClientError, OSError, *UNREADABLE) as error:
            raise self._silent(str(error)) from None
        raise self._silent("it stopped before it answered")

    def _silent(self, why: str) -> Refused:
        return Refused(
            "home_busy",
            f"the wallet that serves this home does not answer on {self._socket}: {why}. If a payment was under way, "
            "look at `wallet history` before repeating it",
        )
