"""How a replica that lost its journal, or has only an old copy of it, takes part again without ever voting twice.

Safety: it votes in no term in which it can have voted before.

It counts towards f from the loss on, so at most f - 1 of the others are faulty. It votes nowhere until q = n - f of
them have *reported*: the view that they are in, with the certificates by which one enters it, and the highest
generation of its journal that they have seen. It takes the highest reported view v, and votes from the second term
after that of v on.

*The argument.* Say that it voted in term T before. Then it had entered T: on a certificate whose q voters stood in
term T - 1 or later when they cast their votes (a notarization or finalization of a view of T - 1 or later, or a
nullification of T - 1; a leader that proposes a view ahead stays in its term). Votes are durable before they leave,
and views never go back, so each honest voter reports a term of at least T - 1. And some honest voter did report: of
the n - 1 others g <= f - 1 are faulty, at least q - 1 - g of the voters and q - g of the reporters are honest others,
and those are n - 1 - g in all: so 2q - n - g >= n - 3f + 1 > 0 of them are both. Hence v lies in T - 1 or later, and
the first vote comes in T + 1 or later. A faulty reporter cannot push v up: certificates prove that views were entered.
With omission faults nobody lies, g is 0, and 2q - n > 0. If l <= f replicas, this one included, lost their journals and
report nothing yet, q - l of the voters and all q reporters are among the n - l others: again 2q - n of them are both.

A peer that rejoined itself and may not vote yet reports no view: what it has forgotten, its view does not show.

*Epochs.* The reports that count are those of members of the newest set that any of them proves, all in that epoch e:
the argument holds for what was voted in it. Was there a vote in a later epoch before the loss? Then e had ended with a
boundary that was final, in a view w; its q voters cast their votes past w, and so one honest reporter, as above, stands
past w, and the first vote would come later than w. So if e ends with a boundary in the view of the first vote, or
later, no later epoch was voted in; if it ends before, this replica only listens until it asks again. In the epochs
before e it votes no more, though it starts in the first of them: filler has views beyond w, and so beyond the reports.

*Not in the set of e,* since it was removed: it asks all the same, or it would come back with its old key and vote again
in the epochs in which it was. Then it does not count towards f, which g may be, and 2q - n - g >= n - 3f > 0.

*Generations.* The new journal gets the highest generation reported plus one, so that everybody who knows the old one
refuses its links. A liar could report the largest number there is, and end this replica's generations: nothing proves
a generation. So a report counts only up to `MAX_RISE` above the f-th highest, which some honest peer reached: at most
f - 1 lie. An honest report cannot be that far above another honest one, since each rejoining raises it by one or, by a
lie, by `MAX_RISE`, and tells at least q peers. At this pace the numbers last for 2^43 rejoinings. With omission faults
there are no lies, and the bound never cuts off anything.

Source: docs/design/consensus.md, "Persist before sending"; decision 015.
Deviation: the specification took the (f+1)-th highest of unproven views. That fails from n = 7 on (decision 015).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layer1.codec import encode
from layer1.consensus import quorum
from layer1.consensus.core import Consensus
from layer1.consensus.messages import Certificate, Nullification, View
from layer1.consensus.records import VoteFrom, encode_record
from layer1.crypto import PublicKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.proof import Handover, Trust
from layer1.replica.messages import Standing
from layer1.replica.records import ConsensusRecord, FenceRecord

REJOINING = 0
"""The generation that one greets with while one asks for one's own. No journal has it."""
MAX_RISE = 2**20
"""How far a report of a generation may lie above what an honest peer reported."""
MAX_PROOF = 4
"""Certificates in a report: the newest finalization, and what lets one enter a view."""


def standing(consensus: Consensus, generation: int, handovers: Sequence[Handover] = ()) -> Standing:
    """What this replica reports to a peer whose journal it knew with this generation."""
    if consensus.view < consensus.vote_from:
        return Standing(generation, 0, ())
    chain = consensus.chain
    proof = [*chain.about(chain.floor.view), *chain.entry(consensus.view)]
    return Standing(generation, consensus.view, tuple(dict.fromkeys(proof)), tuple(handovers))


