"""Amounts as people write them, in the currency's decimals, and as everything else counts them, in minor units.

*Safety:* no amount is ever rounded: a text with more digits than the currency has is refused, not shortened.

The library, the socket and ``--json`` speak integers; only what a person types or reads passes through here.

Source: docs/design/architecture.md, "Money is an integer count of minor units".
"""

from __future__ import annotations

import re

from layer1.errors import Refused
from layer1.ledger.genesis import MAX_MONEY, Currency

_AMOUNT = re.compile(r"(?P<whole>[0-9]{1,20})(?:\.(?P<part>[0-9]{1,20}))?", re.ASCII)


def parse_amount(text: str, currency: Currency) -> int:
    """Read an amount such as ``2.50`` or ``2``; minor units.

    Signs, spaces, exponents, thousands separators and a comma for the point are refused: what looks like an amount
    in one country is another amount in the next.

    Raises:
        Refused: ``bad_amount``; the text is not an amount, has too many decimals, or exceeds all money there may be.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise Refused(
            "bad_amount", f"{text[:40]!r} is not an amount; write digits and a point, such as {_example(currency)}"
        )
    part = match["part"] or ""
    if len(part) > currency.decimals:
        raise Refused(
            "bad_amount",
            f"{text[:40]} has {len(part)} decimals, {currency.symbol} has {currency.decimals}: "
            f"write it like {_example(currency)}",
        )
    units = int(match["whole"] + part.ljust(currency.decimals, "0"))
    if units > MAX_MONEY:
        raise Refused("bad_amount", f"{text[:40]} exceeds all money there may be, {format_amount(MAX_MONEY, currency)}")
    return units


def format_amount(units: int, currency: Currency) -> str:
    """Minor units as people read them: ``2.50``, always with all decimals, without the symbol."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units))
    if currency.decimals == 0:
        return sign + digits
    digits = digits.rjust(currency.decimals + 1, "0")
    return f"{sign}{digits[: -currency.decimals]}.{digits[-currency.decimals :]}"


def format_money(units: int, currency: Currency) -> str:
    """An amount with its symbol: ``2.50 WDG``."""
    return f"{format_amount(units, currency)} {currency.symbol}"


def _example(currency: Currency) -> str:
    return format_amount(25 * 10 ** max(currency.decimals - 1, 0), currency)
