"""The book of channels: for each, what must be known before our money can be in it.

*Safety:* whenever a signature of ours that locks funds may be with somebody else, the record of that opening is
durable here: agreement, index of our key, and the transaction by whose id layer 1 names the group.

A record is one file, replaced whole. It is written before our funding signature leaves, again when layer 1 shows
what became of the opening, and once more when it shows the end; the states in between are in the journal.

Source: docs/design/groups.md, "Objects".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from msgspec import structs

from layer1.codec import Struct, decode, encode
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.files import private_directory, write_durably
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.agreements import group_id as name_group
from layer1.ledger.transactions import OpenGroup, Transaction
from wallet.keystore import HotKeys
from wallet.routing.announcements import ChannelAnnouncement, Toll

KEPT_LAPSED = 20
"""Openings that others proposed and let lapse: enough to see what happened, however many a stranger makes."""
MIN_PREFIX = 4
"""Characters of a channel's id that a person may give instead of all 64."""


class Stage(StrEnum):
    """What is known of a channel besides its states. It goes forward only."""

    OPENING = "opening"
    """Layer 1 may or may not have it: ask."""
    OPEN = "open"
    """Layer 1 has it; whether it is wedged, layer 1 says."""
    FAILED = "failed"
    """Layer 1 never will have it."""
    CLOSED = "closed"
    """Layer 1 has paid it out."""


class ChannelRecord(Struct, tag="channel/1", gc=True, dict=True):
    """One channel of this wallet."""

    transaction: Transaction
    """The opening; with all signatures on the side that brings it to layer 1."""
    index: int
    """Ours in the agreement."""
    key_index: int
    """Which of our group keys is ours in it."""
    peer: PublicKey
    """Identity of the other member."""
    host: str = ""
    """Where it listens; empty if only it can reach us."""
    port: int = 0
    stage: Stage = Stage.OPENING
    reason: str = ""
    """Why it failed or closed."""
    version: int = 0
    """At the end."""
    payouts: tuple[int, ...] = ()
    """Per member, at the end."""
    forfeited: tuple[bool, ...] = ()
    """Per member, at the end: whether it lost its bond."""
    later_keys: tuple[int, ...] = ()
    """Which further group keys of ours are, were, or might have become ours in it; none else ever gets them."""
    epoch: int = 0
    """Which one layer 1 last showed."""
    changed: GroupAgreement | None = None
    """Of that epoch; None in epoch 0."""
    name: Hash = b""
    """Of a channel that was found again from the phrase: layer 1's name for it. Its opening is then not known, and
    `transaction` holds the agreement that layer 1 showed; what was signed is not known either [F5].
    """

    copied: bool = False
    """Of a channel that was being opened when this home was copied: what was signed since is not known [F5]."""
    toll: Toll = Toll()
    """On which terms payments of others are forwarded over it."""
    announced: ChannelAnnouncement | None = None
    """What was last said of that to everybody."""

    @property
    def agreement(self) -> GroupAgreement:
        """What the members signed last, as far as layer 1 has shown it."""
        return self.changed or self.opening

    @property
    def opening(self) -> GroupAgreement:
        """What the members signed at first."""
        payload = self.transaction.payload
        assert isinstance(payload, OpenGroup), "only openings are entered"
        return payload.agreement

    @property
    def keys(self) -> tuple[int, ...]:
        """Which group keys are this channel's alone."""
        return (self.key_index, *self.later_keys)

    @cached_property
    def group_id(self) -> Hash:
        """Layer 1's name for it."""
        return self.name or name_group(self.opening, self.transaction.id)

    @property
    def me(self) -> Member:
        """Our part of the agreement."""
        return self.agreement.members[self.index]

    @property
    def other(self) -> Member:
        """The peer's part."""
        return self.agreement.members[1 - self.index]

    @property
    def live(self) -> bool:
        """Whether layer 1 may still have news of it."""
        return self.stage in (Stage.OPENING, Stage.OPEN)


