"""Adversary: it signs two bodies at one version.

Whoever is shown both signatures keeps them, and shows them to layer 1 with whatever it brings there next: the bond is
lost, by nothing else than these two signatures. The honest one holds one of the bodies, and never signs the other.

Source: docs/design/groups.md, rules 5 and 15.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio
from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.crypto import HASH_BYTES, Hash
from layer1.devnet import Devnet
from layer1.ledger.agreements import sign_claim, sign_state
from layer1.ledger.records import Forfeit, Status
from layer1.ledger.transactions import Report, Wedge
from layer2.messages import Accept, Batch, Error, Message, Propose, Resume
from layer2.payments import pay
from layer2.state import advance, apply_batch
from tests.e2e.adversaries.liar import Liar, happens, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage
from tests.e2e.cluster import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
A_LITTLE = 1
"""Units that the other body pays."""


class SigningTwice(Liar):
    """Two-tongued."""

    def __init__(self) -> None:
        super().__init__()
        self._order = ""
        self._paying: asyncio.Task[None] | None = None
        self.accepted: list[Accept] = []
        self.refused: list[Error] = []
        self._second: Propose | None = None
        self._claiming: asyncio.Task[str] | None = None

    def outgoing(self, message: Message) -> Iterable[Message]:
        if not isinstance(message, Propose) or not self._order:
            return (message,)
        self._second = self._other(message)
        return (message, self._second) if self._order == "true first" else (self._second,)

    def incoming(self, message: Message) -> Iterable[Message]:
        if isinstance(message, Accept) and self._second is not None and self._order == "false alone":
            self.accepted.append(message)
            return ()  # of a body that its honest half did not propose
        if isinstance(message, Error):
            self.refused.append(message)
        return (message,)

    def _other(self, message: Propose) -> Propose:
        """The same commands but for the amount, at the same version."""
        group = self.group(message.group_id.hex())
        place, base, batch = group.place, group.state, decode(message.batch, Batch)
        batch = Batch(tuple(replace(command, payload=pay(1, A_LITTLE)) for command in batch.commands))
        encoded, salt = encode(batch), os.urandom(16)
        header = advance(place, base, batch, encoded=encoded, salt=salt, outcome=apply_batch(place, base, batch)).header
        return replace(message, header=header, batch=encoded, salt=salt, signature=sign_state(place.key, header))

    async def pay_twice(self, channel: str, amount: int, order: str) -> None:
        """Pay this, and next to nothing instead, at one version; wait until the other has answered."""
        self._order, self._second = order, None
        self.accepted.clear()
        self.refused.clear()
        self._paying = asyncio.create_task(self.pay(channel, amount))
        await happens(lambda: bool(self.accepted or self.refused))
        self._order = ""

    async def accept_twice(self, channel: str, hash_bytes: int = HASH_BYTES) -> None:
        """As a member: sign another header at the newest version as well, and say so."""
        group = self.group(channel)
        name, base = group.group_id, self.known[group.group_id][0, group.version - 1][0]
        header = replace(group.state.header, body_hash=os.urandom(hash_bytes))
        self.refused.clear()
        self.say(channel, Resume(name, base, header, sign_state(group.place.key, header)))
        await happens(lambda: bool(self.refused))

    async def take_back(self, channel: str) -> str:
        """Wedge with the version before, and claim to have signed the body that the other has not got."""
        group = self.group(channel)
        assert group.pending is not None
        certificate, body = self.state(channel)
        claim = sign_claim(group.place.key, group.place.index, group.version, group.pending.state.header)
        return await self.bring(Wedge(certificate, body, claim))

    async def claim_as_soon_as_it_is_wedged(self, channel: str) -> None:
        """Settle by a true claim before anything more is said against it."""
        group = self.group(channel)
        claim = sign_claim(group.place.key, group.place.index, group.version, group.highest)

        async def insist(name: Hash) -> str:
            ledger = self.wallet._parts.ledger
            while True:
                shown = (await ledger.group(name)).value
                if shown is not None and shown.status is not Status.OPEN:
                    return await self.bring(Report(name, None, None, (claim,)))

        self._claiming = asyncio.create_task(insist(group.group_id))

    async def claimed(self) -> str:
        """What layer 1 said to that."""
        assert self._claiming is not None
        return await self._claiming


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who signs twice."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def test_a_primary_that_proposes_two_bodies_loses_its_bond_and_the_first_is_paid(on: Stage) -> None:
    """Rule 15: "or when two of its STATE signatures on different headers at one version are shown"."""
    channel = await on.opened("mallory")
    await on.mallory.does("pay_twice", channel=channel, amount=4_000, order="true first")
    view = await on.view(channel)
    assert view.version == 1 and view.balance == DEPOSIT + 4_000
    assert "signed two headers" in str(view.advice)
    await on.force(channel)

    async def shown() -> bool:
        return (await on.group(channel)).forfeits[0] is not None

    await until(shown, "Bob shows both signatures")
    await on.mallory.does("claim_now", channel=channel)
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (1, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 4_000 + 2 * BOND, DEPOSIT - 4_000)


async def test_a_quick_claim_does_not_save_the_bond_of_who_signed_twice(on: Stage) -> None:
    """Rule 10 settles as soon as all have claimed: what is to be said against a member comes with the wedge."""
    channel = await on.opened("mallory")
    await on.mallory.does("pay_twice", channel=channel, amount=4_000, order="true first")
    await on.mallory.does("claim_as_soon_as_it_is_wedged", channel=channel)
    await on.force(channel)
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (1, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 4_000 + 2 * BOND, DEPOSIT - 4_000)


async def test_a_claim_of_the_body_that_the_other_has_not_got_is_false(on: Stage) -> None:
    """Rule 15: "version k with another header"."""
    channel = await on.opened("mallory")
    await on.mallory.does("pay_twice", channel=channel, amount=4_000, order="false alone")
    assert await on.mallory.does("take_back", channel=channel) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (1, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + A_LITTLE + 2 * BOND, DEPOSIT - A_LITTLE)


async def test_a_member_that_signs_another_header_than_it_accepted_loses_its_bond(on: Stage) -> None:
    """Rule 5: "they lie" has one answer: nothing it says counts, and the proof is kept."""
    channel = await on.opened("bob")
    await on.pays(channel, 500)
    await on.mallory.does("accept_twice", channel=channel)
    await on.mallory.does("claim_as_soon_as_it_is_wedged", channel=channel)
    await on.force(channel)
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (1, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT - 500 + 2 * BOND, DEPOSIT + 500)


async def test_a_proof_that_layer_1_would_refuse_keeps_no_report_back(on: Stage) -> None:
    """Rule 9: what Bob brings must count, whatever he was shown before: a header of no form is proof of nothing."""
    channel = await on.opened("bob")
    await on.mallory.does("pay", channel=channel, amount=500)
    await on.mallory.does("pay", channel=channel, amount=4_000)
    await on.mallory.does("accept_twice", channel=channel, hash_bytes=31)
    assert await on.mallory.does("wedge", channel=channel, back=1) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (2, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 4_500 + 2 * BOND, DEPOSIT - 4_500)


if __name__ == "__main__":
    play(SigningTwice())
