"""What the owner of a wallet calls entries of the history, channels and peers. Nobody else is ever told."""

from __future__ import annotations

from typing import TypeVar

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.dialects.sqlite import insert

from layer1.crypto import PublicKey, format_address
from layer1.errors import check
from wallet.api.store import Store, labels_table
from wallet.requests import EntryView, HistoryView, PaidView, PaymentsView, PaymentView, View
from wallet.texts import short

V = TypeVar("V", bound=View)
MAX_LABELS = 100_000
MAX_TEXT = 200


class LabelBook:
    """All labels of one home."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.engine.connect() as connection:
            rows = connection.execute(sa.select(labels_table).order_by(labels_table.c.subject))
            self._labels: dict[str, str] = {row.subject: row.text for row in rows}

    @property
    def all(self) -> dict[str, str]:
        """By subject."""
        return dict(self._labels)

    def set(self, subject: str, text: str) -> None:
        """Call something so; an empty text removes what it was called.

        Raises:
            Refused: ``bad_label`` or ``too_many``.
        """
        check(len(text) <= MAX_TEXT, "bad_label", f"a label has at most {MAX_TEXT} characters, not {len(text)}")
        check(
            bool(subject.strip()),
            "bad_label",
            "what is to be called so? A reference, a payment hash, a channel, an address",
        )
        table, full = labels_table, subject not in self._labels and len(self._labels) >= MAX_LABELS
        check(not full or not text, "too_many", f"there are {len(self._labels)} labels, at most {MAX_LABELS} may be")
        with self._store.engine.begin() as connection:
            connection.execute(sa.delete(table).where(table.c.subject == subject))
            if text:
                connection.execute(insert(table), {"subject": subject, "text": text})
        self._labels.pop(subject, None)
        if text:
            self._labels[subject] = text

    def name_of(self, node: PublicKey) -> str:
        """What its owner calls a node, or its address, cut off."""
        return self._labels.get(format_address(node)) or short(node)

    def beside(self, view: V) -> V:
        """An answer with the labels of what stands in it, if it has any."""
        if isinstance(view, PaidView) and view.payment is not None:
            return structs.replace(view, payment=self.beside(view.payment))
        named = _subjects_in(view)
        if named is None:
            return view
        return structs.replace(view, labels={name: self._labels[name] for name in named if name in self._labels})


def _subjects_in(view: View) -> list[str] | None:
    """What may have a label in an answer; None if it has no place for labels."""
    match view:
        case HistoryView():
            found = {subject for entry in view.entries for subject in subjects_of(entry)}
        case PaymentView():
            found = _subjects_of_payment(view)
        case PaymentsView():
            found = {name for payment in view.payments for name in _subjects_of_payment(payment)}
        case _:
            return None
    return sorted(found)


def _subjects_of_payment(view: PaymentView) -> set[str]:
    hops = [hop for each in view.tries for hop in each.path]
    return {view.payment_hash, view.payee} | {name for hop in hops for name in (hop.node, hop.channel)}


def subjects_of(entry: EntryView) -> list[str]:
    """What a label of an entry may be under, the closest first."""
    return [subject for subject in (entry.reference, entry.payment_hash, entry.channel, entry.peer) if subject]


def label_of(entry: EntryView, labels: dict[str, str]) -> str:
    """What an entry is called: itself, else its payment, else its channel, else its peer."""
    return next((labels[subject] for subject in subjects_of(entry) if subject in labels), "")