class ChannelBook:
    """All records of one home, in memory and on disk."""

    def __init__(self, directory: Path) -> None:
        """Read the records.

        Raises:
            LocalError: One is damaged.
        """
        self._directory = private_directory(directory)
        self._records: dict[Hash, ChannelRecord] = {}
        """By group; the oldest first."""
        self._by_opening: dict[Hash, ChannelRecord] = {}
        """By hash of the agreement that opened it."""
        self._live: dict[PublicKey, dict[Hash, None]] = {}
        """By peer, the channels with it that are live."""
        self._next_key = 0
        self.on_put: Callable[[bytes], None] = lambda _: None
        """Told each file that is written, once it is durable."""
        for record in sorted(map(_read, directory.glob("[0-9a-f]*")), key=lambda record: record.key_index):
            self._note(record)

    def __iter__(self) -> Iterator[ChannelRecord]:
        """All of them, the oldest first."""
        return iter(list(self._records.values()))

    def live(self) -> list[ChannelRecord]:
        """Those of which layer 1 may still have news."""
        return [record for record in self if record.live]

    def knows(self, peer: PublicKey) -> bool:
        """Whether there is a live channel with this wallet; asked for each of its links, however many there are."""
        return peer in self._live

    def with_peer(self, peer: PublicKey) -> list[ChannelRecord]:
        """The live ones with a peer, without a look at the others."""
        return [self._records[name] for name in self._live.get(peer, ())]

    def get(self, group_id: Hash) -> ChannelRecord | None:
        """One of them."""
        return self._records.get(group_id)

    def take_key_index(self) -> int:
        """The index of a group key that this process has given to nobody, and no record has."""
        index, self._next_key = self._next_key, self._next_key + 1
        return index

    def put(self, record: ChannelRecord) -> None:
        """Enter or replace a record; durable on return."""
        file = encode(record)
        write_durably(self._directory / record.group_id.hex(), file)
        self._note(record)
        self.on_put(file)

    def _note(self, record: ChannelRecord) -> None:
        with_peer = self._live.setdefault(record.peer, {})
        if record.live:
            with_peer[record.group_id] = None
        else:
            with_peer.pop(record.group_id, None)
        if not with_peer:
            del self._live[record.peer]
        self._records[record.group_id] = record
        self._by_opening[record.opening.hash] = record
        self._next_key = max(self._next_key, *(number + 1 for number in record.keys))

    def drop_lapsed(self) -> list[ChannelRecord]:
        """Forget all but the newest openings that we joined and that layer 1 never will have; those forgotten."""
        lapsed = [record for record in self if record.index == 1 and record.stage is Stage.FAILED]
        dropped = lapsed[: max(len(lapsed) - KEPT_LAPSED, 0)]
        for record in dropped:
            (self._directory / record.group_id.hex()).unlink(missing_ok=True)
            del self._records[record.group_id], self._by_opening[record.opening.hash]
        return dropped

    def move(self, record: ChannelRecord, stage: Stage, **changes: object) -> ChannelRecord:
        """Put the record at a later stage; durable on return."""
        moved = structs.replace(record, stage=stage, **changes)
        self.put(moved)
        return moved

    def key_of(self, keys: HotKeys, agreement: GroupAgreement, seat: int) -> SigningKey:
        """Our secret for our seat of an agreement, of a channel's first epoch or of a later one.

        Raises:
            LocalError: No record has a key for it.
        """
        known = self._by_opening.get(agreement.hash)
        likely = self._records.values() if known is None else [known]
        numbers = [number for record in likely if _is_of(agreement, record) for number in record.keys]
        found = (keys.group_key(number) for number in numbers)
        key = next((key for key in found if key.public == agreement.members[seat].key), None)
        return key or keys.group_key(self.key_index_of(agreement))

    def key_index_of(self, agreement: GroupAgreement) -> int:
        """Which of our group keys an agreement was made with.

        Raises:
            LocalError: No record has this agreement.
        """
        record = self._by_opening.get(agreement.hash)
        if record is not None:
            return record.key_index
        raise LocalError(
            f"no file in {self._directory} is of the channel whose agreement is {agreement.hash.hex()}, which the "
            "journal has: put the missing file back"
        )

    def find(self, text: str) -> ChannelRecord:
        """The channel whose id starts with `text`.

        Raises:
            Refused: ``unknown_channel`` or ``ambiguous_channel``.
        """
        wanted = text.strip().lower()
        found = [record for record in self if record.group_id.hex().startswith(wanted)]
        if len(wanted) < MIN_PREFIX or not found:
            raise Refused(
                "unknown_channel",
                f"no channel's id starts with {text[:64]!r} (at least {MIN_PREFIX} characters): "
                "`wallet channel list` shows all",
            )
        if len(found) > 1:
            names = ", ".join(record.group_id.hex()[:12] for record in found)
            raise Refused("ambiguous_channel", f"{text[:64]!r} is the start of {names}: give more characters")
        return found[0]


def _is_of(agreement: GroupAgreement, record: ChannelRecord) -> bool:
    """Whether an agreement may be of an epoch of this channel: the peer is the same."""
    seat = 1 - record.index
    return len(agreement.members) > seat and agreement.members[seat].funding == record.opening.members[seat].funding


def _read(path: Path) -> ChannelRecord:
    try:
        record = decode(path.read_bytes(), ChannelRecord)
    except (OSError, RemoteError) as error:
        raise LocalError(f"{path} is damaged: {error}; restore it, its channel's money depends on it") from None
    if not isinstance(record.transaction.payload, OpenGroup):
        raise LocalError(f"{path} is damaged: it holds no opening; restore it, its channel's money depends on it")
    if record.group_id.hex() != path.name:
        raise LocalError(f"{path} is of channel {record.group_id.hex()}: give it its name back")
    return record
