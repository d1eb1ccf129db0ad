"""``/transactions``: looking one up, and bringing new ones.

A list is taken whole or not at all. ``?wait=final`` waits for finality with a limit: 200 when all are final, 202 when
the time was over before. A transaction may be brought again at any time: it executes once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
from aiohttp import web

from layer1.api import parameters
from layer1.api.backend import Located
from layer1.api.context import Api, api_of
from layer1.api.limits import ApiLimits
from layer1.api.schemas import PROOF
from layer1.api.views import (
    Submission,
    SubmissionList,
    SubmissionResult,
    TransactionView,
    payload_view,
    result_view,
)
from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.errors import Refused, RemoteError
from layer1.httpd.problems import not_found
from layer1.httpd.routes import HASH, NUMBER, Parameter, Route
from layer1.httpd.service import answer
from layer1.httpd.sources import source_of
from layer1.ledger.transactions import Transaction
from layer1.storage.store import StoredTransaction

MSGPACK = "application/msgpack"
JSON = "application/json"

_json = msgspec.json.Decoder(Submission | list[Submission])
_msgpack = msgspec.msgpack.Decoder(list[bytes])


async def transaction(request: web.Request) -> web.Response:
    """A final transaction and its output.

    A replica that keeps a part of the blocks answers `pruned` where it cannot tell: with the transaction's
    `valid_until` it can, unless the transaction may have executed in a block that it does not keep.
    """
    api = api_of(request)
    query = parameters.only(request, "proof", "valid_until")
    with_proof = parameters.flag(query, "proof")
    valid_until_ms = parameters.number(query["valid_until"], "valid_until") if "valid_until" in query else None
    transaction_id = parameters.hash_of(request.match_info["id"], "a transaction's id")
    await api.caught_up()
    height = api.backend.store.height
    stored = await api.read(api.backend.store.transaction, transaction_id)
    if stored is None:
        base = api.backend.store.base  # as it is now: what was deleted while we looked is below it
        if base.height and (valid_until_ms is None or base.clock_ms >= _earliest_ms(api, valid_until_ms)):
            raise Refused(
                "pruned",
                f"no transaction {transaction_id.hex()} is final in blocks {base.height + 1} to {height}, and blocks "
                "before them are not kept here: ask a replica that keeps more, or give the transaction's valid_until",
            )
        return not_found(f"no transaction {transaction_id.hex()} is final up to block {height}")
    proof = None
    if with_proof:
        (proof,) = await api.output_proofs([(stored.height, stored.position, stored.output)])
    return answer(transaction_view(stored, proof))


async def submit(request: web.Request) -> web.Response:
    """Take transactions for ordering."""
    api = api_of(request)
    query = parameters.only(request, "wait", "timeout_ms", "proof")
    timeout_ms = _timeout(query, api.limits)
    with_proof = parameters.flag(query, "proof")
    ids = await _take(request, api, api.limits.proofs if with_proof else api.limits.transactions)
    api.metrics.transactions.inc(len(ids))
    if timeout_ms is None:
        return answer(_results(ids, {}, {}), 202)
    with api.room("waiting", api.limits.max_waiting):
        final = await _wait(api, ids, timeout_ms)
    proofs = await _proofs(api, final) if with_proof else {}
    return answer(_results(ids, final, proofs), 200 if len(final) == len(set(ids)) else 202)


def transaction_view(stored: StoredTransaction, proof: str | None = None) -> TransactionView:
    """A stored transaction for reading."""
    output, group = stored.output, stored.output.group_id
    return TransactionView(
        id=output.transaction_id.hex(),
        height=stored.height,
        index=stored.position,
        code=output.code,
        message=output.message,
        group=None if group is None else group.hex(),
        valid_until=stored.transaction.valid_until_ms,
        payload=payload_view(stored.transaction.payload),
        encoded=encode(stored.transaction).hex(),
        proof=proof,
    )


def _earliest_ms(api: Api, valid_until_ms: int) -> int:
    """Ledger clock before which a transaction cannot have executed: `valid_until` lay too far ahead."""
    return valid_until_ms - api.backend.genesis.parameters.max_valid_ms


def _timeout(query: Mapping[str, str], limits: ApiLimits) -> int | None:
    """How long to wait for finality, ms; None not to."""
    wait = query.get("wait")
    if wait not in {None, "final"}:
        raise Refused("bad_parameter", f"wait is final, or left out, not {wait[:80] if wait else wait!r}")
    if wait is None:
        return None
    if "timeout_ms" not in query:
        return limits.wait_ms
    return parameters.number(query["timeout_ms"], "timeout_ms", 1, limits.max_wait_ms)


async def _take(request: web.Request, api: Api, most: int) -> list[Hash]:
    """Read the body and bring what it holds. Nothing of it is kept while its sender waits for finality."""
    limits, size = api.limits, request.content_length
    if size is not None and size <= limits.small_body_bytes:
        return await _take_body(request, api, most)
    with api.large_body(request.protocol):
        return await _take_body(request, api, most)


async def _take_body(request: web.Request, api: Api, most: int) -> list[Hash]:
    transactions = _parse(request.content_type, await api.body(request), api.limits)
    if len(transactions) > most:
        raise Refused(
            "too_many",
            f"{len(transactions)} proofs are asked for, at most {most} are made: take /blocks/{{height}} "
            "with ?proof=true for all outputs of a block",
        )
    return api.backend.submit(transactions, source_of(request.remote))


def _parse(content_type: str, body: bytes, limits: ApiLimits) -> list[Transaction]:
    encoded = _encoded(content_type, body)
    if not 1 <= len(encoded) <= limits.transactions:
        code = "too_many" if encoded else "bad_encoding"
        raise Refused(code, f"the list has {len(encoded)} transactions; 1 to {limits.transactions} are taken at once")
    transactions = []
    for i, data in enumerate(encoded):
        try:
            transactions.append(decode(data, Transaction))
        except RemoteError as error:
            raise Refused("bad_encoding", f"transaction {i} of the list: {error}; none was taken") from error
    return transactions


def _encoded(content_type: str, body: bytes) -> list[bytes]:
    try:
        if content_type == MSGPACK:
            return _msgpack.decode(body)
        if content_type == JSON:
            decoded = _json.decode(body)
            listed = decoded if isinstance(decoded, list) else [decoded]
            return [bytes.fromhex(submission.transaction) for submission in listed]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(
            "bad_encoding",
            f'the body does not decode: {error}; send {{"transaction": "<hex>"}}, a list of these, or a msgpack list',
        ) from error
    raise Refused("bad_content_type", f"the body is {content_type[:80]!r}; send {JSON} or {MSGPACK}")


async def _wait(api: Api, ids: Sequence[Hash], timeout_ms: int) -> Mapping[Hash, Located]:
    """What is final in time. A stopping server answers at once with what there is."""
    waiting = asyncio.ensure_future(api.backend.wait_final(ids, timeout_ms))
    closing = asyncio.ensure_future(api.closing.wait())
    try:
        await asyncio.wait({waiting, closing}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else {}
    finally:
        for task in (waiting, closing):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def _proofs(api: Api, final: Mapping[Hash, Located]) -> dict[Hash, str]:
    places = [(located.height, located.index, located.output) for located in final.values()]
    return dict(zip(final, await api.output_proofs(places), strict=True))


def _results(ids: Sequence[Hash], final: Mapping[Hash, Located], proofs: Mapping[Hash, str]) -> SubmissionList:
    return SubmissionList(items=[_result(name, final.get(name), proofs.get(name)) for name in ids])


def _result(name: Hash, located: Located | None, proof: str | None) -> SubmissionResult:
    if located is None:
        return SubmissionResult(id=name.hex(), status="pending")
    return result_view(located.height, located.index, located.output, proof)


ID = Parameter("id", HASH, "The transaction's id.")
VALID_UNTIL = Parameter("valid_until", NUMBER, "The transaction's, ms: tells apart what never was and what is gone.")
WAIT = Parameter("wait", {"type": "string", "enum": ["final"]}, "Wait for finality.")
TIMEOUT = Parameter("timeout_ms", NUMBER | {"minimum": 1}, "How long to wait at most, ms.", maximum="max_wait_ms")
BODY: dict[str, object] = {
    JSON: {
        "oneOf": [
            {"$ref": "#/components/schemas/Submission"},
            {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Submission"}},
        ]
    },
    MSGPACK: {"description": "A msgpack array of encoded transactions, each a byte string."},
}

ROUTES = (
    Route(
        "GET",
        "/transactions/{id}",
        transaction,
        "A transaction",
        {200: TransactionView},
        (ID, PROOF, VALID_UNTIL),
        (400, 404, 410),
    ),
    Route(
        "POST",
        "/transactions",
        submit,
        "Bring transactions",
        {200: SubmissionList, 202: SubmissionList},
        (WAIT, TIMEOUT, PROOF),
        (400, 408, 409, 413, 415, 422),
        BODY,
    ),
)
