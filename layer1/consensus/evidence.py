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

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec.structs import replace

from layer1 import crypto
from layer1.codec import Struct, encode
from layer1.consensus import quorum
from layer1.consensus.certificates import Checker, Verify, Vote, kind_of, signed_data, view_of, votes_of
from layer1.consensus.config import Config
from layer1.consensus.messages import Certificate, Finalize, Notarize, Nullify, View
from layer1.consensus.votes import Pool
from layer1.crypto import HASH_BYTES, Domain, Hash, PublicKey, digest
from layer1.errors import Refused, RemoteError, check

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

    def at(self, place: int) -> Evidence:
        """The same contradiction, of a replica that has this place in another set: no signature covers the place."""
        return Evidence(replace(self.first, replica=place), replace(self.second, replica=place))

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

    It looks at more than what still counts. A view is final three message delays after it began; the other half of a
    double vote may have gone to a replica that was cut off, or come when the quorum is full. Votes that are too late to
    count are noted unchecked, and checked when one contradicts another: that costs an honest network no signature.

    Of each kind the first vote of a replica in a view is kept, of nullify votes the widest range in a term: any later
    vote that contradicts one of a replica's votes contradicts these. A forged vote that was noted gives way when it is
    found out. One contradiction of a replica in a view is enough. Bounded by `keep_views` below the floor and by what
    the core takes above it; a restart forgets it.
    """

    def __init__(self, config: Config, checker: Checker) -> None:
        self._replicas = range(len(config.replicas))
        self._checker = checker
        self._seen = Pool(config)
        self._noted = Pool(config)
        """Not checked."""
        self._accused: set[tuple[int, View]] = set()

    def see(self, vote: Vote) -> Vote | None:
        """Remember a checked vote.

        Returns:
            A genuine vote that proves, with this one, what was not known of its replica in this view.
        """
        found = self._contradiction(vote)
        if found is not None:
            self._accused.add((vote.replica, view_of(vote)))
        self._seen.add(vote)
        return found

    def note(self, vote: Vote) -> bool:
        """Remember a vote that nobody checked. True if it should be: it contradicts another one."""
        if self._contradiction(vote) is not None:
            return True
        self._noted.add(vote)
        return False

    def look(self, certificate: Certificate) -> list[Vote]:
        """Note the votes of a certificate that nobody checked. Returns those that should be."""
        return [vote for vote in self._unheard(certificate) if vote.replica in self._replicas and self.note(vote)]

    def forget_below(self, view: View) -> None:
        """Drop votes about views below ``view``."""
        self._seen.forget_below(view)
        self._noted.forget_below(view)
        self._accused = {(replica, known) for replica, known in self._accused if known >= view}

    def _contradiction(self, vote: Vote) -> Vote | None:
        if (vote.replica, view_of(vote)) in self._accused:
            return None
        if (found := self._seen.contradiction(vote)) is not None:
            return found
        while (found := self._noted.contradiction(vote)) is not None:
            if self._is_genuine(found):
                self._seen.add(found)
                return found
            self._noted.discard(found)
        return None

    def _is_genuine(self, vote: Vote) -> bool:
        try:
            self._checker.vote(vote)
        except RemoteError:
            return False
        return True

    def _unheard(self, certificate: Certificate) -> Iterator[Vote]:
        """The votes in a certificate that say what is not known here: few, for most certificates come n times."""
        seen, noted = self._seen.said(certificate), self._noted.said(certificate)
        for vote in votes_of(certificate):
            known = seen.get(vote.replica) or noted.get(vote.replica)
            if known is None or _says_more(vote, known):
                yield vote


def _says_more(vote: Vote, known: Vote) -> bool:
    """Of two votes of one kind, replica and view (term)."""
    if isinstance(vote, Nullify) or isinstance(known, Nullify):
        return view_of(vote) < view_of(known)
    return vote.block != known.block
