"""Finding channels again with nothing but the keys that the phrase gives.

*Safety:* a channel that is found begins as one that lost data: nothing is signed in its epoch that a forgotten
signature could contradict (`layer2.recovering`).

Layer 1 lists the groups of an account; each is believed only with its proof. Which replicas leave one out, nobody can
prove: so all are asked. Our seat is the one that our spending account funded, and whose group key is one of ours; where
the peer listened when the channel was opened stands in the agreement.

Source: docs/design/groups.md, "Coming back from nothing" [F5]; decisions 030 and 035.
"""

from __future__ import annotations

from itertools import count

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused
from layer1.ledger.agreements import Member
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import OpenGroup, Transaction
from wallet.book import ChannelRecord, Stage
from wallet.contacts import parse_endpoint
from wallet.keystore import HotKeys
from wallet.parts import Parts

GAP = 200
"""Group keys in a row that no group has, before the search for one ends: each opening that failed took one."""
MACHINE = "payments/2"


async def find_channels(parts: Parts) -> list[ChannelRecord]:
    """Channels of our accounts that are not in the book yet; they are, durably, on return.

    Raises:
        LedgerUnreachable: Not all could be looked at; what was found is in the book. Repeat it.
    """
    names: set[Hash] = set()
    for account in (parts.keys.spending.public, parts.payout):
        names.update(await parts.ledger.groups_of(account))
    keys, found = KeySearch(parts.keys), list[ChannelRecord]()
    for name in sorted(names):
        group = None if parts.book.get(name) is not None else (await parts.ledger.group(name)).value
        record = None if group is None else record_of(group, parts.keys.spending.public, keys)
        if record is not None:
            parts.book.put(record)
            found.append(record)
    return found


class KeySearch:
    """Which of our group keys a public key is; derives them in order, as far as there is hope."""

    def __init__(self, keys: HotKeys) -> None:
        self._keys = keys
        self._known: dict[PublicKey, int] = {}
        self._newest = -1

    def number_of(self, key: PublicKey) -> int | None:
        """Its number, or None: none of the next :data:`GAP` keys after the newest that was found is it."""
        for number in count(len(self._known)):
            if key in self._known or number > self._newest + GAP:
                break
            self._known[self._keys.group_key(number).public] = number
        found = self._known.get(key)
        self._newest = max(self._newest, -1 if found is None else found)
        return found


def record_of(group: Group, spending: PublicKey, keys: KeySearch) -> ChannelRecord | None:
    """What the book holds of a group that layer 1 shows; None if it is no channel of ours."""
    agreement = group.agreement
    index = next((i for i, member in enumerate(agreement.members) if member.funding == spending), None)
    if index is None or len(agreement.members) != 2 or agreement.machine != MACHINE:
        return None
    number = keys.number_of(agreement.members[index].key)
    if number is None:
        return None
    other = agreement.members[1 - index]
    host, port = _endpoint(other)
    closed = group.status is Status.CLOSED
    return ChannelRecord(
        Transaction(OpenGroup(agreement), agreement.open_before_ms - 1, agreement.salt),
        index,
        number,
        other.funding,
        host,
        port,
        stage=Stage.CLOSED if closed else Stage.OPEN,
        reason=str(group.reason or ""),
        version=group.version if closed else 0,
        payouts=group.payouts,
        forfeited=group.forfeited if closed else (),
        epoch=group.epoch,
        name=group.group_id,
    )


def _endpoint(member: Member) -> tuple[str, int]:
    """Where its wallet listened; it is its own word, so it may be anything."""
    try:
        return parse_endpoint(member.contact) if member.contact else ("", 0)
    except Refused:
        return "", 0
