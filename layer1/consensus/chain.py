"""The tree of blocks above the last final one, and the certificates that hold it together.

Safety: a block is extended or voted for only on an ancestry of certified blocks and nullified gaps, down to the last
final block (rule 2).

Views are certified (a notarization, or a finalization, which counts as one) or covered by a nullification. If a view
was finalized nothing covers it, so every ancestry of a later view passes through its block.

A block is *trusted* once it or a descendant is certified: at least one honest replica checked its ancestry. Trusted
blocks are executed whatever this replica thinks of their timing, since a child may build on them.

Source: docs/design/consensus.md, rules 2 and 3, "Objects"; Chan and Pass, Simplex Consensus (2023), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from layer1.consensus.config import Config
from layer1.consensus.messages import Certificate, Finalization, Notarization, Nullification, Proposal, View
from layer1.consensus.votes import drop_below
from layer1.crypto import HASH_BYTES
from layer1.header import BlockId, Header

MAX_NUMBER = 2**62
"""Heights and times stay below it, and so do their sums in every encoding."""


class State(Enum):
    """How far a block has come here."""

    HELD = auto()
    ASKED = auto()
    """The application was asked to validate it."""
    EXECUTED = auto()
    INVALID = auto()


@dataclass(slots=True)
class Block:
    """A block that is here."""

    id: BlockId
    proposal: Proposal
    sender: int
    received_wall_ms: int
    """When it came first, by our wall clock (Time)."""
    state: State = State.HELD
    durable: bool = False
    """Its record is in the journal."""

    @property
    def header(self) -> Header:
        """Its header."""
        return self.proposal.header


@dataclass(frozen=True, slots=True)
class Gap:
    """What is missing before an ancestry can be judged: certificates of these views."""

    first: View
    last: View


@dataclass(frozen=True, slots=True)
class Bad:
    """An ancestry, or a header, that no honest leader proposes."""

    reason: str


def clock_after(parent: Header, wall_time: int, max_step_ms: int) -> int:
    """The ledger clock of a child of ``parent`` (architecture.md, "Time")."""
    return parent.clock + min(max(wall_time - parent.wall_time, 0), max_step_ms)


def size_fault(header: Header) -> str | None:
    """What of ``header`` has a size that no block has; a leader could make everybody keep it."""
    hashes = (header.parent, header.batches_root, header.transactions_root, header.state_root, header.outputs_root)
    for found in (*hashes, header.replica_set):
        if len(found) != HASH_BYTES:
            return f"a hash of {len(found)} bytes, not {HASH_BYTES}"
    for number in (header.height, header.clock, header.wall_time):
        if not 0 <= number < MAX_NUMBER:
            return f"the number {number}, not from 0 to 2^62"
    return None


def header_fault(header: Header, parent: Header, config: Config) -> str | None:
    """What is wrong with ``header`` as a child of ``parent``, judged without clocks, so equally by everybody."""
    if header.height != parent.height + 1:
        return f"height {header.height} on a parent of height {parent.height}"
    if header.wall_time < parent.wall_time:
        return f"wall time {header.wall_time} before the parent's {parent.wall_time}"
    clock = clock_after(parent, header.wall_time, config.max_step_ms)
    if header.clock not in {clock, parent.clock}:  # that of filler stands still; which of both, execution tells
        return f"clock {header.clock}, the formula gives {clock}"
    if header.replica_set != config.replica_set:
        return f"replica set {header.replica_set.hex()}, ours is {config.replica_set.hex()}"
    return None


class Chain:
    """Blocks and certificates above the floor, and a few below it for peers that are behind."""

    def __init__(self, config: Config, floor: Header, finalization: Finalization | None) -> None:
        self._config = config
        self.floor = floor
        """The last final block."""
        self.floor_id = floor.id
        self.finalization = finalization
        """Of the floor; None at genesis."""
        self.tip = floor
        """The certified block of the highest view that is here."""
        self.blocks: dict[BlockId, Block] = {}
        self.first: dict[View, BlockId] = {}
        """The first proposal that came for a view (rule 3)."""
        self.children: dict[BlockId, list[BlockId]] = {}
        self.certified: dict[View, Notarization | Finalization] = {}
        self.certified_views: dict[BlockId, View] = {self.floor_id: floor.view}
        self.nullifications: dict[int, Nullification] = {}
        """By term; of several, the one that covers most."""
        self.trusted: dict[BlockId, View] = {}
        """Each with a bound of its view, which is all one knows of a block that is not here."""
        self._pruned_view = floor.view

    # ------------------------------------------------------------------------------------------------------ blocks

    def header(self, block: BlockId) -> Header | None:
        """The header of a block that is here."""
        if block == self.floor_id:
            return self.floor
        held = self.blocks.get(block)
        return None if held is None else held.header

    def executed(self, block: BlockId) -> bool:
        """Whether the application has the state after ``block``."""
        held = self.blocks.get(block)
        return block == self.floor_id or (held is not None and held.state is State.EXECUTED)

    def hold(self, block: Block) -> None:
        """Add a block; the first of its view is the one to vote for."""
        self.blocks[block.id] = block
        self.first.setdefault(block.header.view, block.id)
        self.children.setdefault(block.header.parent, []).append(block.id)
        self._raise_tip(block.id)

    def path(self, block: BlockId) -> list[Block]:
        """The held blocks from ``block`` down to the floor, newest first; it ends early where one is missing."""
        path: list[Block] = []
        while block != self.floor_id and (held := self.blocks.get(block)) is not None:
            path.append(held)
            if held.header.view <= self.floor.view:
                break
            block = held.header.parent
        return path

    def reaches_floor(self, block: BlockId) -> bool:
        """Whether ``block``, above the floor, and all between the two are here."""
        path = self.path(block)
        return bool(path) and path[-1].header.parent == self.floor_id

    def _raise_tip(self, block: BlockId) -> None:
        held = self.blocks.get(block)
        if held is not None and block in self.certified_views and held.header.view > self.tip.view:
            self.tip = held.header

    # ------------------------------------------------------------------------------------------------ certificates

    def certify(self, certificate: Notarization | Finalization) -> None:
        """Keep a checked certificate of a view above the floor; the first of a view stays."""
        self.certified.setdefault(certificate.view, certificate)
        self.certified_views[certificate.block] = certificate.view
        self._raise_tip(certificate.block)

    def is_certified(self, view: View) -> bool:
        """Whether some block of ``view`` is notarized or final, as far as we know."""
        return view in self.certified or view == self.floor.view

    def counts(self, start: View) -> bool:
        """Whether a nullify start counts here: at its term's first view, or with the notarization of the view before.

        A certified view at or after that one will do: inside a term every block's parent is the view before.
        """
        if start == self._config.first_view(start) or start - 1 <= self.floor.view:
            return True
        return any(view in self.certified for view in range(start - 1, self._config.last_view(start) + 1))

    def nullify(self, certificate: Nullification) -> bool:
        """Keep a checked nullification whose start counts; False if what is held covers as much."""
        term = self._config.term(certificate.view)
        held = self.nullifications.get(term)
        if held is not None and held.view <= certificate.view:
            return False
        self.nullifications[term] = certificate
        return True

    def nullified_from(self, view: View) -> View | None:
        """The first view that the nullification covering ``view`` covers, or None."""
        held = self.nullifications.get(self._config.term(view))
        return held.view if held is not None and held.view <= view else None

    # --------------------------------------------------------------------------------------------- ancestry: rule 2

    def uncovered(self, parent_view: View, view: View) -> View | None:
        """The highest view strictly between that no nullification covers, or None if there is none."""
        between = view - 1
        while between > parent_view:
            start = self.nullified_from(between)
            if start is None:
                return between
            between = start - 1
        return None

    def judge_ancestry(self, header: Header) -> View | Gap | Bad:
        """Rule 2 for a proposal: the view of its certified parent, what is missing, or what is wrong."""
        parent_view = self.certified_views.get(header.parent)
        if parent_view is None:
            known = self.header(header.parent)
            first = max(self.floor.view + 1, known.view if known is not None else 0)
            return (
                Gap(first, header.view - 1) if first < header.view else Bad("its parent is below the last final block")
            )
        if parent_view < self.floor.view or (parent_view == self.floor.view and header.parent != self.floor_id):
            return Bad(f"parent of view {parent_view}, below the last final view {self.floor.view}")
        if parent_view >= header.view:
            return Bad(f"parent of view {parent_view} is not before view {header.view}")
        if header.view != self._config.first_view(header.view) and parent_view != header.view - 1:
            return Bad(f"parent of view {parent_view}; inside a term it is the view before {header.view}")
        missing = self.uncovered(parent_view, header.view)
        return parent_view if missing is None else Gap(missing, missing)

    def parent_for(self, view: View) -> tuple[View, BlockId] | Gap:
        """Rule 2 for the leader of ``view``: the highest certified block that fits, or what is missing."""
        below = view - 1
        while True:
            if below == self.floor.view:
                return below, self.floor_id
            certificate = self.certified.get(below)
            if certificate is not None:
                return below, certificate.block
            start = self.nullified_from(below)
            if start is None or below < self.floor.view or view != self._config.first_view(view):
                return Gap(below, below)
            below = start - 1

    def justification(self, parent_view: View, view: View) -> tuple[Certificate, ...]:
        """What a proposal carries: its parent's certificate and the nullifications between, the newest if many."""
        nullifications: list[Certificate] = []
        between = view - 1
        while between > parent_view and len(nullifications) < self._config.carried_certificates - 1:
            held = self.nullifications[self._config.term(between)]
            nullifications.append(held)
            between = held.view - 1
        return tuple(self.about(parent_view) + nullifications[::-1])

    def entry(self, view: View) -> list[Certificate]:
        """The certificates that let a peer enter ``view`` (rule 1)."""
        before = view - 1
        if self.is_certified(before):
            return self.about(before)
        held = self.nullifications.get(self._config.term(before))
        if held is None:
            return []
        inside = held.view != self._config.first_view(held.view)
        return [*(self.about(held.view - 1) if inside else []), held]

    def about(self, view: View) -> list[Certificate]:
        """The certificate of a block of ``view`` that a peer of this epoch can check, if it is here."""
        # Of the floor the finalization: a peer that holds the notarization only must hear that it is final.
        certificate = self.finalization if view == self.floor.view else self.certified.get(view)
        if certificate is None or certificate.epoch != self._config.epoch:
            return []
        return [certificate]

    # --------------------------------------------------------------------------------------------- the floor: rule 7

    def raise_floor(self, floor: Header, finalization: Finalization) -> None:
        """Make ``floor`` the last final block."""
        if self.floor.view < self._pruned_view:  # far behind; `prune` looks at what is near the newest one
            self.certified_views.pop(self.floor_id, None)
            self.certified.pop(self.floor.view, None)
        self.floor, self.floor_id, self.finalization = floor, finalization.block, finalization
        self.certified_views[self.floor_id] = floor.view
        if self.tip.view < floor.view:
            self.tip = floor

    def prune(self, newest: View) -> None:
        """Drop, now and then, what is `keep_views` below ``newest``, the highest view known to be final."""
        bound = newest - self._config.keep_views
        if bound < self._pruned_view + self._config.keep_views // 4:
            return
        self._pruned_view = bound
        kept = self._above_floor()
        for block in [block for block, held in self.blocks.items() if held.header.view < bound and block not in kept]:
            self._drop(block)
        for views in (self.trusted, self.certified_views):
            for block in [block for block, view in views.items() if view < bound and block not in kept]:
                del views[block]
        drop_below(self.first, bound)
        drop_below(self.certified, bound)
        drop_below(self.nullifications, self._config.term(bound))

    def _drop(self, block: BlockId) -> None:
        parent = self.blocks.pop(block).header.parent
        siblings = [child for child in self.children.pop(parent) if child != block]
        if siblings:
            self.children[parent] = siblings

    def _above_floor(self) -> set[BlockId]:
        """Validated blocks whose whole ancestry down to the floor is here.

        As long as nobody has committed them, they may be nowhere else but where they were voted for: a block far
        below the newest final one may still be its ancestor.
        """
        found: set[BlockId] = set()
        waiting = [self.floor_id]
        while waiting:
            valid = [block for block in self.children.get(waiting.pop(), ()) if self.blocks[block].durable]
            found.update(valid)
            waiting += valid
        return found
