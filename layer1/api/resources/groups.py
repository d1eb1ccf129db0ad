"""``/groups``: groups as the ledger knows them, with proof, also of absence."""

from __future__ import annotations

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of, page_of, proof_of_head
from layer1.api.resources.transactions import transaction_view
from layer1.api.schemas import CURSOR, KEY, LIMIT, PROOF
from layer1.api.views import GroupAnswer, GroupPage, GroupProofs, TransactionPage, group_view
from layer1.codec import encode
from layer1.crypto import ADDRESS_PREFIX, PublicKey, parse_address
from layer1.errors import Refused
from layer1.httpd.problems import not_found
from layer1.httpd.routes import HASH, Parameter, Route
from layer1.httpd.service import answer
from layer1.ledger.records import group_key
from layer1.proof import GroupProof, GroupsProof


async def groups(request: web.Request) -> web.Response:
    """A page of groups, the newest first; with ``member``, only those whose agreement names that key or account."""
    api = api_of(request)
    query = parameters.only(request, "limit", "cursor", "member")
    limit, before = parameters.limit(query, api.limits), parameters.cursor(query)
    member = _key(query["member"]) if "member" in query else None
    await api.caught_up()
    page, further = page_of(await api.read(api.backend.store.groups, limit + 1, before, member), limit)
    state = api.backend.head().state
    known = [group for stored in page if (group := state.group(stored.id)) is not None]
    cursor = parameters.next_cursor(page[-1].opened if further else None)
    return answer(GroupPage(items=[group_view(group) for group in known], next=cursor))


async def group(request: web.Request) -> web.Response:
    """A group after the last final block. With ``?proof=true``, also its absence is proven."""
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    group_id = parameters.hash_of(request.match_info["id"], "a group's id")
    head = api_of(request).backend.head()
    found, proof = head.state.group(group_id), None
    if with_proof:
        proof = encode(GroupProof(proof_of_head(head), found, head.state.prove(group_key(group_id)))).hex()
    if found is None:
        return not_found(
            f"there is no group {group_id.hex()} after block {head.header.height}; is its opening final?", proof
        )
    return answer(GroupAnswer(group=group_view(found), height=head.header.height, clock=head.header.clock, proof=proof))


async def proofs(request: web.Request) -> web.Response:
    """Several groups after the last final block, each proven present or absent, under one header."""
    query, most = request.query, api_of(request).limits.max_keys
    parameters.known(request, "id")
    names = query.getall("id", [])
    if not 1 <= len(names) <= most:
        raise Refused("too_many" if names else "bad_parameter", f"{len(names)} ids; give 1 to {most} in one request")
    ids = [parameters.hash_of(text, "a group's id") for text in names]
    head = api_of(request).backend.head()
    found = tuple(map(head.state.group, ids))
    proof = GroupsProof(proof_of_head(head), found, tuple(head.state.prove(group_key(name)) for name in ids))
    return answer(GroupProofs(height=head.header.height, clock=head.header.clock, proof=encode(proof).hex()))


async def history(request: web.Request) -> web.Response:
    """Accepted transactions on a group, the newest first; a settlement at the deadline is none."""
    api = api_of(request)
    query = parameters.only(request, "limit", "cursor")
    limit, before = parameters.limit(query, api.limits), parameters.cursor(query)
    group_id = parameters.hash_of(request.match_info["id"], "a group's id")
    await api.caught_up()
    page, further = page_of(await api.read(api.backend.store.group_history, group_id, limit + 1, before), limit)
    last = (page[-1].height, page[-1].position) if further else None
    return answer(
        TransactionPage(items=[transaction_view(stored) for stored in page], next=parameters.next_cursor(last))
    )


def _key(text: str) -> PublicKey:
    """A group key in hex, or an address."""
    return parse_address(text) if text.startswith(ADDRESS_PREFIX) else parameters.hash_of(text, "a member's key")


ID = Parameter("id", HASH, "The group's id.")
IDS = Parameter("id", {"type": "array", "items": HASH, "minItems": 1}, "The groups' ids.", required=True)
MEMBER = Parameter("member", KEY, "The key of a member or witness in hex, or a funding or payout address.")

ROUTES = (
    Route("GET", "/groups", groups, "Groups, the newest first", {200: GroupPage}, (MEMBER, LIMIT, CURSOR)),
    Route("GET", "/groups/proofs", proofs, "Several groups, proven together", {200: GroupProofs}, (IDS,), (400, 413)),
    Route("GET", "/groups/{id}", group, "A group", {200: GroupAnswer}, (ID, PROOF), (400, 404)),
    Route(
        "GET",
        "/groups/{id}/transactions",
        history,
        "Accepted transactions on a group, the newest first",
        {200: TransactionPage},
        (ID, LIMIT, CURSOR),
    ),
)
