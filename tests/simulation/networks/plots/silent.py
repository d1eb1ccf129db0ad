"""A peer that falls silent at a step of a lock: from its message number `step` that carries one on it says nothing.

Links stay up. It lets its locks expire, and is as silent on layer 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from layer1.codec import decode
from layer2.events import Payload
from layer2.messages import Accept, Batch, Command, Propose, Submit, decode_message
from layer2.payments import Pay, read_command
from tests.simulation.groups.roles.role import Host, Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot

STEPS = 40
"""Of a run, that seeds go through."""


class FallingSilent(Role):
    """As if it were there."""

    host: MemberProcess

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._steps = 0
        self._on_ledger_too = random.random() < 0.5

    @property
    def is_silent(self) -> bool:
        """From now on."""
        return self._steps > self.host.step % STEPS

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if isinstance(message, Propose) and _has_lock(decode(message.batch, Batch).commands):
            self._steps += 1  # its answer is an Accept, which says nothing of locks itself
        return (data,)

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if isinstance(message, Submit) and _has_lock(message.commands):
            self._steps += 1
        if isinstance(message, Propose) and _has_lock(decode(message.batch, Batch).commands):
            self._steps += 1
        if self.is_silent:
            self.host.world.stats["answers that never came"] += isinstance(message, Accept | Propose | Submit)
            return ()
        return (data,)

    def brings(self, payload: Payload) -> bool:
        return not (self.is_silent and self._on_ledger_too)


def _has_lock(commands: Iterable[Command]) -> bool:
    return any(not isinstance(read_command(command.payload), Pay) for command in commands)


class Silent(Plot):
    """Rule 23: what is ours we get from layer 1."""

    def begin(self) -> None:
        self.corrupt(FallingSilent)
