"""One listener's part of the API: who may come in, and which of the routes are theirs.

*Safety:* over TCP nobody has any rights but by a token that the request carries itself. A page in a browser on this
machine carries none, and cannot reach the API under a name of its own (DNS rebinding) or read what it answers.

Over the Unix socket, which only the owner of the home can open, everything is allowed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import cast

from aiohttp import web
from yarl import URL

from layer1.errors import Refused, WedgeError, check
from layer1.httpd.limits import HttpLimits
from layer1.httpd.routes import Route
from layer1.httpd.service import SERVICE, Service
from wallet.api.desk import Caller, Desk
from wallet.api.statuses import STATUSES
from wallet.exits import as_refusal

LIMITS = HttpLimits(body_bytes=128 * 1024, small_body_bytes=128 * 1024, connections=256, requests=64, streams=32)
"""Of one wallet: a handful of programs, each with a few connections."""
DOCUMENTS = ("/openapi.json", "/docs")
"""Tell nothing of this wallet, so anybody may read them."""
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
"""Under which a request keeps who makes it."""


class WalletService(Service):
    """See above.

    Attributes:
        desk: Of all listeners.
        routes: By method and path, as they are declared.
    """

    statuses: Mapping[str, int] = STATUSES

    def __init__(self, desk: Desk, limits: HttpLimits = LIMITS, *, by_token: bool, names: Collection[str] = ()) -> None:
        """Make the part of one listener.

        Args:
            desk: Of all listeners.
            limits: See there.
            by_token: Whether requests need a token; else they are the owner's.
            names: Further DNS names under which this listener may be asked.
        """
        super().__init__(limits)
        self.desk = desk
        self.routes: dict[tuple[str, str], Route] = {}
        self._by_token = by_token
        self._names = {"localhost", *(name.lower() for name in names)}

    def admit(self, request: web.Request) -> None:
        """See who asks, and whether they may.

        Raises:
            Refused: ``wrong_host``, ``cross_origin``, ``no_token``, ``wrong_token``, ``out_of_scope``, or
                ``rate_limited``.
        """
        if not self._by_token:
            request[CALLER] = Caller(None)
            return
        self._check_host(request)
        _check_origin(request)
        resource = request.match_info.route.resource
        if resource is None or request.path in DOCUMENTS:
            return  # what there is not is told to anybody
        caller = request[CALLER] = self._authenticated(request)
        route = self.routes.get((request.method, resource.canonical))
        scopes = route.scopes if route is not None else ()
        if not caller.may(scopes):
            wanted = " or ".join(scopes) or "admin"
            raise Refused("out_of_scope", f"{request.method} {resource.canonical} needs a token of scope {wanted}")

    def _authenticated(self, request: web.Request) -> Caller:
        headers = request.headers.getall("Authorization", [])
        scheme, _, text = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
        now_s = time.monotonic()
        if scheme.lower() != "bearer":
            raise Refused("no_token", "give a token in one header `Authorization: Bearer ...`: `wallet token create`")
        token = self.desk.tokens.find(text.strip())
        if token is None:
            self.desk.failures.count(request.remote or "", now_s)
            raise Refused("wrong_token", "this is no token of this wallet, or it was revoked: `wallet token create`")
        self.desk.rates.count(token.id, now_s)
        return Caller(token)

    def _check_host(self, request: web.Request) -> None:
        """A page elsewhere can make its own name mean this machine; an address means what it is."""
        host = _host_of(request.headers.get("Host", ""))
        named = host in self._names or _is_address(host)
        check(named, "wrong_host", f"this API is not called {host[:80]!r}: `wallet serve --api-name` adds a name")

    def explain(self, error: Exception) -> Refused | None:
        """Everything that the wallet raises on purpose has a code."""
        return as_refusal(error) if isinstance(error, WedgeError) else None


def _check_origin(request: web.Request) -> None:
    """Browsers say for whom they ask; nothing but this API's own pages may make them."""
    origin = request.headers.get("Origin")
    if origin is not None and _authority(origin) != request.headers.get("Host", "").lower():
        raise Refused("cross_origin", f"a page of {origin[:80]!r} asks; only programs and this API's own pages may")
    site = request.headers.get("Sec-Fetch-Site", "none")
    check(site in ("none", "same-origin"), "cross_origin", "a page of another site asks; only programs may")


def _authority(origin: str) -> str | None:
    try:
        return URL(origin).authority.lower()
    except ValueError:
        return None


def _host_of(header: str) -> str:
    """The host in ``host:port``, without brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def service_of(request: web.Request) -> WalletService:
    """The listener's part, from a request."""
    return cast(WalletService, request.app[SERVICE])


def caller_of(request: web.Request) -> Caller:
    """Who makes a request; :meth:`WalletService.admit` has seen to it."""
    return request[CALLER]
