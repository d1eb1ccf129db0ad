"""A hub that was put back from a copy, and one whose standby goes on, with a payment on its way."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from layer1.ledger.transactions import RegisterPreimages
from tests.wallet.conftest import PASSPHRASE
from tests.wallet.forwarding.town import DEPOSIT, FEE, Row, row, settle, stage_of
from wallet import channel as channels
from wallet.contacts import parse_contact
from wallet.forwarding import driver
from wallet.forwarding.events import Restored
from wallet.headship import name_standby
from wallet.home import Config, Home
from wallet.invoices import dealing
from wallet.invoices.records import Stage
from wallet.standby import StandbyHome
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    """A, a hub, and B."""
    monkeypatch.setattr(dealing, "RETRY_S", 0.005)
    monkeypatch.setattr(channels, "CONNECT_S", 0.3)
    async with row(tmp_path, monkeypatch, "alice", "hub", "bob") as found:
        yield found


async def copied_between(three: Row) -> bytes:
    """The hub goes on from a copy of when it had the incoming lock, not yet forwarded; hash of what bob holds since."""
    home, forwarder = three.world.homes["hub"].home, three.hub.switchboard._forwarder
    copy = home.with_name("yesterday")
    assert forwarder is not None
    forwarder.take = lambda *_: None  # type: ignore[method-assign]
    hashed, secret = await three.ask(500, hold=True)
    three.offer(hashed, secret, 500)
    group = bytes.fromhex(three.channels[0])
    await three.until(lambda: three.hub._parts.host.groups[group].committed.body.locks)
    await three.wallets.pop("hub").__aexit__()
    shutil.copytree(home, copy)
    await three.start("hub")
    await three.until(lambda: stage_of(three, hashed) is Stage.HELD)
    await three.wallets.pop("hub").__aexit__()
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "MEET_S", 0.0)  # what it would give back it gives back now
        await three.start("hub")
    return hashed


async def test_a_hub_put_back_from_a_copy_gives_nothing_back_that_it_may_have_forwarded(three: Row) -> None:
    """Its payer is in step with it, and would take the lock back; the payee was offered it, and claims later."""
    hashed = await copied_between(three)
    groups = three.hub._parts.host.groups
    first, second = (bytes.fromhex(channel) for channel in three.channels)
    await three.until(lambda: groups[first].connected and not groups[first].doubts and groups[second].lost)
    for _ in range(20):
        await three.look()
    assert groups[first].committed.body.locks, "it was given back"
    await settle(three, hashed)
    expiry = groups[first].committed.body.locks[0].expiry_ms
    three.pass_time(expiry - 3 * three.hub.locking.margin_ms)
    await three.until(lambda: not groups[first].locks)
    assert three.mine("hub")[0] == DEPOSIT + 500 + FEE, "the preimage that the payee registered pays the hub"


async def test_a_copy_in_which_nothing_was_forwarded_goes_on(three: Row, tmp_path: Path) -> None:
    """All its neighbours have shown that nothing is newer: what waited is forwarded now."""
    home = three.world.homes["hub"].home
    forwarder = three.hub.switchboard._forwarder
    assert forwarder is not None
    forwarder.take = lambda *_: None  # type: ignore[method-assign]
    hashed, secret = await three.ask(500, hold=True)
    three.offer(hashed, secret, 500)
    group = bytes.fromhex(three.channels[0])
    await three.until(lambda: three.hub._parts.host.groups[group].committed.body.locks)
    await three.wallets.pop("hub").__aexit__()
    shutil.copytree(home, tmp_path / "yesterday")
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "yesterday", home)
    await three.start("hub")
    await three.until(lambda: stage_of(three, hashed) is Stage.HELD)
    await settle(three, hashed)
    await three.until(lambda: three.mine("hub") == [DEPOSIT + 500 + FEE, DEPOSIT - 500])


@pytest.mark.parametrize("registered", [False, True])
async def test_of_a_channel_that_is_forgotten_nothing_goes_back_before_its_time(three: Row, registered: bool) -> None:
    """What became of the outgoing lock nobody knows any more, unless layer 1 shows its preimage."""
    hashed, paying, _ = await three.held()
    forwarder, host = three.hub.switchboard._forwarder, three.hub._parts.host
    assert isinstance(forwarder, driver.ForwardDriver)
    [(passage, _)] = forwarder._core.passages()
    if registered:
        issued = three.payee.invoices.get(hashed)
        assert issued is not None
        await three.hub._parts.submitter.bring(RegisterPreimages(three.hub.address, (issued.preimage,)))
    del host._groups[passage.outgoing]
    forwarder._stale[passage.outgoing] = {passage.number}
    forwarder._step(Restored(passage.outgoing, ()))
    forwarder._look_again(passage.outgoing)
    for _ in range(20):
        await three.look()
    if registered:
        await three.until(paying.done)
        assert paying.result().is_paid
        return
    assert not paying.done(), "it was given back, and may have been paid"
    three.pass_time(passage.expiry_ms)
    await three.until(lambda: paying.done() and not forwarder._core.passages())
    assert not paying.result().is_paid


async def test_a_standby_goes_on_with_what_the_head_forwarded(three: Row, tmp_path: Path) -> None:
    """It is promoted while the payee holds: it knows the passage, claims upstream, and enters the fee."""
    first = Home(three.world.homes["hub"].home)
    made = Wallet.create(tmp_path / "second", None, (), PASSPHRASE, three.world.homes["hub"].phrase)
    second = Home(made.home)
    second.connect(three.world.genesis, Config(("http://stand-in",)))
    await three.wallets.pop("hub").__aexit__()
    async with StandbyHome(second, second.keystore().unlock(PASSPHRASE)) as standby:
        await standby.listen(None)
        assert standby.contact is not None
        name_standby(first, parse_contact(standby.contact))
        await three.start("hub")
        await three.until(lambda: standby.view().paired and three.rests())
        hashed, paying, _ = await three.held()
        await three.stop("hub")
        await standby.promote()
    three.world.homes["hub"] = made
    hub = await three.start("hub", first.endpoint())  # its neighbours find it where the head was
    assert len(hub._parts.passages.core.passages()) == 1
    await settle(three, hashed)
    await three.until(paying.done)
    assert paying.result().is_paid
    await three.until(lambda: three.mine("hub") == [DEPOSIT + 500 + FEE, DEPOSIT - 500])
    assert [entry.amount for entry in hub.history() if entry.kind == "forwarded"] == [FEE]
