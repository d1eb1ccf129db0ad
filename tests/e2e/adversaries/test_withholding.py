"""Adversary: it keeps a signature, or a word, to itself at some step, and then tries to frame the honest one.

Whatever it keeps, it holds something that the other does not: a certificate, a FINAL, an opening. It wedges, or waits
until the other does, and brings to layer 1 everything that might contradict the honest CLAIM (rule 15: "naive rules let
a peer frame an honest member by holding back its own signature"). The honest member is never slashed, and has what it
called committed, or that and what was pending.

Source: docs/design/groups.md, "Objects" and rules 3, 7, 8 and 15.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from itertools import combinations

import pytest
import pytest_asyncio
from msgspec.structs import replace

from layer1.client import TransactionDead
from layer1.devnet import Devnet
from layer1.errors import Refused
from layer1.ledger.agreements import (
    Certificate,
    DoubleSignature,
    GroupHeader,
    Member,
    sign_claim,
    sign_final,
    sign_state,
)
from layer1.ledger.records import Reason
from layer1.ledger.transactions import CloseGroup, Report, Transaction, sign_transaction
from layer2 import messages
from layer2.messages import Accept, Answer, Decline, Error, Message, Submit
from layer2.opening import complete, make_offer
from layer2.payments import MACHINE
from tests.e2e.adversaries.liar import Liar, happens, play
from tests.e2e.adversaries.stage import AMPLE_MS, BOND, DEPOSIT, Stage, stage
from tests.e2e.cluster import until
from wallet.contacts import parse_contact
from wallet.requests import CloseChannel, ListChannels, Pay, Show

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


class Withholding(Liar):
    """Keeps kinds of messages, of those that it says (or of those that it hears), in one channel at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._says_no: tuple[type, ...] = ()
        self._hears_no: tuple[type, ...] = ()
        self.kept: list[Message] = []
        """What it did not say, or hear."""
        self._paying: asyncio.Task[None] | None = None

    def outgoing(self, message: Message) -> Iterable[Message]:
        return self._keep(message, self._says_no)

    def incoming(self, message: Message) -> Iterable[Message]:
        return self._keep(message, self._hears_no)

    def _keep(self, message: Message, kinds: tuple[type, ...]) -> Iterable[Message]:
        if isinstance(message, kinds):
            self.kept.append(message)
            return ()
        return (message,)

    async def withhold(self, say: str = "", hear: str = "") -> None:
        """Keep this kind of message from now on; none any more if nothing is named."""
        self._says_no = (getattr(messages, say),) if say else ()
        self._hears_no = (getattr(messages, hear),) if hear else ()
        self.kept.clear()

    async def keeps(self, kind: str) -> None:
        """Wait until it has kept one of this kind."""
        await happens(lambda: any(isinstance(message, getattr(messages, kind)) for message in self.kept))

    async def pay_silently(self, channel: str, amount: int) -> None:
        """Pay, and do not wait for what becomes of it."""
        self._paying = asyncio.create_task(self.pay(channel, amount))

    async def release(self, channel: str) -> str:
        """Say it after all, and bring the certificate that the other's signature completes; ``nothing`` without one."""
        self._says_no, self._hears_no = (), (Accept, Error)
        kept, self.kept = self.kept, []
        self.say(channel, *kept, Submit(bytes.fromhex(channel), ()))
        await self.keeps(
            "Error"
        )  # the answer to the last of them, which is for primaries only: the others were heard before it
        pending = self.group(channel).pending
        accept = next((message for message in self.kept if isinstance(message, Accept)), None)
        if accept is None or pending is None:
            return "nothing"
        certificate = Certificate(pending.state.header, (pending.propose.signature, accept.signature))
        return await self.bring(Report(accept.group_id, certificate, pending.state.body, ()))

    # ------------------------------------------------------------------------------------------------------- framing

    async def frame(self, channel: str) -> dict[str, str]:
        """Bring whatever could make the other look a liar; by name, what layer 1 says to each."""
        said = {}
        for name, report in self._accusations(channel):
            said[name] = await self.bring(report)
        return said

    def _accusations(self, channel: str) -> Iterable[tuple[str, Report]]:
        group = self.group(channel)
        me, them, name = group.place.index, group.others[0], group.group_id
        theirs = self._signed_by(channel, them)
        for (first, one), (second, other) in combinations(theirs, 2):
            double = DoubleSignature(them, first, one, second, other)
            yield f"{first.version} and {second.version} contradict", Report(name, None, None, (), double)
        header, signature = theirs[-1]
        again = DoubleSignature(them, header, signature, header, signature)
        yield "one signature twice", Report(name, None, None, (), again)
        other_header = replace(header, body_hash=os.urandom(32))
        moved = DoubleSignature(them, header, signature, other_header, signature)
        yield "a signature on another header", Report(name, None, None, (), moved)
        above = replace(header, version=header.version + 1, parent=header.hash)
        mine = sign_state(group.place.key, above)
        signatures = tuple(mine if i == me else signature for i in range(2))
        yield "a certificate above", Report(name, Certificate(above, signatures), None, ())
        bare = sign_claim(group.place.key, them, header.version - 1, replace(header, version=header.version - 1))
        yield "a claim in its name", Report(name, None, None, (bare,))

    async def end(self, channel: str, taking: int) -> str:
        """Bring the FINAL that only it holds whole, paying itself so much more."""
        group = self.group(channel)
        assert group.final is not None
        final, signatures, me = group.final.final, list(group.final.signatures), group.place.index
        if taking:
            payout = tuple(units + (taking if i == me else -taking) for i, units in enumerate(final.payout))
            final = replace(final, payout=payout)
            signatures[me] = sign_final(group.place.key, group.place.agreement.chain_id, final)
        return await self.bring(CloseGroup(final, tuple(each for each in signatures if each is not None)))

    # ------------------------------------------------------------------------------------------------------- opening

    async def ask_to_join(self, contact: str, deposit: int, life_ms: int) -> None:
        """Have the other's signature, which locks its deposit, and keep its own: a free option."""
        parts, peer = self.wallet._parts, parse_contact(contact)
        keys, clock_ms = parts.keys, await parts.ledger.clock()
        index = parts.book.take_key_index()
        offer = make_offer(
            parts.genesis.chain_id,
            Member(keys.group_key(index).public, keys.spending.public, parts.payout, deposit, 0),
            ask_deposit=deposit,
            ask_bond=0,
            challenge_period_ms=AMPLE_MS,
            machine=MACHINE,
            open_before_ms=clock_ms + life_ms + 1,
            valid_until_ms=clock_ms + life_ms,
            salt=os.urandom(16),
        )
        self._says_no, self._hears_no = (), (Answer, Decline)
        self.kept.clear()
        await self.wallet._peers.reach(peer)
        assert parts.host.send_opening(peer.address, offer)
        await happens(lambda: bool(self.kept))
        (answer,) = self.kept
        assert isinstance(answer, Answer), answer
        self._opening = complete(offer, answer, keys.spending).transaction

    async def open_late(self) -> list[str]:
        """Bring the opening when its time is over: as it is, and with more time."""
        opening, ledger = self._opening, self.wallet._parts.ledger
        while await ledger.clock() <= opening.valid_until_ms:  # noqa: ASYNC110 - a clock is looked at
            await asyncio.sleep(0.1)
        later = replace(opening, valid_until_ms=await ledger.clock() + 10_000)
        mine = sign_transaction(later, ledger.genesis.chain_id, self.wallet._keys.spending)
        later = replace(later, signatures=(mine, opening.signatures[1]))
        return [await self._code(opening), await self.submit(later)]

    async def _code(self, transaction: Transaction) -> str:
        try:
            return await self.submit(transaction)
        except TransactionDead:
            return "dead"

    def _signed_by(self, channel: str, member: int) -> list[tuple[GroupHeader, bytes]]:
        """All headers that it has this member's signature of, in order."""
        states = self.known[bytes.fromhex(channel)]
        certificates = [states[version][0] for version in sorted(states) if version[1]]
        return [(each.header, each.signatures[member]) for each in certificates]


