"""The OpenAPI document is valid, names every route, and describes what is really answered."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with the validator, without types
from openapi_spec_validator import OpenAPIV31SpecValidator

from layer1.api.app import ROUTES
from layer1.api.openapi import document
from layer1.codec import encode
from layer1.crypto import format_address
from tests.layer1.api.conftest import Served
from tests.layer1.api.stand_in import ALICE

PROMISED = {
    ("get", "/status"),
    ("get", "/genesis"),
    ("get", "/replicas"),
    ("get", "/blocks"),
    ("get", "/blocks/{height}"),
    ("get", "/transactions/{id}"),
    ("post", "/transactions"),
    ("get", "/accounts/{address}"),
    ("get", "/evidence"),
    ("get", "/groups"),
    ("get", "/groups/{id}"),
    ("get", "/events"),
    ("get", "/metrics"),
}


async def test_the_served_document_is_valid_openapi_3_1(served: Served) -> None:
    described = await served.get("/openapi.json")
    OpenAPIV31SpecValidator(described).validate()
    assert described["openapi"].startswith("3.1")
    found = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert found >= PROMISED
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)


def check(described: dict[str, Any], path: str, status: int, body: Any, method: str = "get") -> None:
    """Judge a real answer by the document."""
    content = described["paths"][path][method]["responses"][str(status)]["content"]
    (schema,) = [media["schema"] for media in content.values()]
    whole = {**schema, "components": described["components"]}
    jsonschema.Draft202012Validator(whole).validate(body)


async def test_answers_are_as_described(served: Served) -> None:
    described = document(ROUTES)
    opening = served.chain.opening()
    body = await served.post({"transaction": encode(opening).hex()}, "?wait=final&proof=true", 200)
    check(described, "/transactions", 200, body, "post")
    group, transfer = body["items"][0]["group"], served.chain.transfer()
    body = await served.post([{"transaction": encode(transfer).hex()}])
    check(described, "/transactions", 202, body, "post")
    served.backend.pool += [served.chain.wedge(bytes.fromhex(group)), served.chain.accusation(1)]
    served.backend.caught = [served.chain.evidence(1), served.chain.evidence(2)]
    served.backend.order()
    address = format_address(ALICE.public)
    for path, actual in {
        "/status": "/status",
        "/genesis": "/genesis",
        "/replicas": "/replicas",
        "/blocks": "/blocks",
        "/blocks/{height}": "/blocks/1?proof=true",
        "/transactions/{id}": f"/transactions/{transfer.id.hex()}?proof=true",
        "/accounts/{address}": f"/accounts/{address}?proof=true",
        "/accounts/{address}/transactions": f"/accounts/{address}/transactions",
        "/evidence": "/evidence",
        "/groups": "/groups",
        "/groups/{id}": f"/groups/{group}?proof=true",
        "/groups/{id}/transactions": f"/groups/{group}/transactions",
    }.items():
        check(described, path, 200, await served.get(actual))
    check(described, "/replicas", 200, await served.get("/replicas?proof=true"))
    check(described, "/groups/{id}", 404, await served.get(f"/groups/{'00' * 32}?proof=true", 404))
    check(described, "/accounts/{address}", 400, await served.get("/accounts/x", 400))
