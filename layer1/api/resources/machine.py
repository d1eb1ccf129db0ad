"""``/machine``: values of the ledger's own state machine, with proof."""

from __future__ import annotations

import re

from aiohttp import web

from layer1.api import parameters
from layer1.api.context import api_of, proof_of_head
from layer1.api.schemas import PROOF
from layer1.api.views import ValueView
from layer1.codec import encode
from layer1.errors import Refused
from layer1.httpd.routes import Parameter, Route
from layer1.httpd.service import answer
from layer1.ledger.records import machine_key
from layer1.proof import ValueProof
from layer1.statemachine import MAX_KEY_BYTES

_HEX = re.compile(f"(?:[0-9a-fA-F]{{2}}){{1,{MAX_KEY_BYTES}}}")


async def value(request: web.Request) -> web.Response:
    """The value after the last final block; null if the key has none, which is proven as well."""
    with_proof = parameters.flag(parameters.only(request, "proof"), "proof")
    key = _key(request.match_info["key"])
    head = api_of(request).backend.head()
    place, proof = machine_key(key), None
    found = head.state.value(place)
    if with_proof:
        proof = encode(ValueProof(proof_of_head(head), found, head.state.prove(place))).hex()
    return answer(
        ValueView(
            key=key.hex(),
            value=None if found is None else found.hex(),
            height=head.header.height,
            clock=head.header.clock,
            proof=proof,
        )
    )


def _key(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise Refused(
            "bad_parameter", f"{text[:80]!r} is no key of a machine: write its 1 to {MAX_KEY_BYTES} bytes in hex"
        )
    return bytes.fromhex(text)


KEY = Parameter("key", {"type": "string", "pattern": f"^{_HEX.pattern}$"}, "The key's bytes in hex.")

ROUTES = (Route("GET", "/machine/{key}", value, "A value of the state machine", {200: ValueView}, (KEY, PROOF)),)
