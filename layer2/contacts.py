"""Who the other members are and where they are found, by group and by peer.

A hub has thousands of groups: what it asks of a peer must not cost a look at each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.crypto import Hash, PublicKey
from layer2.records import Contact


class Contacts:
    """Of all groups of one host."""

    def __init__(self) -> None:
        self._known: dict[Hash, tuple[Contact | None, ...]] = {}
        self._places: dict[PublicKey, dict[Hash, int]] = {}
        """By peer, the groups in which we have a session with it, and its place there."""

    def put(self, group_id: Hash, contacts: Sequence[Contact | None], peers: Iterable[int]) -> None:
        """Remember those of a group, in place of those before.

        Args:
            group_id: Of the group.
            contacts: By place; None for those whom we do not know.
            peers: Places with which we have sessions.
        """
        self.drop(group_id)
        self._known[group_id] = tuple(contacts)
        for place in peers:
            contact = contacts[place] if place < len(contacts) else None
            if contact is not None:
                self._places.setdefault(contact.key, {}).setdefault(group_id, place)

    def drop(self, group_id: Hash) -> None:
        """Forget those of a group; nothing if there are none."""
        for contact in self._known.pop(group_id, ()):
            if contact is None or (groups := self._places.get(contact.key)) is None:
                continue
            groups.pop(group_id, None)
            if not groups:
                del self._places[contact.key]

    def of(self, group_id: Hash) -> tuple[Contact | None, ...]:
        """Those of a group, by place."""
        return self._known[group_id]

    def place(self, group_id: Hash, peer: PublicKey) -> int | None:
        """Where this peer is in a group, if we have a session with it there."""
        return self._places.get(peer, {}).get(group_id)

    def groups_of(self, peer: PublicKey) -> dict[Hash, int]:
        """The groups in which we have a session with this peer, and its place in each."""
        return dict(self._places.get(peer, {}))

    def find(self, peer: PublicKey) -> Contact | None:
        """Where a peer is reached; None if nobody told."""
        found = (self._known[group_id][place] for group_id, place in self._places.get(peer, {}).items())
        return next((contact for contact in found if contact is not None and contact.host), None)

    def reachable(self) -> list[PublicKey]:
        """Peers of which an address is known."""
        return [peer for peer in self._places if self.find(peer) is not None]
