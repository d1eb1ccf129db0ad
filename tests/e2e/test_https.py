"""Real replica processes behind a certificate: clients, commands, metrics apart, and a renewal under SIGHUP."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path

import pytest

from layer1.client import LedgerClient
from layer1.config import CONFIG_NAME
from layer1.console import EXIT_UNREACHABLE
from layer1.devnet import Devnet, Plan, Reservation, home_of, initialize
from tests.authority import Authority
from tests.e2e.cluster import until

BIN = Path(sys.executable).parent
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def command(*arguments: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    process = await asyncio.create_subprocess_exec(
        BIN / arguments[0], *arguments[1:], stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


def shown_at(port: int) -> str:
    """The certificate that a server shows."""
    return ssl.get_server_certificate(("127.0.0.1", port))


async def test_a_ledger_behind_https(tmp_path: Path) -> None:
    """What `docs/http.md` says, with one replica: it is HTTPS for all, and a renewal needs no restart."""
    authority, directory, ports = Authority(tmp_path), tmp_path / "ledger", Reservation()
    certificate, key = authority.issue()
    initialize(directory, Plan(replicas=1))
    metrics = ports.take("127.0.0.1", 0)
    ports.release()
    config = home_of(directory, 0) / CONFIG_NAME
    given = f'certificate = "{certificate}"\nkey = "{key}"\nmetrics = "127.0.0.1:{metrics}"\n'
    config.write_text(config.read_text().replace("[http]\n", f"[http]\n{given}", 1))
    ca = str(authority.path)
    async with Devnet(directory) as net:
        (url,) = net.urls
        assert url.startswith("https://")
        async with LedgerClient([url], net.genesis, ca=authority.path) as client:
            assert (await client.head()).height >= 0
            assert (await client._replicas.get(client._replicas.all[0], "/metrics")).status == 404
        code, out = await command("layer1", "status", "--api", url, "--ca", ca, "--json")
        assert (code, json.loads(out)["replicas"][0]["error"]) == (0, None)
        code, out = await command("layer1", "status", "--api", url, "--json")
        assert code == EXIT_UNREACHABLE
        assert "--ca" in json.loads(out)["replicas"][0]["error"]
        await wallet_connects(tmp_path, url, ca)

        reader, writer = await asyncio.open_connection("127.0.0.1", metrics)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"\nledger_height " in await reader.read()
        writer.close()

        port, process = net.children[0].config.api.port, net.children[0].process
        assert process is not None
        before = await asyncio.to_thread(shown_at, port)
        key.write_text("broken")
        process.send_signal(signal.SIGHUP)
        await until_logged(net, "not renewed")
        assert await asyncio.to_thread(shown_at, port) == before
        authority.issue()
        process.send_signal(signal.SIGHUP)
        await until_logged(net, "loaded again")
        assert await asyncio.to_thread(shown_at, port) == certificate.read_text()


async def test_without_a_certificate_there_is_nothing_to_load_again(tmp_path: Path) -> None:
    """A unit that reloads all its services must not end the replica."""
    initialize(tmp_path / "ledger", Plan(replicas=1))
    async with Devnet(tmp_path / "ledger") as net:
        process = net.children[0].process
        assert process is not None
        process.send_signal(signal.SIGHUP)
        await until_logged(net, "nothing to load again")
        async with LedgerClient(net.urls, net.genesis) as client:
            await client.head()


async def wallet_connects(directory: Path, url: str, ca: str) -> None:
    """`wallet connect --ca`, and what the wallet then reads through it; without, it says what is missing."""
    (directory / "passphrase").write_text("correct horse battery staple")
    home = ["--home", str(directory / "wallet"), "--json"]
    sealed = ["--passphrase-file", str(directory / "passphrase")]
    assert (await command("wallet", "create", *home, *sealed))[0] == 0
    code, out = await command("wallet", "connect", "--ledger", url, *home)
    assert code != 0
    assert "--ca" in out
    assert (await command("wallet", "connect", "--ledger", url, "--ca", ca, *home))[0] == 0
    code, out = await command("wallet", "show", *home)
    assert (code, json.loads(out)["spending"]["balance"]) == (0, 0)


async def until_logged(net: Devnet, text: str) -> None:
    async def there() -> bool:
        return text in net.log_path(0).read_text()

    await until(there, f"the log says {text!r}")
