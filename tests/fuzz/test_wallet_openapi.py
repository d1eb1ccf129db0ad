"""Every route of the wallet's OpenAPI document, fuzzed by schemathesis against a real server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from layer1.httpd.rates import RateLimit
from layer1.httpd.routes import Route
from layer1.httpd.service import SERVICE
from tests.fuzz.serving import Serving
from tests.wallet.api.conftest import Scripted
from wallet.api import desk
from wallet.api.document import document
from wallet.api.office import Office
from wallet.api.server import ROUTES, Listening, WalletServer
from wallet.api.service import LIMITS
from wallet.home import Home

pytestmark = pytest.mark.slow

FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class Api(Serving):
    """The API of a scripted wallet; streams of it end at once."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._home = Home.create(directory / "home")
        self.token = ""

    async def begin(self) -> str:
        wallet = Scripted()
        self._office = office = Office(self._home, wallet, wallet)
        self._server = WalletServer(self._home, office, office, wallet)
        url = await self._server.listen(Listening("127.0.0.1:0"))
        assert self._server.app is not None
        self._server.app[SERVICE].end_waits()
        self.token = office.tokens.create("fuzz", ("admin",))[1]
        return url

    async def end(self) -> None:
        await self._server.stop()
        self._office.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Without limits of requests per second, which are tested elsewhere: a fast run would meet them."""
    plenty = RateLimit(requests_per_s=1_000_000, burst=1_000_000, exempt=())
    with pytest.MonkeyPatch.context() as patched:
        for name in ("PER_TOKEN", "FAILURES"):
            patched.setattr(desk, name, plenty)
        with Api(tmp_path_factory.mktemp("served")) as serving:
            yield serving


schemathesis.openapi.format("wallet-event", st.integers(0, 4).map(str) | st.just("3-1"))

DOCUMENT = document(ROUTES, LIMITS)
OPERATIONS = {
    (found.ok().method.upper(), found.ok().path): found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if isinstance(found, Ok)
}
CASES = [
    pytest.param(route, mode, id=f"{mode.value} {route.method} {route.path}")
    for route in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or route.parameters or route.body
]


@pytest.mark.parametrize("route, mode", CASES)
def test_every_route_answers_as_its_document_says(served: Api, route: Route, mode: GenerationMode) -> None:
    """Statuses and media types are documented, bodies have their schema, nothing fails; without a token nothing."""

    @FEW
    @given(case=OPERATIONS[route.method, route.path].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        case.call_and_validate(  # no schema says which channel there is, nor which key was used before
            base_url=served.url,
            headers={"Authorization": f"Bearer {served.token}"},
            timeout=20,
            excluded_checks=[positive_data_acceptance],
        )

    check()


def test_the_document_is_valid_and_has_every_route() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert set(OPERATIONS) == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        assert DOCUMENT["paths"][route.path][route.method.lower()]["security"] == [{"token": list(route.scopes)}]
