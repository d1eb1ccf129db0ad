"""What others wrote, made fit to be shown.

*Safety:* no text of a peer moves the cursor, changes colours, or hides or reverses what stands beside it.
"""

from __future__ import annotations

import textwrap

from layer1.crypto import PublicKey, format_address

SUBSTITUTE = "\N{REPLACEMENT CHARACTER}"


def counted(number: int, thing: str) -> str:
    """``1 channel``, ``2 channels``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def short(node: PublicKey) -> str:
    """An address, cut off: enough to tell the hops of a path apart."""
    return short_address(format_address(node))


def short_address(address: str) -> str:
    """The same of its text."""
    return f"{address[:12]}…{address[-4:]}"


def plain(text: str) -> str:
    """`text` on one line, with a mark in place of each character that a terminal would obey instead of showing."""
    return "".join(each if each.isprintable() else SUBSTITUTE for each in text)


def plain_lines(text: str) -> str:
    """The same, but lines stay lines."""
    return "\n".join(map(plain, text.split("\n")))


def folded(text: str, columns: int, indent: int = 0) -> str:
    """`text` broken between words, its later lines indented.

    A word that is too long stays whole: the terminal breaks it, and it is copied out in one piece.
    """
    return "\n".join(_fold(line, columns, indent) for line in text.split("\n"))


def _fold(line: str, columns: int, indent: int) -> str:
    if indent + len(line) <= columns:
        return line
    lead = line[: len(line) - len(line.lstrip())]
    width = max(columns - indent, 1)
    wrapper = textwrap.TextWrapper(
        width, initial_indent=lead, subsequent_indent=lead, break_long_words=False, break_on_hyphens=False
    )
    return ("\n" + " " * indent).join(wrapper.wrap(line.strip())) or line
