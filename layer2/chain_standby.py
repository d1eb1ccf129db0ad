"""The standby of a chain: keeps all that the head sends, and leads when layer 1 says so.

*Safety:* what it confirmed it has, and from when it leads it confirms nothing.

It asks for the term after the one in which it was told `Pairing`, behind everything that the head of that term showed
before; what that head showed later, it had confirmed. So who wins the term holds all of it; who loses begins anew.

*Source:* docs/decisions/031, 2 and 3.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from layer1.errors import LocalError, RemoteError, check
from layer2.chain import (
    Asked,
    AskLayer1,
    Batch,
    Confirmed,
    Cut,
    Effect,
    Event,
    Following,
    Heard,
    Hello,
    Keep,
    Lead,
    Leading,
    Linked,
    Pairing,
    Part,
    Shown,
    Swap,
    Tell,
    Turn,
    Unlinked,
    Unwilling,
    Welcome,
    Whole,
    Write,
)

MAX_HANDOVER_BYTES = 2**30
"""Of what a head may send as parts: far above any wallet, and an end to it."""


class ChainStandby:
    """One process that follows.

    Attributes:
        role: As written down.
        linked: Whether the head of this term speaks with it.
        position: Of the newest turn of `run` that is here.
        leads: Whether it leads now: then it hears nobody any more, and a `ChainHead` goes on in its place.
    """

    def __init__(self, role: Following) -> None:
        """Begin after a start: what is here is kept, and whose turns it holds is not known any more."""
        self.role = role
        self.linked = False
        self.leads = False
        self.run = b""
        self.position = 0
        self._heard_run = b""
        self._parts: list[Part] = []
        self._parts_bytes = 0

    def lose_track(self) -> None:
        """What was to be kept was not: what is here is of no run that we know, and the head is to send everything."""
        self._forget_link()
        self.run, self.position = b"", 0

    def step(self, event: Event) -> list[Effect]:
        """Advance by one event.

        Raises:
            RemoteError: The head broke the protocol; nothing has changed.
            Refused: ``not_paired``: it may not be promoted.
            LocalError: An event of the other side.
        """
        if self.leads:  # 3: a head whose link is left, or comes anew, is confirmed nothing
            return [Cut("this home leads now")] if isinstance(event, Heard) else []
        match event:
            case Heard(message):
                return self._hear(message)
            case Linked() | Unlinked():
                return self._forget_link()
            case Asked():
                return self._promote()
            case Shown(term, head):
                return self._see(term, head)
            case Turn():
                raise LocalError("a standby has no turns of its own: it signs nothing")
            case _ as never:
                assert_never(never)

    def _forget_link(self) -> list[Effect]:
        self.linked = False
        self._parts, self._parts_bytes = [], 0
        return []

    def _hear(self, message: object) -> list[Effect]:
        if isinstance(message, Hello):
            return self._greeted(message)
        if not self.linked:
            return []  # said before it knew that we do not listen
        match message:
            case Part():
                return self._take_part(message)
            case Whole(position):
                return self._swap(position)
            case Batch():
                return self._keep(message)
            case Pairing(term):
                return self._pair(term)
            case _:
                raise RemoteError(f"a head says no {type(message).__name__}", message)

    def _greeted(self, hello: Hello) -> list[Effect]:
        role = self.role
        if hello.term < max(role.term, 1) or (hello.term == role.term and hello.name not in (role.head, role.name)):
            return [Tell(Unwilling(role.term))]
        if hello.name == role.name:
            raise RemoteError("the head has the name of this home: one of the two is a copy, which no home may be")
        self._forget_link()
        self.linked, self._heard_run = True, hello.run
        effects: list[Effect] = []
        if hello.term > role.term:  # another term: what was paired in the old one counts no more
            self.role = Following(role.name, hello.term, hello.name)
            effects.append(Write(self.role))
        return [*effects, Tell(Welcome(role.name, self.run, self.position))]

    def _take_part(self, part: Part) -> list[Effect]:
        size = self._parts_bytes + sum(map(len, part.files)) + sum(map(len, part.records))
        if size > MAX_HANDOVER_BYTES:
            raise RemoteError(f"the head hands over {size} bytes; at most {MAX_HANDOVER_BYTES} are taken")
        self._parts.append(part)
        self._parts_bytes = size
        return []

    def _swap(self, position: int) -> list[Effect]:
        if position < 0:
            raise RemoteError(f"everything as of turn {position}; they count from 0", position)
        files = tuple(file for part in self._parts for file in part.files)
        records = tuple(record for part in self._parts for record in part.records)
        self._parts, self._parts_bytes = [], 0
        self.run, self.position = self._heard_run, position
        return [Swap(files, records), Tell(Confirmed(position))]

    def _keep(self, batch: Batch) -> list[Effect]:
        if self.run != self._heard_run or batch.position != self.position + 1:
            raise RemoteError(f"turn {batch.position} after {self.position}: something between them is missing", batch)
        self.position = batch.position
        return [Keep(batch.files, batch.records), Tell(Confirmed(batch.position))]

    def _pair(self, term: int) -> list[Effect]:
        if term != self.role.term or self.run != self._heard_run:
            raise RemoteError(f"pairing in term {term}, this is {self.role.term}, before everything was sent")
        if self.role.paired:
            return []
        self.role = replace(self.role, paired=True)
        return [Write(self.role)]

    def _promote(self) -> list[Effect]:
        """Ask for the term after the one that it is paired in (3); until it has it, the head may go on."""
        check(
            self.role.paired,
            "not_paired",
            "this home has not got all that the head has shown, so it may not be promoted: let the head run until "
            "`wallet standby show` says paired",
        )
        return [AskLayer1(self.role.term + 1)]

    def _see(self, term: int, head: bytes) -> list[Effect]:
        role = self.role
        if term <= role.term:
            return []
        self._forget_link()
        if head != role.name:  # another one was first: nothing that was paired holds any more
            self.role = Following(role.name, term, head)
            return [Write(self.role), Cut(f"term {term} is of home {head.hex()[:12]}")]
        if not role.paired or term != role.term + 1:
            raise LocalError(
                f"layer 1 has this home as head of term {term}, and what is here is of term {role.term}"
                f"{', paired' if role.paired else ''}: it is an old copy, and may lack what it has signed"
            )
        self.leads = True
        return [Write(Leading(role.name, term)), Cut("this home leads now"), Lead(term)]


def step_down(role: Leading, shown: Shown) -> Following:
    """What an old head becomes when another home leads (5).

    Raises:
        LocalError: This home leads, or the term is not above its own.
    """
    if shown.head == role.name or shown.term <= role.term:
        raise LocalError(f"layer 1 shows no other head above term {role.term}: this home leads")
    return Following(role.name, shown.term, shown.head)
