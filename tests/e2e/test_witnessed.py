"""A witnessed channel of real processes: two wallets, a witness, a ledger; and some are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from layer1.devnet import Devnet
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, FUNDS, Serving, Town, liars_copy, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]
HOUR_MS = 3_600_000
WITNESS = ("witness", "serve")
HOMES = ["alice", "bob", "wanda"]


async def open_witnessed(place: Town) -> tuple[str, Serving, Serving]:
    """Alice and Bob with 100.00 each and bonds of 20.00, an hour of challenge period, and Wanda."""
    wanda = await place.serve("wanda", verb=WITNESS)
    bob = await place.serve("bob", *ACCEPT, "--accept-witness", wanda.contact)
    sides = ("--deposit", "100", "--peer-deposit", "100", "--bond", "20", "--challenge-period", "1h")
    return await place.open(*sides, "--witness", wanda.contact), bob, wanda


async def test_one_member_is_killed_and_the_other_is_paid_without_waiting_for_any_period(
    tmp_path: Path, net: Devnet
) -> None:
    """ "On a wedge, layer 1 settles as soon as f+1 of the 2f+1 have sent claims: no challenge window"."""
    async with town(tmp_path, net, HOMES) as place:
        channel, bob, wanda = await open_witnessed(place)
        paid = await place.wallet("alice", "pay", channel, "0.10", "--count", "100")
        assert paid["committed"] == 100
        await place.serve("alice")
        paid = await place.wallet("bob", "pay", channel, "30")
        assert paid["committed"] == 1
        view = await place.channel("bob", channel)
        assert view["witness"] == wanda.contact and view["committed_version"] == view["version"] > 1
        await bob.kill()
        closed = await place.wallet("alice", "channel", "close", channel, "--force")
        assert (closed["state"], closed["reason"]) == ("closed", "claims")
        assert (closed["paid_out"], closed["peer_paid_out"]) == (12_000 + 2_000, 8_000 + 2_000)
        assert await place.balances("alice") == (FUNDS - 12_000, 14_000)
        await wanda.stop()


async def test_a_witness_that_is_gone_is_replaced_and_the_channel_pays_on(tmp_path: Path, net: Devnet) -> None:
    """ "Members alone can replace a dead witness (rule 25)": with one that both accept, which promises first."""
    async with town(tmp_path, net, [*HOMES, "walter"]) as place:
        wanda, walter = [await place.serve(name, verb=WITNESS) for name in ("wanda", "walter")]
        await place.serve("bob", *ACCEPT, "--accept-witness", wanda.contact, "--accept-witness", walter.contact)
        sides = ("--deposit", "100", "--challenge-period", "1h", "--witness", wanda.contact, "--witness-timeout", "2h")
        channel = await place.open(*sides)
        assert (await place.wallet("alice", "pay", channel, "1"))["committed"] == 1
        listed = await place.wallet("alice", "channel", "list")
        assert [view["pending"] for view in listed["channels"]] == [0], "known again as soon as the witness has spoken"
        await wanda.kill()
        replaced = await place.wallet("alice", "channel", "replace-witness", channel, walter.contact)
        assert (replaced["epoch"], replaced["witness"]) == (1, walter.contact)
        assert (await place.wallet("alice", "pay", channel, "1", "--count", "3"))["committed"] == 3
        stranger = f"{wanda.contact.partition('@')[0]}@127.0.0.1:9"
        refused = await place.wallet("alice", "channel", "replace-witness", channel, stranger, code=4)
        assert refused["error"]["code"] == "witness_unreachable"
        closed = await place.wallet("alice", "channel", "close", channel)
        assert closed["paid_out"] == 10_000 - 400


async def test_a_witness_that_stops_halts_payments_and_keeps_nobody_from_closing_together(
    tmp_path: Path, net: Devnet
) -> None:
    """ "A witness that stops halts updates"; killed and started again it goes on from what it ACKed."""
    async with town(tmp_path, net, HOMES) as place:
        channel, _, wanda = await open_witnessed(place)
        await place.serve("alice")
        assert (await place.wallet("alice", "pay", channel, "1", "--count", "5"))["committed"] == 5
        await wanda.kill()

        async def noticed() -> bool:
            view = await place.channel("alice", channel)
            return view["waiting"] is not None and wanda.contact.partition("@")[0] in view["waiting"]["absent"]

        await until(noticed, "the stuck channel names its witness")
        held = await place.wallet("wanda", "witness", "list")
        assert [(each["group"], each["claimed"]) for each in held["groups"]] == [(channel, False)]
        wanda = await place.serve("wanda", verb=WITNESS)
        assert (await place.wallet("alice", "pay", channel, "1"))["committed"] == 1
        await wanda.kill()
        closed = await place.wallet("alice", "channel", "close", channel)
        assert (closed["state"], closed["reason"], closed["paid_out"]) == ("closed", "final", 9_400 + 2_000)


async def stale_copies(place: Town, tmp_path: Path) -> tuple[str, Serving]:
    """Mallory pays Bob 1.00, then 60 times 1.00; of her home and of the witness's there are copies from in between."""
    wanda = await place.serve("wanda", verb=WITNESS)
    bob = await place.serve("bob", *ACCEPT, "--accept-witness", wanda.contact)
    sides = ("--deposit", "100", "--bond", "20", "--challenge-period", "1h", "--witness", wanda.contact)
    channel = await place.open(*sides, payer="mallory")
    await place.wallet("mallory", "pay", channel, "1")
    await wanda.stop()
    for name in ("mallory", "wanda"):
        liars_copy(tmp_path / name, tmp_path / f"old {name}")
    wanda = await place.serve("wanda", verb=WITNESS)
    paid = await place.wallet("mallory", "pay", channel, "1", "--count", "60")
    assert paid["committed"] == 60
    await bob.kill()
    await wanda.kill()
    return channel, wanda


