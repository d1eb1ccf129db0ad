"""Fees and limits of our own channels: kept with each channel's record, announced to everybody, asked of who forwards.

*Safety:* a channel's terms are durable before they are announced, and what is announced of it carries a higher sequence
each time, across restarts, and on the standby: it is in the record.

By default a payment costs one minor unit and a hundredth of a percent, and may be of any amount that fits.

Source: docs/design/groups.md, rule 23; decisions 039 and 042.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import structs

from layer1.crypto import Hash, SigningKey
from layer1.errors import check
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.genesis import MAX_MONEY
from wallet.book import ChannelBook, ChannelRecord, Stage
from wallet.forwarding.policy import Terms
from wallet.routing.announcements import PPM, ChannelAnnouncement, Toll, sign_announcement
from wallet.routing.graph import channel_of


def wall_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


class Tolls:
    """Of one wallet."""

    def __init__(
        self,
        book: ChannelBook,
        key: SigningKey,
        chain_id: Hash,
        margin_ms: int,
        agreement_of: Callable[[ChannelRecord], GroupAgreement],
        *,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """Remember where they are.

        Args:
            book: Keeps them.
            key: Our identity, which signs what is announced.
            chain_id: The ledger's.
            margin_ms: A lock that expires sooner is not forwarded.
            agreement_of: A channel's, of the epoch that it is in.
            now_ms: This machine's clock.
        """
        self._book = book
        self._key = key
        self._chain_id = chain_id
        self._margin_ms = margin_ms
        self._agreement_of = agreement_of
        self._now_ms = now_ms
        self.on_change: Callable[[Hash], object] = lambda group_id: None

    def terms_of(self, group_id: Hash) -> Terms:
        """What the forwarder asks for a lock that leaves over one of our channels."""
        record = self._book.get(group_id)
        if record is None:
            return Terms(enabled=False)
        toll = record.toll
        most = MAX_MONEY if toll.max_amount is None else toll.max_amount
        return Terms(toll.enabled, toll.fee_base, toll.fee_ppm, toll.min_amount, most)

    def announcement(self, group_id: Hash) -> ChannelAnnouncement | None:
        """What we say of an open channel of ours: the same as before, unless something has changed.

        None of what is not open, or carries no locks.

        Raises:
            LocalError: The disk does not take it.
        """
        record = self._book.get(group_id)
        if record is None or record.stage is not Stage.OPEN or channel_of(group_id, self._agreement_of(record)) is None:
            return None
        said, wanted = record.announced, self._wanted(record)
        if said is not None and structs.replace(wanted, sequence=said.sequence, signature=said.signature) == said:
            return said
        sequence = self._now_ms() if said is None else max(self._now_ms(), said.sequence + 1)
        made = sign_announcement(self._key, self._chain_id, structs.replace(wanted, sequence=sequence))
        self._book.put(structs.replace(record, announced=made))
        return made

    def _wanted(self, record: ChannelRecord) -> ChannelAnnouncement:
        toll, agreement = record.toll, self._agreement_of(record)
        most = min(agreement.funding_units, agreement.limits.max_locked_units, MAX_MONEY)
        return ChannelAnnouncement(
            node=self._key.public,
            channel=record.group_id,
            sequence=1,
            enabled=toll.enabled,
            fee_base=toll.fee_base,
            fee_ppm=toll.fee_ppm,
            min_amount=max(toll.min_amount, agreement.limits.min_lock_units, 1),
            max_amount=most if toll.max_amount is None else min(toll.max_amount, most),
            margin_ms=self._margin_ms,
        )

    def set_fee(self, record: ChannelRecord, base: int | None, ppm: int | None) -> Toll:
        """Change what forwarding over a channel costs; what is None stays. Durable on return.

        Raises:
            Refused: ``bad_fee``, or ``channel_closed``.
        """
        toll = record.toll
        base, ppm = toll.fee_base if base is None else base, toll.fee_ppm if ppm is None else ppm
        check(0 <= base <= MAX_MONEY, "bad_fee", f"a base fee is from 0 to {MAX_MONEY} units, not {base}")
        check(0 <= ppm <= PPM, "bad_fee", f"a fee per million is from 0 to {PPM}, not {ppm}: 1,000 is a tenth of 1 %")
        return self._put(record, structs.replace(toll, fee_base=base, fee_ppm=ppm))

    def set_limits(self, record: ChannelRecord, least: int | None, most: int | None, *, enabled: bool | None) -> Toll:
        """Change which payments are forwarded over a channel; what is None stays. Durable on return.

        Args:
            record: Of the channel.
            least: Minor units, at least 1.
            most: Minor units; 0 for all that the channel can carry.
            enabled: Whether any are.

        Raises:
            Refused: ``bad_limit``, or ``channel_closed``.
        """
        toll = record.toll
        low = toll.min_amount if least is None else least
        high = toll.max_amount if most is None else most or None
        check(1 <= low <= MAX_MONEY, "bad_limit", f"the least amount is from 1 to {MAX_MONEY} units, not {low}")
        check(high is None or low <= high <= MAX_MONEY, "bad_limit", f"from {low} to {high} units no amount fits")
        allowed = toll.enabled if enabled is None else enabled
        return self._put(record, structs.replace(toll, min_amount=low, max_amount=high, enabled=allowed))

    def _put(self, record: ChannelRecord, toll: Toll) -> Toll:
        name = record.group_id.hex()[:12]
        check(record.live, "channel_closed", f"channel {name} is {record.stage}: nothing passes through it")
        if toll != record.toll:
            self._book.put(structs.replace(record, toll=toll))
            self.on_change(record.group_id)
        return toll
