"""``/status``, ``/genesis``, ``/replicas``, ``/metrics``: this replica, and the ledger as a whole."""

from __future__ import annotations

from aiohttp import web

from layer1.api.context import api_of, proof_of_head
from layer1.api.metrics import CONTENT_TYPE
from layer1.api.parameters import flag, only
from layer1.api.schemas import PROOF
from layer1.api.views import GenesisView, ReplicaList, StatusView, genesis_view, header_view
from layer1.codec import encode
from layer1.httpd.routes import Route
from layer1.httpd.service import answer
from layer1.ledger.records import REPLICA_SET_KEY, mark_key
from layer1.ledger.state import State
from layer1.proof import MarksProof


async def status(request: web.Request) -> web.Response:
    """The head with its proof, and the replica's own numbers."""
    only(request)
    backend = api_of(request).backend
    head, genesis = backend.head(), backend.genesis
    return answer(
        StatusView(
            replica=backend.index,
            name=genesis.name,
            chain_id=head.state.chain_id.hex(),
            currency=genesis.currency.symbol,
            decimals=genesis.currency.decimals,
            head=header_view(head.header),
            proof=encode(proof_of_head(head)).hex(),
            stored_height=backend.store.height,
            details=dict(backend.status()),
        )
    )


async def genesis(request: web.Request) -> web.Response:
    """The genesis, encoded and readable."""
    only(request)
    found = api_of(request).backend.genesis
    return answer(genesis_view(found, encode(found)))


async def replicas(request: web.Request) -> web.Response:
    """All replicas, how this one sees them, and, with proof, which the ledger has marked."""
    with_proof = flag(only(request, "proof"), "proof")
    backend = api_of(request).backend
    head = backend.head()
    state = head.state
    keys = state.replica_set.keys
    proof = None
    if with_proof:
        marks, paths = tuple(map(state.mark, keys)), tuple(state.prove(mark_key(key)) for key in keys)
        proof = encode(
            MarksProof(proof_of_head(head), state.replica_set, state.prove(REPLICA_SET_KEY), marks, paths)
        ).hex()
    items = [{**endpoint, "marked": _marked(state, str(endpoint["key"]))} for endpoint in backend.endpoints()]
    return answer(ReplicaList(items=items, height=head.header.height, clock=head.header.clock, proof=proof))


def _marked(state: State, key: str) -> str | None:
    mark = state.mark(bytes.fromhex(key))
    return None if mark is None else mark.transaction_id.hex()


async def metrics(request: web.Request) -> web.Response:
    """Counters in Prometheus' text format."""
    return web.Response(body=api_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE})


METRICS = (Route("GET", "/metrics", metrics, "Counters for Prometheus", {200: "text/plain"}),)
"""May be served apart from the others."""

ROUTES = (
    Route("GET", "/status", status, "This replica and its head", {200: StatusView}),
    Route("GET", "/genesis", genesis, "The genesis", {200: GenesisView}),
    Route("GET", "/replicas", replicas, "All replicas", {200: ReplicaList}, (PROOF,)),
    *METRICS,
)
