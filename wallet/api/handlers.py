"""From a request over HTTP to a request of the wallet, and from its answer to a response.

Whoever accepts ``text/event-stream`` gets ``progress`` events (:class:`wallet.requests.Progress`) while the work goes
on, then one ``answer`` or one ``problem``: the body and the code that a plain response would have had.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from layer1.errors import Refused
from layer1.httpd.problems import MEDIA_TYPE
from layer1.httpd.routes import Handler
from wallet.api.desk import Work, progress_of
from wallet.api.keys import Answer, check_key
from wallet.api.service import WalletService, caller_of, service_of
from wallet.api.verbs import Verb
from wallet.requests import Request

STREAM = "text/event-stream"
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What is wrong with JSON that is none of ours."""


def handler_of(verb: Verb) -> Handler:
    """What serves a verb."""

    async def handle(request: web.Request) -> web.StreamResponse:
        service = service_of(request)
        asked = await read(verb, request, service)
        key = check_key(_one(request, "Idempotency-Key")) if verb.moves_money else None
        found = service.desk.carry_out(verb, asked, caller_of(request), key)
        if STREAM in request.headers.get("Accept", ""):
            return await _stream(service, request, found)
        return _response(found if isinstance(found, tuple) else await asyncio.shield(found.task))

    return handle


def _one(request: web.Request, name: str) -> str | None:
    """A header that stands there once."""
    values = request.headers.getall(name, [])
    return values[0] if len(values) == 1 else None


async def read(verb: Verb, request: web.Request, service: WalletService) -> Request[Any]:
    """What a request over HTTP asks for.

    Raises:
        Refused: ``bad_content_type``, ``bad_encoding``, ``bad_parameter``, ``slow_body``.
    """
    if not verb.has_body:
        names = list(request.query)
        if len(set(names)) < len(names):
            raise Refused("bad_parameter", "a parameter stands there twice; give each once")
        return ask(verb, dict(request.match_info), dict(request.query), strict=False)
    if request.query:
        raise Refused("bad_parameter", f"{request.method} {verb.path} takes no parameters in the query")
    body = await service.body(request)
    if not body and not _required(verb):
        return ask(verb, dict(request.match_info), {}, strict=True)
    if request.content_type != "application/json":
        raise Refused("bad_content_type", f"the body is {request.content_type[:80]!r}; send application/json")
    return ask(verb, dict(request.match_info), parse(body), strict=True)


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Refused: ``bad_encoding``.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise Refused("bad_encoding", f"the body is no JSON object: {error}") from None


def ask(verb: Verb, path: dict[str, str], carried: dict[str, Any], *, strict: bool) -> Request[Any]:
    """The request that path, and query or body, make.

    Raises:
        Refused: ``bad_parameter``.
    """
    unknown = sorted(set(carried) - set(verb.carried))
    if unknown:
        known = ", ".join(verb.carried) or "none"
        raise Refused("bad_parameter", f"unknown field {unknown[0][:80]!r}; known are: {known}")
    try:
        request: Request[Any] = msgspec.convert(path | dict(verb.fixed) | carried, type=verb.request, strict=strict)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Refused("bad_parameter", f"{verb.method} {verb.path}: {error}") from None
    return request


def _required(verb: Verb) -> bool:
    """Whether something has to stand in the body."""
    fields = {field.name: field for field in msgspec.structs.fields(verb.request)}
    return any(fields[name].required for name in verb.carried)


def _response(answer: Answer) -> web.Response:
    status, body = answer
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.Response(
        status=status, body=body, headers=headers, content_type="application/json" if status < 400 else MEDIA_TYPE
    )


async def _stream(service: WalletService, request: web.Request, found: Work | Answer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": STREAM, "X-Accel-Buffering": "no"})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        answer = found if isinstance(found, tuple) else await _told(service, response, found)
        await _write(service, response, b"answer" if answer[0] < 400 else b"problem", answer[1])
        await response.write_eof()
    except TimeoutError:
        service.connections.cut(request.protocol, "slow")
    except ConnectionError:
        pass  # the asker has gone; what was begun goes on, and the history tells of it
    return response


async def _told(service: WalletService, response: web.StreamResponse, work: Work) -> Answer:
    """Tell how far it is, until it is done."""
    steps = progress_of(work)
    while not work.task.done():
        step = asyncio.ensure_future(steps.get())
        try:
            await asyncio.wait({work.task, step}, return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                await _write(service, response, b"progress", msgspec.json.encode(step.result()))
        finally:
            step.cancel()
    return work.task.result()


async def _write(service: WalletService, response: web.StreamResponse, kind: bytes, data: bytes) -> None:
    async with asyncio.timeout(service.limits.write_ms / 1000):
        await response.write(b"event: %s\ndata: %s\n\n" % (kind, data))
