"""Adversary: its claim is false by one version.

A CLAIM(s, header_k) says what its signer holds and what it signed. Who denies its own signature (k) loses its bond to
the other member, and nothing else; who denies a certificate only (s) can be proven nothing, and gains nothing.

Source: docs/design/groups.md, rules 8, 15 and 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from layer1.ledger.agreements import sign_claim
from layer1.ledger.records import Forfeit, Reason
from layer1.ledger.transactions import Wedge
from layer2.messages import Accept, Message
from tests.e2e.adversaries.liar import Liar, happens, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


class LyingByOne(Liar):
    """Claims a little less than it should."""

    def __init__(self) -> None:
        super().__init__()
        self._deaf = False
        self._paying: asyncio.Task[None] | None = None

    def incoming(self, message: Message) -> Iterable[Message]:
        return () if self._deaf and isinstance(message, Accept) else (message,)

    async def pay_unheard(self, channel: str, amount: int) -> None:
        """Pay, and hear no Accept from now on: its newest certificate stays s, and it has signed s + 1."""
        self._deaf = True
        signed = self.group(channel).highest.version
        self._paying = asyncio.create_task(self.pay(channel, amount))
        await happens(lambda: self.group(channel).highest.version > signed)

    async def deny_certificate(self, channel: str) -> str:
        """Claim the certificate before the newest, and the truth of what was signed."""
        (older, body), place = self.state(channel, 1), self.group(channel).place
        claim = sign_claim(place.key, place.index, older.header.version, self.group(channel).highest)
        return await self.bring(Wedge(older, body, claim))


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and a liar by one."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def test_who_denies_its_newest_certificate_and_signature_loses_its_bond_alone(on: Stage) -> None:
    """Rule 15: "an accepted certificate, carrying its signature, has version > k"; rule 16: the bond, no balance."""
    channel = await on.opened("bob")
    await on.pays(channel, 300)
    await on.mallory.does("pay", channel=channel, amount=1_500)
    assert await on.mallory.does("wedge", channel=channel, back=1) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits, end.reason) == (2, None, Forfeit.LIE, Reason.CLAIMS)
    assert (end.bob, end.mallory) == (DEPOSIT + 1_200 + 2 * BOND, DEPOSIT - 1_200)


async def test_who_denies_only_a_certificate_is_proven_nothing_and_gains_nothing(on: Stage) -> None:
    """Rule 15 speaks of k: s may be denied, since no signature says what somebody *holds*. Bob's report wins."""
    channel = await on.opened("bob")
    await on.mallory.does("pay", channel=channel, amount=1_000)
    await on.mallory.does("pay", channel=channel, amount=500)
    assert await on.mallory.does("deny_certificate", channel=channel) == "ok"
    end = await on.settled(channel)
    assert end.version == 2
    assert end.honest == (DEPOSIT + 1_500 + BOND, DEPOSIT - 1_500 + BOND)


async def test_who_denies_only_its_last_signature_loses_its_bond_to_who_was_paid_by_it(on: Stage) -> None:
    """k - 1: a primary's certificate is s, it signed s + 1, and would take that payment back."""
    channel = await on.opened("mallory")
    await on.mallory.does("pay", channel=channel, amount=1_000)
    await on.mallory.does("pay_unheard", channel=channel, amount=4_000)
    assert await on.mallory.does("versions", channel=channel) == [1, 2]
    assert await on.mallory.does("wedge", channel=channel) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (2, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 5_000 + 2 * BOND, DEPOSIT - 5_000)


if __name__ == "__main__":
    play(LyingByOne())
