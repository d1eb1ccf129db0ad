"""The book of invoices: durable, found again, handed over whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from layer1.codec import decode
from layer1.errors import LocalError, Refused
from tests.wallet.invoices.samples import PREIMAGE, signed
from wallet.invoices.book import InvoiceBook
from wallet.invoices.records import Incoming, Issued, Stage
from wallet.paying.records import Attempt, Fate, Kind, Payment, Step

ISSUED = Issued(signed(), False, PREIMAGE)
OTHER = Issued(signed(payment_hash=bytes(32)), True, b"")
PART = Incoming(bytes(32), 7, 5, 6, bytes(32))
ATTEMPT = Attempt((Step(bytes(32), bytes(32), 5),), 6, bytes(32), b"mark")
PAYMENT = Payment(
    Kind.INVOICE, signed().payment_hash, signed().payee, 12_345, 10, invoice=signed(), attempts=(ATTEMPT,)
)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "invoices.db"
    book = InvoiceBook(path)
    book.put(ISSUED)
    book.put(OTHER)
    book.put(PAYMENT)
    book.close()
    again = InvoiceBook(path)
    assert again.issued(ISSUED.invoice.payment_hash) == ISSUED
    assert again.payment(ISSUED.invoice.payment_hash) == PAYMENT
    assert again.newest_issued(10) == [OTHER, ISSUED]
    assert again.newest_issued(1) == [OTHER]
    assert again.newest_payments(10) == [PAYMENT]
    assert again.issued(b"x" * 32) is None
    assert again.payment(b"x" * 32) is None
    again.close()


def test_what_is_open_is_found_without_a_look_at_the_rest(tmp_path: Path) -> None:
    book = InvoiceBook(tmp_path / "invoices.db")
    book.put(ISSUED)
    book.put(PAYMENT)
    assert (book.unfinished(), book.pending()) == ([], [PAYMENT])
    held = replace(ISSUED, stage=Stage.CANCELLED, parts=(PART,))
    book.put(held)
    book.put(replace(PAYMENT, preimage=PREIMAGE, attempts=(replace(ATTEMPT, fate=Fate.PAID),)))
    assert (book.unfinished(), book.pending()) == ([held], [])
    assert [each.fate for each in book.newest_payments(5)] == [Fate.PAID]
    book.close()


def test_a_lock_that_the_ledger_paid_out_is_paid_for_whether_or_not_its_preimage_was_seen() -> None:
    paid = replace(PAYMENT, attempts=(replace(ATTEMPT, fate=Fate.FAILED), replace(ATTEMPT, fate=Fate.PAID)))
    assert (paid.preimage, paid.fate, paid.unfinished) == (b"", Fate.PAID, False)


def test_no_question_looks_at_all_records(tmp_path: Path) -> None:
    """100,000 invoices: a new one, a payment, a look by hash or the start of it takes no longer than with ten."""
    book = InvoiceBook(tmp_path / "invoices.db")
    plans: list[str] = []

    def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE")):
            found = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.extend(row[3] for row in found)

    for engine in (book._engine, book._unsynced):
        sa.event.listen(engine, "before_cursor_execute", explain)
    name = ISSUED.payment_hash
    book.put(ISSUED)
    book.put(ISSUED, synced=False)
    book.issued(name), book.gift(name), book.payment(name), book.unfinished(), book.pending()
    book.find_issued(name.hex()[:8])
    list(book.among([name, bytes(32)]))
    assert len(plans) > 8
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans
    book.close()


def test_every_record_goes_to_whoever_follows_and_makes_another_book(tmp_path: Path) -> None:
    book, told = InvoiceBook(tmp_path / "one.db"), list[bytes]()
    book.on_put = told.append
    for record in (ISSUED, OTHER, PAYMENT):
        book.put(record)
    assert sorted(told) == sorted(book.everything())
    other = InvoiceBook(tmp_path / "other.db")
    for data in told:
        other.put(decode(data, Issued | Payment))  # type: ignore[arg-type]
    assert list(other.everything()) == list(book.everything())
    book.close()
    other.close()


def test_an_invoice_is_found_by_the_start_of_its_hash(tmp_path: Path) -> None:
    book = InvoiceBook(tmp_path / "invoices.db")
    book.put(ISSUED)
    book.put(OTHER)
    assert book.find_issued(" " + ISSUED.invoice.payment_hash.hex()[:6].upper()) == ISSUED
    for text in ("", "abc", "zzzz", "%%%%", "ffff"):
        with pytest.raises(Refused) as caught:
            book.find_issued(text)
        assert caught.value.code == "unknown_invoice"
    book.put(replace(OTHER, invoice=signed(payment_hash=bytes(31) + b"\x01")))
    with pytest.raises(Refused, match="give more characters"):
        book.find_issued("00000")
    book.close()


def test_a_damaged_file_stops_with_a_clear_word(tmp_path: Path) -> None:
    path = tmp_path / "invoices.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(LocalError, match="preimages of your invoices"):
        InvoiceBook(path)


def test_a_disk_that_does_not_take_it_is_told(tmp_path: Path) -> None:
    book = InvoiceBook(tmp_path / "invoices.db")
    told: list[bytes] = []
    book.on_put = told.append
    with book._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE invoices")
    with pytest.raises(LocalError, match="look after the disk"):
        book.put(ISSUED)
    assert told == [], "nothing that is not durable is handed over"
    book.close()
