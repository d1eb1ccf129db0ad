"""Adversary: it has the FINAL of an older state in its hand, and would bring it when a newer state takes money from it.

A member signs FINAL with nothing in flight, and after it nothing but a CLAIM: so there never is a newer state, however
the other asks for one. And a FINAL in the hand does not make a stale wedge any better. (A pair's second member holds
both signatures as soon as it has signed, and brings them; so only such a one can leave the other alone with its own.)

Source: docs/design/groups.md, rule 7 [F7].
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from layer1.codec import encode
from layer1.devnet import Devnet
from layer1.ledger.agreements import sign_state
from layer1.ledger.records import Forfeit, Reason
from layer1.ledger.transactions import CloseGroup
from layer2.messages import Batch, Command, Error, FinalAccept, Inquiry, Message, Propose, Standing, Submit
from layer2.payments import pay
from layer2.state import advance, apply_batch
from tests.e2e.adversaries.liar import Liar, happens, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage
from wallet.requests import History

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]


class GoingOn(Liar):
    """Ends a channel, and goes on as if it had not."""

    def __init__(self) -> None:
        super().__init__()
        self._final: CloseGroup | None = None
        self._heard: list[Message] = []

    def outgoing(self, message: Message) -> Iterable[Message]:
        return () if isinstance(message, FinalAccept) else (message,)

    def incoming(self, message: Message) -> Iterable[Message]:
        self._heard.append(message)
        return (message,)

    async def agree_on_the_end(self, channel: str) -> None:
        """Have a FINAL that both signed, and keep it."""
        self._final = await self.host.close_cooperatively(bytes.fromhex(channel))

    async def bring_the_end(self) -> str:
        """Now."""
        assert self._final is not None
        return await self.bring(self._final)

    async def propose_once_more(self, channel: str, amount: int) -> list[str]:
        """Propose a payment after the end, then something that is answered for certain; what the other says to both."""
        group, salt = self.group(channel), os.urandom(16)
        place, base = group.place, group.state
        batch = Batch((Command(0, base.body.applied[0] + 1, pay(1, amount, b"after the end"), b""),))
        outcome, encoded = apply_batch(place, base, batch), encode(batch)
        header = advance(place, base, batch, encoded=encoded, salt=salt, outcome=outcome).header
        self._heard.clear()
        proposal = Propose(header, encoded, salt, sign_state(place.key, header), group.signatures)
        self.say(channel, proposal, Submit(group.group_id, ()))
        await happens(lambda: any(isinstance(message, Error) for message in self._heard))
        return [type(message).__name__ for message in self._heard]

    async def submit_once_more(self, channel: str, amount: int) -> list[str]:
        """As a member: ask the primary to sign one more, then something that is answered for certain; what it says."""
        group = self.group(channel)
        me, number = group.place.index, group.next_number
        command = Command(me, number, pay(0, amount), group.place.tag(number, pay(0, amount)))
        self._heard.clear()
        self.say(channel, Submit(group.group_id, (command,)), Inquiry(group.group_id))
        await happens(lambda: any(isinstance(message, Standing) for message in self._heard))
        return [type(message).__name__ for message in self._heard]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who goes on after the end."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def test_a_member_signs_no_state_after_final_that_final_could_take_back(on: Stage) -> None:
    """Rule 7: "after it signs nothing more in that epoch *but a CLAIM*"."""
    channel = await on.opened()
    await on.mallory.does("pay", channel=channel, amount=300)
    await on.mallory.does("agree_on_the_end", channel=channel)
    assert await on.mallory.does("propose_once_more", channel=channel, amount=4_000) == ["Error"]
    assert await on.mallory.does("bring_the_end") in ("ok", "group_closed"), "Bob has it, too"
    end = await on.settled(channel)
    assert end.reason is Reason.FINAL
    assert end.honest == (DEPOSIT + 300 + BOND, DEPOSIT - 300 + BOND)
    entries = (await on.bob.run(History(channel=channel))).entries
    assert [entry.amount for entry in entries if entry.kind == "received"] == [300], "he was not paid once more"


async def test_a_primary_left_alone_with_its_final_proposes_no_state_that_final_could_take_back(on: Stage) -> None:
    """[F7]: Mallory alone has it whole, and would pay for something, then bring it."""
    channel = await on.opened("bob")
    await on.mallory.does("pay", channel=channel, amount=300)
    await on.mallory.does("agree_on_the_end", channel=channel)
    assert await on.mallory.does("submit_once_more", channel=channel, amount=4_000) == ["Standing"]
    view = await on.view(channel)
    assert (view.state, view.version, view.balance) == ("closing", 1, DEPOSIT + 300)
    assert await on.mallory.does("bring_the_end") == "ok"
    assert (await on.settled(channel)).honest == (DEPOSIT + 300 + BOND, DEPOSIT - 300 + BOND)


async def test_a_final_in_the_hand_makes_a_stale_wedge_no_better(on: Stage) -> None:
    """Who signed FINAL still claims, and reports: the lie costs its bond, and FINAL comes too late."""
    channel = await on.opened("bob")
    await on.mallory.does("pay", channel=channel, amount=300)
    await on.mallory.does("pay", channel=channel, amount=4_000)
    await on.mallory.does("agree_on_the_end", channel=channel)
    assert await on.mallory.does("wedge", channel=channel, back=1) == "ok"
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (2, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 4_300 + 2 * BOND, DEPOSIT - 4_300)
    assert await on.mallory.does("bring_the_end") == "group_closed"


if __name__ == "__main__":
    play(GoingOn())
