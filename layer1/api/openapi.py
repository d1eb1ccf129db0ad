"""The OpenAPI document of a replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layer1.api.limits import ApiLimits
from layer1.api.views import Submission
from layer1.httpd import openapi
from layer1.httpd.routes import Route
from layer1.httpd.views import View

DESCRIPTION = """Queries, submission and events of one replica of a Wedge ledger.

Do not believe one replica: ask with `?proof=true` and verify the proof against the genesis, as `layer1.client` does.
Errors are problem details (RFC 9457) with a stable `code`. Lists are paged: pass `next` as `cursor`. Hashes, ids and
keys are hexadecimal, addresses Bech32; amounts and times are integers of at most 2^53 - 1, times in milliseconds. A
`proof` is the hex of a struct of `layer1.proof` in the canonical encoding."""

ABOUT = openapi.About("Wedge ledger", DESCRIPTION, views=(View,), shown=(Submission,))


def document(routes: Sequence[Route], limits: ApiLimits | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, served with these limits."""
    return openapi.document(ABOUT, routes, limits or ApiLimits())
