"""A QR code in a terminal: two rows of modules to a line, by half blocks, with the quiet zone that readers ask for.

Phones read dark on light. With colours the code is black on white whatever the terminal looks like. Without, its ink is
the terminal's own: on a dark one the light modules are drawn, on a light one the dark modules.

Source: ISO/IEC 18004 (quiet zone of four modules); the package `segno` makes the code.
"""

from __future__ import annotations

import segno

QUIET_MODULES = 4
_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"
_RESET = "\x1b[0m"


def draw(text: str, *, colours: bool = True, light_terminal: bool = False) -> list[str]:
    """Lines to print.

    Args:
        text: Of an invoice: in capitals it takes a third less room.
        colours: Whether the terminal shows them.
        light_terminal: Without colours: whether it is dark on light.
    """
    modules = [[bool(module) for module in row] for row in _modules(text)]
    if len(modules) % 2:
        modules.append([False] * len(modules[0]))
    ink = colours or light_terminal
    lines = [
        "".join(_BLOCKS[upper is ink, lower is ink] for upper, lower in zip(*pair, strict=True))
        for pair in zip(modules[::2], modules[1::2], strict=True)
    ]
    return [f"{_BLACK_ON_WHITE}{line}{_RESET}" for line in lines] if colours else lines


def _modules(text: str) -> list[list[int]]:
    """True where it is dark, the quiet zone included."""
    return [list(row) for row in segno.make_qr(text.upper(), error="l").matrix_iter(border=QUIET_MODULES)]
