"""Reading paths and queries: whatever does not fit is refused before anything is done."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from layer1.api.limits import ApiLimits
from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused
from layer1.storage.store import Place

MAX_NUMBER = 2**53 - 1


def hash_of(text: str, what: str) -> Hash:
    """A hash in hex.

    Raises:
        Refused: ``bad_parameter``.
    """
    if len(text) == 2 * HASH_BYTES and text.isascii() and text.isalnum():
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    raise Refused("bad_parameter", f"{what} is {2 * HASH_BYTES} hexadecimal digits, not {text[:80]!r}")


def number(text: str, what: str, least: int = 0, most: int = MAX_NUMBER) -> int:
    """An integer in decimal digits.

    Raises:
        Refused: ``bad_parameter``.
    """
    if text.isascii() and text.isdigit() and len(text) <= 16 and least <= (value := int(text)) <= most:
        return value
    raise Refused("bad_parameter", f"{what} is a number from {least} to {most}, not {text[:80]!r}")


def flag(query: Mapping[str, str], name: str) -> bool:
    """``true`` or ``false``; false when absent."""
    value = query.get(name, "false")
    if value not in {"true", "false"}:
        raise Refused("bad_parameter", f"{name} is true or false, not {value[:80]!r}")
    return value == "true"


def limit(query: Mapping[str, str], limits: ApiLimits) -> int:
    """How many items a page holds."""
    return number(query["limit"], "limit", 1, limits.max_page) if "limit" in query else limits.page


def cursor(query: Mapping[str, str]) -> Place | None:
    """The ``next`` of the page before: ``height-position``.

    Raises:
        Refused: ``bad_cursor``.
    """
    text = query.get("cursor")
    if text is None:
        return None
    height, dash, position = text.partition("-")
    try:
        if dash:
            return number(height, "cursor"), number(position, "cursor", most=2**31 - 1)
    except Refused:
        pass
    raise Refused("bad_cursor", f"a cursor is the `next` of the page before, not {text[:80]!r}; start without one")


def next_cursor(last: Place | None) -> str | None:
    """What :func:`cursor` reads."""
    return None if last is None else f"{last[0]}-{last[1]}"


def known(request: web.Request, *names: str) -> None:
    """Refuse other names in the query than these; each may stand there several times.

    Raises:
        Refused: ``bad_parameter``.
    """
    unknown = sorted(set(request.query) - set(names))
    if unknown:
        raise Refused(
            "bad_parameter", f"unknown parameter {unknown[0][:80]!r}; known are: {', '.join(names) or 'none'}"
        )


def only(request: web.Request, *names: str) -> Mapping[str, str]:
    """The query, with no other names than these, and each once: a misspelt filter must not answer everything.

    Raises:
        Refused: ``bad_parameter``.
    """
    known(request, *names)
    for name in request.query:
        if len(request.query.getall(name)) > 1:
            raise Refused("bad_parameter", f"{name} is given {len(request.query.getall(name))} times; give it once")
    return request.query
