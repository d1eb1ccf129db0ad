"""The committed records in memory, and the indexes that keep work proportional to what changes.

Accounts and groups by name, remembered transaction ids by expiry, wedged groups by deadline, groups by key. Only
:meth:`layer1.ledger.state.State.commit` writes here, one final block at a time; nothing here does I/O.

Safety: the indexes hold no knowledge of their own. Each can be rebuilt from the records, so a replica that restores a
snapshot decides as one that executed every block.

Source: docs/design/consensus.md, "Execution and state".
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import islice

from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import Member
from layer1.ledger.records import Group, Head, Mark, Registration
from layer1.ledger.remembered import lot_of
from layer1.ledger.shards import Shards


class SortedIds:
    """Hashes in order, in 256 lists by first byte: inserting moves a 256th of them, paging needs no scan."""

    __slots__ = ("_lists",)

    def __init__(self) -> None:
        self._lists: list[list[Hash]] = [[] for _ in range(256)]

    def add(self, name: Hash) -> None:
        """Insert a hash that is not there yet."""
        insort(self._lists[name[0]], name)

    def after(self, name: Hash) -> Iterator[Hash]:
        """All hashes above `name`, in order; from the start for an empty `name`."""
        first = name[0] if name else 0
        here = self._lists[first]
        yield from islice(here, bisect_right(here, name), None)
        for rest in islice(self._lists, first + 1, None):
            yield from rest


class Store:
    """Everything committed."""

    __slots__ = (
        "_claimable",
        "_deadlines",
        "_forgotten",
        "_kept",
        "accounts",
        "by_key",
        "group_ids",
        "groups",
        "heads",
        "ids",
        "lots",
        "marks",
        "registrations",
        "values",
        "waiting",
    )

    def __init__(self, clock_ms: int) -> None:
        self.accounts = Shards[int]()
        self.groups = Shards[Group]()
        self.group_ids = SortedIds()
        self.by_key: dict[PublicKey, list[Hash]] = {}
        """Groups by :func:`index_keys`, in order."""
        self.marks: dict[PublicKey, Mark] = {}
        """By the replica's key."""
        self.heads = Shards[Head]()
        """By account."""
        self.values = Shards[bytes]()
        """Of the state machine, by place in the tree."""
        self.ids: set[Hash] = set()
        """Remembered transactions."""
        self.lots: dict[int, list[Hash]] = {}
        """The same by `lot_of` their life spans, in order of execution. Each list grows until it is dropped whole."""
        self._forgotten = lot_of(clock_ms)
        self._deadlines: list[tuple[int, Hash]] = []
        """(clock, group): a heap. So are the two below."""
        self.registrations = Shards[Registration]()
        """By hash of the preimage."""
        self.waiting: dict[Hash, set[Hash]] = {}
        """By hash of a preimage, closed groups with a pending lock under it."""
        self._kept: list[tuple[int, Hash]] = []
        """(clock from which it is kept, hash) of registrations; some may be renewed or forgotten by now."""
        self._claimable: list[tuple[int, Hash]] = []
        """(first clock, hash) of those that some group may wait for."""

    def absorb(
        self,
        accounts: Mapping[PublicKey, int],
        groups: Mapping[Hash, Group],
        ids: Mapping[Hash, int],
        clock_ms: int,
        marks: Mapping[PublicKey, Mark] | None = None,
        *,
        values: Mapping[Hash, bytes | None] | None = None,
        heads: Mapping[PublicKey, Head] | None = None,
        registrations: Mapping[Hash, Registration | None] | None = None,
    ) -> None:
        """Take in what one final block changed."""
        for account, head in (heads or {}).items():
            self.heads[account] = head
        self.marks.update(marks or {})
        for place, value in (values or {}).items():
            if value is None:
                self.values.remove(place)
            else:
                self.values[place] = value
        for address, balance in accounts.items():
            if balance:
                self.accounts[address] = balance
            else:
                self.accounts.remove(address)
        for group in groups.values():
            self._absorb_group(group)
        for hashed, registration in (registrations or {}).items():
            self._absorb_registration(hashed, registration)
        self._remember(ids)
        self._forget(clock_ms)
        self._drop_settled()

    def due(self, clock_ms: int) -> Iterator[tuple[int, Hash]]:
        """(clock, group) at or before the clock, in that order: see `Group.due_ms`.

        May name groups that have been closed since, or fall due at another clock now.
        """
        return _walk(self._deadlines, clock_ms)

    def claimable(self) -> Iterator[tuple[int, Hash]]:
        """(clock, hash) of registrations that closed groups may wait for, in that order."""
        return _walk(self._claimable, _NEVER)

    def kept(self, clock_ms: int) -> Iterator[tuple[int, Hash]]:
        """(clock from which it is kept, hash) of registrations at or before the clock, in that order.

        Some may be renewed or forgotten by now.
        """
        return _walk(self._kept, clock_ms)

    def _absorb_group(self, group: Group) -> None:
        before = self.groups.get(group.group_id)
        self.groups[group.group_id] = group
        if before is None:
            self.group_ids.add(group.group_id)
        if before is None or before.epoch != group.epoch:
            self._index(before, group)
        if group.due_ms is not None and (before is None or group.due_ms != before.due_ms):
            heappush(self._deadlines, (group.due_ms, group.group_id))
        if group.locks:
            self._wait(before, group)

    def _wait(self, before: Group | None, group: Group) -> None:
        """List a closed group by the hashes that it waits for, and by no others."""
        old = set() if before is None else {each.lock.hash for each in before.pending}
        new = {each.lock.hash for each in group.pending}
        for hashed in old - new:
            self.waiting[hashed].discard(group.group_id)
            if not self.waiting[hashed]:
                del self.waiting[hashed]
        for hashed in new - old:
            self.waiting.setdefault(hashed, set()).add(group.group_id)
            if (registration := self.registrations.get(hashed)) is not None:
                heappush(self._claimable, (registration.clock_ms, hashed))

    def _absorb_registration(self, hashed: Hash, registration: Registration | None) -> None:
        if registration is None:
            self.registrations.remove(hashed)
            return
        self.registrations[hashed] = registration
        heappush(self._kept, (registration.kept_from_ms, hashed))
        if hashed in self.waiting:
            heappush(self._claimable, (registration.clock_ms, hashed))

    def _index(self, before: Group | None, group: Group) -> None:
        """List a group by the keys of its present epoch, and by no others: the index is rebuilt from records alone."""
        old = index_keys(before) if before is not None else {}
        new = index_keys(group)
        for key in old:
            if key not in new:
                self.by_key[key].remove(group.group_id)
                if not self.by_key[key]:
                    del self.by_key[key]
        for key in new:
            if key not in old:
                insort(self.by_key.setdefault(key, []), group.group_id)

    def _remember(self, ids: Mapping[Hash, int]) -> None:
        for name, valid_until in ids.items():
            self.ids.add(name)
            self.lots.setdefault(lot_of(valid_until), []).append(name)

    def _forget(self, clock_ms: int) -> None:
        """Drop the lots of seconds that have passed whole; the clock moves by `max_step` at most, so few they are."""
        now = lot_of(clock_ms)
        for past in range(self._forgotten, now):
            self.ids.difference_update(self.lots.pop(past, ()))
        self._forgotten = now

    def _drop_settled(self) -> None:
        while self._deadlines and not self._stands(self._deadlines[0]):
            heappop(self._deadlines)
        while self._claimable and self._claimable[0][1] not in self.waiting:
            heappop(self._claimable)
        while self._kept and not self._is_kept(self._kept[0]):
            heappop(self._kept)

    def _stands(self, entry: tuple[int, Hash]) -> bool:
        """Whether the deadline is still the group's: a plea moves it, and a body that is missing brings another."""
        due_ms, name = entry
        return self.groups[name].due_ms == due_ms

    def _is_kept(self, entry: tuple[int, Hash]) -> bool:
        """Whether the registration is still kept from then on: a renewal moves it."""
        found = self.registrations.get(entry[1])
        return found is not None and found.kept_from_ms == entry[0]


def _walk(heap: list[tuple[int, Hash]], clock_ms: int) -> Iterator[tuple[int, Hash]]:
    """Entries of a heap up to a clock, from the top, without changing it: children follow their parents."""
    edge = [(heap[0], 0)] if heap else []
    while edge and edge[0][0][0] <= clock_ms:
        entry, position = heappop(edge)
        yield entry
        for child in (2 * position + 1, 2 * position + 2):
            if child < len(heap):
                heappush(edge, (heap[child], child))


_NEVER = 2**63
"""A ledger clock that no block has."""


def member_name(member: Member) -> bytes:
    """Names a member once and for all: its key together with the funding account that signed for it, 64 bytes."""
    return member.key + member.funding


def index_keys(group: Group) -> Mapping[bytes, None]:
    """What a group is found by: its members' keys, accounts and names, its witnesses' keys; each once, in order.

    Those of its present epoch: whom a change has replaced, finds it no more.
    """
    members, witnesses = group.agreement.members, group.agreement.witnesses
    own = [key for m in members for key in (m.key, m.funding, m.payout, member_name(m))]
    return dict.fromkeys((*own, *(witness.key for witness in witnesses)))
