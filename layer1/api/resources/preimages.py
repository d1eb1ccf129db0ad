"""``/preimages``: what the ledger knows of the preimage of a hash, with proof."""

from __future__ import annotations

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of, proof_of_head
from layer1.api.schemas import PROOF
from layer1.api.views import RegistrationView
from layer1.codec import encode
from layer1.httpd.routes import HASH, Parameter, Route
from layer1.httpd.service import answer
from layer1.ledger.records import preimage_key
from layer1.proof import RegistrationProof


async def preimage(request: web.Request) -> web.Response:
    """The registration after the last final block; null if there is none, which is proven as well."""
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    hashed = parameters.hash_of(request.match_info["hash"], "a hash")
    head = api_of(request).backend.head()
    found, proof = head.state.registration(hashed), None
    if with_proof:
        proof = encode(RegistrationProof(proof_of_head(head), found, head.state.prove(preimage_key(hashed)))).hex()
    return answer(
        RegistrationView(
            hash=hashed.hex(),
            preimage=None if found is None else found.preimage.hex(),
            registered=None if found is None else found.clock_ms,
            kept_from=None if found is None else found.kept_from_ms,
            height=head.header.height,
            clock=head.header.clock,
            proof=proof,
        )
    )


NAME = Parameter("hash", HASH, "SHA-256 of the preimage, 64 hexadecimal digits.")

ROUTES = (Route("GET", "/preimages/{hash}", preimage, "A registered preimage", {200: RegistrationView}, (NAME, PROOF)),)
