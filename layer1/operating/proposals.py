"""A proposal to change the replica set: a file that goes from operator to operator, and that each signs in turn.

Safety: whoever signs sees what is signed, for this ledger and the epoch that it is in now, and signs nothing else.

The file holds the change and the signatures that there are so far; nothing in it is believed. Chain and replica set
come from whoever reads it: the genesis in a home, and what a ledger proves from there. Every signature in the file is
verified before it is shown, so a file that was tampered with is refused as a whole, with what is wrong in it.

Source: `layer1.ledger.replicas`; docs/replica-set.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec.structs import replace

from layer1.crypto import (
    HASH_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Hash,
    Kind,
    PublicKey,
    Signature,
    SigningKey,
    verify,
)
from layer1.errors import LocalError, Refused, check
from layer1.files import write_durably
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.replicas import (
    MAX_REPLICAS,
    ChangeReplicas,
    ReplicaSet,
    SetChange,
    following_set,
    sign_change,
)

KIND = "proposal to change a replica set"
FORMAT = 1
MAX_BYTES = 2**18
"""Of a file: twice what 100 signatures of members and 100 of newcomers take."""
DAY_MS = 86_400_000

_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_MONEY)]
_List = Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_REPLICAS)]
_Signatures = Annotated[dict[str, str], msgspec.Meta(max_length=MAX_REPLICAS)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as it is written."""

    kind: str
    format: _Number
    chain_id: str
    epoch: _Number
    """That the change ends."""
    add: _List
    """Keys, in hex."""
    remove: Annotated[tuple[_Number, ...], msgspec.Meta(max_length=MAX_REPLICAS)]
    """Numbers, the lowest first."""
    expires_ms: _Number
    """Ledger clock."""
    approvals: _Signatures
    """By number of a member, in hex."""
    acceptances: _Signatures
    """By key that is added, in hex."""


class Proposal(msgspec.Struct, frozen=True):
    """A change and the signatures that there are."""

    chain_id: Hash
    change: SetChange
    approvals: dict[int, Signature] = {}
    """By number of the member."""
    acceptances: dict[PublicKey, Signature] = {}
    """By key that is added."""


