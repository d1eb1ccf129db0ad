"""What others wrote, made fit to be shown.

*Safety:* no text of a peer moves the cursor, changes colours, or hides or reverses what stands beside it.
"""

from __future__ import annotations

SUBSTITUTE = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """`text` on one line, with a mark in place of each character that a terminal would obey instead of showing."""
    return "".join(each if each.isprintable() else SUBSTITUTE for each in text)


def plain_lines(text: str) -> str:
    """The same, but lines stay lines."""
    return "\n".join(map(plain, text.split("\n")))
