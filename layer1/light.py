"""A light client: what somebody may believe of a ledger who holds its genesis, and no blocks.

What: it verifies answers, follows the replica set from the genesis on, knows the newest block that it has seen and how
fresh that is, and notices when what is final contradicts itself. It asks nobody; :class:`layer1.reader.LedgerReader`
does, and believes through it.

*Safety:* whatever anybody says, it believes only what is final on the chain of its genesis, as long as no replica set
of it had more than f liars; and if one had, and both sides were seen, it says so, with proof, and believes no more.

A block is final if a quorum of its epoch's set signed it (:mod:`layer1.proof`), and a set is that of its epoch if the
one before handed over to it. What claims to be the newest must be recent by our own clock, and no block that we have
seen may be above it. Blocks are compared by epoch and height: filler, which an epoch builds behind its last block, may
have been taken for the head, and is dropped when the next epoch is known. Every certificate is compared with the blocks
beside it that were seen, with the newest, and with the ends of epochs (:mod:`layer1.attack`).

What no light client can know: whether a set that left long ago signs another history today, with keys that it no longer
needs. Who keeps a file, and asks f+1 distinct replicas now and then, is not the one who is shown that.

*Source:* docs/design/architecture.md, "Believing an answer"; consensus.md, "Catching up, joining, leaving".
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from layer1.attack import Attack, AttackProof, contradiction, verify_attack
from layer1.codec import Struct, decode, encode, leading_number
from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, RemoteError
from layer1.failover import LedgerUnreachable, Stale
from layer1.files import write_durably
from layer1.header import Header
from layer1.ledger.genesis import Genesis, genesis_header
from layer1.ledger.records import Account, Group, Head, Registration
from layer1.ledger.transactions import Output
from layer1.proof import (
    AccountProof,
    AppointmentProof,
    BlockProof,
    GroupProof,
    GroupsProof,
    Handover,
    HeadProof,
    MarksProof,
    OutputProof,
    RegistrationProof,
    Trust,
    TwoHandovers,
    ValueProof,
    Verified,
    check_fresh,
    max_age_ms,
    verify_account,
    verify_appointment,
    verify_block,
    verify_group,
    verify_groups,
    verify_head,
    verify_marks,
    verify_output,
    verify_registration,
    verify_value,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)

FORMAT = 1
"""Of the file."""
MAX_SEEN = 1_024
"""Blocks that are remembered, with what makes them final, to be compared with others."""


def wall_clock_ms() -> int:
    """This machine's clock, ms since 1970."""
    return time.time_ns() // 1_000_000


class LedgerAttacked(LedgerUnreachable):
    """What is final contradicts itself. Nothing can be believed any more until somebody decides what is true.

    Attributes:
        attack: What was seen, with proof for everybody.
    """

    def __init__(self, attack: Attack, path: Path | None) -> None:
        again = "start anew" if path is None else f"move {path} away to start anew"
        named = ", ".join(map(str, attack.signers)) or "none"
        super().__init__(
            f"the ledger is under attack: {attack.reason}. Replicas that signed both sides: {named} (of this set, "
            f"{attack.faults} may fail). Nothing is believed any more. Show the proof to the operators of the ledger; "
            f"when it is decided which side is true, ask replicas of that side alone, and {again}"
        )
        self.attack = attack


class Saved(Struct):
    """The content of the file. Everything in it proves itself."""

    format: int
    chain_id: Hash
    handovers: tuple[Handover, ...]
    head: HeadProof
    attack: AttackProof | None


