"""Votes signed and checked; certificates formed and checked.

Safety: nothing is counted that its replica did not sign for this chain, epoch and kind of vote.

A certificate is q votes of distinct replicas in the order of their indices, so that there is one way to write one set
of votes. A vote that was checked once, alone or inside a certificate, is not checked again.

Source: docs/design/consensus.md, "Objects".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import assert_never

from layer1 import crypto
from layer1.codec import encode
from layer1.consensus.config import Config
from layer1.consensus.messages import (
    Certificate,
    Finalization,
    Finalize,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    View,
)
from layer1.crypto import HASH_BYTES, SIGNATURE_BYTES, Hash, Kind, PublicKey, Signature, SigningKey
from layer1.errors import RemoteError
from layer1.header import BlockId

Verify = Callable[[PublicKey, Signature, Kind, Hash, bytes], bool]
"""The shape of `crypto.verify`; simulations inject one with a memo."""

Vote = Notarize | Finalize | Nullify

_KINDS: dict[type[Vote], Kind] = {Notarize: Kind.NOTARIZE, Finalize: Kind.FINALIZE, Nullify: Kind.NULLIFY}


def kind_of(vote: Vote) -> Kind:
    """The domain that a vote is signed in."""
    return _KINDS[type(vote)]


def view_of(vote: Vote) -> View:
    """The view that a vote is about; of a nullify vote, the first of its range."""
    return vote.start if isinstance(vote, Nullify) else vote.view


def signed_data(vote: Vote) -> bytes:
    """What the signature of ``vote`` covers, besides its kind and chain."""
    if isinstance(vote, Nullify):
        return encode((vote.epoch, vote.start))
    return encode((vote.epoch, vote.view, vote.block))


def votes_of(certificate: Certificate) -> Iterator[Vote]:
    """The votes in a certificate, one by one."""
    match certificate:
        case Notarization():
            for replica, signature in certificate.signatures:
                yield Notarize(certificate.epoch, certificate.view, certificate.block, replica, signature)
        case Finalization():
            for replica, signature in certificate.signatures:
                yield Finalize(certificate.epoch, certificate.view, certificate.block, replica, signature)
        case Nullification():
            for replica, start, signature in certificate.votes:
                yield Nullify(certificate.epoch, start, replica, signature)
        case _:
            assert_never(certificate)


class Signer:
    """Makes this replica's votes."""

    def __init__(self, config: Config, key: SigningKey, index: int) -> None:
        self._config = config
        self._key = key
        self._index = index

    def notarize(self, view: View, block: BlockId) -> Notarize:
        """Sign a notarize vote."""
        epoch = self._config.epoch
        return Notarize(epoch, view, block, self._index, self._sign(Kind.NOTARIZE, encode((epoch, view, block))))

    def finalize(self, view: View, block: BlockId) -> Finalize:
        """Sign a finalize vote."""
        epoch = self._config.epoch
        return Finalize(epoch, view, block, self._index, self._sign(Kind.FINALIZE, encode((epoch, view, block))))

    def nullify(self, start: View) -> Nullify:
        """Sign a nullify vote for ``start`` .. the end of its term."""
        epoch = self._config.epoch
        return Nullify(epoch, start, self._index, self._sign(Kind.NULLIFY, encode((epoch, start))))

    def _sign(self, kind: Kind, data: bytes) -> Signature:
        return self._key.sign(kind, self._config.chain_id, data)


