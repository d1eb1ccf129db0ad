"""Adversary: it wedges by the header alone, and shows the body of the newest state to nobody, until it is paid for it.

Layer 1 never falls back to an older body. An honest member holds every body that it signed, and reveals it, whenever it
is there; one that lost it pleads, and who signed the header and hides the body forfeits its bond to who pleaded.

Source: docs/design/groups.md, rule 12.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from layer1.ledger.records import Forfeit, Reason
from layer1.ledger.transactions import Reveal, Wedge
from layer2.messages import Message
from tests.e2e.adversaries.liar import Liar, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage
from tests.e2e.cluster import until
from wallet.requests import AddWatchtower

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PERIOD_MS = 3_000
"""Of the stories whose deadlines have to pass."""


class Ransoming(Liar):
    """Hides bodies, and from some moment on says nothing at all."""

    def __init__(self) -> None:
        super().__init__()
        self._mute = False

    def outgoing(self, message: Message) -> Iterable[Message]:
        return () if self._mute else (message,)

    async def be_mute(self) -> None:
        """Show nothing to anybody any more."""
        self._mute = True

    async def wedge_by_header(self, channel: str) -> str:
        """With the newest certificate and a true claim, and no body."""
        certificate, _ = self.state(channel)
        return await self.bring(Wedge(certificate, None, self.claim(channel, certificate.header)))

    async def reveal(self, channel: str, back: int = 0) -> str:
        """Bring the body of the newest state, or of an older one that it likes better."""
        return await self.bring(Reveal(bytes.fromhex(channel), self.state(channel, back)[1]))


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who takes bodies hostage."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def awaits_its_body(on: Stage, channel: str) -> None:
    """Wait until the dispute is over, and its body is not known."""

    async def waits() -> bool:
        return (await on.group(channel)).revealing is not None

    await until(waits, "the dispute ends without a body")


async def test_who_is_served_reveals_at_once_and_who_sleeps_when_he_wakes(on: Stage) -> None:
    """ "An honest member holds every body it signed": nothing is paid before, and nothing older ever."""
    awake, asleep = await on.opened(), await on.opened(period_ms=PERIOD_MS)
    for channel in (awake, asleep):
        await on.mallory.does("pay", channel=channel, amount=1_000)
        await on.mallory.does("pay", channel=channel, amount=4_000)
    assert await on.mallory.does("wedge_by_header", channel=awake) == "ok"
    end = await on.settled(awake)
    assert end.reason is Reason.CLAIMS
    assert end.honest == (DEPOSIT + 5_000 + BOND, DEPOSIT - 5_000 + BOND)

    await on.place.serving["bob"].kill()
    assert await on.mallory.does("wedge_by_header", channel=asleep) == "ok"
    await awaits_its_body(on, asleep)
    assert await on.mallory.does("reveal", channel=asleep, back=1) == "bad_body"
    await on.place.serve("bob")
    end = await on.settled(asleep)
    assert end.honest == (DEPOSIT + 5_000 + BOND, DEPOSIT - 5_000 + BOND)


async def loses_his_disk(on: Stage, channel: str) -> None:
    """Bob is paid 10.00, backs up his home, is paid 40.00 more, and has the backup only; he is not served now."""
    home = on.place.folder / "bob"
    await on.mallory.does("pay", channel=channel, amount=1_000)
    await on.place.serving["bob"].kill()
    shutil.copytree(home, home.with_name("yesterday"), ignore=shutil.ignore_patterns("control", "*.sock"))
    await on.place.serve("bob")
    await on.mallory.does("pay", channel=channel, amount=4_000)
    if on.place.serving.get("tower") is not None:
        await entrusted(on, channel, version=2)
    await on.place.serving["bob"].kill()
    shutil.rmtree(home)
    shutil.move(home.with_name("yesterday"), home)


async def entrusted(on: Stage, channel: str, version: int) -> None:
    """Wait until Bob's watchtower has so much."""

    async def receipted() -> bool:
        return (await on.view(channel)).watchtowers[0].version == version

    await until(receipted, f"the tower holds version {version}")


async def test_who_lost_the_body_pleads_and_who_hides_it_forfeits_its_bond(on: Stage) -> None:
    """ "A signer of the winning header that neither reveals nor pleads within a further period forfeits its bond"."""
    channel = await on.opened(period_ms=2 * PERIOD_MS)
    await loses_his_disk(on, channel)
    await on.mallory.does("be_mute")
    await on.place.serve("bob")
    assert await on.mallory.does("wedge_by_header", channel=channel) == "ok"

    async def forfeits() -> bool:
        return (await on.group(channel)).forfeits[0] is Forfeit.HIDDEN

    await until(forfeits, "the time to reveal is over")
    assert await on.mallory.does("reveal", channel=channel, back=1) == "bad_body"
    assert await on.mallory.does("reveal", channel=channel) == "ok"  # for what is left to it
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (2, None, Forfeit.HIDDEN)
    assert (end.bob, end.mallory) == (DEPOSIT + 5_000 + 2 * BOND, DEPOSIT - 5_000)


async def test_who_lost_the_body_has_it_from_the_watchtower_that_cannot_read_it(
    tmp_path_factory: pytest.TempPathFactory, net: Devnet
) -> None:
    """Rule 12: "its tower keeps the body encrypted, so that a peer cannot take money hostage"."""
    folder = tmp_path_factory.mktemp("stage")
    async with stage(folder, net, __name__, others=["tower"]) as on:
        tower = await on.place.serve("tower", "--least-period", "1s", verb=("watchtower", "serve"))
        await on.bob.run(AddWatchtower(contact=tower.contact))
        channel = await on.opened(period_ms=PERIOD_MS)
        await loses_his_disk(on, channel)
        await on.mallory.does("be_mute")
        assert await on.mallory.does("wedge_by_header", channel=channel) == "ok"
        await awaits_its_body(on, channel)
        assert (await on.group(channel)).body is None, "the tower shows layer 1 no body: it has none that is readable"
        await on.place.serve("bob")
        end = await on.settled(channel)
        assert (end.version, end.mallory_forfeits) == (2, None)
        assert end.honest == (DEPOSIT + 5_000 + BOND, DEPOSIT - 5_000 + BOND)


if __name__ == "__main__":
    play(Ransoming())
