"""A witness that lies: it ACKs what it never kept, claims an old version, forgets, and is silent at times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from layer1.codec import encode
from layer1.ledger.agreements import sign_claim
from layer1.ledger.records import Status
from layer1.ledger.transactions import Report
from layer2.committing import sign_ack
from layer2.messages import Ack, Hold, decode_message
from tests.simulation.stories.links import End
from tests.simulation.stories.options import WITNESSED
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.witness import WitnessProcess

ACT_MS = 400
"""Mean time between two looks of a liar at layer 1."""


class LyingWitness(Plot):
    """Of 2f + 1, f lie: a witness, and in larger groups a member, or another witness."""

    shapes = WITNESSED
    liars = False
    colluding: ClassVar[int] = 1

    def begin(self) -> None:
        for witness in self.story.witnesses[: self._lying()]:
            self._corrupt(witness)
            self._act(witness)

    def _lying(self) -> int:
        return 1 if self.options.size == 2 else 1 + self.options.step % 2

    def _corrupt(self, witness: WitnessProcess) -> None:
        witness.is_honest = False
        witness.lies = lambda end, data: self._said(witness, end, data)
        witness.hears = lambda end, data: self._heard(witness, end, data)
        witness.brings = lambda report: False  # it claims what it likes

    def _heard(self, witness: WitnessProcess, end: End, data: bytes) -> Iterable[bytes]:
        """What it is to hold it does not keep, and ACKs."""
        message = decode_message(data)
        if not isinstance(message, Hold) or self.options.step % 3 == 0 or self.random.random() < 0.3:
            return (data,)
        header = message.certificate.header
        ack = Ack(header.group_id, header.epoch, header.version, sign_ack(witness.key, header))
        end.say(encode(ack))
        self.story.world.stats["false ACKs"] += 1
        return ()

    def _said(self, witness: WitnessProcess, end: End, data: bytes) -> Iterable[bytes]:
        return () if self.random.random() < 0.05 else (data,)

    def _act(self, witness: WitnessProcess) -> None:
        """It claims when the group is wedged, as low as it can, before anybody else does."""
        for group_id, facts in self.story.facts.groups.items():
            shown = facts.ledger
            place = self.options.size + self.story.witnesses.index(witness)
            if shown.status is Status.WEDGED and shown.claims[place] is None:
                header = shown.origin if self.options.step % 2 else shown.certificate.header
                claim = sign_claim(witness.key, place, header.version, header)
                self.story.ledger.bring(Report(group_id, None, None, (claim,)))
        self.story.world.after(round(self.random.expovariate(1 / ACT_MS) * 1_000), lambda: self._act(witness))
