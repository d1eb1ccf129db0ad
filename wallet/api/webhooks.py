"""Webhooks: who is told of incoming payments, and what is still to be sent to them.

*Safety:* at least once. A payment that stands in the history when a webhook is registered or later is either waiting
here, durably, or was acknowledged, or was given up after three days and counted as failed.

Messages are taken from the history together with the place up to which it was read, in one transaction; so a crash
anywhere takes one again at most, and its id is the same. Each webhook has a place of its own: one for which too much
waits is read for no further, and the others are.

Source: the Standard Webhooks specification 1.0 (headers, signature, secrets).
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from layer1.errors import Refused, check
from wallet.api.destinations import check_url
from wallet.api.store import Store, deliveries_table, marks_table, webhooks_table
from wallet.history import Place, now_ms
from wallet.requests import EntryView, WebhookView

MAX_WEBHOOKS = 16
MAX_WAITING = 100_000
"""Messages that wait for one webhook; beyond it the history is read no further for it until some have left."""
TYPES = {
    "received": "payment.received",
    "spontaneous": "payment.received",
    "invoice_paid": "invoice.paid",
    "invoice_held": "invoice.held",
}
"""Of messages, by the kind of the entry that is told."""
FIRST_PAUSE_MS = 5_000
LONGEST_PAUSE_MS = 12 * 3_600_000
MAX_ATTEMPTS = 14
"""The last one comes about three days after the first."""
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - marks one, and is none
_MARK = "webhooks"
"""Where an earlier release kept one place for all."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told."""

    id: str
    url: str
    private: bool
    """Whether it may be on this machine or in a private network."""
    created_ms: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that is to be sent."""

    id: int
    event: str
    """Names it for good, over all attempts."""
    body: bytes
    attempts: int


class Message(msgspec.Struct, frozen=True):
    """What is sent."""

    type: str
    """One of :data:`TYPES`, or ``test``."""
    timestamp: str
    """ISO 8601, UTC."""
    data: EntryView | None


def pause_ms(attempts: int, jitter: float) -> int:
    """How long to wait after so many attempts: three times as long each time, from half of it up.

    Args:
        attempts: At least 1.
        jitter: From 0 to 1, so that many wallets do not come back together.
    """
    whole = min(FIRST_PAUSE_MS * 3 ** (attempts - 1), LONGEST_PAUSE_MS)
    return int(whole * (1 + jitter) / 2)


def signed(webhook: Webhook, event: str, body: bytes, now_s: int) -> dict[str, str]:
    """The headers that go with a message; the receiver refuses old timestamps, and ids that it has seen."""
    text = b"%s.%d." % (event.encode(), now_s) + body
    signature = base64.b64encode(hmac.digest(webhook.secret, text, hashlib.sha256)).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": event,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{signature}",
    }


def message_of(kind: str, entry: EntryView | None, time_ms: int) -> bytes:
    """What is sent of an entry of the history."""
    when = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).isoformat(timespec="milliseconds")
    return msgspec.json.encode(Message(kind, when.replace("+00:00", "Z"), entry))


class WebhookBook:
    """All webhooks of one home, and what waits for them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.engine.connect() as connection:
            rows = connection.execute(sa.select(webhooks_table).order_by(webhooks_table.c.created_ms)).mappings()
            self._webhooks = {row["id"]: _webhook(row) for row in rows}
            marks = {row.name: _place(row.value) for row in connection.execute(sa.select(marks_table))}
        found = {name: marks.get(_mark_of(name), marks.get(_MARK)) for name in self._webhooks}
        self._places: dict[str, Place] = {name: place for name, place in found.items() if place is not None}
        """By webhook, up to where the history was read for it."""

    def __iter__(self) -> Iterator[Webhook]:
        return iter(list(self._webhooks.values()))

    def add(self, url: str, *, private: bool, place: Place | None) -> tuple[Webhook, str]:
        """Register one; the second is its secret, as it is shown this once.

        Args:
            url: Where to send to.
            private: Whether that may be on this machine or in a private network.
            place: Up to where the history is past for it; None to begin at the next start of the wallet.

        Raises:
            Refused: ``bad_webhook`` or ``too_many``.
        """
        check_url(url, private=private)
        count = len(self._webhooks)
        check(count < MAX_WEBHOOKS, "too_many", f"there are {count} webhooks, at most {MAX_WEBHOOKS} may be")
        secret = secrets.token_bytes(SECRET_BYTES)
        made = Webhook(secrets.token_hex(4), url, private, now_ms(), secret)
        row = {
            "id": made.id, "url": url, "secret": secret, "private": private, "created_ms": made.created_ms,
            "failed": 0, "trouble": None,
        }  # fmt: skip
        with self._store.engine.begin() as connection:
            connection.execute(sa.insert(webhooks_table), row)
            if place is not None:
                _set_mark(connection, made.id, place)
        self._webhooks[made.id] = made
        if place is not None:
            self._places[made.id] = place
        return made, SECRET_PREFIX + base64.b64encode(secret).decode()

    def find(self, name: str) -> Webhook:
        """One by its id.

        Raises:
            Refused: ``unknown_webhook``.
        """
        found = self._webhooks.get(name)
        if found is None:
            raise Refused("unknown_webhook", f"no webhook has the id {name[:64]!r}: `wallet webhook list` shows all")
        return found

    def remove(self, name: str) -> None:
        """Send nothing more to it; what waits for it is dropped.

        Raises:
            Refused: ``unknown_webhook``.
        """
        found = self.find(name)
        with self._store.engine.begin() as connection:
            connection.execute(sa.delete(webhooks_table).where(webhooks_table.c.id == found.id))
            connection.execute(sa.delete(deliveries_table).where(deliveries_table.c.webhook == found.id))
            connection.execute(sa.delete(marks_table).where(marks_table.c.name == _mark_of(found.id)))
        del self._webhooks[found.id]
        self._places.pop(found.id, None)

    def places(self) -> dict[Place, list[Webhook]]:
        """From where the history is to be read next, and for whom; not for those for which as much waits as may."""
        found: dict[Place, list[Webhook]] = {}
        for webhook in self:
            place = self._places.get(webhook.id)
            if place is not None and self._waiting(webhook) < MAX_WAITING:
                found.setdefault(place, []).append(webhook)
        return found

    def begin(self, place: Place) -> None:
        """Begin to read the history behind this, for those that were registered while nobody read it."""
        fresh = [name for name in self._webhooks if name not in self._places]
        with self._store.engine.begin() as connection:
            for name in fresh:
                _set_mark(connection, name, place)
        self._places |= dict.fromkeys(fresh, place)

    def take(self, entries: Sequence[tuple[Place, EntryView]], webhooks: Sequence[Webhook]) -> int:
        """Take over what follows in the history: durable, with the place; how many messages that makes."""
        there, place = [each for each in webhooks if each.id in self._webhooks], entries[-1][0]
        rows = [
            {
                "webhook": webhook.id, "event": entry.reference, "attempts": 0, "due_ms": 0,
                "body": message_of(TYPES[entry.kind], entry, entry.time_ms),
            }
            for _, entry in entries
            if entry.kind in TYPES
            for webhook in there
        ]  # fmt: skip
        with self._store.engine.begin() as connection:
            if rows:
                connection.execute(insert(deliveries_table).on_conflict_do_nothing(), rows)
            for webhook in there:
                _set_mark(connection, webhook.id, place)
        self._places |= {webhook.id: place for webhook in there}
        return len(rows)

    def due(self, webhook: Webhook, time_ms: int, most: int) -> list[Delivery]:
        """What is to be sent to it by now, the oldest first."""
        columns = deliveries_table.c
        query = sa.select(columns.id, columns.event, columns.body, columns.attempts)
        query = query.where(columns.webhook == webhook.id, columns.due_ms <= time_ms)
        with self._store.engine.connect() as connection:
            return [Delivery(*row) for row in connection.execute(query.order_by(columns.id).limit(most))]

    def next_due_ms(self, webhook: Webhook) -> int | None:
        """When the next message to it is due; None if none waits."""
        query = sa.select(sa.func.min(deliveries_table.c.due_ms)).where(deliveries_table.c.webhook == webhook.id)
        with self._store.engine.connect() as connection:
            found: int | None = connection.execute(query).scalar_one()
            return found

    def acknowledged(self, delivery: Delivery) -> None:
        """It has arrived."""
        with self._store.engine.begin() as connection:
            connection.execute(sa.delete(deliveries_table).where(deliveries_table.c.id == delivery.id))

    def failed(self, webhook: Webhook, delivery: Delivery, why: str, time_ms: int, jitter: float) -> None:
        """It has not arrived: again later, or never."""
        attempts, row = delivery.attempts + 1, deliveries_table.c.id == delivery.id
        given_up = attempts >= MAX_ATTEMPTS
        with self._store.engine.begin() as connection:
            if given_up:
                connection.execute(sa.delete(deliveries_table).where(row))
            else:
                due_ms = time_ms + pause_ms(attempts, jitter)
                connection.execute(sa.update(deliveries_table).where(row).values(attempts=attempts, due_ms=due_ms))
            change = sa.update(webhooks_table).where(webhooks_table.c.id == webhook.id)
            failed = webhooks_table.c.failed + int(given_up)
            connection.execute(change.values(trouble=why[:200], failed=failed))

    def view(self, webhook: Webhook) -> WebhookView:
        """What may be shown of it."""
        columns = webhooks_table.c
        with self._store.engine.connect() as connection:
            query = sa.select(columns.failed, columns.trouble).where(columns.id == webhook.id)
            failed, trouble = connection.execute(query).one()
        waiting = self._waiting(webhook)
        return WebhookView(
            id=webhook.id,
            url=webhook.url,
            private=webhook.private,
            created_ms=webhook.created_ms,
            waiting=waiting,
            failed=failed,
            trouble=trouble if waiting or failed else None,
        )

    def _waiting(self, webhook: Webhook) -> int:
        query = sa.select(sa.func.count()).where(deliveries_table.c.webhook == webhook.id)
        with self._store.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())


def _mark_of(webhook: str) -> str:
    return f"{_MARK}:{webhook}"


def _place(text: str) -> Place:
    row, _, number = text.partition("-")
    return int(row), int(number)


def _set_mark(connection: sa.Connection, webhook: str, place: Place) -> None:
    value = f"{place[0]}-{place[1]}"
    statement = insert(marks_table).values(name=_mark_of(webhook), value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def _webhook(row: sa.RowMapping) -> Webhook:
    return Webhook(row["id"], row["url"], row["private"], row["created_ms"], row["secret"])
