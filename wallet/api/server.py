"""The listeners of a wallet's API: the Unix socket of the home's owner, and TCP for holders of tokens.

*Safety:* only the owner of the home can connect to the socket: it has mode 0600 from the moment it exists, inside a
directory of mode 0700 that belongs to the same user, which the client checks too. TCP is encrypted unless it is this
machine's own.

A path of a Unix socket has room for 107 bytes. A home that is deeper gets its socket in a fresh private directory
under the system's, and ``control.path`` in the home names it either way.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web

from layer1.certificates import ServerCertificate, renew
from layer1.errors import Refused, check
from layer1.files import write_durably
from layer1.httpd.application import add_documents, application
from layer1.httpd.server import ApiServer, serve
from wallet.api.desk import Desk
from wallet.api.document import document, route_of
from wallet.api.events import CHRONICLE, Chronicle
from wallet.api.events import ROUTE as EVENTS
from wallet.api.office import Office
from wallet.api.service import LIMITS, WalletService
from wallet.api.verbs import VERBS
from wallet.contacts import format_endpoint, parse_endpoint
from wallet.home import Home
from wallet.requests import Commands

ROUTES = (*map(route_of, VERBS), EVENTS)
MAX_PATH_BYTES = 100
"""Of a socket's path; Linux takes 107, others less."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where else than on its socket a wallet is to be asked."""

    endpoint: str
    """``host:port``, or a port of this machine."""
    certificate: Path | None = None
    """PEM; None for HTTP, on this machine only."""
    key: Path | None = None
    names: tuple[str, ...] = ()
    """DNS names under which it is asked, besides `localhost`."""

    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            Refused: ``bad_contact``, ``bad_usage``.
        """
        text = self.endpoint
        host, port = parse_endpoint(f"127.0.0.1:{text}" if text.isascii() and text.isdigit() else text)
        pair = (self.certificate is None) == (self.key is None)
        check(pair, "bad_usage", "a certificate needs its key, and a key its certificate: give both")
        private = self.certificate is not None or _is_this_machine(host)
        check(private, "bad_usage", f"whoever listens at {host} reads tokens on their way: give --api-certificate too")
        return host, port


def create_app(service: WalletService, chronicle: Chronicle | None) -> web.Application:
    """The application of one listener. A standby has no chronicle."""
    app = application(service, ROUTES)
    service.routes = {(route.method, route.path): route for route in ROUTES}
    if chronicle is not None:
        app[CHRONICLE] = chronicle
    add_documents(app, document(ROUTES, service.limits))
    return app


class WalletServer:
    """The API of one wallet, while it is being served."""

    def __init__(self, home: Home, commands: Commands, office: Office, chronicle: Chronicle | None = None) -> None:
        self._home = home
        self._desk = Desk(commands, office.store, office.tokens)
        self._chronicle = chronicle
        self._runner: web.AppRunner | None = None
        self._tcp: ApiServer | None = None
        self._certificate: ServerCertificate | None = None
        self.app: web.Application | None = None
        """What answers holders of tokens."""
        self._path: Path | None = None
        self._directory: Path | None = None

    async def start(self) -> None:
        """Make the socket and say in the home where it is. The home must be locked by us."""
        path = self._path = self._choose_path()
        path.unlink(missing_ok=True)
        service = WalletService(self._desk, by_token=False)
        self._runner = web.AppRunner(
            create_app(service, self._chronicle), access_log=None, handle_signals=False, handler_cancellation=True
        )
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(path)).start()
        finally:
            os.umask(before)
        write_durably(self._home.control_path, str(path).encode())

    async def listen(self, listening: Listening) -> str:
        """Serve holders of tokens; the URL.

        Raises:
            Refused: ``cannot_listen``, ``bad_contact``, ``bad_usage``.
            LocalError: The certificate cannot be used.
        """
        host, port = listening.address()
        if listening.certificate is not None and listening.key is not None:
            self._certificate = ServerCertificate(listening.certificate, listening.key)
        ssl = self._certificate.context if self._certificate is not None else None
        service = WalletService(self._desk, LIMITS, by_token=True, names=_names(listening, host))
        try:
            self.app = create_app(service, self._chronicle)
            self._tcp = await serve(self.app, host, port, ssl)
        except OSError as error:
            raise Refused(
                "cannot_listen", f"{format_endpoint(host, port)} cannot be listened on ({error.strerror or error})"
            ) from None
        return f"{'http' if ssl is None else 'https'}://{format_endpoint(host, self._tcp.port)}"

    def reload(self) -> None:
        """Go on with the certificate that is in its files now, or with the one before."""
        renew(self._certificate)

    async def stop(self) -> None:
        """Remove the socket. Requests under way are given up. Harmless when repeated."""
        self._home.control_path.unlink(missing_ok=True)
        await self._desk.stop()
        if self._tcp is not None:
            await self._tcp.close()
            self._tcp = None
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


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _names(listening: Listening, host: str) -> Collection[str]:
    return (*listening.names, host)