@dataclass(frozen=True, slots=True)
class Rejoined:
    """What the reports come to."""

    generation: int
    """Of the new journal."""
    epoch: int
    vote_from: View
    """No vote below this view."""

    def records(self) -> list[bytes]:
        """The contents of the new journal."""
        first = ConsensusRecord(encode_record(VoteFrom(self.vote_from)))
        return [encode(first), encode(FenceRecord(self.epoch, self.vote_from))]


class Rejoining:
    """Collects reports."""

    def __init__(self, genesis: Genesis, key: PublicKey, generation: int = 0) -> None:
        """Begin.

        Args:
            genesis: The first replica set; handovers prove the others.
            key: Of this replica.
            generation: Of the old copy of the journal, if there is one.
        """
        self._trust = Trust(genesis)
        self._key = key
        self._generation = generation
        self._reports: dict[int, Standing] = {}
        """By number, of members of the newest set."""

    @property
    def sets(self) -> Sequence[ReplicaSet]:
        """The replica sets that were proven, by epoch."""
        return self._trust.sets

    @property
    def missing(self) -> int:
        """Reports that are still needed."""
        return max(0, self._trust.replica_set.quorum - len(self._reports))

    def hear(self, peer: int, report: Standing) -> Rejoined | None:
        """Take a report in; the outcome once there are enough.

        Raises:
            RemoteError: It proves less than it says, or is of an epoch that is over. It does not count.
            LocalError: A set of this size does not outlast the loss of a journal of one of its members.
        """
        if report.view == 0:
            return None  # it rejoined, too, and may not vote yet
        if len(report.proof) > MAX_PROOF or report.generation < 0:
            raise RemoteError(f"replica {peer} reports {len(report.proof)} certificates, {report.generation} journals")
        self._follow(report.handovers)
        self._check(peer, report)
        self._reports[peer] = report
        return None if self.missing else self._outcome()

    def _follow(self, handovers: Sequence[Handover]) -> None:
        """Reports of an epoch count no more when a later one is proven."""
        known = len(self._trust.sets)
        for handover in handovers:
            self._trust.follow(handover)
        if len(self._trust.sets) > known:
            self._reports.clear()
        replicas = self._trust.replica_set
        if replicas.faults < 1 and self._is_member:
            raise LocalError(
                f"of {len(replicas.seats)} replicas none may fail, so none can come back without its journal: its "
                "peers cannot tell what it signed. Put the journal back"
            )

    @property
    def _is_member(self) -> bool:
        return self._key in self._trust.replica_set.keys

    def _check(self, peer: int, report: Standing) -> None:
        replicas = self._trust.replica_set
        if peer not in replicas.numbers or peer == replicas.number_of(self._key):
            raise RemoteError(f"a report of replica {peer}; those of {list(replicas.numbers)} count, but for our own")
        if len(report.handovers) != replicas.epoch:
            raise RemoteError(f"a report of epoch {len(report.handovers)}; this is epoch {replicas.epoch}")
        checker, start = self._trust.checker(replicas.epoch), 1
        if report.handovers:
            start = self._trust.handovers[-1].head.header.view + 1
        proven = max([start, *(self._entered_by(certificate) for certificate in report.proof)])
        if not 1 <= report.view <= proven:
            raise RemoteError(f"replica {peer} reports view {report.view}, and proves view {proven}")
        for certificate in report.proof:
            checker.certificate(certificate)

    @property
    def _term_views(self) -> int:
        return self._trust.genesis.parameters.term_views

    def _entered_by(self, certificate: Certificate) -> View:
        if isinstance(certificate, Nullification):
            return quorum.last_view(quorum.term_of(certificate.view, self._term_views), self._term_views) + 1
        return certificate.view + 1

    def _outcome(self) -> Rejoined:
        replicas, highest = self._trust.replica_set, max(report.view for report in self._reports.values())
        vote_from = quorum.first_view(quorum.term_of(highest, self._term_views) + 2, self._term_views)
        liars = replicas.faults - self._is_member
        known = believed_generation([report.generation for report in self._reports.values()], liars)
        return Rejoined(max(known, self._generation) + 1, replicas.epoch, vote_from)


def believed_generation(reported: Iterable[int], liars: int) -> int:
    """The highest of these that is not absurd, if at most so many of them are lies."""
    ordered = sorted(reported, reverse=True)
    honest = ordered[liars]
    return max(number for number in ordered if number <= honest + MAX_RISE)
