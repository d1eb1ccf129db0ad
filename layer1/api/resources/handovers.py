"""``/handovers``: how each replica set gave over to the next. Who knows the genesis can follow them to the newest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of
from layer1.api.schemas import CURSOR, LIMIT
from layer1.api.views import HandoverPage, handover_view
from layer1.codec import encode
from layer1.httpd.routes import NUMBER, Parameter, Route
from layer1.httpd.service import answer
from layer1.proof import Handover

PAGE_BYTES = 2**20
"""A page ends when it holds so much: a set of 100 replicas with filler behind its last block may take 300 kB."""

FROM = Parameter(
    "from", NUMBER, "The first epoch whose end is wanted; by default 0, the genesis's. A `cursor` goes before it."
)


async def handovers(request: web.Request) -> web.Response:
    """A page of handovers, by the epoch that each ended; a page that is long in bytes ends early.

    `encoded` is a Handover: verify it with what precedes it, and then whatever the next set certifies.
    """
    api = api_of(request)
    query = parameters.only(request, "from", "limit", "cursor")
    first, limit = _first(query.get("from"), parameters.cursor(query)), parameters.limit(query, api.limits)
    known = api.backend.handovers()
    items = [handover_view(handover, encoded) for handover, encoded in islice(_page(known, first), limit)]
    after = first + len(items)
    following = parameters.next_cursor((after - 1, 0)) if items and after < len(known) else None
    return answer(HandoverPage(items=items, next=following))


def _first(text: str | None, cursor: tuple[int, int] | None) -> int:
    first = 0 if text is None else parameters.number(text, "from")
    return first if cursor is None else cursor[0] + 1


def _page(known: Sequence[Handover], first: int) -> Iterator[tuple[Handover, bytes]]:
    """As many as fit, and one at least."""
    size = 0
    for handover in known[first:]:
        encoded = encode(handover)
        size += len(encoded)
        yield handover, encoded
        if size >= PAGE_BYTES:
            return


ROUTES = (
    Route("GET", "/handovers", handovers, "How the replica set changed", {200: HandoverPage}, (FROM, LIMIT, CURSOR)),
)
