"""``/blocks``: final blocks."""

from __future__ import annotations

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import Api, api_of, page_of
from layer1.api.schemas import LIMIT, PROOF
from layer1.api.views import BlockPage, BlockSummaryView, BlockView, header_view
from layer1.codec import encode
from layer1.httpd.problems import not_found
from layer1.httpd.routes import NUMBER, Parameter, Route
from layer1.httpd.service import answer
from layer1.ledger.genesis import genesis_header
from layer1.proof import BlockProof, HeadProof


async def blocks(request: web.Request) -> web.Response:
    """A page of blocks, the newest first. Genesis is not among them."""
    api = api_of(request)
    query = parameters.only(request, "limit", "cursor")
    limit = parameters.limit(query, api.limits)
    before = parameters.number(query["cursor"], "cursor") if "cursor" in query else None
    await api.caught_up()
    page, further = page_of(await api.read(api.backend.store.summaries, limit + 1, before), limit)
    items = [BlockSummaryView(header=header_view(found.header), transactions=found.transactions) for found in page]
    return answer(BlockPage(items=items, next=str(page[-1].header.height) if further else None))


async def block(request: web.Request) -> web.Response:
    """One block, by its height or as ``latest``."""
    api = api_of(request)
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    head = api.backend.head()
    text = request.match_info["height"]
    height = head.header.height if text == "latest" else parameters.number(text, "height")
    if height > head.header.height:
        return not_found(f"block {height} is not final here; the last final block is {head.header.height}")
    if height == 0:
        return _genesis(api, with_proof)
    await api.caught_up(height)
    outputs = await api.read(api.backend.store.outputs, height)
    proof = await api.head_proof(height)
    return answer(
        BlockView(
            header=header_view(proof.header),
            transactions=[output.transaction_id.hex() for output in outputs],
            proof=encode(BlockProof(proof, outputs)).hex() if with_proof else None,
        )
    )


def _genesis(api: Api, with_proof: bool) -> web.Response:
    header = genesis_header(api.backend.genesis)
    proof = encode(BlockProof(HeadProof(header, (), None), ())).hex() if with_proof else None
    return answer(BlockView(header=header_view(header), transactions=[], proof=proof))


HEIGHT = Parameter("height", {"oneOf": [NUMBER, {"const": "latest"}]}, "Height, or `latest`.")

BEFORE = Parameter("cursor", {"type": "string", "pattern": "^[0-9]{1,15}$"}, "`next` of the page before.")

ROUTES = (
    Route("GET", "/blocks", blocks, "Final blocks, the newest first", {200: BlockPage}, (LIMIT, BEFORE)),
    Route("GET", "/blocks/{height}", block, "One final block", {200: BlockView}, (HEIGHT, PROOF), (400, 404, 410)),
)