IN_VAIN = {
    "1 and 2 contradict": "bad_proof",
    "one signature twice": "bad_proof",
    "a signature on another header": "bad_signature",
    "a certificate above": "bad_signature",
    "a claim in its name": "claim_stands",
}
"""What layer 1 says to each accusation against who has claimed."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who withholds."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def test_a_member_that_withholds_its_accept_cannot_frame_the_primary(on: Stage) -> None:
    """Rule 15: "a signature at s+1 without certificate is no proof of anything"; k = s + 1 says that it was made."""
    await on.mallory.does("withhold")
    channel = await on.opened("bob")
    await on.pays(channel, 300)
    await on.mallory.does("withhold", say="Accept")
    paying = asyncio.create_task(on.bob.run(Pay(target=channel, amount=500)))
    await on.mallory.does("keeps", kind="Accept")
    await on.force(channel)
    assert (await paying).pending == 1, "its fate is not known: it must not be made again"
    group = await on.bob_claims(channel)
    claim = group.claims[0]
    assert claim is not None and (claim.version, claim.highest.version) == (1, 2)
    assert await on.mallory.does("frame", channel=channel) == IN_VAIN
    assert await on.mallory.does("claim_now", channel=channel) == "ok"  # and with it what it alone could complete
    end = await on.settled(channel)
    assert end.version == 2
    assert end.honest == (DEPOSIT - 800 + BOND, DEPOSIT + 800 + BOND)


async def test_a_primary_that_withholds_its_proposal_cannot_have_it_signed_after_the_claim(on: Stage) -> None:
    """[F2]: after a CLAIM nothing is signed; a signature made then would make it false."""
    await on.mallory.does("withhold")
    channel = await on.opened("mallory")
    await on.mallory.does("pay", channel=channel, amount=300)
    await on.mallory.does("withhold", say="Propose")
    await on.mallory.does("pay_silently", channel=channel, amount=1)  # for which it would have Bob's bond
    paying = asyncio.create_task(on.bob.run(Pay(target=channel, amount=500)))
    await on.mallory.does("keeps", kind="Propose")
    await on.force(channel)
    with pytest.raises(Refused, match="wedged"):
        await paying  # nobody has Bob's signature of it, and nobody gets it: it may be made elsewhere
    await on.bob_claims(channel)
    assert await on.mallory.does("release", channel=channel) == "nothing"
    vain = {name: code for name, code in IN_VAIN.items() if name != "1 and 2 contradict"}
    assert await on.mallory.does("frame", channel=channel) == vain
    assert await on.mallory.does("claim_now", channel=channel) == "ok"
    end = await on.settled(channel)
    assert end.version == 1
    assert end.honest == (DEPOSIT + 300 + BOND, DEPOSIT - 300 + BOND)


async def test_a_primary_that_does_not_say_what_was_committed_cannot_take_it_back(on: Stage) -> None:
    """Rule 3: in a pair the second signature completes the certificate, so its maker holds it, and reports it."""
    await on.mallory.does("withhold")
    channel = await on.opened("mallory")
    await on.mallory.does("pay", channel=channel, amount=300)
    await on.mallory.does("withhold", hear="Accept")
    await on.mallory.does("pay_silently", channel=channel, amount=4_000)
    await on.mallory.does("keeps", kind="Accept")
    assert await on.mallory.does("wedge", channel=channel, k=1) == "ok"  # a true claim: it heard of no certificate
    end = await on.settled(channel)
    assert end.version == 2
    assert end.honest == (DEPOSIT + 4_300 + BOND, DEPOSIT - 4_300 + BOND)


async def test_a_member_that_withholds_its_final_leaves_nobody_alone_with_a_loss(on: Stage) -> None:
    """[F7]: left alone with its signature of FINAL, the other signs nothing more but a CLAIM; both pay the same."""
    await on.mallory.does("withhold")
    channel = await on.opened("bob")
    await on.pays(channel, 300)
    await on.mallory.does("withhold", say="FinalAccept")
    closing = asyncio.create_task(on.bob.run(CloseChannel(channel=channel)))
    await on.mallory.does("keeps", kind="FinalAccept")
    closing.cancel()  # Bob's user waits no longer
    await asyncio.gather(closing, return_exceptions=True)
    await on.force(channel)
    await on.bob_claims(channel)
    vain = {name: code for name, code in IN_VAIN.items() if name != "1 and 2 contradict"}
    assert await on.mallory.does("frame", channel=channel) == vain
    assert await on.mallory.does("end", channel=channel, taking=1) == "bad_signature"
    assert await on.mallory.does("end", channel=channel, taking=0) == "ok"
    end = await on.settled(channel)
    assert end.reason is Reason.FINAL
    assert end.honest == (DEPOSIT - 300 + BOND, DEPOSIT + 300 + BOND)


async def test_an_initiator_that_withholds_its_signature_of_the_opening_has_no_option_for_long(on: Stage) -> None:
    """ "void after `open_before`, so that nobody holds a free option on another's deposit"."""
    before = (await on.bob.run(Show())).spending.balance
    await on.mallory.does("ask_to_join", contact=on.place.serving["bob"].contact, deposit=DEPOSIT, life_ms=2_000)
    promised = (await on.bob.run(ListChannels())).channels[-1]
    assert (promised.state, promised.deposit) == ("opening", DEPOSIT)
    assert await on.mallory.does("open_late") == ["dead", "bad_signature"]

    async def given_up() -> bool:
        return (await on.view(promised.id)).state == "failed"

    await until(given_up, "Bob's wallet knows that it will not be")
    assert (await on.bob.run(Show())).spending.balance == before


if __name__ == "__main__":
    play(Withholding())
