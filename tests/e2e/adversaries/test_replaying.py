"""Adversary: it says and brings again what was said and signed elsewhere: in another group, epoch, or on another chain.

As it was, and under the names of where it would do harm. Every signed thing names its kind, chain, group and epoch, so
it verifies as nothing else: also where the keys are the same, as in the next epoch of a group, and on two chains for
who has one phrase.

Source: docs/design/groups.md, "Objects" and rules 5 and 24 [F8].
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio
from msgspec import Struct, structs

from layer1.client import LedgerClient
from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.agreements import Body, Certificate, sign_claim
from layer1.ledger.genesis import Allocation, Parameters
from layer1.ledger.transactions import ChangeGroup, CloseGroup, Wedge
from layer1.link import LinkClosed, connect
from layer2.changing import payload_of
from layer2.closing import final_payload
from layer2.messages import Error, LostData, Message, Resume, Submit
from layer2.value import Group
from tests.e2e.adversaries.liar import POLICY, Liar, happens, play
from tests.e2e.adversaries.stage import AMPLE_MS, BOND, DEPOSIT, Stage, stage
from tests.e2e.town import ENVIRONMENT, FUNDS, TREASURY
from wallet.contacts import parse_contact
from wallet.requests import ChangeChannel, CloseChannel
from wallet.wallet import Wallet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
TAKEN_OUT = 100


def renamed(value: Any, names: dict[str, Any]) -> Any:
    """The same under other names of chain, group and epoch, wherever in it they stand."""
    if isinstance(value, tuple):
        return tuple(renamed(each, names) for each in value)
    if not isinstance(value, Struct):
        return value
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return structs.replace(value, **{k: names[k] if k in names else renamed(v, names) for k, v in fields.items()})


class Replaying(Liar):
    """Keeps everything that it says and hears, of each kind the last."""

    def __init__(self) -> None:
        super().__init__()
        self._archive: dict[tuple[Hash, int], dict[tuple[str, type], Message]] = {}
        """By group and epoch."""
        self._finals: dict[Hash, CloseGroup] = {}
        self._changes: dict[Hash, ChangeGroup] = {}
        self._errors = 0

    def outgoing(self, message: Message) -> Iterable[Message]:
        self._keep("said", message)
        return (message,)

    def incoming(self, message: Message) -> Iterable[Message]:
        self._errors += isinstance(message, Error)
        self._keep("heard", message)
        return (message,)

    def _keep(self, how: str, message: Message) -> None:
        name = getattr(message, "group_id", None)
        group = None if name is None else self.host.groups.get(name)
        if group is not None and not isinstance(message, Resume | LostData | Error):
            self._archive.setdefault((group.group_id, group.epoch), {})[how, type(message)] = message

    def note(self, group: Group) -> None:
        super().note(group)
        final, change = final_payload(group), payload_of(group)
        if final is not None:
            self._finals[group.group_id] = final
        if change is not None:
            self._changes[group.group_id] = change

    async def say_again(self, source: str, epoch: int, target: str) -> int:
        """Say all that was said or heard there in the target, as it was and renamed; to how many the other objects."""
        group = self.group(target)
        names = {"chain_id": self.host.chain_id, "group_id": group.group_id, "epoch": group.epoch}
        messages = list(self._archive[bytes.fromhex(source), epoch].values())
        self._errors = 0
        for message in messages:
            self.say(target, message, renamed(message, names))
        before = self._errors
        self.say(target, Submit(group.group_id, ()))  # which a member objects to for certain
        await happens(lambda: self._errors > before)
        return len(messages)

    async def bring_again(self, source: str, back: int, target: str) -> dict[str, str]:
        """Bring a state, and the end, of the source against the target; what layer 1 says to each."""
        certificate, body = self.state(source, back)
        said = await self.bring_foreign(target, encode(certificate).hex(), encode(body).hex())
        final = self._finals.get(bytes.fromhex(source))
        if final is not None:
            names = {"group_id": bytes.fromhex(target), "epoch": self.group(target).epoch}
            said["its end"] = await self.bring(final)
            said["its end, renamed"] = await self.bring(renamed(final, names))
        if source == target:
            said["its change"] = await self.bring(self._changes[bytes.fromhex(source)])
        return said

    async def bring_foreign(self, target: str, certificate: str, body: str) -> dict[str, str]:
        """Wedge the target with a state of elsewhere, as it is and renamed; what layer 1 says."""
        cert, state = decode(bytes.fromhex(certificate), Certificate), decode(bytes.fromhex(body), Body)
        group = self.group(target)
        place, version = group.place, cert.header.version
        names = {"chain_id": self.host.chain_id, "group_id": group.group_id, "epoch": group.epoch}
        mine = renamed(cert, names)
        above = structs.replace(mine.header, version=version + 1)
        claim = sign_claim(place.key, place.index, version, above)
        own = sign_claim(place.key, place.index, version, mine.header)
        return {
            "as it is": await self.bring(Wedge(cert, state, claim)),
            "renamed": await self.bring(Wedge(mine, state, own)),
        }


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who replays."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def back_and_forth(on: Stage, channel: str) -> None:
    """Bob pays 40.00, and is paid them back: the state in between is what Mallory would like to have again."""
    await on.pays(channel, 4_000)
    await on.mallory.does("pay", channel=channel, amount=4_000)


async def test_nothing_of_another_group_or_epoch_counts(on: Stage) -> None:
    """ "A signature made for one kind, chain, group or epoch verifies as no other." """
    over = await on.opened()
    await back_and_forth(on, over)
    assert (await on.bob.run(CloseChannel(channel=over))).reason == "final"
    channel = await on.opened()
    await back_and_forth(on, channel)
    vain = {"as it is": "bad_certificate", "renamed": "bad_signature"}
    ends = {"its end": "group_closed", "its end, renamed": "bad_signature"}
    assert await on.mallory.does("bring_again", source=over, back=1, target=channel) == {**vain, **ends}
    assert await on.mallory.does("say_again", source=over, epoch=0, target=channel) >= 4
    await back_and_forth(on, channel)

    changed = await on.bob.run(ChangeChannel(channel=channel, action="withdraw", amount=TAKEN_OUT))
    assert changed.epoch == 1  # with the keys of epoch 0
    await back_and_forth(on, channel)
    older = {**vain, "its change": "wrong_epoch"}
    assert await on.mallory.does("bring_again", source=channel, back=5, target=channel) == older
    before = await on.view(channel)
    assert await on.mallory.does("say_again", source=channel, epoch=0, target=channel) >= 4
    after = await on.view(channel)
    assert (after.epoch, after.version, after.balance) == (1, before.version, DEPOSIT - TAKEN_OUT)
    await back_and_forth(on, channel)
    await on.force(channel)
    await on.bob_claims(channel)
    await on.mallory.does("claim_now", channel=channel)
    assert (await on.settled(channel)).honest == (DEPOSIT - TAKEN_OUT + BOND, DEPOSIT + BOND)


async def test_nothing_of_another_chain_counts_though_the_keys_are_the_same(on: Stage, tmp_path_factory: Any) -> None:
    """Two ledgers, and on each a wallet of the same phrase: what Bob signed on one is nothing on the other."""
    channel, folder = await on.opened(), tmp_path_factory.mktemp("elsewhere")
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=1_000)
    allocations = (Allocation(TREASURY.public, 10 * FUNDS),)
    initialize(folder / "ledger", Plan(replicas=1, allocations=allocations, parameters=parameters))
    async with Devnet(folder / "ledger") as net:
        certificate, body = await signed_elsewhere(on, channel, net)
    group = await on.group(channel)
    assert certificate.header.chain_id != group.agreement.chain_id
    said = await on.mallory.does(
        "bring_foreign", target=channel, certificate=encode(certificate).hex(), body=encode(body).hex()
    )
    assert said == {"as it is": "bad_certificate", "renamed": "bad_signature"}
    await back_and_forth(on, channel)
    await on.force(channel)
    await on.bob_claims(channel)
    await on.mallory.does("claim_now", channel=channel)
    assert (await on.settled(channel)).honest == (DEPOSIT + BOND, DEPOSIT + BOND)


async def signed_elsewhere(on: Stage, channel: str, net: Devnet) -> tuple[Certificate, Body]:
    """A state of another chain in which Mallory has all, signed by the keys of the first channel of both."""
    passphrase = ENVIRONMENT["WALLET_PASSPHRASE"]
    made = {
        name: Wallet.create(net.directory / name, net.genesis, net.urls, passphrase, on.place.made[name].phrase)
        for name in ("mallory", "bob")
    }
    async with LedgerClient(net.urls, net.genesis) as ledger:
        for each in made.values():
            await ledger.submit(await ledger.new_transfer(TREASURY, each.spending, FUNDS))
    async with (
        Wallet.load(made["bob"].home, passphrase) as bob,
        Wallet.load(made["mallory"].home, passphrase) as mallory,
    ):
        contact = await bob.serve(None, POLICY)
        there = await mallory.open_channel(
            contact, deposit=DEPOSIT, peer_deposit=DEPOSIT, bond=BOND, challenge_period_ms=AMPLE_MS
        )
        await bob.channel(there.id.hex()).pay(DEPOSIT)
        group = bob._parts.host.groups[there.id]
        assert group.version == 1
        members = [member.key for member in group.place.agreement.members]
        here = (await on.group(channel)).agreement
        assert members == [member.key for member in here.members], "the keys are the same on both chains"
        place = parse_contact(on.place.serving["bob"].contact)
        with pytest.raises(LinkClosed):
            await connect(place.host, place.port, mallory._keys.spending, net.genesis.chain_id, expect=place.address)
        return group.certificate, group.state.body


if __name__ == "__main__":
    play(Replaying())
