"""Votes kept: our own, which bind us, and everybody's, which add up.

Safety: `OwnVotes` alone says whether a vote may be cast, and forgets nothing above the last final block.

One notarize and one finalize vote per view, one nullify vote per term; finalize and nullify exclude each other, view by
view (rule 5). A quorum intersection then leaves no honest replica that both finalized a view and nullified it.

Source: docs/design/consensus.md, rules 3 and 5, "Evidence"; Chan and Pass, Simplex Consensus (2023), section 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, assert_never

from layer1.consensus.certificates import Vote
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
from layer1.header import BlockId

T = TypeVar("T")


class OwnVotes:
    """What this replica has said and so must stand by."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.notarized: dict[View, Notarize] = {}
        self.finalized: dict[View, Finalize] = {}
        self.nullified: dict[int, Nullify] = {}
        """By term."""

    def may_notarize(self, view: View) -> bool:
        """Never notarize two blocks in one view (rule 3). A nullified view may be notarized."""
        return view not in self.notarized

    def may_finalize(self, view: View) -> bool:
        """Never finalize a view in a range that was nullified, nor a view twice (rule 5)."""
        nullify = self.nullified.get(self._config.term(view))
        return view not in self.finalized and (nullify is None or nullify.start > view)

    def may_nullify(self, start: View) -> bool:
        """Never nullify a range with a finalized view (rule 5); once per term is enough (rule 6)."""
        return self._config.term(start) not in self.nullified and not any(
            view in self.finalized for view in range(start, self._config.last_view(start) + 1)
        )

    def add(self, vote: Vote) -> None:
        """Remember a vote that is cast or was replayed."""
        match vote:
            case Notarize():
                self.notarized[vote.view] = vote
            case Finalize():
                self.finalized[vote.view] = vote
            case Nullify():
                self.nullified[self._config.term(vote.start)] = vote
            case _:
                assert_never(vote)

    def __iter__(self) -> Iterator[Vote]:
        yield from self.notarized.values()
        yield from self.finalized.values()
        yield from self.nullified.values()

    def forget_below(self, view: View) -> None:
        """Drop votes about views below ``view``, which is final or older; ranges that reach it are kept."""
        drop_below(self.notarized, view)
        drop_below(self.finalized, view)
        drop_below(self.nullified, self._config.term(view))


class Pool:
    """Checked votes of everybody, at most one of each kind per replica and view (per term for nullify)."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.notarizes: dict[View, dict[int, Notarize]] = {}
        self.finalizes: dict[View, dict[int, Finalize]] = {}
        self.nullifies: dict[int, dict[int, Nullify]] = {}

    def held(self, vote: Vote) -> Vote | None:
        """The vote of the same replica, kind and view (term) that came first."""
        match vote:
            case Notarize():
                return self.notarizes.get(vote.view, {}).get(vote.replica)
            case Finalize():
                return self.finalizes.get(vote.view, {}).get(vote.replica)
            case Nullify():
                return self.nullifies.get(self._config.term(vote.start), {}).get(vote.replica)
            case _:
                assert_never(vote)

    def contradiction(self, vote: Vote) -> Vote | None:
        """A held vote that no honest replica casts beside ``vote`` ("Evidence"), or None."""
        match vote:
            case Notarize():
                first = self.held(vote)
                return first if isinstance(first, Notarize) and first.block != vote.block else None
            case Finalize():
                first = self.held(vote)
                if isinstance(first, Finalize) and first.block != vote.block:
                    return first
                nullify = self.nullifies.get(self._config.term(vote.view), {}).get(vote.replica)
                return nullify if nullify is not None and nullify.start <= vote.view else None
            case Nullify():
                for view in range(vote.start, self._config.last_view(vote.start) + 1):
                    finalize = self.finalizes.get(view, {}).get(vote.replica)
                    if finalize is not None:
                        return finalize
                return None
            case _:
                assert_never(vote)

    def is_new(self, vote: Vote) -> bool:
        """Whether `add` would keep it."""
        first = self.held(vote)
        if isinstance(first, Nullify) and isinstance(vote, Nullify):
            return vote.start < first.start
        return first is None

    def add(self, vote: Vote) -> bool:
        """Keep a checked vote; False if one of its kind is there already. A wider nullify range replaces a narrower."""
        match vote:
            case Notarize():
                return self.notarizes.setdefault(vote.view, {}).setdefault(vote.replica, vote) is vote
            case Finalize():
                return self.finalizes.setdefault(vote.view, {}).setdefault(vote.replica, vote) is vote
            case Nullify():
                votes = self.nullifies.setdefault(self._config.term(vote.start), {})
                first = votes.get(vote.replica)
                if first is not None and first.start <= vote.start:
                    return False
                votes[vote.replica] = vote
                return True
            case _:
                assert_never(vote)

    def said(self, certificate: Certificate) -> Mapping[int, Vote]:
        """By replica, the kept votes of the kind and view (term) of this certificate."""
        match certificate:
            case Notarization():
                return self.notarizes.get(certificate.view, {})
            case Finalization():
                return self.finalizes.get(certificate.view, {})
            case Nullification():
                return self.nullifies.get(self._config.term(certificate.view), {})
            case _:
                assert_never(certificate)

    def discard(self, vote: Vote) -> None:
        """Drop a vote that was kept."""
        match vote:
            case Notarize():
                del self.notarizes[vote.view][vote.replica]
            case Finalize():
                del self.finalizes[vote.view][vote.replica]
            case Nullify():
                del self.nullifies[self._config.term(vote.start)][vote.replica]
            case _:
                assert_never(vote)

    def notarizers(self, view: View, block: BlockId) -> list[Notarize]:
        """Notarize votes for ``block`` in ``view``."""
        return [vote for vote in self.notarizes.get(view, {}).values() if vote.block == block]

    def finalizers(self, view: View, block: BlockId) -> list[Finalize]:
        """Finalize votes for ``block`` in ``view``."""
        return [vote for vote in self.finalizes.get(view, {}).values() if vote.block == block]

    def nullifiers(self, term: int) -> list[Nullify]:
        """Nullify votes of ``term``, whatever their starts."""
        return list(self.nullifies.get(term, {}).values())

    def forget_below(self, view: View) -> None:
        """Drop votes about views below ``view``."""
        drop_below(self.notarizes, view)
        drop_below(self.finalizes, view)
        drop_below(self.nullifies, self._config.term(view))


def drop_below(mapping: dict[int, T], bound: int) -> None:
    """Delete the keys below ``bound``."""
    for key in [key for key in mapping if key < bound]:
        del mapping[key]
