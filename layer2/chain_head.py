"""The head of a chain: holds back what its standby has not confirmed.

*Safety:* in a term in which it is paired, nothing that follows from a turn is performed before the standby of that
term holds all turns up to it.

Paired is written down before the standby is told so, and on the link that word stands behind all that was performed
alone. Only layer 1 ends it, by a higher term of this home, in which its old standby can never be promoted.

*Source:* docs/decisions/031, 1, 2, 4 and 5.
"""

from __future__ import annotations

from collections import deque
from typing import assert_never

from layer1.errors import Refused, RemoteError
from layer2.chain import (
    Asked,
    AskLayer1,
    Batch,
    Confirmed,
    Cut,
    Effect,
    Event,
    Fenced,
    HandOver,
    Heard,
    Hello,
    Leading,
    Linked,
    Pairing,
    Perform,
    Shown,
    Tell,
    Turn,
    Unlinked,
    Unwilling,
    Welcome,
    Write,
)


class ChainHead:
    """One process that leads; mutable, since what is not confirmed may be long.

    Attributes:
        role: As written down.
        position: Of the newest turn.
        performed: Up to which turn effects were let out.
        in_touch: Whether the standby answers on this link.
        fenced: Whether another home leads.
    """

    def __init__(self, role: Leading, run: bytes) -> None:
        """Begin after a start.

        Args:
            role: As it was written down.
            run: 16 random bytes.
        """
        self.role = role
        self.position = 0
        self.performed = 0
        self.in_touch = False
        self.fenced = False
        self._run = run
        self._linked = False
        self._confirmed = 0
        self._kept: deque[Batch] = deque()
        """Turns that the standby may lack; all from the first of them on."""
        self._greeted_by = b""
        """Name of the standby that answers on this link."""

    @property
    def in_force(self) -> bool:
        """Whether what is done now can be let out without waiting for somebody who is not there."""
        return not self.fenced and (not self.role.paired or self.in_touch)

    def step(self, event: Event) -> list[Effect]:
        """Advance by one event.

        Raises:
            RemoteError: The standby broke the protocol; nothing has changed.
            Refused: ``alone``: it is, already; ``no_term``: it was never appointed.
        """
        match event:
            case Turn():
                return self._end_turn(event)
            case Linked():
                return self._greet()
            case Unlinked():
                self._linked = False
                return self._lose_touch()
            case Heard(message):
                return self._hear(message)
            case Shown(term, head):
                return self._see(term, head)
            case Asked():
                return self._go_alone()
            case _ as never:
                assert_never(never)

    def _end_turn(self, turn: Turn) -> list[Effect]:
        """Each turn is confirmed, also one without records: it may say what was true an hour ago (1)."""
        self.position += 1
        effects: list[Effect] = []
        batch = Batch(self.position, turn.files, turn.records)
        if self.role.paired or self.in_touch:
            self._kept.append(batch)
        if self.in_touch:
            effects.append(Tell(batch))
        return effects + self._perform()

    def _perform(self) -> list[Effect]:
        """Let out what may be: all if alone, else what is confirmed."""
        if self.fenced:
            return []
        last = min(self._confirmed, self.position) if self.role.paired else self.position
        if last <= self.performed:
            return []
        self.performed = last
        return [Perform(last)]

    def _lose_touch(self) -> list[Effect]:
        """Keep for the standby what it may lack; alone, what is shown meanwhile is in no batch, so it gets all anew."""
        self.in_touch = False
        if not self.role.paired:
            self._kept.clear()
        return []

    def _greet(self) -> list[Effect]:
        self._linked = True
        self._lose_touch()
        if self.fenced or not self.role.term:  # without a term there would be nothing to fence us with
            return [Cut("this home leads no term")]
        return [Tell(Hello(self.role.name, self.role.term, self._run, self.position))]

    def _hear(self, message: object) -> list[Effect]:
        if not self._linked or self.fenced:
            return []
        match message:
            case Welcome():
                return self._welcomed(message)
            case Confirmed(position):
                return self._confirm(position)
            case Unwilling(term):
                self._lose_touch()
                return [Cut(f"the standby follows another head, in term {term}; ours is {self.role.term}")]
            case _:
                raise RemoteError(f"a standby says no {type(message).__name__}", message)

    def _welcomed(self, welcome: Welcome) -> list[Effect]:
        """Send what it lacks: the turns behind its newest one if they are here, else everything."""
        if self.in_touch:
            raise RemoteError("a standby is welcome once per link", welcome)
        if self.role.paired and welcome.name != self.role.standby:
            reason = f"it is home {welcome.name.hex()[:12]}, paired in this term is {self.role.standby.hex()[:12]}"
            return [Cut(reason)]
        self._greeted_by = welcome.name
        self.in_touch = True
        first_kept = self._kept[0].position if self._kept else self.position + 1
        effects: list[Effect]
        if welcome.run == self._run and first_kept - 1 <= welcome.position <= self.position:
            effects = [Tell(batch) for batch in self._kept if batch.position > welcome.position]
            paired = [Tell(Pairing(self.role.term))] if self.role.paired else []
            return [*effects, *paired, *self._confirm(welcome.position)]
        self._kept.clear()
        effects = [HandOver(self.position)]
        return [*effects, Tell(Pairing(self.role.term))] if self.role.paired else effects

    def _confirm(self, position: int) -> list[Effect]:
        if not self.in_touch:
            return []
        if position > self.position:
            raise RemoteError(f"turn {position} is confirmed, the newest is {self.position}", position)
        self._confirmed = max(self._confirmed, position)
        while self._kept and self._kept[0].position <= position:
            self._kept.popleft()
        return self._perform() if self.role.paired else self._pair()

    def _pair(self) -> list[Effect]:
        """It has everything, but for turns that are on their way to it: wait for it from now on, then say so (2)."""
        self.role = Leading(self.role.name, self.role.term, self._greeted_by)
        return [Write(self.role), Tell(Pairing(self.role.term))]

    def _see(self, term: int, head: bytes) -> list[Effect]:
        if term < self.role.term or self.fenced or (term, head) == (self.role.term, self.role.name):
            return []
        if head != self.role.name:  # 5: what waits is never let out
            self.fenced, self.in_touch = True, False
            return [Fenced(term)]
        self.role = Leading(self.role.name, term)  # 4: nobody else has this term, so the old standby never leads
        self._lose_touch()
        again = self._greet() if self._linked else []
        return [Write(self.role), *self._perform(), *again]

    def _go_alone(self) -> list[Effect]:
        """Ask for the term after our own: were it any other, somebody may have led in between (4)."""
        if self.fenced:
            raise Refused("fenced", "another home leads: this one cannot go on")
        if self.role.term and not self.role.paired:
            raise Refused("alone", f"this home leads term {self.role.term} alone already")
        return [AskLayer1(self.role.term + 1)]
