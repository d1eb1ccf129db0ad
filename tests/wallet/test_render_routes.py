"""Routes and fees as people read them, on a terminal of 80 columns; and the options that say them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console
from typer.testing import CliRunner

from layer1.ledger.genesis import Currency
from tests.wallet.standin import make_genesis
from tests.wallet.test_render import ADDRESS, CHANNEL
from wallet.cli import app
from wallet.home import Config, Home
from wallet.render import render
from wallet.requests import ChannelView, CurrencyView, TollView
from wallet.route_requests import LegView, RoutePartView, RouteView

CURRENCY = Currency("WDG", 2)
TOLL = TollView(forwards=True, base=1, per_million=1_000, least=10, most=None)


def leg(number: int, amount: int, fee: int, receiver: str) -> LegView:
    return LegView(channel=f"{number:064x}", sender=ADDRESS, receiver=receiver, amount=amount, fee=fee, chance=0.95)


def part(amount: int) -> RoutePartView:
    legs = (leg(1, amount + 3, 0, "wedge1" + "p" * 58), leg(2, amount, 3, ADDRESS))
    return RoutePartView(amount=amount, fee=3, chance=0.9025, legs=legs)


def view(*parts: RoutePartView) -> RouteView:
    return RouteView(
        payee=ADDRESS,
        amount=sum(each.amount for each in parts),
        fee=3 * len(parts),
        chance=0.9025 ** len(parts),
        expires_ms=10_000_000,
        remaining_ms=3_600_000,
        parts=parts,
        channels=1_234,
        currency=CurrencyView(symbol="WDG", decimals=2),
    )


def shown(what: RouteView | ChannelView) -> str:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        render(console, what, CURRENCY)
    return captured.get()


def test_a_route_reads_hop_by_hop() -> None:
    text = shown(view(part(250_000)))
    assert "2500.00 WDG to wedge1qqqqqq… for a fee of 0.03 WDG; works at the first try" in " ".join(text.split())
    assert "with 90.2%" in " ".join(text.split()) and "good for 1 h" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "wedge1pppppp…", "000000000000", "2500.03", "0.00", "95.0%"] in lines
    assert ["2", "wedge1qqqqqq…", "(payee)", "000000000000", "2500.00", "0.03", "95.0%"] in lines
    assert "1,234 channels" in text and max(map(len, text.splitlines())) <= 80


def test_parts_are_told_apart() -> None:
    text = shown(view(part(100), part(300)))
    assert "in 2 parts" in text and "Part 1: 1.00 WDG, 90.2%" in text and "Part 2: 3.00 WDG" in text


def test_a_channel_says_what_passes_through_it() -> None:
    text = " ".join(shown(structs.replace(CHANNEL, toll=TOLL, state="open")).split())
    assert "from 0.10 WDG to all that fits at a time, for 0.01 WDG and 0.1% of the amount" in text
    stopped = " ".join(
        shown(structs.replace(CHANNEL, state="open", toll=structs.replace(TOLL, forwards=False))).split()
    )
    assert "wallet channel limits CHANNEL --enable" in stopped
    assert "forwards" not in shown(structs.replace(CHANNEL, state="open"))
    assert "forwards" not in shown(structs.replace(CHANNEL, toll=TOLL, state="disputed"))


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("channel fee abcd", "say --base"),
        ("channel fee abcd --base 0.001", "has 3 decimals"),
        ("channel fee abcd --per-million 1000001", "1000000"),
        ("channel limits abcd", "say --min"),
        ("channel limits abcd --max 0.00", "--max all"),
        ("channel limits abcd --max much", "is not an amount"),
        ("route wedge1q 1.00 --parts 17", "16"),
        ("route wedge1q 1,00", "is not an amount"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(tmp_path: Path, words: str, answer: str) -> None:
    home = Home.create(tmp_path / "home")
    home.connect(make_genesis(), Config(("http://nowhere",)))
    home.keystore_path.write_text("{}")
    result = CliRunner().invoke(app, [*words.split(), "--home", str(home.path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2 and answer in result.output + result.stderr
