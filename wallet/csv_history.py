"""The history as CSV, for spreadsheets and for whoever keeps the books.

*Safety:* what a peer wrote (a memo) stays text: what a spreadsheet would take for a formula gets an apostrophe before
it. Amounts are numbers, and nobody else's words.

Source: RFC 4180; OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable

from wallet.api.labels import label_of
from wallet.history import NOTES
from wallet.requests import EntryView, HistoryView

COLUMNS = (
    "time",
    "kind",
    "amount",
    "currency",
    "channel",
    "peer",
    "memo",
    "label",
    "reference",
    "payment_hash",
    "noted",
    "fee",
    "via",
)
"""Stable: new ones are added at the end. What a note says (`wallet.history.NOTES`) stands under ``noted``, so that
``amount`` adds up to what the wallet gained."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%")
"""First characters of what some spreadsheet executes; the wide ones are = + - @ as some keyboards write them."""


def csv_of(view: HistoryView, *, header: bool = True) -> str:
    """All entries, as they are ordered; lines end with CR LF."""
    written = io.StringIO(newline="")
    writer = csv.writer(written, dialect="excel", lineterminator="\r\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(_row(entry, view) for entry in view.entries)
    return written.getvalue()


def _row(entry: EntryView, view: HistoryView) -> Iterable[str]:
    when = datetime.datetime.fromtimestamp(entry.time_ms / 1000, datetime.UTC).isoformat(timespec="milliseconds")
    return (
        when.replace("+00:00", "Z"),
        entry.kind,
        "" if entry.kind in NOTES else _amount(entry.amount, view.currency.decimals),
        text_cell(view.currency.symbol),
        text_cell(entry.channel or ""),
        text_cell(entry.peer or ""),
        text_cell(entry.memo or ""),
        text_cell(label_of(entry, view.labels)),
        text_cell(entry.reference),
        text_cell(entry.payment_hash or ""),
        _amount(entry.amount, view.currency.decimals) if entry.kind in NOTES else "",
        "" if entry.fee is None else _amount(entry.fee, view.currency.decimals),
        text_cell(entry.via or ""),
    )


def text_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula, also behind spaces and what cannot be seen."""
    seen = text.lstrip(" \ufeff\u200b\u00a0")
    return f"'{text}" if seen.startswith(FORMULA) or text.startswith("'") else text


def _amount(units: int, decimals: int) -> str:
    """Major units with a point, whatever the place and its commas."""
    sign, whole = ("-" if units < 0 else ""), str(abs(units)).rjust(decimals + 1, "0")
    return sign + (f"{whole[:-decimals]}.{whole[-decimals:]}" if decimals else whole)
