"""``/evidence``: contradicting votes that this replica caught. Each proves itself, to anybody with the genesis."""

from __future__ import annotations

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of, page_of
from layer1.api.schemas import CURSOR, LIMIT
from layer1.api.views import EvidencePage, evidence_view
from layer1.consensus.evidence import Evidence, EvidenceKind
from layer1.httpd.routes import Route
from layer1.httpd.service import answer
from layer1.storage.store import Place

KINDS = tuple(EvidenceKind)


async def evidence(request: web.Request) -> web.Response:
    """A page of evidence, by epoch, replica and kind: one of each is kept.

    Bring ``encoded`` in a transaction to mark the replica, as long as its epoch lasts.
    """
    api = api_of(request)
    query = parameters.only(request, "limit", "cursor")
    limit, after = parameters.limit(query, api.limits), parameters.cursor(query)
    known = sorted(api.backend.evidence(), key=_place)
    page, further = page_of([item for item in known if after is None or _place(item) > after], limit)
    state, sets = api.backend.head().state, [api.backend.genesis.replica_set]
    sets += [handover.replica_set for handover in api.backend.handovers()]
    items = [
        evidence_view(item, key := sets[item.epoch].keys[item.replica], state.mark(key))
        for item in page
        if item.epoch < len(sets)  # else it is of an epoch that others are in already, and comes when we are
    ]
    return answer(EvidencePage(items=items, next=parameters.next_cursor(_place(page[-1]) if further else None)))


def _place(item: Evidence) -> Place:
    return item.epoch, item.replica * len(KINDS) + KINDS.index(item.kind)


ROUTES = (Route("GET", "/evidence", evidence, "Proof of contradicting votes", {200: EvidencePage}, (LIMIT, CURSOR)),)
