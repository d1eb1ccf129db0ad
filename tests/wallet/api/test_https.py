"""The API behind a certificate, which is renewed while it serves."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from yarl import URL

from tests.authority import Authority
from tests.wallet.api.conftest import Desk
from wallet.api.server import Listening


async def shown(port: int) -> str:
    """The certificate that a server shows."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


async def test_a_certificate_is_renewed_without_a_restart_and_a_broken_one_changes_nothing(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    await desk.server.stop()
    url = URL(await desk.server.listen(Listening("127.0.0.1:0", certificate, key)))
    assert url.scheme == "https" and url.port is not None
    port = url.port
    before = certificate.read_text()
    assert await shown(port) == before

    key.write_text("broken")
    with caplog.at_level(logging.INFO, "layer1.certificates"):
        desk.server.reload()
        assert await shown(port) == before and "not renewed" in caplog.text
        authority.issue()
        desk.server.reload()
    assert await shown(port) == certificate.read_text() != before


async def test_without_a_certificate_there_is_nothing_to_load(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "layer1.certificates"):
        desk.server.reload()
    assert "nothing to load" in caplog.text
