"""Evidence: two votes of one replica that no honest replica casts both of, provable to anybody with the genesis.

Safety: no honest replica is ever accused, whatever the others do with its votes.

An honest replica notarizes one block in a view (rule 3), finalizes one (rule 4), and never finalizes a view that lies
in a range it nullified (rule 5), also across restarts, since its votes are durable before they leave. Each vote names
its epoch and is signed for its chain and kind, so it says the same wherever it is shown. All else is no evidence:
notarize and nullify in one view may stand together (rule 3), and so may two nullify votes of one term, for a range
that begins earlier takes back nothing.

A replica that lost its journal, or runs on an old copy of it, may contradict itself without meaning to. It counts
towards f all the same, and can be shown to.

Source: docs/design/consensus.md, "Evidence", rules 3 to 5, "Persist before sending".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from layer1 import crypto
from layer1.codec import Struct, encode
from layer1.consensus import quorum
from layer1.consensus.certificates import Verify, Vote, kind_of, signed_data, view_of, votes_of
from layer1.consensus.config import Config
from layer1.consensus.messages import Certificate, Finalization, Finalize, Notarize, Nullification, Nullify, View
from layer1.consensus.votes import Pool
from layer1.crypto import HASH_BYTES, Domain, Hash, PublicKey, digest
from layer1.errors import Refused, check

MAX_VIEW = 2**62
"""Nobody votes in this view or above."""


class EvidenceKind(StrEnum):
    """Which rule was broken."""

    NOTARIZED_TWICE = "notarized_twice"
    """Two notarize votes in one view for different blocks (rule 3)."""
    FINALIZED_TWICE = "finalized_twice"
    """Two finalize votes in one view for different blocks (rule 4)."""
    FINALIZED_AND_NULLIFIED = "finalized_and_nullified"
    """A finalize vote and a nullify vote whose range contains its view (rule 5)."""


class Evidence(Struct):
    """Two votes of one replica that contradict each other, in the order of :func:`pair`: one pair has one encoding."""

    first: Notarize | Finalize
    second: Notarize | Finalize | Nullify

    @property
    def replica(self) -> int:
        """Index of the replica that cast them, in the set of :attr:`epoch`."""
        return self.first.replica

    @property
    def epoch(self) -> int:
        """Whose replica set signs."""
        return self.first.epoch

    @property
    def kind(self) -> EvidenceKind:
        """Which rule was broken, if :func:`verify` passes it."""
        if isinstance(self.second, Nullify):
            return EvidenceKind.FINALIZED_AND_NULLIFIED
        return EvidenceKind.NOTARIZED_TWICE if isinstance(self.first, Notarize) else EvidenceKind.FINALIZED_TWICE

    @property
    def id(self) -> Hash:
        """Hash of what the replica said, without the signatures: it cannot give one contradiction two names."""
        said = tuple((kind_of(vote).name, vote.replica, signed_data(vote)) for vote in (self.first, self.second))
        return digest(Domain.EVIDENCE, encode(said))


@dataclass(frozen=True, slots=True)
class Voters:
    """Whose votes these can be, and what they were signed for: one epoch of one chain."""

    chain_id: Hash
    epoch: int
    replicas: tuple[PublicKey, ...]
    """Replica i signs with key i."""
    term_views: int
    """L: where the range of a nullify vote ends."""


def pair(one: Vote, other: Vote) -> Evidence | None:
    """Two votes in the order in which evidence has them: of two blocks the smaller id first, a nullify vote last.

    Returns:
        None if votes of these kinds can never contradict each other.
    """
    if isinstance(one, Nullify):
        one, other = other, one
    if isinstance(one, Nullify) or (type(one) is not type(other) and not _is_finalize_and_nullify(one, other)):
        return None
    if not isinstance(other, Nullify) and other.block < one.block:
        one, other = other, one
        assert not isinstance(one, Nullify)
    return Evidence(one, other)


def verify(evidence: Evidence, voters: Voters, verify_signature: Verify = crypto.verify) -> None:
    """Check that the votes are one replica's, contradict each other, and are signed. About 140 us, if they are.

    Raises:
        Refused: ``bad_vote``, ``different_replicas``, ``unknown_replica``, ``wrong_epoch``, ``no_contradiction``,
            ``same_block``, ``different_views``, ``range_without_view``, ``bad_order`` or ``bad_signature``; the last
            also when they were cast on another chain.
    """
    first, second = evidence.first, evidence.second
    for vote in (first, second):
        _check_shape(vote)
    alone = first.replica == second.replica
    check(alone, "different_replicas", f"one vote is of replica {first.replica}, the other of {second.replica}")
    known = 0 <= first.replica < len(voters.replicas)
    check(known, "unknown_replica", f"the votes are of replica {first.replica}; there are {len(voters.replicas)}")
    for vote in (first, second):
        check(vote.epoch == voters.epoch, "wrong_epoch", f"a vote is of epoch {vote.epoch}, not {voters.epoch}")
    _check_contradiction(first, second, voters.term_views)
    key = voters.replicas[first.replica]
    for vote in (first, second):
        kind = kind_of(vote)
        if not verify_signature(key, vote.signature, kind, voters.chain_id, signed_data(vote)):
            raise Refused(
                "bad_signature",
                f"replica {vote.replica} did not sign the {kind.name} vote in view {view_of(vote)} for chain "
                f"{voters.chain_id.hex()}",
            )


def _check_shape(vote: Vote) -> None:
    view = view_of(vote)
    check(1 <= view < MAX_VIEW, "bad_vote", f"nobody votes in view {view}: it is from 1 to below 2^62")
    if not isinstance(vote, Nullify):
        size = len(vote.block)
        check(size == HASH_BYTES, "bad_vote", f"a vote for a block id of {size} bytes; it has {HASH_BYTES}")


def _check_contradiction(first: Notarize | Finalize, second: Vote, term_views: int) -> None:
    if isinstance(second, Nullify):
        _check_range(first, second, term_views)
        return
    same_kind = type(first) is type(second)
    check(same_kind, "no_contradiction", "a notarize and a finalize vote may stand together, whatever they name")
    same_view = first.view == second.view
    check(same_view, "different_views", f"the votes are in views {first.view} and {second.view}; one may vote in both")
    check(
        first.block != second.block, "same_block", f"both votes are for block {first.block.hex()}; it may be sent twice"
    )
    check(first.block < second.block, "bad_order", "of two votes, the one for the smaller block id comes first")


def _check_range(first: Notarize | Finalize, second: Nullify, term_views: int) -> None:
    finalized = isinstance(first, Finalize)
    check(finalized, "no_contradiction", "a notarize and a nullify vote may stand together (rule 3)")
    last = quorum.last_view(quorum.term_of(second.start, term_views), term_views)
    inside = second.start <= first.view <= last
    check(inside, "range_without_view", f"view {first.view} is finalized, views {second.start} to {last} are nullified")


def _is_finalize_and_nullify(one: Vote, other: Vote) -> bool:
    return isinstance(one, Finalize) and isinstance(other, Nullify)


class Witness:
    """Remembers the votes of the newest views, alone or out of certificates, and notices who contradicts himself.

    It looks further back than what still counts: a view is final three message delays after it began, and the other
    half of a double vote may have gone to a replica that was cut off. Of each kind the first vote of a replica in a
    view is kept, of nullify votes the widest range in a term: any later vote that contradicts one of a replica's votes
    contradicts these. Bounded by `keep_views` below the floor and by what the core counts above it; a restart
    forgets it. One contradiction of a replica in a view is enough.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._pool = Pool(config)
        self._accused: set[tuple[int, View]] = set()

    def contradiction(self, vote: Vote) -> Vote | None:
        """A vote that proves, with ``vote``, what was not known of its replica in this view; None if there is none."""
        found = self._pool.contradiction(vote)
        return None if found is None or (vote.replica, view_of(vote)) in self._accused else found

    def suspects(self, certificate: Certificate) -> list[Vote]:
        """Votes in a certificate that nobody needs to check, but which would prove something if they are genuine."""
        if not self._is_at_odds(certificate):
            return []
        replicas = range(len(self._config.replicas))
        return [v for v in votes_of(certificate) if v.replica in replicas and self.contradiction(v) is not None]

    def see(self, vote: Vote) -> Vote | None:
        """Remember a checked vote. Returns what :meth:`contradiction` found."""
        found = self.contradiction(vote)
        if found is not None:
            self._accused.add((vote.replica, view_of(vote)))
        self._pool.add(vote)
        return found

    def see_all(self, votes: Iterable[Vote]) -> list[tuple[Vote, Vote]]:
        """Remember checked votes. Returns (earlier, later) for each that contradicts an earlier one."""
        return [(found, vote) for vote in votes if (found := self.see(vote)) is not None]

    def forget_below(self, view: View) -> None:
        """Drop votes about views below ``view``."""
        self._pool.forget_below(view)
        self._accused = {(replica, known) for replica, known in self._accused if known >= view}

    def _is_at_odds(self, certificate: Certificate) -> bool:
        """Whether some vote here says otherwise than a certificate: a glance, for most certificates come n times."""
        pool, view = self._pool, certificate.view
        if isinstance(certificate, Nullification):
            last = self._config.last_view(view)
            return any(known in pool.finalizes for known in range(self._config.first_view(view), last + 1))
        held = pool.finalizes if isinstance(certificate, Finalization) else pool.notarizes
        if any(vote.block != certificate.block for vote in held.get(view, {}).values()):
            return True
        return isinstance(certificate, Finalization) and self._config.term(view) in pool.nullifies
