"""Which HTTP status an error of a wallet has. Programs decide by ``code``; the status tells who has to do something."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from layer1.errors import LocalError, Refused, RemoteError
from layer1.httpd.problems import STATUS_OF as GENERAL
from layer1.httpd.views import Problem
from wallet.exits import EXITS, Exit, as_refusal

_BY_EXIT = {
    Exit.USAGE: 400,
    Exit.LEDGER: 503,
    Exit.PEER: 503,
    Exit.LOCKED: 403,
    Exit.BUSY: 503,
    Exit.PENDING: 504,
    Exit.FAULT: 500,
}
STATUSES = {code: _BY_EXIT[found] for code, found in EXITS.items() if found in _BY_EXIT} | {
    "bad_idempotency_key": 400,
    "cross_origin": 403,
    "history_unavailable": 503,
    "idempotency_key_reused": 422,
    "internal_error": 500,
    "limit_exceeded": 403,
    "no_token": 401,
    "out_of_scope": 403,
    "too_many_keys": 503,
    "unknown_channel": 404,
    "unknown_entry": 404,
    "unknown_invoice": 404,
    "unknown_payment": 404,
    "unknown_token": 404,
    "unknown_watchtower": 404,
    "unknown_webhook": 404,
    "webhook_failed": 503,
    "wrong_host": 421,
    "wrong_token": 401,
}
"""By code; what is not listed is 422: understood, not allowed, nothing changed."""


def problem_of(refusal: Refused) -> tuple[int, bytes]:
    """A refusal as status and body."""
    status = STATUSES.get(refusal.code) or GENERAL.get(refusal.code, 422)
    return status, msgspec.json.encode(Problem(status, HTTPStatus(status).phrase, refusal.code, refusal.message))


def is_certain(error: BaseException) -> bool:
    """Whether an error means that nothing has moved and nothing will."""
    if isinstance(error, LocalError | RemoteError):
        return False  # what was done before our disk failed, or before the other side lied, may count
    return as_refusal(error).code not in ("pending", "internal_error")
