"""Replay across groups, epochs and chains: whatever was signed for one is brought to another, and said in another.

Two groups have the same members, and one of them changes its epoch, so that there is something to replay.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Hash
from layer1.ledger.agreements import Body, Certificate, Claim, GroupHeader
from layer1.ledger.transactions import CloseGroup, Plea, Report, Wedge
from layer2.events import Payload
from layer2.messages import GroupMessage, decode_message
from tests.simulation.groups.roles.role import Host, Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot

REMEMBERED = 100
"""Messages and states that it keeps."""
OTHER_CHAIN = bytes(32)


class Replaying(Role):
    """Nothing that it brings was made for where it brings it."""

    host: MemberProcess

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._said: list[tuple[int, GroupMessage]] = []
        self._states: list[tuple[Certificate, Body]] = []
        self._brought: list[Payload] = []

    def remember(self) -> None:
        super().remember()
        for group in self.seen.values():
            if group.certificate.signatures:
                self._states = [*self._states[-REMEMBERED:], (group.certificate, group.state.body)]

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        self._said = [*self._said[-REMEMBERED:], (peer, message)]  # type: ignore[list-item]  # members say no offers
        return (data,)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        self._said = [*self._said[-REMEMBERED:], (peer, message)]  # type: ignore[list-item]
        return (data,)

    def brings(self, payload: Payload) -> bool:
        self._brought.append(payload)
        return self.random.random() < 0.8

    def act(self) -> None:
        if not self.seen or self.host.part < 0.2:
            return
        group_id = self.random.choice(sorted(self.seen))
        if self._said and self.random.random() < 0.5:
            peer, message = self.random.choice(self._said)
            self.host.say(peer, encode(self._elsewhere(message, group_id)))
        elif self._states and self.random.random() < 0.5:
            self._bring_state(group_id)
        elif self._brought:
            self._bring_again(self.random.choice(self._brought), group_id)

    def _elsewhere(self, message: Any, group_id: Hash) -> Any:
        """The same words about another group, epoch or chain."""
        for field in message.__struct_fields__:
            found = getattr(message, field)
            if isinstance(found, GroupHeader):
                message = replace(message, **{field: self._moved(found, group_id)})
            elif isinstance(found, Certificate):
                message = replace(message, **{field: replace(found, header=self._moved(found.header, group_id))})
        return replace(message, group_id=group_id) if "group_id" in message.__struct_fields__ else message

    def _moved(self, header: GroupHeader, group_id: Hash) -> GroupHeader:
        epoch = self.seen[group_id].epoch
        match self.random.randrange(4):
            case 0:
                return replace(header, group_id=group_id)
            case 1:
                return replace(header, group_id=group_id, epoch=epoch)
            case 2:
                return replace(header, epoch=header.epoch + self.random.choice((1, -1)))
            case _:
                return replace(header, chain_id=OTHER_CHAIN)

    def _bring_state(self, group_id: Hash) -> None:
        """A certificate of one place in another; with a claim, true or not, or alone."""
        certificate, body = self.random.choice(self._states)
        moved = replace(certificate, header=self._moved(certificate.header, group_id))
        report = Report(group_id, moved, body)
        self.host.bring(report if self.random.random() < 0.7 else Wedge(moved, body, self.claim(group_id, moved)))

    def _bring_again(self, payload: Payload, group_id: Hash) -> None:
        epoch = self.seen[group_id].epoch
        match payload:
            case Wedge(certificate=certificate, body=body, claim=claim):
                self.host.bring(Wedge(certificate, body, self._renamed(claim, group_id, epoch)))
            case CloseGroup(final=final):
                self.host.bring(replace(payload, final=replace(final, group_id=group_id, epoch=epoch)))
            case Plea(plea=plea):
                self.host.bring(replace(payload, plea=replace(plea, group_id=group_id, epoch=epoch)))
            case Report(claims=(claim,)):
                self.host.bring(Report(group_id, None, None, (self._renamed(claim, group_id, epoch),)))
            case _:
                self.host.bring(payload)

    @staticmethod
    def _renamed(claim: Claim, group_id: Hash, epoch: int) -> Claim:
        return replace(claim, group_id=group_id, epoch=epoch)


class Replays(Plot):
    """Every signature is made for one kind, chain, group and epoch."""

    fixed = {"groups": 2, "resizes": True}

    def begin(self) -> None:
        self.corrupt(Replaying)
