"""Amounts: exact both ways, and nothing rounded."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.errors import Refused
from layer1.ledger.genesis import MAX_MONEY, Currency
from wallet.amounts import format_amount, format_money, parse_amount

WDG = Currency("WDG", 2)
currencies = st.builds(Currency, st.just("WDG"), st.integers(0, 8))


@given(st.integers(0, MAX_MONEY), currencies)
def test_what_is_written_reads_back(units: int, currency: Currency) -> None:
    assert parse_amount(format_amount(units, currency), currency) == units


@given(st.integers(-MAX_MONEY, MAX_MONEY), currencies)
def test_writing_agrees_with_decimal_arithmetic(units: int, currency: Currency) -> None:
    assert Decimal(format_amount(units, currency)) == Decimal(units).scaleb(-currency.decimals)


@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=2))
def test_reading_agrees_with_decimal_arithmetic(value: Decimal) -> None:
    assert parse_amount(f"{value:f}", WDG) == int(value * 100)


@given(st.text(max_size=12))
def test_anything_else_is_refused_with_a_code(text: str) -> None:
    caught = ""
    try:
        units = parse_amount(text, WDG)
    except Refused as error:
        caught, units = error.code, 0
    assert caught == "bad_amount" or units == Decimal(text) * 100


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1,5", "1.", ".5", "1e3", " 1", "1_000", "٣", "1.234", "inf", "9" * 17]
)
def test_ambiguous_or_inexact_texts_are_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"amount|decimals|exceeds"):
        parse_amount(text, WDG)


def test_the_error_names_both_numbers_of_decimals() -> None:
    with pytest.raises(Refused, match=r"1\.234 has 3 decimals, WDG has 2"):
        parse_amount("1.234", WDG)


def test_money_carries_its_symbol() -> None:
    assert format_money(250, WDG) == "2.50 WDG"
    assert format_money(7, Currency("YEN", 0)) == "7 YEN"