class LightClient:
    """What is believed of one ledger.

    Attributes:
        genesis: What everything follows from.
        trust: The replica sets that were followed from there.
        attack: What made this client stop believing, if anything did.
    """

    genesis: Genesis
    trust: Trust
    attack: Attack | None

    def __init__(
        self,
        genesis: Genesis,
        *,
        path: Path | None = None,
        wall_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """Believe the genesis, and nothing else.

        Args:
            genesis: Of the ledger; its chain id compared with what one was told.
            path: Where :meth:`save` keeps what was learnt; None for nowhere. :meth:`load` goes on from there.
            wall_ms: This machine's clock, ms since 1970.
        """
        self.genesis = genesis
        self.trust = Trust(genesis)
        self.attack = None
        self._path = path
        self._wall_ms = wall_ms
        self._told = 0
        self._newest = HeadProof(genesis_header(genesis), (), None)
        self._seen: OrderedDict[tuple[int, int], HeadProof] = OrderedDict()
        self._remember(self._newest)

    # ---------------------------------------------------------------------------------------------------- what it knows

    @property
    def head(self) -> Header:
        """The newest block that was seen in any answer; genesis's at first. See :attr:`age_ms` for how new."""
        return self._newest.header

    @property
    def height(self) -> int:
        """Nothing below it is believed to be the newest block. May be raised to what another reader has seen."""
        return max(self.head.height, self._told)

    @height.setter
    def height(self, height: int) -> None:
        self._told = height

    @property
    def age_ms(self) -> int:
        """How long ago the head was made, by this machine's clock; below 0 if that is behind."""
        return self._wall_ms() - self.head.wall_time

    @property
    def is_fresh(self) -> bool:
        """Whether a healthy ledger's newest block may be as old as the head."""
        return self.age_ms <= max_age_ms(self.genesis.parameters)

    # ------------------------------------------------------------------------------------------------- what it believes

    def check(self) -> None:
        """See whether anything is believed.

        Raises:
            LedgerAttacked: What is final contradicted itself before.
        """
        if self.attack is not None:
            raise LedgerAttacked(self.attack, self._path)

    def account(self, address: PublicKey, answer: AccountProof) -> Verified[Account]:
        """An account now.

        Raises (as the other methods do):
            LedgerAttacked: It contradicts what was seen, now or before.
            UnknownEpoch: :meth:`follow` the handovers, and try again.
            RemoteError: The proof does not show it.
            Stale: It is not the newest (of what is to be the newest).
        """
        return self._now(answer.head, verify_account(self._believing(), address, answer))

    def group(self, group_id: Hash, answer: GroupProof) -> Verified[Group | None]:
        """A group now, or that there is none."""
        return self._now(answer.head, verify_group(self._believing(), group_id, answer))

    def groups(self, ids: Sequence[Hash], answer: GroupsProof) -> Verified[tuple[Group | None, ...]]:
        """Several groups now, in the order of `ids`; None where there is none."""
        return self._now(answer.head, verify_groups(self._believing(), ids, answer))

    def appointment(self, account: PublicKey, answer: AppointmentProof) -> Verified[Head | None]:
        """Which process acts for an account now; None if it never said."""
        return self._now(answer.head, verify_appointment(self._believing(), account, answer))

    def registration(self, hashed: Hash, answer: RegistrationProof) -> Verified[Registration | None]:
        """When the preimage of a hash was registered, as of now; None if it was not."""
        return self._now(answer.head, verify_registration(self._believing(), hashed, answer))

    def marks(self, answer: MarksProof) -> Verified[MarksProof]:
        """The replica set now, and what each was shown to have done."""
        return self._now(answer.head, verify_marks(self._believing(), answer))

    def value(self, key: bytes, answer: ValueProof) -> Verified[bytes | None]:
        """The state machine's value of a key now; None if it has none."""
        return self._now(answer.head, verify_value(self._believing(), key, answer))

    def newest(self, head: HeadProof) -> Header:
        """The newest block."""
        return self._now(head, Verified(None, verify_head(self._believing(), head))).header

    def output(self, transaction_id: Hash, answer: OutputProof) -> Verified[Output]:
        """What became of a transaction, at any time."""
        return self._final(answer.head, verify_output(self._believing(), transaction_id, answer))

    def outputs(self, answer: BlockProof) -> Verified[tuple[Output, ...]]:
        """What became of all transactions of a block, whenever it was made."""
        return self._final(answer.head, verify_block(self._believing(), answer))

    def final(self, head: HeadProof) -> Header:
        """A block, whenever it was made."""
        return self._final(head, Verified(None, verify_head(self._believing(), head))).header

    def follow(self, handovers: Iterable[Handover]) -> None:
        """Take the next replica sets in; those that are known already change nothing.

        Raises:
            LedgerAttacked: An epoch ended twice, or a block that was seen contradicts its end.
            RemoteError: A handover does not follow from what is known; those before it were taken in.
        """
        trust = self._believing()
        known = len(trust.handovers)
        try:
            for handover in handovers:
                self._follow(trust, handover)
        finally:
            if len(trust.handovers) > known and self.attack is None:
                self.save()

    def _follow(self, trust: Trust, handover: Handover) -> None:
        known = len(trust.handovers)
        try:
            trust.follow(handover)
        except TwoHandovers as error:
            self._ended_twice(error.known, error.other)
        if len(trust.handovers) == known:
            return
        for seen in tuple(self._seen.values()):
            self._compare(seen, handover.head)
        self._remember(handover.head)
        if trust.is_filler(self.head) or _place(handover.head.header) > _place(self.head):
            self._newest = handover.head

    def _believing(self) -> Trust:
        """What answers are verified against, as long as anything is believed."""
        self.check()
        return self.trust

    def _final(self, head: HeadProof, answer: Verified[T]) -> Verified[T]:
        """Take in a verified block: who has seen an output is shown no state before it."""
        for other in self._beside(head):
            self._compare(other, head)
        if self.trust.is_filler(answer.header):
            raise RemoteError(
                f"block {answer.header.height} of epoch {answer.header.epoch} is filler: that epoch ended before it"
            )
        self._remember(head)
        if _place(answer.header) > _place(self.head):
            self._newest = head
        return answer

    def _now(self, head: HeadProof, answer: Verified[T]) -> Verified[T]:
        """Accept what says that it is the newest, if it can be."""
        self._final(head, answer)
        header = answer.header
        try:
            check_fresh(header, self._wall_ms(), self.genesis.parameters)
        except RemoteError as error:
            raise Stale(str(error)) from error
        if _place(header) < _place(self.head) or header.height < self._told:
            raise Stale(f"the head is block {header.height}, and block {self.height} is final: the replica is behind")
        return answer

    # ---------------------------------------------------------------------------------------------------------- attacks

    def _remember(self, head: HeadProof) -> None:
        for header in (head.header, *head.path):
            self._seen[_place(header)] = head
            self._seen.move_to_end(_place(header))
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    def _beside(self, head: HeadProof) -> Iterator[HeadProof]:
        """What was seen, and may contradict these blocks: those beside them, the newest, and the ends of epochs."""
        found = {id(self._newest): self._newest}
        for header in (head.header, *head.path):
            epoch, height = _place(header)
            for place in ((epoch, height), (epoch, height - 1), (epoch, height + 1)):
                if (seen := self._seen.get(place)) is not None:
                    found[id(seen)] = seen
        epoch = head.header.epoch
        for handover in self.trust.handovers[max(epoch - 1, 0) : epoch + 1]:
            found[id(handover.head)] = handover.head
        yield from found.values()

    def _compare(self, first: HeadProof, second: HeadProof) -> None:
        """Stop believing if these are not of one chain."""
        if first != second and contradiction(self.trust, first, second) is not None:
            needed = max(first.header.epoch, second.header.epoch) + 1
            self._stop(AttackProof(self.genesis.chain_id, tuple(self.trust.handovers[:needed]), first, second))

    def _ended_twice(self, known: Handover, other: Handover) -> None:
        """The lower block ended the epoch, and so the higher one cannot have."""
        low, high = sorted((known, other), key=lambda handover: handover.head.header.height)
        before = self.trust.handovers[: known.head.header.epoch]
        self._stop(AttackProof(self.genesis.chain_id, (*before, low), low.head, high.head))

    def _stop(self, proof: AttackProof) -> None:
        self.attack = verify_attack(self.genesis, proof)
        self.save()
        raise LedgerAttacked(self.attack, self._path)

    # --------------------------------------------------------------------------------------------------------- its file

    def save(self) -> None:
        """Write what was learnt to the file, if there is one: whole or not at all.

        A disk that is full is logged, and no reason to believe less: the file spares the way from the genesis.
        """
        if self._path is None:
            return
        attack = None if self.attack is None else self.attack.proof
        saved = Saved(FORMAT, self.genesis.chain_id, tuple(self.trust.handovers), self._newest, attack)
        try:
            write_durably(self._path, encode(saved))
        except OSError as error:
            _log.warning("what is believed of the ledger was not written to %s: %s", self._path, error)

    @classmethod
    def load(
        cls,
        genesis: Genesis,
        path: Path,
        *,
        keep: bool = True,
        wall_ms: Callable[[], int] = wall_clock_ms,
    ) -> Self:
        """Go on from a file, or from the genesis if there is none yet.

        Args:
            genesis: As for the first time.
            path: Of the file.
            keep: Whether to write to it. One process at a time may.
            wall_ms: As for the constructor.

        Raises:
            Refused: ``bad_light_file``: it is damaged, of another ledger, or of a newer release.
        """
        light = cls(genesis, path=path if keep else None, wall_ms=wall_ms)
        try:
            light._restore(path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, RemoteError) as error:
            raise Refused(
                "bad_light_file",
                f"{path}, which holds what is believed of the ledger, cannot be used: {error}. Move it away to begin "
                "with the genesis again; what was seen is then forgotten",
            ) from error
        return light

    def _restore(self, data: bytes) -> None:
        if (written := leading_number(data)) not in {FORMAT, None}:
            raise RemoteError(f"it has format {written}, this release reads {FORMAT}")
        saved = decode(data, Saved)
        if saved.chain_id != self.genesis.chain_id:
            raise RemoteError(f"it is about chain {saved.chain_id.hex()}, not {self.genesis.chain_id.hex()}")
        self.trust = Trust(self.genesis, saved.handovers)
        header = verify_head(self.trust, saved.head)
        if self.trust.is_filler(header):
            raise RemoteError(f"block {header.height} is filler behind epoch {header.epoch}")
        self._newest = saved.head
        self._remember(saved.head)
        if saved.attack is not None:
            self.attack = verify_attack(self.genesis, saved.attack)


def _place(header: Header) -> tuple[int, int]:
    """What orders blocks: filler of an epoch may be as high as blocks of the next."""
    return header.epoch, header.height
