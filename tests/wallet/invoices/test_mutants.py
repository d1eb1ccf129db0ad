"""Broken variants of invoices, receipts and QR codes. Each must die by the tests here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from layer1.crypto import Kind, verify
from layer1.errors import Refused, RemoteError
from tests.wallet.invoices import test_book as t_book
from tests.wallet.invoices import test_gathering as t_gathering
from tests.wallet.invoices import test_invoice as t_invoice
from tests.wallet.invoices import test_qr as t_qr
from tests.wallet.invoices import test_receipt as t_receipt
from tests.wallet.invoices import test_receiving as t_receiving
from tests.wallet.invoices.samples import PREIMAGE
from wallet.invoices import bech32m, book, gathering, invoice, qr, receipt, receiving
from wallet.invoices.records import Gift, Incoming, Issued, Stage
from wallet.onion.failure import Code
from wallet.onion.payload import Final

Patch = pytest.MonkeyPatch


def is_bech32(patch: Patch) -> None:
    patch.setattr(bech32m, "_CONSTANT", 1)


def takes_mixed_case(patch: Patch) -> None:
    original = bech32m.decode_text
    patch.setattr(invoice, "decode_text", lambda prefix, text: original(prefix, text.lower()))


def takes_any_prefix(patch: Patch) -> None:
    original = bech32m.decode_text
    patch.setattr(invoice, "decode_text", lambda _, text: original(text.partition("1")[0] or "x", text))


def takes_any_form(patch: Patch) -> None:
    """Whatever msgpack reads as an invoice."""
    patch.setattr(invoice, "decode", lambda data, kind: msgspec.msgpack.decode(data, type=kind))


def checks_no_signature(patch: Patch) -> None:
    patch.setattr(invoice, "verify", lambda *_: True)


def takes_any_kind_of_signature(patch: Patch) -> None:
    def verify_any(payee: bytes, signature: bytes, _: Kind, chain_id: bytes, data: bytes) -> bool:
        return any(verify(payee, signature, kind, chain_id, data) for kind in Kind)

    patch.setattr(invoice, "verify", verify_any)


def leaves_the_hints_out_of_what_is_signed(patch: Patch) -> None:
    original = invoice.Invoice.statement
    patch.setattr(invoice.Invoice, "statement", lambda self: original(replace(self, hints=())))


def pays_what_it_does_not_understand(patch: Patch) -> None:
    patch.setattr(invoice, "_check_features", lambda _: None)


def refuses_what_it_does_not_understand(patch: Patch) -> None:
    def check(found: invoice.Invoice) -> None:
        if any(each.name not in invoice.KNOWN_FEATURES for each in found.features):
            raise Refused("unknown_feature", "something is unknown")

    patch.setattr(invoice, "_check_features", check)


def has_no_bounds_of_amounts(patch: Patch) -> None:
    patch.setattr(invoice, "_within", lambda *_: None)


def has_no_bounds_of_sizes(patch: Patch) -> None:
    patch.setattr(invoice, "_sized", lambda *_: None)


def reads_any_length(patch: Patch) -> None:
    patch.setattr(invoice, "MAX_TEXT", 10**9)


def shows_what_a_terminal_obeys(patch: Patch) -> None:
    patch.setattr(invoice, "check_description", lambda _: None)


def takes_any_preimage(patch: Patch) -> None:
    patch.setattr(receipt, "check_preimage", lambda *_: None)


def takes_any_chain(patch: Patch) -> None:
    original = receipt.read_receipt
    patch.setattr(t_receipt, "read_receipt", lambda data, _=None: original(data))


def claims_to_prove_the_amount(patch: Patch) -> None:
    original = receipt.describe
    patch.setattr(t_receipt, "describe", lambda found, _: original(found, "123.45 EUR"))


def has_no_quiet_zone(patch: Patch) -> None:
    patch.setattr(qr, "QUIET_MODULES", 1)


def is_inverted_on_dark_terminals(patch: Patch) -> None:
    original = qr.draw

    def draw(text: str, *, colours: bool = True, light_terminal: bool = False) -> list[str]:
        return original(text, colours=colours, light_terminal=light_terminal or not colours)

    patch.setattr(t_qr, "draw", draw)


def pays_on_any_secret(patch: Patch) -> None:
    patch.setattr(
        t_receiving,
        "receive",
        lambda issued, final, part, clock_ms: receiving.receive(
            issued,
            final if issued is None else replace(final, payment_secret=issued.invoice.payment_secret),
            part,
            clock_ms,
        ),
    )


def takes_what_it_was_told(patch: Patch) -> None:
    """The amount in the packet, not that of the lock."""
    patch.setattr(
        t_receiving,
        "receive",
        lambda issued, final, part, clock_ms: receiving.receive(
            issued, final, replace(part, amount=final.amount), clock_ms
        ),
    )


def takes_a_second_payment(patch: Patch) -> None:
    def again(
        issued: Issued | None, final: Final, part: Incoming, clock_ms: int
    ) -> Issued | receiving.Waits | receiving.Turned:
        return receiving.receive(issued and replace(issued, stage=Stage.OPEN), final, part, clock_ms)

    patch.setattr(t_receiving, "receive", again)


def claims_what_nobody_settled(patch: Patch) -> None:
    patch.setattr(
        t_receiving,
        "receive",
        lambda issued, final, part, clock_ms: receiving.receive(
            issued and replace(issued, hold=False), final, part, clock_ms
        ),
    )


def tells_a_guesser_about_the_time(patch: Patch) -> None:
    def receive(
        issued: Issued | None, final: Final, part: Incoming, clock_ms: int
    ) -> Issued | receiving.Waits | receiving.Turned:
        if issued is not None and clock_ms + issued.invoice.lock_ms > part.expiry_ms:
            return receiving.Turned(Code.EXPIRES_TOO_SOON, "")
        return receiving.receive(issued, final, part, clock_ms)

    patch.setattr(t_receiving, "receive", receive)


def cancels_what_is_paid(patch: Patch) -> None:
    patch.setattr(t_receiving, "cancel", lambda issued: replace(issued, stage=Stage.CANCELLED))


def claims_before_all_parts_are_here(patch: Patch) -> None:
    patch.setattr(gathering, "is_complete", lambda *_: True)


def ignores_the_total_that_parts_name(patch: Patch) -> None:
    """What waits of one hash is one payment."""
    original = gathering.grow

    def grow(waiting: gathering.Waiting, part: Incoming, total: int, clock_ms: int) -> gathering.Gathering:
        return original(tuple(dataclasses.replace(each, total=total) for each in waiting), part, total, clock_ms)

    patch.setattr(gathering, "grow", grow)


def counts_news_twice(patch: Patch) -> None:
    patch.setattr(gathering, "holds", lambda *_: False)


def completes_what_is_too_late(patch: Patch) -> None:
    patch.setattr(gathering, "is_complete", lambda found, *_: found.units >= found.total)
    patch.setattr(gathering, "sweep", lambda waiting, *_: (waiting, ()))


def gives_back_some_parts(patch: Patch) -> None:
    """Those whose own time is over, and not what belongs to them."""

    def sweep(waiting: gathering.Waiting, clock_ms: int, margin_ms: int) -> tuple[Any, Any]:
        late = [part for part in gathering.parts_of(waiting) if clock_ms > gathering.latest_ms(part, margin_ms)]
        for part in late:
            waiting = gathering.without(waiting, part.name)
        return waiting, tuple(late)

    patch.setattr(gathering, "sweep", sweep)


def takes_two_payments(patch: Patch) -> None:
    """An invoice that is being claimed takes what comes besides."""
    original = receiving.receive

    def receive(issued: Any, *rest: Any, **told: Any) -> Any:
        again = issued is not None and issued.stage is Stage.CLAIMING and not receiving.known(issued, rest[1])
        return original(replace(issued, stage=Stage.OPEN, parts=()) if again else issued, *rest, **told)

    patch.setattr(t_gathering, "receive", receive)


def settles_what_lost_a_part(patch: Patch) -> None:
    def lapsed(record: Issued, part: Incoming) -> Issued:
        rest = tuple(each for each in record.parts if each != part)
        return replace(record, parts=rest, stage=record.stage if rest else Stage.OPEN)

    patch.setattr(receiving, "lapsed", lapsed)


def calls_it_paid_at_the_first_part(patch: Patch) -> None:
    original = receiving.claimed
    patch.setattr(receiving, "claimed", lambda record, part: replace(original(record, part), stage=Stage.PAID))


def takes_any_preimage_of_a_gift(patch: Patch) -> None:
    patch.setattr(receiving, "preimage_hash", lambda _: t_gathering.HASH)


def takes_a_gift_twice(patch: Patch) -> None:
    original = receiving.receive_gift
    patch.setattr(t_gathering, "receive_gift", lambda _, *rest, **told: original(None, *rest, **told))


def sells_the_preimage_of_a_circle_for_a_unit(patch: Patch) -> None:
    original = receiving.receive_circle
    patch.setattr(
        t_gathering,
        "receive_circle",
        lambda circle, *rest, **told: original(dataclasses.replace(circle, amount=1), *rest, **told),
    )


def hands_over_before_it_is_durable(patch: Patch) -> None:
    original = book.InvoiceBook.put

    def put(self: book.InvoiceBook, record: book.Record) -> None:
        self.on_put(b"")
        original(self, record)

    patch.setattr(book.InvoiceBook, "put", put)


def of_bounds(field: str, value: object) -> Callable[[], None]:
    """The rows of that table which change one field so."""
    return lambda: t_invoice.test_a_field_out_of_bounds_is_refused_by_both_sides({field: value}, "")


too_little = replace(t_receiving.PART, amount=t_receiving.ASKED - 1)


def broken_disk() -> None:
    with TemporaryDirectory() as directory:
        t_book.test_a_disk_that_does_not_take_it_is_told(Path(directory))


def with_another_prefix() -> None:
    assert t_invoice.refused("wedge1qqq").startswith("this is no invoice: it does not begin")
    text = bech32m.encode_text("wedge", b"\x01")
    assert "does not begin" in t_invoice.refused(text)


def with_capitals_and_small_letters() -> None:
    text = t_receipt.TEXT
    assert "capitals" in t_invoice.refused(text[:12] + text[12:].upper())


MUTANTS: dict[Callable[[Patch], None], Callable[[], Any]] = {
    is_bech32: lambda: t_invoice.test_bech32m_is_that_of_bip_350("a1lqfn3a"),
    takes_mixed_case: with_capitals_and_small_letters,
    takes_any_prefix: with_another_prefix,
    takes_any_form: t_invoice.test_another_form_of_the_same_value_is_refused,
    checks_no_signature: t_invoice.test_each_field_is_signed,
    takes_any_kind_of_signature: t_invoice.test_a_signature_for_something_else_is_none,
    leaves_the_hints_out_of_what_is_signed: t_invoice.test_each_field_is_signed,
    pays_what_it_does_not_understand: t_invoice.test_what_is_required_and_unknown_is_refused_by_name,
    refuses_what_it_does_not_understand: t_invoice.test_what_is_unknown_and_not_required_is_ignored,
    has_no_bounds_of_amounts: of_bounds("amount", 0),
    has_no_bounds_of_sizes: of_bounds("payment_hash", bytes(31)),
    reads_any_length: lambda: t_invoice.test_what_is_no_invoice_is_refused_in_words("x" * 4_201, "at most 4200"),
    shows_what_a_terminal_obeys: of_bounds("description", "\x1b[31mred"),
    takes_any_preimage: t_receipt.test_without_the_preimage_there_is_no_receipt,
    takes_any_chain: t_receipt.test_it_is_of_one_chain,
    claims_to_prove_the_amount: t_receipt.test_it_says_what_it_proves_and_what_not,
    pays_on_any_secret: t_receiving.test_whoever_does_not_know_the_secret_learns_nothing_of_the_time_either,
    takes_what_it_was_told: lambda: t_receiving.test_what_does_not_pay_is_turned_away_and_the_payer_learns_no_more(
        t_receiving.OPEN, t_receiving.FINAL, too_little, t_receiving.NOW_MS, "12344 units of 12345"
    ),
    takes_a_second_payment: lambda: t_receiving.test_what_does_not_pay_is_turned_away_and_the_payer_learns_no_more(
        replace(t_receiving.OPEN, stage=Stage.PAID), t_receiving.FINAL, t_receiving.PART, t_receiving.NOW_MS, "is paid"
    ),
    claims_what_nobody_settled: t_receiving.test_a_lock_that_pays_is_claimed_and_a_hold_invoice_waits_for_its_owner,
    tells_a_guesser_about_the_time: (
        t_receiving.test_whoever_does_not_know_the_secret_learns_nothing_of_the_time_either
    ),
    cancels_what_is_paid: lambda: t_receiving.test_what_is_given_away_is_not_cancelled(Stage.PAID),
    claims_before_all_parts_are_here: lambda: t_gathering.explore(shrink=False),
    ignores_the_total_that_parts_name: lambda: t_gathering.explore(shrink=False),
    counts_news_twice: t_gathering.test_news_that_come_twice_count_once,
    completes_what_is_too_late: t_gathering.test_a_payment_has_a_margin_and_a_minute_and_then_goes_back_whole,
    gives_back_some_parts: t_gathering.test_a_payment_has_a_margin_and_a_minute_and_then_goes_back_whole,
    takes_two_payments: lambda: t_gathering.explore(shrink=False),
    settles_what_lost_a_part: t_gathering.test_what_is_held_is_no_payment_any_more_without_one_of_its_parts,
    calls_it_paid_at_the_first_part: t_gathering.test_it_is_paid_when_every_part_is_in_and_missed_when_one_was_lost,
    takes_any_preimage_of_a_gift: lambda: t_gathering.test_what_is_no_payment_goes_back(
        t_gathering.lock(1, 77), None, {"preimage": bytes(32)}, Code.UNKNOWN_SPONTANEOUS
    ),
    takes_a_gift_twice: lambda: t_gathering.test_what_is_no_payment_goes_back(
        t_gathering.lock(2, 77),
        Gift(t_gathering.HASH, PREIMAGE, Stage.PAID, (), 77, 77),
        {},
        Code.UNKNOWN_SPONTANEOUS,
    ),
    sells_the_preimage_of_a_circle_for_a_unit: (
        t_gathering.test_a_circle_of_ours_is_taken_and_no_hop_gets_its_preimage_for_a_unit
    ),
    hands_over_before_it_is_durable: broken_disk,
    has_no_quiet_zone: lambda: t_qr.test_the_quiet_zone_is_four_modules_on_each_side(True),
    is_inverted_on_dark_terminals: lambda: t_qr.test_the_quiet_zone_is_four_modules_on_each_side(False),
}


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_mutant_dies(mutate: Callable[[Patch], None], monkeypatch: Patch) -> None:
    kill = MUTANTS[mutate]
    kill()
    with monkeypatch.context() as patch:
        mutate(patch)
        with pytest.raises((AssertionError, pytest.fail.Exception, Refused, RemoteError)):
            kill()
    assert receipt.read_receipt(receipt.make_receipt(t_receipt.TEXT, PREIMAGE)).preimage == PREIMAGE
