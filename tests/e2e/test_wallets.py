"""Real wallets on a real ledger: every process is one that a user would start, and some are killed."""

from __future__ import annotations

import asyncio
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from layer1.devnet import Devnet
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, BIN, ENVIRONMENT, FUNDS, Town, liars_copy, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


async def test_open_pay_both_ways_and_close_with_proven_balances(tmp_path: Path, net: Devnet) -> None:
    """Issue: `pay` and the rest work without `serve`, and through it when it runs; no payment touches layer 1."""
    async with town(tmp_path, net) as place:
        bob = await place.serve("bob", *ACCEPT)
        assert (await place.wallet("bob", "show"))["contact"] == bob.contact
        socket = tmp_path / "bob" / "control"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        channel = await place.open("--deposit", "500", "--peer-deposit", "200", "--bond", "50")
        paid = await place.wallet("alice", "pay", bob.contact, "0.25", "--count", "500", "--memo", "tea")
        assert (paid["committed"], paid["pending"], paid["refused"]) == (500, 0, 0)
        alice = await place.serve("alice")
        paid = await place.wallet("bob", "pay", channel[:8], "0.10", "--count", "500")
        assert paid["committed"] == 500
        view = await place.channel("alice", channel[:8])
        assert (view["can_send"], view["can_receive"], view["reserved"]) == (42_500, 27_500, 5_000)
        closed = await place.wallet("alice", "channel", "close", channel[:8])
        assert (closed["state"], closed["reason"], closed["paid_out"]) == ("closed", "final", 47_500)
        assert await place.balances("alice") == (FUNDS - 55_000, 47_500)
        assert await place.balances("bob") == (FUNDS - 25_000, 32_500)
        memos = {entry["memo"] for entry in await place.entries("bob", "received")}
        assert memos == {"tea"}
        await alice.stop()
        await bob.stop()


async def test_a_wallet_sends_from_spending_and_from_savings(tmp_path: Path, net: Devnet) -> None:
    """groups.md: a serving wallet never unlocks its savings; its owner does, for one transfer."""
    async with town(tmp_path, net, ["alice"]) as place:
        alice = await place.wallet("alice", "show")
        await place.wallet("alice", "send", alice["savings"]["address"], "10.00")
        await place.serve("alice")
        sent = await place.wallet("alice", "send", alice["address"], "4.00", "--from", "savings")
        assert (sent["source"], sent["balance"]) == ("savings", 600)
        refused = await place.wallet("alice", "send", alice["address"], "7.00", "--from", "savings", code=1)
        assert refused["error"]["code"] == "insufficient_balance"
        assert await place.balances("alice") == (FUNDS - 600, 600)


async def test_a_stale_wedge_from_an_old_copy_costs_the_bond(tmp_path: Path, net: Devnet) -> None:
    """Rule 15: a provably false CLAIM forfeits the bond; Bob's watcher reports without being asked."""
    async with town(tmp_path, net, ["mallory", "bob"]) as place:
        bob = await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100", "--bond", "20", payer="mallory")
        await place.wallet("mallory", "pay", channel, "1")
        liars_copy(tmp_path / "mallory", tmp_path / "old")
        await place.wallet("mallory", "pay", channel, "1", "--count", "60")
        disputed = await place.wallet("old", "channel", "close", channel, "--force")
        assert disputed["state"] == "disputed"  # at version 1, or by now at the one that Bob reported

        async def settled() -> bool:
            return bool((await place.channel("bob", channel))["state"] == "closed")

        await until(settled, "the ledger settles the dispute")
        view = await place.channel("bob", channel)
        assert (view["paid_out"], view["peer_forfeited"]) == (6_100 + 2_000 + 2_000, True)
        assert await place.balances("mallory") == (FUNDS - 12_000, 3_900)
        assert await place.balances("bob") == (FUNDS - 2_000, 10_100)
        assert len(await place.entries("bob", "reported")) == 1
        await bob.stop()