async def test_a_stale_wedge_is_answered_by_the_witness_alone(tmp_path: Path, net: Devnet) -> None:
    """One that lies takes nothing: the header that the witness holds wins; Bob, hours later, brings the body."""
    async with town(tmp_path, net, ["mallory", "bob", "wanda"]) as place:
        channel, _ = await stale_copies(place, tmp_path)
        await place.serve("wanda", verb=WITNESS)
        disputed = await place.wallet("old mallory", "channel", "close", channel, "--force")
        assert disputed["state"] == "disputed" and disputed["paid_out"] is None
        await place.serve("bob")

        async def settled() -> bool:
            return bool((await place.channel("bob", channel))["state"] == "closed")

        await until(settled, "Bob's body ends it")
        view = await place.channel("bob", channel)
        assert (view["paid_out"], view["peer_forfeited"], view["reason"]) == (6_100 + 2_000 + 2_000, True, "claims")


async def test_two_of_three_from_old_copies_take_what_the_third_has(tmp_path: Path, net: Devnet) -> None:
    """The limit that a user is told of: "two faulty of three break it"."""
    async with town(tmp_path, net, ["mallory", "bob", "wanda"]) as place:
        channel, _ = await stale_copies(place, tmp_path)
        await place.serve("old wanda", verb=WITNESS)
        closed = await place.wallet("old mallory", "channel", "close", channel, "--force")
        assert (closed["state"], closed["version"], closed["peer_paid_out"]) == ("closed", 1, 100 + 2_000)
        view = await place.channel("bob", channel)
        assert (view["state"], view["paid_out"]) == ("closed", 100 + 2_000), "60.00 that Bob was paid are gone"


async def test_who_opens_with_a_witness_that_nobody_trusts_or_that_is_away_is_told(tmp_path: Path, net: Devnet) -> None:
    """A witness takes part in what is safe: nobody joins with one that it did not choose to trust."""
    async with town(tmp_path, net, HOMES) as place:
        wanda = await place.serve("wanda", verb=WITNESS)
        bob = await place.serve("bob", *ACCEPT)
        asked = ("channel", "open", bob.contact, "--deposit", "1", "--challenge-period", "1h", "--witness")
        refused = await place.wallet("alice", *asked, wanda.contact, code=1)
        assert refused["error"]["code"] == "declined" and "--accept-witness" in refused["error"]["message"]
        await wanda.kill()
        away = await place.wallet("alice", *asked, wanda.contact, code=4)
        assert away["error"]["code"] == "witness_unreachable"
        assert await place.balances("alice") == (FUNDS, 0)