def read_proposal(path: Path) -> Proposal:
    """Read a proposal. Its form is checked here, and what it says by :func:`check_proposal`.

    Raises:
        LocalError: There is no such file.
        Refused: ``bad_proposal``: it is no proposal.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from None
    try:
        check(len(data) <= MAX_BYTES, "bad_proposal", f"it has more than {MAX_BYTES} bytes")
        return _from_file(msgspec.json.decode(data, type=_File))
    except (msgspec.MsgspecError, ValueError, RecursionError, Refused) as error:
        raise Refused("bad_proposal", f"{path} is no proposal to change a replica set: {error}") from None


def _from_file(file: _File) -> Proposal:
    check(file.kind == KIND, "bad_proposal", f"its kind is {file.kind[:40]!r}, not {KIND!r}")
    check(file.format == FORMAT, "bad_proposal", f"it has format {file.format}, this program reads {FORMAT}: upgrade")
    numbers = {text: int(text) for text in file.approvals if text.isascii() and text.isdigit() and len(text) < 17}
    for text in file.approvals:
        check(str(numbers.get(text)) == text, "bad_proposal", f"{text[:40]!r} in approvals is no number of a replica")
    add = tuple(map(_key, file.add))
    check(list(file.remove) == sorted(set(file.remove)), "bad_proposal", "remove names each once, the lowest first")
    _check_hex(file.chain_id, 2 * HASH_BYTES, "chain id")
    return Proposal(
        bytes.fromhex(file.chain_id),
        SetChange(file.epoch, add, file.remove, file.expires_ms),
        {numbers[text]: _signature(found) for text, found in file.approvals.items()},
        {_key(text): _signature(found) for text, found in file.acceptances.items()},
    )


def _key(text: str) -> PublicKey:
    _check_hex(text, 2 * PUBLIC_KEY_BYTES, "key")
    return bytes.fromhex(text)


def _signature(text: str) -> Signature:
    _check_hex(text, 2 * SIGNATURE_BYTES, "signature")
    return bytes.fromhex(text)


def _check_hex(text: str, digits: int, what: str) -> None:
    good = len(text) == digits and set(text) <= set("0123456789abcdef")
    check(good, "bad_proposal", f"{text[:40]!r} is no {what}; one is {digits} digits in hex, in small letters")


def write_proposal(path: Path, proposal: Proposal, *, new: bool = False) -> None:
    """Write a proposal, whole or not at all.

    Args:
        path: Where to.
        proposal: What to write.
        new: Refuse to replace a file.

    Raises:
        LocalError: It cannot be written, or is there already.
    """
    change = proposal.change
    file = _File(
        KIND, FORMAT, proposal.chain_id.hex(), change.epoch, tuple(key.hex() for key in change.add), change.remove,
        change.expires_ms,
        {str(number): signature.hex() for number, signature in sorted(proposal.approvals.items())},
        {key.hex(): signature.hex() for key, signature in sorted(proposal.acceptances.items())},
    )  # fmt: skip
    if new and path.exists():
        raise LocalError(f"{path} is there already: choose another name for the proposal")
    try:
        write_durably(path, msgspec.json.format(msgspec.json.encode(file)) + b"\n")
        path.chmod(0o644)  # there is no secret in it, and others are to read it
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error


def check_proposal(proposal: Proposal, members: ReplicaSet, chain_id: Hash, clock_ms: int) -> ReplicaSet:
    """Check everything in a proposal against the ledger; the replica set that it leads to.

    Args:
        proposal: Which nobody has checked yet.
        members: The set that the ledger has now, proven.
        chain_id: Of the ledger.
        clock_ms: Ledger clock.

    Raises:
        Refused: ``wrong_chain``, ``bad_signature``, and as :func:`layer1.ledger.replicas.following_set`.
    """
    change = proposal.change
    if proposal.chain_id != chain_id:
        raise Refused(
            "wrong_chain",
            f"the proposal is for chain {proposal.chain_id.hex()}, this is {chain_id.hex()}; sign nothing",
        )
    following = following_set(members, change, clock_ms)
    for number, signature in proposal.approvals.items():
        position = members.position_of(number)
        if position is None:
            raise Refused("bad_signature", f"replica {number} approves; the set has {list(members.numbers)}")
        _check(members.keys[position], signature, proposal, f"replica {number}")
    for key, signature in proposal.acceptances.items():
        check(key in change.add, "bad_signature", f"key {key.hex()} accepts, and is not to be added")
        _check(key, signature, proposal, f"the new key {key.hex()}")
    return following


def _check(key: PublicKey, signature: Signature, proposal: Proposal, who: str) -> None:
    good = verify(key, signature, Kind.CHANGE, proposal.chain_id, proposal.change.signed)
    check(good, "bad_signature", f"the signature of {who} is not over this proposal: somebody changed the file")


def sign_proposal(proposal: Proposal, members: ReplicaSet, key: SigningKey) -> Proposal:
    """Add an approval, if this key is a member's, or an acceptance, if it is to be added. Check it first.

    Raises:
        Refused: ``not_concerned``: it is neither.
    """
    signature = sign_change(proposal.change, proposal.chain_id, key)
    if (number := members.number_of(key.public)) is not None:
        return replace(proposal, approvals={**proposal.approvals, number: signature})
    if key.public in proposal.change.add:
        return replace(proposal, acceptances={**proposal.acceptances, key.public: signature})
    raise Refused(
        "not_concerned",
        f"key {key.public.hex()} is neither in the replica set {list(members.numbers)} nor among the keys to be added",
    )


def merge(proposals: Sequence[Proposal]) -> Proposal:
    """One proposal with the signatures of all; copies of it may have been signed beside each other.

    Raises:
        Refused: ``other_proposal``: they are not of one change.
    """
    first = proposals[0]
    for other in proposals[1:]:
        if (other.chain_id, other.change) != (first.chain_id, first.change):
            raise Refused("other_proposal", "the files propose different changes; bring them one after the other")
    approvals = {number: found for one in proposals for number, found in one.approvals.items()}
    acceptances = {key: found for one in proposals for key, found in one.acceptances.items()}
    return replace(first, approvals=approvals, acceptances=acceptances)


def request_of(proposal: Proposal, members: ReplicaSet) -> ChangeReplicas:
    """What is brought to the ledger.

    Raises:
        Refused: ``too_few_approvals``: signatures are missing; the text says whose.
    """
    missing = Missing.of(proposal, members)
    if missing:
        raise Refused("too_few_approvals", f"{missing.words}: let them run `layer1 replica sign`")
    change = proposal.change
    approvals = tuple(sorted(proposal.approvals.items()))
    return ChangeReplicas(change, approvals, tuple(proposal.acceptances[key] for key in change.add))


@dataclass(frozen=True, slots=True)
class Missing:
    """Signatures that a proposal still lacks."""

    approvals: int
    """How many."""
    members: tuple[int, ...]
    """Who may give them."""
    keys: tuple[PublicKey, ...]
    """Who must accept."""

    @classmethod
    def of(cls, proposal: Proposal, members: ReplicaSet) -> Missing:
        """What this proposal lacks."""
        others = tuple(number for number in members.numbers if number not in proposal.approvals)
        keys = tuple(key for key in proposal.change.add if key not in proposal.acceptances)
        return cls(max(0, members.quorum - len(proposal.approvals)), others, keys)

    def __bool__(self) -> bool:
        return self.approvals > 0 or bool(self.keys)

    @property
    def words(self) -> str:
        """For people."""
        said = []
        if self.approvals:
            said.append(f"{self.approvals} of the replicas {', '.join(map(str, self.members))}")
        said += [f"the new key {key.hex()}" for key in self.keys]
        return f"signatures are missing: {' and '.join(said)}" if said else "all signatures are there"


def describe(
    proposal: Proposal, members: ReplicaSet, following: ReplicaSet, up: Collection[PublicKey], clock_ms: int
) -> Iterator[str]:
    """What a proposal does, in words; lines that begin with WARNING are worth a thought.

    Args:
        proposal: Checked.
        members: The set that it ends.
        following: The set that it leads to.
        up: Keys of replicas that run, as far as anybody knows.
        clock_ms: Ledger clock.
    """
    change = proposal.change
    yield f"Chain {proposal.chain_id.hex()}: epoch {members.epoch} ends, epoch {following.epoch} begins."
    for key in change.add:
        yield f"  + replica {following.number_of(key)}, key {key.hex()}"
    for number in change.remove:
        yield f"  - replica {number}, key {members.keys[members.numbers.index(number)].hex()}"
    yield f"Before: {_sizes(members)}"
    yield f"After:  {_sizes(following)}"
    if change.remove:
        yield "Who leaves runs on until `layer1 status` says that its operator may stop it; then its key is deleted."
    if following.faults < members.faults:
        yield f"WARNING: of the new set {following.faults} may fail, of the old one {members.faults}"
    running = sum(key in up for key in following.keys)
    if running < following.quorum:
        yield (
            f"WARNING: {running} of the new set are up, {following.quorum} are needed: the ledger stands still until "
            "more are back. Start the new replicas first, and let them catch up"
        )
    elif running - following.quorum < following.faults:
        yield f"WARNING: {running} of the new set are up: {running - following.quorum} of them may fail until more are"
    yield f"It may be brought until {(change.expires_ms - clock_ms) / DAY_MS:.1f} days from now."
    missing = Missing.of(proposal, members).words
    yield f"Signed by replicas: {', '.join(map(str, sorted(proposal.approvals))) or 'none'}; {missing}."


def _sizes(replicas: ReplicaSet) -> str:
    numbers = ", ".join(map(str, replicas.numbers))
    return f"n = {len(replicas.seats)} ({numbers}), f = {replicas.faults}, q = {replicas.quorum}"
