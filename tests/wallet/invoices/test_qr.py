"""QR codes in a terminal: what is drawn is the code, with its quiet zone, on dark and light terminals."""

from __future__ import annotations

import pytest
import segno

from tests.wallet.invoices.samples import signed
from wallet.invoices.invoice import format_invoice
from wallet.invoices.qr import QUIET_MODULES, draw

TEXT = format_invoice(signed())
INK = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}


def modules(lines: list[str]) -> list[list[bool]]:
    """Where there is ink, row by row."""
    rows = []
    for line in lines:
        rows.append([INK[each][0] for each in line])
        rows.append([INK[each][1] for each in line])
    return rows


def code(text: str) -> list[list[bool]]:
    """Where the code is dark, with its quiet zone, and a light row where the number of rows is odd."""
    rows = [[bool(each) for each in row] for row in segno.make_qr(text, error="l").matrix_iter(border=QUIET_MODULES)]
    return [*rows, [False] * len(rows[0])] if len(rows) % 2 else rows


def test_with_colours_it_is_black_on_white_whatever_the_terminal() -> None:
    lines = draw(TEXT)
    assert all(line.startswith("\x1b[38;5;16;48;5;231m") and line.endswith("\x1b[0m") for line in lines)
    drawn = [line.removeprefix("\x1b[38;5;16;48;5;231m").removesuffix("\x1b[0m") for line in lines]
    assert modules(drawn) == code(TEXT.upper())


def test_without_colours_a_light_terminal_has_dark_ink_and_a_dark_one_light() -> None:
    assert modules(draw(TEXT, colours=False, light_terminal=True)) == code(TEXT.upper())
    assert modules(draw(TEXT, colours=False)) == [[not dark for dark in row] for row in code(TEXT.upper())]


@pytest.mark.parametrize("light", [True, False])
def test_the_quiet_zone_is_four_modules_on_each_side(light: bool) -> None:
    rows = modules(draw(TEXT, colours=False, light_terminal=light))
    paper = not light
    edge = [*rows[:QUIET_MODULES], *rows[-QUIET_MODULES:]] + [
        row[:QUIET_MODULES] + row[-QUIET_MODULES:] for row in rows
    ]
    assert {each for row in edge for each in row} == {paper}
    assert any(each != paper for each in rows[QUIET_MODULES])


def test_a_usual_invoice_fits_a_terminal() -> None:
    lines = draw(TEXT, colours=False)
    assert len(lines) <= 40
    assert {len(line) for line in lines} == {len(lines[0])}
    assert len(lines[0]) <= 80
