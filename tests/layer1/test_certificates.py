"""HTTPS: who is trusted, what is loaded, and what a renewal that fails leaves behind."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from layer1.api.app import create_app
from layer1.certificates import ServerCertificate, trusting
from layer1.client import LedgerClient, LedgerUnreachable, fetch_genesis
from layer1.errors import LocalError, Refused
from layer1.httpd.server import MOST_ARRIVING, serve
from tests.authority import Authority
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis
from tests.layer1.api.test_connections import idle
from tests.layer1.test_client import LIMITS


@dataclass
class Secure:
    """A replica behind a certificate."""

    authority: Authority
    certificate: ServerCertificate
    backend: StandIn
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def shown(self) -> int:
        """The serial number of the certificate that a new connection gets."""
        context = ssl.create_default_context(cafile=str(self.authority.path))
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(der).serial_number


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    authority = Authority(tmp_path)
    certificate = ServerCertificate(*authority.issue())
    backend = StandIn(Chain(make_genesis()), tmp_path)
    server = await serve(create_app(backend), ssl=certificate.context)
    yield Secure(authority, certificate, backend, server.port)
    await server.close()
    backend.close()


async def test_a_client_trusts_the_authority_that_it_is_given(secure: Secure) -> None:
    secure.backend.order()
    ca = secure.authority.path
    genesis = await fetch_genesis(secure.url, LIMITS, ca)
    assert genesis == secure.backend.genesis
    async with LedgerClient([secure.url], genesis, LIMITS, ca=ca) as client:
        assert (await client.head()).height == 1
        events = client.events(after=0)
        assert (await anext(events)).height == 1
        await events.aclose()


async def test_nobody_else_is_trusted(secure: Secure, tmp_path: Path) -> None:
    for ca in (None, Authority(tmp_path, "another").path):
        async with LedgerClient([secure.url], secure.backend.genesis, LIMITS, ca=ca) as client:
            with pytest.raises(LedgerUnreachable, match=r"certificate that is not to be trusted.*--ca"):
                await client.head()


async def test_a_certificate_for_another_address_is_not_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = ServerCertificate(*authority.issue(host="192.0.2.1"))
    backend = StandIn(Chain(make_genesis()), tmp_path)
    server = await serve(create_app(backend), ssl=certificate.context)
    async with LedgerClient([f"https://127.0.0.1:{server.port}"], backend.genesis, LIMITS, ca=authority.path) as client:
        with pytest.raises(LedgerUnreachable, match=r"not valid for '127\.0\.0\.1'"):
            await client.head()
    await server.close()
    backend.close()


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(secure: Secure) -> None:
    before = await secure.shown()
    async with LedgerClient([secure.url], secure.backend.genesis, LIMITS, ca=secure.authority.path) as client:
        await client.head()
        path, _ = secure.authority.issue()
        assert await secure.shown() == before, "nothing is loaded unasked"
        secure.certificate.reload()
        assert await secure.shown() == serial(path) != before
        await client.head()


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "other key", "passphrase", "open to all"])
async def test_what_does_not_load_changes_nothing(secure: Secure, damage: str) -> None:
    before = await secure.shown()
    certificate, key = secure.authority.issue()
    if damage == "missing":
        certificate.unlink()
    elif damage == "empty":
        certificate.write_bytes(b"")
    elif damage == "garbage":
        certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\n\x00\xff\n-----END CERTIFICATE-----\n")
    elif damage == "other key":
        key.write_bytes(secure.authority.issue("other")[1].read_bytes())
    elif damage == "passphrase":
        secure.authority.issue(passphrase=b"secret")
    else:
        key.chmod(0o644)
    with pytest.raises(LocalError, match=r"server\.(pem|key)"):
        secure.certificate.reload()
    assert await secure.shown() == before


def test_a_certificate_that_ends_soon_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning and no more: a ledger does not stop because a certificate ended."""
    authority = Authority(tmp_path)
    for days in (13.0, -1.0):
        ServerCertificate(*authority.issue(days=days))
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "renew it" in record.getMessage()
        caplog.clear()
    ServerCertificate(*authority.issue(days=15))
    assert not caplog.records


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_without_authorities_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refused, match=r"ca\.pem holds no certificates"):
        trusting(path)


@pytest.mark.slow
async def test_strangers_who_never_begin_tls_are_bounded_and_keep_nobody_out(secure: Secure) -> None:
    """They use up descriptors before HTTP begins, and with them the journal's; the oldest gives way."""
    before = len(os.listdir("/proc/self/fd"))
    strangers: list[socket.socket] = []
    try:
        for number in range(600):
            strangers.append(await idle(secure.port))
            if number % 100 == 0:
                await secure.shown()
        await secure.shown()
        held = len(os.listdir("/proc/self/fd")) - before - len(strangers)
        assert held <= MOST_ARRIVING + 20
    finally:
        for stranger in strangers:
            stranger.close()