class Checker:
    """Checks votes and certificates of one epoch, and remembers which votes were good.

    It remembers what was counted, or was part of a whole certificate: one replica alone could sign anything, so what
    it signed is worth no memory until it counts.
    """

    def __init__(self, config: Config, verify: Verify = crypto.verify) -> None:
        self._config = config
        self.epoch = config.epoch
        self._quorum = config.quorum
        self._verify = verify
        self._good: dict[View, dict[tuple[Kind, bytes, int], Signature]] = {}

    def vote_shape(self, vote: Vote) -> None:
        """Check everything of a vote but its signature.

        Raises:
            RemoteError: Wrong epoch, replica, view or length.
        """
        self._header(vote.epoch, view_of(vote))
        if len(vote.signature) != SIGNATURE_BYTES:
            raise RemoteError(f"a signature of {len(vote.signature)} bytes; it has {SIGNATURE_BYTES}")
        if not isinstance(vote, Nullify) and len(vote.block) != HASH_BYTES:
            raise RemoteError(f"a vote for a block id of {len(vote.block)} bytes; it has {HASH_BYTES}")
        if not 0 <= vote.replica < len(self._config.replicas):
            raise RemoteError(f"vote of replica {vote.replica}; there are {len(self._config.replicas)}", vote)

    def vote(self, vote: Vote) -> None:
        """Check a vote, with its signature.

        Raises:
            RemoteError: Something of it is wrong.
        """
        self.vote_shape(vote)
        kind, data, view = _KINDS[type(vote)], signed_data(vote), view_of(vote)
        good = self._good.get(view)
        if good is not None and good.get((kind, data, vote.replica)) == vote.signature:
            return
        if not self._verify(self._config.replicas[vote.replica], vote.signature, kind, self._config.chain_id, data):
            raise RemoteError(f"bad signature of replica {vote.replica} on {kind.name} in view {view}", vote)

    def remember(self, vote: Vote) -> None:
        """This checked vote counts: it is not checked again when a certificate holds it."""
        key = (_KINDS[type(vote)], signed_data(vote), vote.replica)
        self._good.setdefault(view_of(vote), {})[key] = vote.signature

    def certificate_shape(self, certificate: Certificate) -> None:
        """Check everything of a certificate but its signatures.

        Raises:
            RemoteError: Not q votes of distinct replicas, in order, for what it names.
        """
        self._header(certificate.epoch, certificate.view)
        count = len(certificate.votes if isinstance(certificate, Nullification) else certificate.signatures)
        if count != self._quorum:
            raise RemoteError(f"{count} votes in a certificate of {self._quorum}", certificate)
        votes = list(votes_of(certificate))
        for vote in votes:
            self.vote_shape(vote)
        if any(left.replica >= right.replica for left, right in pairwise(votes)):
            raise RemoteError("the votes of a certificate are of distinct replicas, in their order", certificate)
        if isinstance(certificate, Nullification):
            self._starts(certificate)

    def certificate(self, certificate: Certificate) -> None:
        """Check a certificate: q good votes of distinct replicas, in order, for what it names.

        Raises:
            RemoteError: Something of it is wrong.
        """
        self.certificate_shape(certificate)
        votes = list(votes_of(certificate))
        for vote in votes:
            self.vote(vote)
        for vote in votes:
            self.remember(vote)

    def _starts(self, certificate: Nullification) -> None:
        starts = [start for _, start, _ in certificate.votes]
        if max(starts) != certificate.view:
            raise RemoteError(f"nullification of {certificate.view}, latest start {max(starts)}", certificate)
        if any(self._config.term(start) != self._config.term(certificate.view) for start in starts):
            raise RemoteError(f"a nullification is of one term, the starts are {sorted(starts)}", certificate)

    def _header(self, epoch: int, view: View) -> None:
        if epoch != self._config.epoch:
            raise RemoteError(f"epoch {epoch}, ours is {self._config.epoch}")
        if not 1 <= view < 2**62:
            raise RemoteError(f"nobody votes in view {view}: genesis is view 0, and views stay below 2^62")

    def forget_below(self, view: View) -> None:
        """Drop the memory of votes below ``view``."""
        for old in [known for known in self._good if known < view]:
            del self._good[old]


def notarization(votes: Iterable[Notarize], quorum: int) -> Notarization:
    """The certificate of the first ``quorum`` votes, all for one block."""
    chosen = sorted(votes, key=lambda vote: vote.replica)[:quorum]
    assert len(chosen) == quorum, "the caller counted"
    signatures = tuple((vote.replica, vote.signature) for vote in chosen)
    return Notarization(chosen[0].epoch, chosen[0].view, chosen[0].block, signatures)


def finalization(votes: Iterable[Finalize], quorum: int) -> Finalization:
    """The certificate of the first ``quorum`` votes, all for one block."""
    chosen = sorted(votes, key=lambda vote: vote.replica)[:quorum]
    assert len(chosen) == quorum, "the caller counted"
    signatures = tuple((vote.replica, vote.signature) for vote in chosen)
    return Finalization(chosen[0].epoch, chosen[0].view, chosen[0].block, signatures)


def nullification(votes: Iterable[Nullify], quorum: int) -> Nullification:
    """The certificate of the ``quorum`` votes with the earliest starts: it covers most."""
    chosen = sorted(votes, key=lambda vote: (vote.start, vote.replica))[:quorum]
    assert len(chosen) == quorum, "the caller counted"
    latest = max(vote.start for vote in chosen)
    chosen.sort(key=lambda vote: vote.replica)
    return Nullification(chosen[0].epoch, latest, tuple((vote.replica, vote.start, vote.signature) for vote in chosen))
