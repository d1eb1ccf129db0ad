"""``/accounts``: balances, with proof, and what made them."""

from __future__ import annotations

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of, page_of, proof_of_head
from layer1.api.resources.transactions import transaction_view
from layer1.api.schemas import BECH32, CURSOR, LIMIT, PROOF
from layer1.api.views import AccountView, AppointmentView, TransactionPage, account_view
from layer1.codec import encode
from layer1.crypto import format_address, parse_address
from layer1.httpd.routes import Parameter, Route
from layer1.httpd.service import answer
from layer1.ledger.records import account_key, head_key
from layer1.proof import AccountProof, AppointmentProof


async def account(request: web.Request) -> web.Response:
    """The balance after the last final block. An account that nobody paid has 0."""
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    address = parse_address(request.match_info["address"])
    head = api_of(request).backend.head()
    found, proof = head.state.account(address), None
    if with_proof:
        proof = encode(AccountProof(proof_of_head(head), found, head.state.prove(account_key(address)))).hex()
    return answer(account_view(address, found, head.header, proof))


async def appointed(request: web.Request) -> web.Response:
    """The process that acts for the account, as it said last; null if it never did, which is proven as well."""
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    address = parse_address(request.match_info["address"])
    head = api_of(request).backend.head()
    found, proof = head.state.appointed(address), None
    if with_proof:
        proof = encode(AppointmentProof(proof_of_head(head), found, head.state.prove(head_key(address)))).hex()
    return answer(
        AppointmentView(
            address=format_address(address),
            term=0 if found is None else found.term,
            head=None if found is None else found.head.hex(),
            height=head.header.height,
            clock=head.header.clock,
            proof=proof,
        )
    )


async def history(request: web.Request) -> web.Response:
    """Transactions that concern an account, the newest first; settlements at a deadline are none."""
    api = api_of(request)
    query = parameters.only(request, "limit", "cursor")
    limit, before = parameters.limit(query, api.limits), parameters.cursor(query)
    address = parse_address(request.match_info["address"])
    await api.caught_up()
    found = await api.read(api.backend.store.account_history, address, limit + 1, before)
    page, further = page_of(found, limit)
    last = (page[-1].height, page[-1].position) if further else None
    return answer(
        TransactionPage(items=[transaction_view(stored) for stored in page], next=parameters.next_cursor(last))
    )


ADDRESS = Parameter("address", BECH32, "An address: Bech32, starting with wedge1.")

ROUTES = (
    Route("GET", "/accounts/{address}", account, "An account", {200: AccountView}, (ADDRESS, PROOF)),
    Route(
        "GET",
        "/accounts/{address}/head",
        appointed,
        "Which process acts for an account",
        {200: AppointmentView},
        (ADDRESS, PROOF),
    ),
    Route(
        "GET",
        "/accounts/{address}/transactions",
        history,
        "Transactions that concern an account, the newest first",
        {200: TransactionPage},
        (ADDRESS, LIMIT, CURSOR),
    ),
)
