"""Every route of our own OpenAPI document, fuzzed by schemathesis against a real server on loopback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from layer1.api.app import ROUTES, create_app
from layer1.api.context import API
from layer1.api.limits import ApiLimits
from layer1.api.openapi import document
from layer1.crypto import format_address
from layer1.httpd.routes import Route
from layer1.httpd.server import serve
from tests.fuzz.serving import Serving
from tests.layer1.api.stand_in import Chain, StandIn, make_genesis

pytestmark = pytest.mark.slow

LIMITS = ApiLimits(body_bytes=100_000, transactions=20, connections=64)
FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class Replica(Serving):
    """A server with some history; streams and waits of it end at once."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    async def begin(self) -> str:
        chain = Chain(make_genesis())
        self._backend = backend = StandIn(chain, self._directory)
        for _ in range(3):
            backend.pool += [chain.transfer(), chain.transfer()]
            backend.order()
        backend.pool.append(chain.opening())
        backend.order()
        app = create_app(backend, LIMITS)
        self._server = await serve(app)
        app[API].end_waits()
        return f"http://127.0.0.1:{self._server.port}"

    async def end(self) -> None:
        await self._server.close()
        self._backend.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Replica(tmp_path_factory.mktemp("served")) as serving:
        yield serving.url


schemathesis.openapi.format("wedge-address", st.binary(min_size=32, max_size=32).map(format_address))
schemathesis.openapi.format("event", st.integers(0, 4).map(str) | st.just("3-1"))

SCHEMA = schemathesis.openapi.from_dict(document(ROUTES, LIMITS))
OPERATIONS = {
    (found.ok().method.upper(), found.ok().path): found.ok()
    for found in SCHEMA.get_all_operations()
    if isinstance(found, Ok)
}
CASES = [
    pytest.param(route, mode, id=f"{mode.value} {route.method} {route.path}")
    for route in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or route.parameters or route.body
]
"""What is wrong with a request can only be in what it may carry."""


@pytest.mark.parametrize("route, mode", CASES)
def test_every_route_answers_as_its_document_says(url: str, route: Route, mode: GenerationMode) -> None:
    """Statuses and media types are documented, bodies have their schema, nothing fails; what is wrong is refused."""
    # No schema says which bytes are a transaction that somebody signed and can pay.
    beyond = [positive_data_acceptance] if route.method == "POST" else []

    @FEW
    @given(case=OPERATIONS[route.method, route.path].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(base_url=url, timeout=20, excluded_checks=beyond)

    check()


def test_the_whole_document_is_covered() -> None:
    assert set(OPERATIONS) == {(route.method, route.path) for route in ROUTES}


def no_status(wrong: Any) -> None:
    del wrong["paths"]["/status"]["get"]["responses"]["200"]


def other_head(wrong: Any) -> None:
    wrong["components"]["schemas"]["StatusView"]["properties"]["head"] = {"type": "string"}


def any_cursor(wrong: Any) -> None:
    wrong["paths"]["/blocks"]["get"]["parameters"][1]["schema"] = {"type": "string"}


def test_what_the_document_does_not_say_is_found(url: str) -> None:
    """A status that is not documented, a body of another schema, data that its schema allows and the code does not."""
    for spoil, path in ((no_status, "/status"), (other_head, "/status"), (any_cursor, "/blocks")):
        wrong = copy.deepcopy(document(ROUTES, LIMITS))
        spoil(wrong)
        operation = schemathesis.openapi.from_dict(wrong)[path]["GET"]

        @FEW
        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def check(case: Any) -> None:
            case.call_and_validate(base_url=url, timeout=20)

        with pytest.raises(FailureGroup):
            check()
