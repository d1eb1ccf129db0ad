"""Coming back from nothing, with real processes: the phrase alone, and an old copy of a home."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from layer1.client import LedgerClient
from layer1.devnet import Devnet
from tests.e2e.town import ACCEPT, BIN, ENVIRONMENT, FUNDS, TREASURY, town
from wallet.wallet import Wallet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def restore(home: Path, phrase: str, net: Devnet) -> Any:
    """`wallet restore`, with the phrase on standard input."""
    urls = [part for url in net.urls for part in ("--ledger", url)]
    process = await asyncio.create_subprocess_exec(
        BIN / "wallet",
        *("restore", "--json", "--phrase-file", "-", *urls),
        env={**ENVIRONMENT, "WALLET_HOME": str(home)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(phrase.encode() + b"\n"), 60)
    assert process.returncode == 0, (out, err)
    assert phrase.encode() not in out + err
    return json.loads(out)


async def test_pay_delete_the_home_restore_from_the_phrase_and_close(tmp_path: Path, net: Devnet) -> None:
    """Issue: `wallet restore` from the phrase alone; the balance is proven by the peer's certificate."""
    async with town(tmp_path, net, ["bob"]) as place:
        made = Wallet.create(tmp_path / "alice", net.genesis, net.urls, ENVIRONMENT["WALLET_PASSPHRASE"])
        async with LedgerClient(net.urls, net.genesis) as ledger:
            await ledger.submit(await ledger.new_transfer(TREASURY, made.spending, FUNDS))
        await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100", "--bond", "20")
        await place.wallet("alice", "pay", channel, "1", "--count", "40")
        shutil.rmtree(tmp_path / "alice")
        (found,) = (await restore(tmp_path / "alice", made.phrase, net))["channels"]
        assert (found["id"], found["state"], found["recovered"]) == (channel, "stopped", True)
        assert (found["balance"], found["peer_balance"]) == (6_000, 4_000)
        refused = await place.wallet("alice", "pay", channel, "1", code=1)
        assert refused["error"]["code"] == "lost_data"
        resumed = await place.wallet("alice", "channel", "resume", channel)
        assert (resumed["state"], resumed["can_send"]) == ("open", 6_000)
        await place.wallet("alice", "pay", channel, "10")
        closed = await place.wallet("alice", "channel", "close", channel)
        assert (closed["reason"], closed["paid_out"]) == ("final", 7_000)


async def test_yesterdays_copy_put_back_loses_nothing(tmp_path: Path, net: Devnet) -> None:
    """Issue: an old backup is harmless: it never claims once anybody has shown it better, and recovers."""
    async with town(tmp_path, net) as place:
        await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100", "--bond", "20")
        await place.wallet("alice", "pay", channel, "1")
        shutil.copytree(tmp_path / "alice", tmp_path / "yesterday")
        await place.wallet("alice", "pay", channel, "1", "--count", "30")
        shutil.rmtree(tmp_path / "alice")
        shutil.copytree(tmp_path / "yesterday", tmp_path / "alice")
        refused = await place.wallet("alice", "pay", channel, "1", code=1)
        assert refused["error"]["code"] == "lost_data"
        assert (await place.channel("alice", channel))["state"] == "stopped"  # of which version, bob will show
        disputed = await place.wallet("alice", "channel", "close", channel, "--force")
        assert disputed["state"] == "disputed"
        closed = await place.wallet("alice", "channel", "close", channel, "--force", "--wait")
        assert (closed["paid_out"], closed["forfeited"], closed["peer_forfeited"]) == (6_900 + 2_000, False, False)
