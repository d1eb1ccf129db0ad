"""Adversary: neighbours on a route collude, and settle past the hub between them (a wormhole).

Mike, behind the hub, is shown the preimage, and tells Mallory, before it, who claims at once. The hub's locks are
given back, or left to expire. So the colluders take the hub's fee, which nothing tells from a payment that failed: that
is the stated limit. Of what the hub holds they get nothing, its slots are free again, the payer has paid once, and the
payee is paid.

Source: docs/design/groups.md, rules 21 to 23; decision 041, "Jamming".
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
import pytest_asyncio

from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.agreements import Limits
from layer2.payments import claim, release
from tests.e2e.adversaries.hours import Hours
from tests.e2e.adversaries.liar import happens, play
from tests.e2e.adversaries.road import BOND, FEE, FUNDED, Road, Sender, road
from tests.e2e.adversaries.stage import AMPLE_MS, Mallory
from tests.e2e.cluster import until
from tests.e2e.town import FUNDS
from wallet.requests import ShowBooks

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000
MANY = Limits().max_locks // 2
"""All that the hub lets one neighbour have of a channel: no slot less may be free afterwards."""
SENT = PRICE + 3 * FEE
"""Of each payment, by the payer: three hubs are between."""
LIFE_MS = 1_200_000
"""Of the locks."""


class Digging(Sender):
    """A hub that collects nothing by itself, once it digs; its forwarder is as it was."""

    def __init__(self) -> None:
        super().__init__()
        self._dug: dict[str, bytes] = {}
        """Preimages that it was shown, by hash."""
        self._given: dict[str, int] = {}
        """Locks that it gave back, by hash."""

    async def dig(self, whether: bool = True) -> None:
        """Keep preimages that it is shown, in place of claiming by them; or claim again."""
        if whether:
            self.wallet.locking.insist = self._keep  # type: ignore[method-assign]
        else:
            del self.wallet.locking.insist

    def _keep(self, group_id: Hash, number: int, preimage: bytes) -> None:
        self._dug[sha256(preimage).hexdigest()] = preimage

    async def dug(self, name: str) -> str:
        """Wait until it is shown the preimage of a hash."""
        await happens(lambda: name in self._dug)
        return self._dug[name].hex()

    async def tunnel(self, channel: str, preimage: str) -> None:
        """Claim by what the other end of the wormhole tells."""
        shown = bytes.fromhex(preimage)
        number = self._lock(channel, sha256(shown).hexdigest()).id
        await self.host.submit(bytes.fromhex(channel), claim(number, shown))

    async def give_back(self, channel: str, name: str) -> None:
        """The lock of the hub between, as if nobody had been paid."""
        self._given[name] = self._lock(channel, name).id
        await self.host.submit(bytes.fromhex(channel), release(self._given[name]))

    async def want_it_all_the_same(self, channel: str, name: str) -> str:
        """Claim what it has given back; the code by which the hub refuses."""
        try:
            await self.host.submit(bytes.fromhex(channel), claim(self._given[name], self._dug[name]))
        except Refused as refusal:
            return refusal.code
        return "committed"

    async def show_layer_1(self, name: str) -> str:
        """Register the preimage, long before any expiry."""
        self._preimages[name] = self._dug[name]
        return await self.register(name)


class Wormhole:
    """A road on which Alice pays Carol over Mallory, Bob and Mike."""

    def __init__(self, on: Road) -> None:
        self.on, self.mallory, self.alice, self.mike = on, on.mallory, on.liars["alice"], on.liars["mike"]
        self.hub = self.alices = self.mikes = ""
        """The channels: of Bob and Mike, of Alice and Mallory, of Mike and Carol."""

    async def open(self) -> None:
        """Those that a road has not."""
        self.alices = await self._opened(self.alice, self.mallory.contact)
        self.mikes = await self._opened(self.mike, self.on.place.serving["carol"].contact)
        self.hub = await self.on.open("bob", "mike")

    async def _opened(self, by: Mallory, contact: str) -> str:
        terms = {"deposit": FUNDED, "bond": BOND, "period_ms": AMPLE_MS, "witness": None}
        channel: str = await by.does("open", contact=contact, **terms)
        return channel

    async def dig(self, whether: bool = True) -> None:
        """Both collude from now on, or are honest."""
        for each in (self.mallory, self.mike):
            await each.does("dig", whether=whether)

    async def send(self, count: int) -> list[str]:
        """Alice pays invoices of Carol; their hashes, which are the payments' names, too."""
        over = [self.on.address(name) for name in ("mallory", "bob", "mike", "carol")]
        made = [await self.on.invoice(PRICE) for _ in range(count)]
        for each in made:
            arguments = {"name": each.payment_hash, "text": each.invoice, "amount": PRICE, "life_ms": LIFE_MS}
            await self.alice.does("send", channel=self.alices, over=over, **arguments)
        return [each.payment_hash for each in made]

    async def settle_past(self, name: str) -> None:
        """What Mike was shown, Mallory claims by: Alice has paid, and the hub's two locks stand."""
        await self.mallory.does("tunnel", channel=self.alices, preimage=await self.mike.does("dug", name=name))
        assert await self.alice.does("end", name=name) == ["claimed", ""]
        assert await self.on.invoice_state(name) == "paid"

    async def hub_is_free(self, fees: int) -> None:
        """Wait until nothing is locked in the hub's channels, and it has what it had, and these fees."""

        async def free() -> bool:
            views = [await self.on.view("bob", channel) for channel in (self.on.first, self.hub)]
            has = sum(view.can_send for view in views)
            return (has, [view.in_locks for view in views]) == (2 * FUNDED + fees, [0, 0])

        await until(free, f"the hub has its money and {fees}, and every slot")

    async def count(self, payments: int, fees: int) -> None:
        """Every unit: of each channel, at both ends, and what the honest ones' books say; `fees` are the hub's."""
        in_it = await self.alice.does("mine", channel=self.alices)
        assert in_it == FUNDED - payments * SENT, "the payer paid once"
        colluders = [
            (self.mallory, self.alices),
            (self.mallory, self.on.first),
            (self.mike, self.hub),
            (self.mike, self.mikes),
        ]
        has = sum([await each.does("mine", channel=channel) for each, channel in colluders])
        assert has == 4 * FUNDED + payments * 3 * FEE - fees, (
            "what they took is the fee of the hub between, no unit more"
        )
        books = {name: await self.on.ask(name, ShowBooks()) for name in ("bob", "carol")}
        assert all(each.adds_up for each in books.values()), books
        assert books["bob"].total == FUNDS + fees
        assert books["carol"].total == FUNDS + payments * PRICE


