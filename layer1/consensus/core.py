"""One replica of Simplex with leader terms, as a step function: propose, notarize, then finalize or nullify.

Safety: all final blocks of all honest replicas lie on one chain.

Two notarizations in one view would need an honest replica to notarize twice. If a block is finalized in view v, q
replicas cast finalize(v); a nullification covering v has q senders whose ranges contain v, and an honest replica in
both broke rule 5. So nothing covers v, every later ancestry passes through v's only notarized block, and final blocks
form one chain.

Source: Chan and Pass, Simplex Consensus (2023), section 2; docs/design/consensus.md, rules 1 to 10.
Deviation: terms (rules 1, 5, 6, 8). Inside a term the leader proposes one view ahead (rule 2; decision 012). A
proposal or an own vote in the current view counts as work for the timers, beyond the list of rule 9: without it, a view
whose votes were lost stands still until its transactions are seen to be late (decision 010).
A certificate is broadcast by whoever forms it, not relayed by whoever receives it: rule 10 makes up for losses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from layer1 import crypto
from layer1.consensus import certificates
from layer1.consensus.certificates import Checker, Signer, Verify, Vote, view_of, votes_of
from layer1.consensus.chain import Bad, Block, Chain, Gap, State, header_fault, size_fault
from layer1.consensus.config import Config
from layer1.consensus.events import (
    Accuse,
    Broadcast,
    Build,
    Built,
    CatchUp,
    CaughtUp,
    Commit,
    Effect,
    Event,
    Now,
    Persist,
    PersistBatches,
    Received,
    Send,
    Started,
    TimerFired,
    Validate,
    Validated,
    WakeAt,
    WorkChanged,
)
from layer1.consensus.evidence import Witness
from layer1.consensus.fetching import Wants
from layer1.consensus.messages import (
    Certificate,
    Fetch,
    Finalization,
    Finalize,
    Message,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
    View,
)
from layer1.consensus.observing import Observations, Why
from layer1.consensus.pacing import Pacing
from layer1.consensus.records import Record, Restored, VoteFrom, encode_record, replay
from layer1.consensus.votes import OwnVotes, Pool, drop_below
from layer1.crypto import HASH_BYTES, Hash, SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header
from layer1.merkle import list_root

MAX_BATCHES = 8_192
"""In one proposal: more than a block of batches of one transaction each has by default, and 256 KiB of digests."""
MAX_REPEATED_FINALIZES = 64
"""Newest own finalize votes in one rebroadcast: any one of them that reaches a quorum makes the older ones moot."""


NEVER = 2**62
"""A view that nobody votes in."""


class Consensus:
    """The consensus core of one replica in one epoch. Everything it does is in the effects of `step`."""

    def __init__(  # noqa: PLR0917  # in the order in which one has them
        self,
        config: Config,
        key: SigningKey,
        index: int,
        floor: Header,
        floor_finalization: Finalization | None = None,
        records: Iterable[bytes] = (),
        *,
        verify: Verify = crypto.verify,
        vote_from: View = 0,
        votes: bool = True,
    ) -> None:
        """Restore a replica.

        Args:
            config: The epoch's constants.
            key: Of this replica; its public half is ``config.replicas[index]``.
            index: Of this replica in the set; one past its end if it is not in it, and only listens.
            floor: The last final block whose state the application has; genesis at first.
            floor_finalization: Of the floor; None for genesis, and for the boundary that began this epoch.
            records: Everything that `Persist` wrote since (older records do no harm), in order.
            verify: Signature check; simulations share one with a memo.
            vote_from: A replica that lost its journal votes in no view below this one.
            votes: False for one that may have forgotten votes of this very epoch: it only listens.
        """
        self.is_member = key.public in config.replicas
        """Whether its votes count; who only listens casts none."""
        if index != (config.replicas.index(key.public) if self.is_member else len(config.replicas)):
            raise ValueError(f"the key is not that of replica {index} of {len(config.replicas)}")
        self.config = config
        self.index = index
        self._signer = Signer(config, key, index)
        self._checker = Checker(config, verify)
        self.chain = Chain(config, floor, floor_finalization)
        self._own = OwnVotes(config)
        self._pool = Pool(config)
        self._witness = Witness(config, self._checker)
        self._pacing = Pacing(config)
        self.seen = Observations(len(config.replicas))
        """For operators; nothing here depends on it."""
        self._wants = Wants(len(config.replicas), index, config.rebroadcast_ms)

        self.view: View = floor.view + 1
        """The view this replica is in."""
        self._entries = 0
        self._heard = [0] * len(config.replicas)
        """By replica, how many views had been entered here when it last spoke."""
        self._asked: Build | None = None
        self._refused: View = 0
        self._retry_ms: int | None = None
        """When a proposal ahead of our clock is looked at again."""
        self._final: Finalization | None = None
        """The newest finalization whose block is not committed yet."""
        self._final_peer = index
        self._catch_up_ms = 0
        self._forgotten: View = floor.view
        """Up to this view all is decided, and nothing is kept: see `_forget`."""
        self._notarized_ms: dict[View, int] = {}
        """When each certified view above the floor became so, oldest first."""
        self._parked: dict[int, tuple[Nullification, int]] = {}
        """By term: nullifications that start inside it, waiting for the notarization of the view before."""
        self._pending = False
        self._passed_over_ms: int | None = None
        self._answered_ms: dict[int, int] = {}
        self._accusations = 0
        self._wake_ms: int | None = None
        self._now = Now(0, 0)
        self._effects: list[Effect] = []
        self._dirty = True

        restored = replay(records, index, config.epoch)
        self._remembers_from = max(restored.vote_from, vote_from)
        self._new_vote_from = vote_from > restored.vote_from
        self._vote_from = self._remembers_from if votes and self.is_member else NEVER
        self._restore(restored)

    # ------------------------------------------------------------------------------------------------- what one sees

    @property
    def leader(self) -> int:
        """Who leads the current view."""
        return self.config.leader(self.view)

    @property
    def vote_from(self) -> View:
        """The first view in which this replica may vote; 0 for a member that never lost its journal."""
        return self._vote_from

    @property
    def last_final(self) -> Header:
        """The last block that was committed."""
        return self.chain.floor

    @property
    def last_finalization(self) -> Finalization | None:
        """The certificate of `last_final`; None at genesis."""
        return self.chain.finalization

    @property
    def tip(self) -> Header:
        """The notarized block of the highest view that is here: what the next block most likely extends."""
        return self.chain.tip

    def ancestors(self, block: BlockId) -> list[Header]:
        """The held blocks above the last final one from ``block`` down, newest first."""
        return [held.header for held in self.chain.path(block)]

    def status(self) -> dict[str, int]:
        """Numbers for metrics."""
        return {
            "view": self.view,
            "term": self.config.term(self.view),
            "leader": self.leader,
            "final_view": self.chain.floor.view,
            "final_height": self.chain.floor.height,
            "tip_view": self.chain.tip.view,
            "view_timeout_ms": self._pacing.timeout_ms,
            "working": int(self._pacing.work_since_ms is not None),
            "blocks_held": len(self.chain.blocks),
            "wanted": len(self._wants),
            "accusations": self._accusations,
        }

    def checkpoint(self) -> list[bytes]:
        """Records that, with the last final block, restore this replica: older ones may be thrown away.

        With an older block, or genesis, they restore one that stands below votes which it does not remember: so they
        say from where on it may vote.
        """
        chain, floor = self.chain, self.chain.floor.view
        records: list[Record] = [VoteFrom(max(self._remembers_from, self._forgotten + 1))]
        records += [certificate for view, certificate in chain.certified.items() if view > floor]
        records += [held for held in chain.nullifications.values() if held.view > floor]
        records += [self._final] if self._final is not None else []
        records += [held.proposal for held in chain.blocks.values() if held.durable and held.header.view > floor]
        records += list(self._own)
        return [encode_record(record) for record in records]

    # --------------------------------------------------------------------------------------------------------- step

    def step(self, event: Event, now: Now) -> list[Effect]:
        """Advance by one event.

        Returns:
            Effects for the driver, to be performed in this order.

        Raises:
            RemoteError: The sender broke the protocol. State is unchanged.
            LocalError: This replica, or more than f others, did. It must stop.
        """
        self._now, self._effects = now, []
        if not isinstance(event, Received):
            self._dirty = True
        match event:
            case Started():
                self._on_started()
            case Received():
                self._on_received(event.sender, event.message)
            case TimerFired():
                self._wake_ms = None
            case WorkChanged():
                self._pending, self._passed_over_ms = event.pending, event.passed_over_ms
            case Built():
                self._on_built(event.header, event.batches)
            case Validated():
                self._on_validated(event.block, event.valid)
            case CaughtUp():
                self._on_caught_up(event.header, event.finalization)
            case _:
                assert_never(event)
        # Most votes only add up: then nothing follows before the next wake-up.
        if self._dirty or (self._wake_ms is not None and self._wake_ms <= now.monotonic_ms):
            self._run_timers()
        return self._effects

    def _emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _persist(self, record: Record) -> None:
        self._effects.append(Persist(encode_record(record)))

    # ---------------------------------------------------------------------------------------------------- restarting

    def _restore(self, restored: Restored) -> None:
        """Stand at or past every view voted in, past every finalized one and every certificate."""
        epoch, floor = self.config.epoch, self.chain.floor.view
        views = [self.view]
        for vote in restored.votes:
            if vote.epoch == epoch:
                self._own.add(vote)
        self._own.forget_below(floor + 1)
        for vote in self._own:
            self._pool.add(vote)
            self._witness.see(vote)
        for proposal in restored.proposals:
            header, block = proposal.header, proposal.vote.block
            if header.epoch == epoch and header.view > floor and block not in self.chain.blocks:
                held = Block(block, proposal, self.index, header.wall_time, durable=True)
                self.chain.hold(held)
        for certificate in restored.certificates:
            if certificate.epoch == epoch and certificate.view > floor:
                views.append(self._restore_certificate(certificate))
        self.view = max(views + [self._stood_at(vote) for vote in self._own])
        self._forget()

    def _stood_at(self, vote: Vote) -> View:
        """The earliest view that one who cast this vote can have been in."""
        view = view_of(vote)
        match vote:
            case Notarize() if self._is_own_early(view):
                return view - 1
            case Finalize():
                return view + 1
            case _:
                return view

    def _is_own_early(self, view: View) -> bool:
        """Whether this replica proposed in ``view`` before it entered it (rule 2)."""
        led = self.config.leader(view) == self.index and view != self.config.first_view(view)
        return led and not self.chain.is_certified(view - 1)

    def _restore_certificate(self, certificate: Certificate) -> View:
        if isinstance(certificate, Nullification):
            self.chain.nullify(certificate)
            return self.config.last_view(certificate.view) + 1
        self.chain.certify(certificate)
        if isinstance(certificate, Finalization) and (self._final is None or self._final.view < certificate.view):
            self._final = certificate
        return certificate.view + 1

    def _on_started(self) -> None:
        now_ms = self._now.monotonic_ms
        self._pacing.enter(now_ms, new_term=True, nullified=False)
        if self._new_vote_from:
            self._persist(VoteFrom(self._remembers_from))
        for view, certificate in sorted(self.chain.certified.items()):
            if view > self.chain.floor.view:
                self._notarized_ms[view] = now_ms
                self._trust(certificate.block, view, self.config.leader(view))
        self._repeat()
        self._emit(Broadcast(Fetch(None, self.view, self.view)))

    # ------------------------------------------------------------------------------------------------------ messages

    def _on_received(self, sender: int, message: Message) -> None:
        if sender < 0 or sender == self.index:
            raise RemoteError(f"message of replica {sender}; this is {self.index} of {len(self.config.replicas)}")
        is_member = sender < len(self._heard)  # others only listen, and pass on what they heard
        if is_member:
            self._observe(sender, message)
        match message:
            case Notarize() | Finalize() | Nullify():
                self._on_vote(sender, message)
            case Notarization() | Finalization() | Nullification():
                if self._is_news(message):
                    self._checker.certificate(message)
                    self._accept(message, sender)
                else:
                    self._look(message)
            case Proposal():
                self._on_proposal(sender, message)
            case Fetch():
                self._on_fetch(sender, message)
            case _:
                assert_never(message)
        if is_member and not isinstance(message, Fetch) and self._heard[sender] != self._entries:
            self._heard[sender], self._dirty = self._entries, True

    def _observe(self, sender: int, message: Message) -> None:
        """Its own notarize vote came over its own link, so it need not be checked to be counted."""
        self.seen.hear(sender, self._now.monotonic_ms)
        vote = message.vote if isinstance(message, Proposal) else message
        if isinstance(vote, Notarize) and vote.replica == sender:
            self.seen.vote(sender, vote.view, self.view, self._now.monotonic_ms)

    def _on_vote(self, sender: int, vote: Vote) -> None:
        self._checker.vote_shape(vote)
        stale = self._is_stale(vote)
        if self._is_useful(vote) and self._pool.is_new(vote):
            self._checker.vote(vote)
            self._count(vote)
        else:
            self._glance(vote)
        if stale:
            self._answer(sender)

    def _glance(self, vote: Vote) -> None:
        """A vote that would not count is worth checking if it contradicts another ("Evidence")."""
        if self._is_watched(view_of(vote)) and self._witness.note(vote):
            self._checker.vote(vote)
            self._watch((vote,))

    def _look(self, certificate: Certificate) -> None:
        """As `_glance`, at a certificate that is no news."""
        if self._is_watched(certificate.view):
            suspects = self._witness.look(certificate)
            for vote in suspects:
                self._checker.vote(vote)
            self._watch(suspects)

    def _is_watched(self, view: View) -> bool:
        return -self.config.keep_views <= view - self._forgotten and view <= self.view + self.config.ahead_views

    def _watch(self, votes: Iterable[Vote]) -> None:
        """Show these checked votes to the witness."""
        for vote in votes:
            if (first := self._witness.see(vote)) is not None:
                self._accusations += 1
                self._emit(Accuse(vote.replica, first, vote))

    def _count(self, vote: Vote) -> None:
        """Add a checked vote of anybody; of two that contradict each other the first stands."""
        self._watch((vote,))
        if self._pool.add(vote):
            self._checker.remember(vote)
            self._tally(vote)

    def _is_useful(self, vote: Vote) -> bool:
        """Whether counting it can still lead anywhere. Rule 10: votes ahead are buffered, up to a bound."""
        view = view_of(vote)
        # A range that starts below the last final block still covers what is above it (rule 6).
        last = self.config.last_view(view) if isinstance(vote, Nullify) else view
        if last <= self._forgotten or view > self.view + self.config.ahead_views:
            return False
        if isinstance(vote, Nullify):
            return self.config.term(view) not in self.chain.nullifications
        return not isinstance(vote, Notarize) or view not in self.chain.certified

    def _is_stale(self, vote: Vote) -> bool:
        """Whether its sender is in a view that we have left (rule 10), and not just because its vote came last."""
        since_ms = self._now.monotonic_ms - self._pacing.progress_ms
        if view_of(vote) >= self.view - 2 and since_ms < self.config.rebroadcast_ms // 2:
            return False
        match vote:
            case Notarize():
                return vote.view < self.view
            case Finalize():
                return vote.view <= self.chain.floor.view
            case Nullify():
                return self.config.last_view(vote.start) < self.view
            case _:
                assert_never(vote)

    def _tally(self, vote: Vote) -> None:
        """Rules 4, 6, 7: a quorum makes a certificate, which whoever forms it broadcasts."""
        quorum = self.config.quorum
        match vote:
            case Notarize():
                notarizes = self._pool.notarizers(vote.view, vote.block)
                if len(notarizes) >= quorum and vote.view not in self.chain.certified:
                    self._formed(certificates.notarization(notarizes, quorum))
            case Finalize():
                finalizes = self._pool.finalizers(vote.view, vote.block)
                if len(finalizes) >= quorum:
                    self._formed(certificates.finalization(finalizes, quorum))
            case Nullify():
                self._tally_nullify(vote)
            case _:
                assert_never(vote)

    def _tally_nullify(self, vote: Nullify) -> None:
        self._dirty = True  # rule 9: f+1 of them are work
        # Objects: a start inside a term counts only with the notarization of the view before, which the voter serves.
        if not self.chain.counts(vote.start):
            self._want_views(vote.start - 1, vote.start - 1, vote.replica)
        term = self.config.term(vote.start)
        counted = [held for held in self._pool.nullifiers(term) if self.chain.counts(held.start)]
        if len(counted) >= self.config.quorum:
            self._formed(certificates.nullification(counted, self.config.quorum))

    def _formed(self, certificate: Certificate) -> None:
        if self._is_news(certificate):
            self._emit(Broadcast(certificate))
            self._accept(certificate, self.index)

    # -------------------------------------------------------------------------------------------------- certificates

    def _is_news(self, certificate: Certificate) -> bool:
        if certificate.view <= self._forgotten:
            return False
        match certificate:
            case Notarization():
                return certificate.view not in self.chain.certified
            case Finalization():
                return self._final is None or certificate.view > self._final.view
            case Nullification():
                held = self.chain.nullifications.get(self.config.term(certificate.view))
                return held is None or certificate.view < held.view
            case _:
                assert_never(certificate)

    def _accept(self, certificate: Certificate, peer: int) -> None:
        """Take a checked certificate that is news."""
        self._watch(votes_of(certificate))
        if isinstance(certificate, Nullification):
            self._accept_nullification(certificate, peer)
            return
        self._persist(certificate)
        self._certify(certificate, peer)
        if isinstance(certificate, Finalization):
            self._accept_finalization(certificate, peer)
        else:
            self._finalize(certificate.view, certificate.block)  # rule 4
        self._enter(certificate.view + 1, nullified=False)  # rule 1
        self._unpark(self.config.term(certificate.view))

    def _accept_finalization(self, certificate: Finalization, peer: int) -> None:
        if self._final is None:  # else those that come meanwhile would put it off for ever
            self._catch_up_ms = self._now.monotonic_ms + self.config.rebroadcast_ms
        self._final, self._final_peer = certificate, peer
        if certificate.view - self.chain.floor.view > self.config.keep_views:
            self._forget()

    def _certify(self, certificate: Notarization | Finalization, peer: int) -> None:
        self.chain.certify(certificate)
        self._notarized_ms.setdefault(certificate.view, self._now.monotonic_ms)
        self._trust(certificate.block, certificate.view, peer)
        self._dirty = True

    def _accept_nullification(self, certificate: Nullification, peer: int) -> None:
        term = self.config.term(certificate.view)
        if not self.chain.counts(certificate.view):
            parked = self._parked.get(term)
            if parked is None or certificate.view < parked[0].view:  # the earlier its start, the less it needs
                self._parked[term] = (certificate, peer)
            self._want_views(certificate.view - 1, certificate.view - 1, peer)
        elif self.chain.nullify(certificate):
            self.seen.nullifications[self.config.leader(certificate.view)] += 1
            self._persist(certificate)
            self._dirty = True
            self._enter(self.config.last_view(certificate.view) + 1, nullified=True)  # rule 1

    def _unpark(self, term: int) -> None:
        """A certificate in ``term`` may make nullify starts inside it count."""
        if self.config.term_views == 1 or term in self.chain.nullifications:
            return
        if term in self._parked and self.chain.counts(self._parked[term][0].view):
            self._accept_nullification(*self._parked.pop(term))
        for vote in self._pool.nullifiers(term)[:1]:
            self._tally_nullify(vote)

    def _enter(self, view: View, *, nullified: bool) -> None:
        """Rule 1: enter ``view``, if that is forward; leaving a view cancels its timers."""
        if view <= self.view:
            return
        new_term = self.config.term(view) != self.config.term(self.view)
        self.view = view
        self._entries += 1
        self._retry_ms = None
        if self._asked is not None and self._asked.view != view:
            self._asked = None
        self._pacing.enter(self._now.monotonic_ms, new_term=new_term, nullified=nullified)
        self._dirty = True

    # -------------------------------------------------------------------------------------------------------- blocks

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        header, vote, block = proposal.header, proposal.vote, proposal.vote.block
        self._checker.vote_shape(vote)
        self._check_proposal(proposal)
        if header.view <= self._forgotten:
            self._glance(vote)
            self._answer(sender)
            return
        if block in self.chain.blocks and header.view < self.view:
            self._answer(sender)
            return
        # Also of a block that is here: the vote does not cover its reasons, so who relayed it may have left them out.
        news = [certificate for certificate in proposal.justification if self._is_news(certificate)]
        if block not in self.chain.blocks:
            self._checker.vote(vote)
        for certificate in news:
            self._checker.certificate(certificate)
        for certificate in news:
            if self._is_news(certificate):
                self._accept(certificate, sender)
        if block in self.chain.blocks:
            return
        if self._is_useful(vote):
            self._count(vote)
        else:
            self._glance(vote)
        # Rule 3: the first proposal of a view. Another one is only held if others certified it.
        wanted = block in self.chain.trusted
        if wanted or (header.view not in self.chain.first and header.view <= self.view + self.config.ahead_views):
            self._hold(Block(block, proposal, sender, self._now.wall_ms))

    def _check_proposal(self, proposal: Proposal) -> None:
        header, vote = proposal.header, proposal.vote
        leader = self.config.leader(vote.view)
        if vote.replica != leader:
            raise RemoteError(f"replica {vote.replica} proposes in view {vote.view}, which {leader} leads", vote)
        if (header.epoch, header.view) != (vote.epoch, vote.view) or header.id != vote.block:
            raise RemoteError(f"the vote beside the header of view {header.view} names another block", vote)
        if len(proposal.justification) > self.config.carried_certificates:
            raise RemoteError(f"{len(proposal.justification)} certificates in a proposal")
        for certificate in proposal.justification:
            self._checker.certificate_shape(certificate)
        if (fault := size_fault(header)) is not None:
            raise RemoteError(f"a header with {fault}", vote)
        if len(proposal.batches) > MAX_BATCHES:
            raise RemoteError(f"{len(proposal.batches)} batches in a proposal, at most {MAX_BATCHES} may be", vote)
        # Not the block's fault: its header does not name these batches, and the vote does not cover them.
        if (
            any(len(batch) != HASH_BYTES for batch in proposal.batches)
            or list_root(proposal.batches) != header.batches_root
        ):
            raise RemoteError(f"the {len(proposal.batches)} batches of view {header.view} are not those of its header")

    def _hold(self, block: Block) -> None:
        self.chain.hold(block)
        self._dirty = True
        if block.id in self.chain.trusted:
            self._trust(block.id, self.chain.trusted.pop(block.id), block.sender)

    def _trust(self, block: BlockId, bound: View, peer: int) -> None:
        """A quorum stands behind ``block``, so behind its ancestors: execute them, fetch what is missing."""
        while block != self.chain.floor_id and block not in self.chain.trusted and bound > self.chain.floor.view:
            held = self.chain.blocks.get(block)
            if held is None and bound <= self._forgotten:
                return  # it comes as a final block
            self.chain.trusted[block] = bound
            self._dirty = True
            if held is None:
                # The block of a view that has just ended is most likely on its way.
                late = bound < self.view - 1
                due_ms = self._now.monotonic_ms + (0 if late else self.config.rebroadcast_ms // 4)
                self._wants.block(block, bound, peer, due_ms)
                return
            self._execute(held)
            block, bound = held.header.parent, held.header.view - 1

    def _execute(self, block: Block) -> None:
        """Ask for the state after ``block``, if the one before is there."""
        parent = self.chain.header(block.header.parent)
        if block.state is not State.HELD or parent is None or not self.chain.executed(block.header.parent):
            return
        if header_fault(block.header, parent, self.config) is not None:
            block.state = State.INVALID
            return
        block.state = State.ASKED
        self._emit(Validate(block.proposal, parent, block.sender))

    def _on_validated(self, block: BlockId, valid: bool) -> None:
        held = self.chain.blocks.get(block)
        if held is None or held.state is not State.ASKED:
            return
        held.state = State.EXECUTED if valid else State.INVALID
        self._dirty = True
        if not valid:
            return
        self._make_durable(held)
        self._execute_children(block)

    def _make_durable(self, block: Block) -> None:
        """Rule 3: header and batches are durable before the notarize vote leaves [L2]."""
        if not block.durable:
            block.durable = True
            self._emit(PersistBatches(block.proposal.batches))
            self._persist(block.proposal)

    def _execute_children(self, block: BlockId) -> None:
        for child in self.chain.children.get(block, ()):
            if child in self.chain.trusted:
                self._execute(self.chain.blocks[child])

    # ------------------------------------------------------------------------------------------------- the view's work

    def _settle(self) -> None:
        """Do all that the present state allows, until nothing more follows from it."""
        while self._dirty:
            self._dirty = False
            self._commit()
            if self.view < self._vote_from:
                continue
            if self.leader == self.index:
                self._consider_building()
            self._consider_proposal()
            self._execute_ahead()
            if self._leader_is_silent():
                self._give_up(Why.SILENT)

    def _consider_building(self) -> None:
        """Rule 2, when there is something to order, a heartbeat is due, or the last block needs filler to be final."""
        if self._asked is not None or self.config.term(self.view) in self._own.nullified:
            return
        if not self._own.may_notarize(self.view):
            self._consider_building_ahead()
            return
        found = self.chain.parent_for(self.view)
        if isinstance(found, Gap):
            self._want_views(found.first, found.last, self.index)
            return
        parent_view, block = found
        parent = self.chain.header(block)
        if parent is None or not self.chain.executed(block):
            self._trust(block, parent_view, self.config.leader(parent_view))
            return
        notarized_ms = self._notarized_ms.get(parent_view)
        if (
            self._pending
            or self._now.wall_ms >= parent.wall_time + self.config.heartbeat_ms
            or (notarized_ms is not None and self._now.monotonic_ms >= notarized_ms + self.config.rebroadcast_ms)
        ):
            self._build(self.view, parent)

    def _consider_building_ahead(self) -> None:
        """Rule 2: the next block of the term on our own of this view, while that one is being certified.

        Nothing is lost if it never is: then the nullification that covers this view covers the next one, too.
        """
        ahead = self.view + 1
        parent = self.chain.blocks.get(self._own.notarized[self.view].block)
        if (
            self._pending
            and ahead <= self.config.last_view(self.view)
            and self._own.may_notarize(ahead)
            and parent is not None
            and self.chain.executed(parent.id)
        ):
            self._build(ahead, parent.header)

    def _build(self, view: View, parent: Header) -> None:
        # Time: the leader proposes max(now, parent.wall_time).
        self._asked = Build(view, self.config.epoch, parent, max(self._now.wall_ms, parent.wall_time))
        self._emit(self._asked)

    def _on_built(self, header: Header, batches: tuple[Hash, ...]) -> None:
        asked = self._asked
        if asked is None or header.view != asked.view or not self._own.may_notarize(header.view):
            return  # the view is over
        self._check_built(asked, header)
        self._asked = None
        parent_view = self._parent_view(header)
        if parent_view is None:
            return  # a newer block became final meanwhile: build on that
        vote = self._signer.notarize(header.view, header.id)
        proposal = Proposal(header, batches, vote, self.chain.justification(parent_view, header.view))
        block = Block(vote.block, proposal, self.index, self._now.wall_ms, State.EXECUTED)
        self._own.add(vote)
        self._make_durable(block)
        self._hold(block)
        self._emit(Broadcast(proposal))
        self._count(vote)

    def _parent_view(self, header: Header) -> View | None:
        """The view of the parent of a block that we built, if it still may be proposed."""
        before = self._own.notarized.get(header.view - 1)
        if header.view == self.view + 1 and before is not None and before.block == header.parent:
            return before.view
        judged = self.chain.judge_ancestry(header)
        return judged if isinstance(judged, int) else None

    def _check_built(self, asked: Build, header: Header) -> None:
        fault = header_fault(header, asked.parent, self.config)
        if (header.epoch, header.parent, header.wall_time) != (asked.epoch, asked.parent.id, asked.wall_time):
            fault = f"asked for {(asked.epoch, asked.parent.id.hex(), asked.wall_time)}"
        if fault is not None:
            raise LocalError(f"the application built a wrong block for view {asked.view}: {fault}")

    def _consider_proposal(self) -> None:
        """Rule 3."""
        block = self.chain.blocks.get(self.chain.first.get(self.view, b""))
        if block is None or self._refused == self.view or not self._own.may_notarize(self.view):
            return
        header = block.header
        judged = self.chain.judge_ancestry(header)
        if isinstance(judged, Gap):
            self._want_views(judged.first, judged.last, block.sender)  # missing is not invalid
        elif isinstance(judged, Bad):
            self._refuse()
        elif not self.chain.executed(header.parent):
            self._trust(header.parent, judged, block.sender)
        else:
            self._consider_contents(block)

    def _consider_contents(self, block: Block) -> None:
        header, drift_ms = block.header, self.config.drift_bound_ms
        parent = self.chain.header(header.parent)
        assert parent is not None, "an executed parent is held"
        ahead_ms = header.wall_time - drift_ms - self._now.wall_ms
        too_old = header.wall_time < block.received_wall_ms - drift_ms
        if header_fault(header, parent, self.config) is not None or too_old or block.state is State.INVALID:
            self._refuse()
        elif ahead_ms > 0:
            self._retry_ms = self._now.monotonic_ms + ahead_ms  # Time: ahead is not invalid
        elif block.state is State.HELD:
            self._execute(block)
        elif block.state is State.EXECUTED:
            self._notarize(block)

    def _execute_ahead(self) -> None:
        """Execute the proposal of the next view once we voted for its parent; the vote for it waits for the entry."""
        voted = self._own.notarized.get(self.view)
        following = self.chain.blocks.get(self.chain.first.get(self.view + 1, b""))
        if voted is not None and following is not None and following.header.parent == voted.block:
            self._execute(following)

    def _refuse(self) -> None:
        """Rule 3: invalid means nullify at once."""
        self._refused = self.view
        self._give_up(Why.INVALID)

    # --------------------------------------------------------------------------------------------------------- votes

    def _notarize(self, block: Block) -> None:
        self._make_durable(block)
        self._cast(self._signer.notarize(block.header.view, block.id))

    def _finalize(self, view: View, block: BlockId) -> None:
        """Rule 4: the check is made when the vote is cast, which may be after this replica moved on."""
        if self._own.may_finalize(view) and view >= self._vote_from:
            self._cast(self._signer.finalize(view, block))

    def _give_up(self, why: Why) -> bool:
        """Rule 6; False if this replica may not."""
        leader, view = self.leader, self.view  # our vote may end the view
        nullified = self._nullify()
        if nullified:
            self.seen.give_up(why, leader, view)
        return nullified

    def _nullify(self) -> bool:
        """Rule 6, from the current view on: only that one starts a range [S1]."""
        if not self._own.may_nullify(self.view) or self.view < self._vote_from:
            return False
        self._cast(self._signer.nullify(self.view))
        return True

    def _cast(self, vote: Vote) -> None:
        if isinstance(vote, Notarize):
            self.seen.vote(self.index, vote.view, self.view, self._now.monotonic_ms)
        self._own.add(vote)
        self._persist(vote)
        self._emit(Broadcast(vote))
        self._count(vote)

    # ------------------------------------------------------------------------------------------------ finality: rule 7

    def _commit(self) -> None:
        final, chain = self._final, self.chain
        if final is None:
            return
        path = chain.path(final.block)
        if any(held.state is State.INVALID for held in path):
            raise LocalError(f"view {final.view} is final, but executing it here gave another result: diverged")
        if (
            not path
            or path[-1].header.parent != chain.floor_id
            or any(held.state is not State.EXECUTED for held in path)
        ):
            return
        self._emit(Commit(tuple(held.header for held in reversed(path)), final))
        self._raise_floor(path[0].header, final)

    def _raise_floor(self, floor: Header, finalization: Finalization) -> None:
        self.chain.raise_floor(floor, finalization)
        if self._final is not None and self._final.view <= floor.view:
            self._final = None
        self._pacing.finalized(self._now.monotonic_ms)
        self._forget()
        self._execute_children(self.chain.floor_id)
        self._dirty = True

    def _forget(self) -> None:
        """Drop what can lead nowhere any more: up to the last final block or, far behind it, near the newest one.

        What that one decides need not be executed to be decided; blocks that far below are fetched whole (decision
        017). Not while they are all here: they are executed and committed, and maybe no peer can do so before us.
        Own votes go with the rest: nothing in these views is voted on any more, so no view comes back.
        """
        final, floor = self._final, self.chain.floor.view
        newest = floor
        if final is not None and final.view - self.config.keep_views > max(floor, self._forgotten):
            newest = floor if self.chain.reaches_floor(final.block) else final.view
        self._forgotten = max(self._forgotten, floor, newest - self.config.keep_views)
        above = self._forgotten + 1
        self._notarized_ms = {view: at for view, at in self._notarized_ms.items() if view >= above}
        self._own.forget_below(above)
        self._pool.forget_below(above)
        self._checker.forget_below(above)
        drop_below(self._parked, self.config.term(above))
        self.chain.prune(newest)
        self._witness.forget_below(self._forgotten - self.config.keep_views)

    def _on_caught_up(self, header: Header, finalization: Finalization) -> None:
        if header.view <= self.chain.floor.view:
            return
        self._checker.certificate(finalization)
        if (finalization.view, finalization.block) != (header.view, header.id):
            raise RemoteError(f"the finalization of view {finalization.view} is not that of the block", finalization)
        self._watch(votes_of(finalization))
        self._persist(finalization)
        self.chain.certify(finalization)
        self._raise_floor(header, finalization)
        self._enter(header.view + 1, nullified=False)

    # ------------------------------------------------------------------------------------------------ helping: rule 10

    def _answer(self, receiver: int) -> None:
        """The newest finalization and entry certificates, to a replica that is behind; also when idle."""
        now_ms = self._now.monotonic_ms
        if now_ms - self._answered_ms.get(receiver, -self.config.rebroadcast_ms) < self.config.rebroadcast_ms // 2:
            return
        self._answered_ms[receiver] = now_ms
        for certificate in self._entry():
            self._emit(Send(receiver, certificate))

    def _entry(self) -> list[Certificate]:
        newest = [self._final] if self._final is not None else self.chain.about(self.chain.floor.view)
        return newest + [held for held in self.chain.entry(self.view) if held not in newest]

    def _on_fetch(self, sender: int, fetch: Fetch) -> None:
        if fetch.block is not None:
            held = self.chain.blocks.get(fetch.block)
            if held is not None:
                self._emit(Send(sender, self._relayable(held.proposal)))
            else:
                self._answer(sender)
            return
        served: list[Certificate] = []
        view = max(fetch.first, self._forgotten)
        while view <= min(fetch.last, self.view) and len(served) < self.config.carried_certificates:
            nullification = self.chain.nullifications.get(self.config.term(view))
            found = self.chain.about(view) + ([nullification] if nullification is not None else [])
            served += [held for held in found if held not in served]
            view += 1
        for certificate in served:
            self._emit(Send(sender, certificate))
        if fetch.last < self.view:
            self._answer(sender)

    def _relayable(self, proposal: Proposal) -> Proposal:
        """A proposal for a peer, with reasons that we have checked.

        Those of its leader were checked only as far as they were news here; what nobody signed would be our fault.
        """
        if proposal.vote.replica == self.index:
            return proposal
        reasons: list[Certificate] = []
        for given in proposal.justification:
            if isinstance(given, Nullification):
                held = self.chain.nullifications.get(self.config.term(given.view))
                reasons += [held] if held is not None else []
            else:
                reasons += self.chain.about(given.view)
        return msgspec.structs.replace(proposal, justification=tuple(reasons))

    def _want_views(self, first: View, last: View, peer: int) -> None:
        if self._wants.views(first, last, peer, self._now.monotonic_ms):
            self._dirty = True

    def _is_lacking(self, fetch: Fetch) -> bool:
        if fetch.block is not None:
            return fetch.block not in self.chain.blocks and fetch.block != self.chain.floor_id
        view = fetch.first
        return not self.chain.is_certified(view) and self.chain.nullified_from(view) is None

    def _repeat(self) -> None:
        """Own votes about this view, own finalize votes above the floor, and what lets a peer enter."""
        notarize, nullify = self._own.notarized.get(self.view), self._own.nullified.get(self.config.term(self.view))
        if notarize is not None:
            block = self.chain.blocks.get(notarize.block)
            own_proposal = block is not None and self.leader == self.index
            self._emit(Broadcast(block.proposal if block is not None and own_proposal else notarize))
        if nullify is not None:
            self._emit(Broadcast(nullify))
        for finalize in list(self._own.finalized.values())[-MAX_REPEATED_FINALIZES:]:
            self._emit(Broadcast(finalize))
        for certificate in self._entry():
            self._emit(Broadcast(certificate))
        if notarize is None and nullify is None:
            self._emit(Broadcast(Fetch(None, self.view, self.view)))

    # -------------------------------------------------------------------------------------------------------- timers

    def _leader_is_silent(self) -> bool:
        """Rule 6: no message of the leader for r views, while q-1 others have spoken."""
        if self.leader == self.index or not self._own.may_nullify(self.view):
            return False
        long_ago = self._entries - self.config.silent_views
        others = sum(
            heard > long_ago for replica, heard in enumerate(self._heard) if replica not in (self.index, self.leader)
        )
        return self._heard[self.leader] <= long_ago and others >= self.config.quorum - 1

    def _has_work(self) -> bool:
        """Rule 9; see also the module's deviation."""
        oldest_ms = next(iter(self._notarized_ms.values()), None)
        return (
            self._pending
            or self.view in self._own.notarized
            or self.view in self.chain.first
            or (oldest_ms is not None and self._now.monotonic_ms >= oldest_ms + self.config.rebroadcast_ms)
            or self._now.wall_ms >= self._overdue_wall_ms()
            or len(self._pool.nullifies.get(self.config.term(self.view), ())) > self.config.faulty
        )

    def _overdue_wall_ms(self) -> int:
        return self.chain.tip.wall_time + self.config.heartbeat_ms + self.config.drift_bound_ms

    def _deadline_ms(self) -> int | None:
        if not self._own.may_nullify(self.view) or self.view < self._vote_from:
            return None
        return self._pacing.deadline_ms(*self._ages())

    def _ages(self) -> tuple[int | None, int | None]:
        """Since when the oldest unfinal view of this term is notarized, and since when a transaction is passed over."""
        return self._oldest_notarized_ms(), self._passed_over_ms if self._pending else None

    def _oldest_notarized_ms(self) -> int | None:
        """Rule 8: of the oldest notarized unfinal view of this term. What is final need not be executed here."""
        final = self.chain.floor.view if self._final is None else self._final.view
        oldest = max(self.config.first_view(self.view), final + 1)
        if oldest not in self._notarized_ms:  # we jumped over it, on a later certificate, which stands for it
            oldest = min((view for view in self._notarized_ms if view > oldest), default=oldest)
        return self._notarized_ms.get(oldest) if oldest < self.view else None

    def _run_timers(self) -> None:
        now_ms = self._now.monotonic_ms
        if self._retry_ms is not None and self._retry_ms <= now_ms:
            self._retry_ms = None
        self._dirty = True  # heartbeats, filler and waiting proposals depend on the time alone
        self._settle()
        self._pacing.work(self._has_work(), now_ms)
        deadline_ms = self._deadline_ms()
        if deadline_ms is not None and deadline_ms <= now_ms and self._give_up(self._pacing.why(*self._ages())):
            self._settle()
            self._pacing.work(self._has_work(), now_ms)
        repeat_ms = self._pacing.repeat_ms
        if repeat_ms is not None and repeat_ms <= now_ms:
            self._pacing.progress_ms = now_ms
            self._repeat()
        for peer, fetch in self._wants.due(now_ms, self._is_lacking, self._forgotten):
            self._emit(Send(peer, fetch))
        self._ask_to_catch_up()
        self._wake()

    def _ask_to_catch_up(self) -> None:
        final, chain = self._final, self.chain
        if final is None:
            return
        far = final.view - chain.floor.view > self.config.keep_views
        if self._now.monotonic_ms < self._catch_up_ms and not (far and self._final_peer != self.index):
            return
        if not chain.reaches_floor(final.block):
            self._emit(CatchUp(final, self._final_peer))
        self._catch_up_ms = self._now.monotonic_ms + self.config.view_timeout_ms
        self._final_peer = self.index

    def _wake(self) -> None:
        now_ms, now_wall_ms = self._now.monotonic_ms, self._now.wall_ms
        wakes = [self._deadline_ms(), self._pacing.repeat_ms, self._retry_ms, self._wants.next_ms]
        if self._final is not None:
            wakes.append(self._catch_up_ms)
        tip = self.chain.tip
        if self._pacing.work_since_ms is None:
            wakes.append(now_ms + self._overdue_wall_ms() - now_wall_ms)
            oldest_ms = next(iter(self._notarized_ms.values()), None)
            wakes.append(None if oldest_ms is None else oldest_ms + self.config.rebroadcast_ms)
        if self.leader == self.index and self._asked is None and self._own.may_notarize(self.view):
            wakes.append(now_ms + tip.wall_time + self.config.heartbeat_ms - now_wall_ms)
            notarized_ms = self._notarized_ms.get(tip.view)
            wakes.append(None if notarized_ms is None else notarized_ms + self.config.rebroadcast_ms)
        wake_ms = min((at for at in wakes if at is not None and at > now_ms), default=None)
        if wake_ms != self._wake_ms:
            self._wake_ms = wake_ms
            self._emit(WakeAt(wake_ms))
