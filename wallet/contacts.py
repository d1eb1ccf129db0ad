"""How a peer is named: ``address@host:port``.

The address is both the account that the peer pays from and the identity that its end of a link must prove
(`wallet.keystore` says why they are one key), so a contact needs no directory and nobody between can answer for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.crypto import PublicKey, format_address, parse_address
from layer1.errors import Refused


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to reach, and where."""

    address: PublicKey
    host: str
    port: int

    def __str__(self) -> str:
        return f"{format_address(self.address)}@{format_endpoint(self.host, self.port)}"


def parse_contact(text: str) -> Contact:
    """Read ``address@host:port``.

    Raises:
        Refused: ``bad_contact`` or ``bad_address``, with the part that is wrong.
    """
    address, at, endpoint = text.partition("@")
    if not at:
        raise Refused(
            "bad_contact", f"{text[:120]!r} is not a contact; one reads address@host:port, as `wallet show` prints it"
        )
    host, port = parse_endpoint(endpoint)
    return Contact(parse_address(address), host, port)


def parse_endpoint(text: str) -> tuple[str, int]:
    """Read ``host:port``; an IPv6 host stands in brackets.

    Raises:
        Refused: ``bad_contact``; the host is missing or the port is not 0 to 65535.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise Refused("bad_contact", f"{text[:120]!r} is not host:port, such as 127.0.0.1:9735")
    return host.removeprefix("[").removesuffix("]"), int(port)


def format_endpoint(host: str, port: int) -> str:
    """``host:port``, with brackets around IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