@pytest_asyncio.fixture(loop_scope="package")
async def through(tmp_path_factory: pytest.TempPathFactory, moved: Hours) -> AsyncIterator[Wormhole]:
    """Alice pays by hand, Mallory and Mike collude around Bob, Carol is paid."""
    with moved.entered():
        async with road(tmp_path_factory.mktemp("road"), moved.net, __name__, liars=("alice", "mike")) as running:
            made = Wormhole(running)
            await made.open()
            yield made


async def test_a_wormhole_takes_the_hubs_fee_and_nothing_that_it_holds(through: Wormhole, moved: Hours) -> None:
    """As many as the hub lets through; then one whose locks are given back to nobody; then honest ones."""
    await through.dig()
    names = await through.send(MANY)
    for name in names:
        await through.settle_past(name)
        await through.mike.does("give_back", channel=through.hub, name=name)
    await through.hub_is_free(0)
    greedy = names[0]
    assert await through.mike.does("show_layer_1", name=greedy) == "ok"
    assert await through.mike.does("want_it_all_the_same", channel=through.hub, name=greedy) == "unknown_lock"
    await through.hub_is_free(0)
    await through.count(MANY, fees=0)
    (kept,) = await through.send(1)
    await through.settle_past(kept)  # and nothing is given back
    await moved.stand(through.on.ledger, await through.on.ledger.clock() + LIFE_MS + 1)
    moved.time.go_on()
    await through.hub_is_free(0)
    await through.count(MANY + 1, fees=0)
    await through.dig(False)
    honest = await through.send(MANY)
    assert [await through.alice.does("end", name=name) for name in honest] == [["claimed", ""]] * MANY
    await through.hub_is_free(MANY * FEE)
    await through.count(2 * MANY + 1, fees=MANY * FEE)


if __name__ == "__main__":
    play(Digging())