async def test_force_works_alone_and_settles_at_the_deadline(tmp_path: Path, net: Devnet) -> None:
    """Issue: `--force` makes no contact with the peer; the countdown is shown."""
    async with town(tmp_path, net) as place:
        bob = await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100", "--bond", "20")
        await place.wallet("alice", "pay", channel, "30")
        await bob.kill()
        away = await place.wallet("alice", "channel", "close", channel, code=4)
        assert away["error"]["code"] == "peer_unreachable"
        assert "--force" in away["error"]["message"]
        disputed = await place.wallet("alice", "channel", "close", channel, "--force")
        assert (disputed["state"], disputed["in_dispute"]) == ("disputed", 9_000)
        assert 0 < disputed["remaining_ms"] <= 4_000
        closed = await place.wallet("alice", "channel", "close", channel, "--force", "--wait")
        assert (closed["reason"], closed["paid_out"], closed["peer_paid_out"]) == ("deadline", 9_000, 5_000)


@pytest.mark.parametrize("victims", [("payer",), ("payee",), ("payer", "payee")], ids=" and ".join)
async def test_sigkill_while_paying_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, net: Devnet, victims: tuple[str, ...]
) -> None:
    """Issue: survives SIGKILL of either side at any moment: nothing acknowledged is lost, nothing is paid twice."""
    async with town(tmp_path, net) as place:
        await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "5000", "--peer-deposit", "100")
        acknowledged: set[str] = set()
        for run, moment in enumerate((1, 40, 150, 400)):
            acknowledged |= await pay_and_kill(place, channel, f"run{run}", moment, victims)
        await place.wallet("alice", "pay", channel, "1", "--memo", "last")
        paid, received = [
            [entry["memo"] for entry in await place.entries(name, kind)]
            for name, kind in (("alice", "paid"), ("bob", "received"))
        ]
        assert len(paid) == len(set(paid)), "nothing is paid twice"
        assert acknowledged <= set(paid), "nothing acknowledged is lost"
        assert sorted(paid) == sorted(received), "both sides tell the same"
        units = len(paid) - 1 + 100
        closed = await place.wallet("alice", "channel", "close", channel)
        assert (closed["paid_out"], closed["peer_paid_out"]) == (500_000 - units, 10_000 + units)


async def pay_and_kill(place: Town, channel: str, run: str, moment: int, victims: Sequence[str]) -> set[str]:
    """Pay until `moment` payments are acknowledged, then kill; the memos that were acknowledged at all."""
    with (place.folder / "payer.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.e2e.payer",
            str(place.folder / "alice"),
            channel,
            run,
            env=ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    lines: list[str] = []
    while sum(line.startswith("ok") for line in lines) < moment:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert line, "the payer ended by itself"
        lines.append(line)
    if "payee" in victims:
        await place.serving["bob"].kill()
    process.kill()
    lines += (await process.stdout.read()).decode().splitlines()
    await process.wait()
    if "payee" in victims:
        await place.serve("bob", *ACCEPT)
    return {line.split()[1] for line in lines if line.startswith("ok ") and len(line.split()) == 2}


async def test_the_passphrase_is_asked_for_on_a_terminal(tmp_path: Path) -> None:
    """Issue: prompted, or from a file or variable for scripts; a person sees no traceback and no echo."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "WALLET_PASSPHRASE"}
    environment["WALLET_HOME"] = str(tmp_path / "home")

    def walk() -> None:
        child = pexpect.spawn(str(BIN / "wallet"), ["create"], env=environment, encoding="utf-8", timeout=20)
        child.expect("New passphrase")
        child.sendline("a secret to type")
        child.expect("again")
        child.sendline("another secret!!")
        child.expect("differ")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 5
        child = pexpect.spawn(str(BIN / "wallet"), ["create"], env=environment, encoding="utf-8", timeout=20)
        for prompt in ("New passphrase", "again"):
            child.expect(prompt)
            child.sendline("a secret to type")
        child.expect("12 words")
        child.expect(pexpect.EOF)
        assert "a secret to type" not in (child.before or "")
        child.close()
        assert child.exitstatus == 0

    await asyncio.to_thread(walk)
