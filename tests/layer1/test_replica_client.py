"""The typed client says what the OpenAPI document says, and asks for what it says."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from types import FunctionType
from typing import Any

import msgspec
import pytest

from layer1.api.app import ROUTES
from layer1.api.event_views import BlockEvent, TransactionEvent
from layer1.api.openapi import document
from layer1.api.views import AccountView, StatusView, Submission
from layer1.client import ReplicaClient, Unavailable
from layer1.codec import decode, encode
from layer1.crypto import format_address
from layer1.errors import Refused, RemoteError
from layer1.proof import GroupProof, Trust, verify_group
from layer1.replica_client import OPERATIONS, RefusedByReplica, operation
from tests.layer1.api.agreement import disagreements
from tests.layer1.api.conftest import Served, served
from tests.layer1.api.stand_in import ALICE, BOB_KEY, CAROL
from tests.layer1.test_client import LIMITS, Net, net

__all__ = ["net", "served"]


@pytest.fixture
async def client(served: Served) -> AsyncIterator[ReplicaClient]:
    async with ReplicaClient(served.url, LIMITS) as client:
        yield client


async def test_the_client_agrees_with_the_served_document(served: Served) -> None:
    """Every operation has a method, every parameter an argument, every field a type; and nothing is beside them."""
    described = await served.get("/openapi.json")
    assert disagreements(described, ReplicaClient) == []
    assert len(OPERATIONS) == sum(len(methods) for methods in described["paths"].values()) == len(ROUTES)


def _schemas(described: Any) -> Any:
    return described["components"]["schemas"]


def _operation(described: Any, path: str, method: str = "get") -> Any:
    return described["paths"][path][method]


CHANGES: list[tuple[str, Callable[[Any], object], str]] = [
    ("an operation less", lambda d: d["paths"].pop("/evidence"), "GET /evidence: the document has no such"),
    ("an operation more", lambda d: d["paths"].update({"/fees": d["paths"]["/status"]}), "GET /fees: the client has"),
    ("a field less", lambda d: _schemas(d)["AccountView"]["properties"].pop("balance"), "AccountView.balance is None"),
    (
        "a field more",
        lambda d: _schemas(d)["GroupView"]["properties"].update(fee={"type": "integer"}),
        "GroupView.fee is {'type': 'integer'} in the document, None",
    ),
    (
        "a field of another type",
        lambda d: _schemas(d)["HeaderView"]["properties"]["height"].update(type="string"),
        "HeaderView.height is {'type': 'string'}",
    ),
    (
        "a field that may be null",
        lambda d: _schemas(d)["StatusView"]["properties"].update(
            name={"anyOf": [{"type": "string"}, {"type": "null"}]}
        ),
        "StatusView.name is",
    ),
    ("a field that may be absent", lambda d: _schemas(d)["BlockEvent"]["required"].remove("clock"), "BlockEvent is"),
    (
        "a kind of payload more",
        lambda d: _schemas(d)["TransactionView"]["properties"]["payload"]["anyOf"].append({"type": "string"}),
        "TransactionView.payload is",
    ),
    ("a change of a group more", lambda d: _change(d).append("merged"), "GroupEvent.change is"),
    ("a schema less", lambda d: _schemas(d).pop("VoteView"), "VoteView: it is not in the document"),
    ("a schema more", lambda d: _schemas(d).update(Fee={"type": "object"}), "Fee: no method"),
    (
        "another answer",
        lambda d: _operation(d, "/blocks/{height}")["responses"]["200"].update(
            content=_operation(d, "/blocks")["responses"]["200"]["content"]
        ),
        "GET /blocks/{height}: answer 200 is",
    ),
    (
        "another problem",
        lambda d: _operation(d, "/status")["responses"]["503"].update(content={"text/plain": {"schema": {}}}),
        "GET /status: answer 503 is text/plain",
    ),
    ("a parameter less", lambda d: _operation(d, "/groups")["parameters"].pop(0), "GET /groups: the document has no"),
    (
        "a parameter more",
        lambda d: _operation(d, "/status")["parameters"].append({"name": "x", "required": False, "schema": {}}),
        "GET /status: the client has no parameter x",
    ),
    (
        "a parameter of another type",
        lambda d: _operation(d, "/blocks")["parameters"][0]["schema"].update(type="string"),
        "GET /blocks: parameter limit is",
    ),
    (
        "a parameter that must be given",
        lambda d: _operation(d, "/blocks")["parameters"][0].update(required=True),
        "GET /blocks: parameter limit is optional on one side only",
    ),
    (
        "another body",
        lambda d: _operation(d, "/transactions", "post")["requestBody"]["content"].update(
            {"application/json": {"schema": {"type": "object"}}}
        ),
        "POST /transactions: the body is",
    ),
    ("no body", lambda d: _operation(d, "/transactions", "post").pop("requestBody"), "only one side has a body"),
    (
        "a kind of event more",
        lambda d: _operation(d, "/events")["responses"]["200"]["content"]["text/event-stream"]["x-event-data"].update(
            fee={"$ref": "#/components/schemas/Problem"}
        ),
        "GET /events: events are",
    ),
]


def _change(described: Any) -> Any:
    return _schemas(described)["GroupEvent"]["properties"]["change"]["enum"]


@pytest.mark.parametrize("change, complaint", [case[1:] for case in CHANGES], ids=[case[0] for case in CHANGES])
def test_any_difference_of_the_document_is_found(change: Callable[[Any], object], complaint: str) -> None:
    described = copy.deepcopy(document(ROUTES))
    change(described)
    found = disagreements(described, ReplicaClient)
    assert any(complaint in line for line in found), found


@pytest.mark.slow
def test_every_field_of_every_schema_counts() -> None:
    """The first field of each schema is taken away, then the second, and so on: each one is missed."""
    described = document(ROUTES)
    fields = {name: list(schema["properties"]) for name, schema in _schemas(described).items()}
    assert sum(map(len, fields.values())) > 150
    for i in range(max(map(len, fields.values()))):
        changed = copy.deepcopy(described)
        gone = {f"{name}.{names[i]}" for name, names in fields.items() if i < len(names)}
        for name, names in fields.items():
            for field in names[i : i + 1]:
                del _schemas(changed)[name]["properties"][field]
        assert {line.split()[0] for line in disagreements(changed, ReplicaClient)} == gone


@pytest.mark.slow
def test_every_method_of_the_client_counts() -> None:
    """Each method in turn is left out, and each is missed; one that returns or takes something else is found, too."""
    described = document(ROUTES)
    methods = {name: f for name, f in vars(ReplicaClient).items() if isinstance(f, FunctionType) and f in OPERATIONS}
    for left_out, function in methods.items():
        rest = type("Rest", (), {name: f for name, f in methods.items() if name != left_out})
        verb, path = OPERATIONS[function]
        assert f"{verb} {path}: the client has no method for it" in disagreements(described, rest)

    @operation("GET", "/status")
    async def status(self: object) -> AccountView:
        raise NotImplementedError

    @operation("GET", "/genesis")
    async def genesis(self: object, height: int) -> AccountView:
        raise NotImplementedError

    try:
        found = disagreements(described, type("Wrong", (), {**methods, "status": status, "genesis": genesis}))
    finally:
        del OPERATIONS[status], OPERATIONS[genesis]
    assert any(line.startswith("GET /status: answer 200 is") for line in found)
    assert "GET /genesis: the document has no parameter height" in found


@pytest.mark.slow
async def test_every_method_asks_for_its_operation_and_answers_its_type(served: Served, client: ReplicaClient) -> None:
    """What it is marked with is what the replica counts; what it returns encodes to what the replica said."""
    opening, transfer = served.chain.opening(), served.chain.transfer(5, recipient=CAROL.public)
    bring = [Submission(transaction=encode(transaction).hex()) for transaction in (opening, transfer)]
    submitted = await client.submit(bring, wait="final", timeout_ms=2_000, proof=True)
    assert [(item.status, item.code) for item in submitted.items] == [("final", "ok")] * 2
    group, alice, member = submitted.items[0].group, format_address(ALICE.public), BOB_KEY.public.hex()
    assert group is not None
    served.backend.caught = [served.chain.evidence(1), served.chain.evidence(2)]
    for answer, path in (
        (await client.status(), "/status"),
        (await client.genesis(), "/genesis"),
        (await client.replicas(proof=True), "/replicas?proof=true"),
        (await client.evidence(limit=1), "/evidence?limit=1"),
        (await client.evidence(cursor="1-0"), "/evidence?cursor=1-0"),
        (await client.handovers(from_=0, limit=1), "/handovers?from=0&limit=1"),
        (await client.blocks(limit=1, cursor="2"), "/blocks?limit=1&cursor=2"),
        (await client.block("latest"), "/blocks/latest"),
        (await client.block(1, proof=True), "/blocks/1?proof=true"),
        (await client.transaction(transfer.id.hex(), proof=True), f"/transactions/{transfer.id.hex()}?proof=true"),
        (await client.account(alice, proof=True), f"/accounts/{alice}?proof=true"),
        (await client.appointment(alice, proof=True), f"/accounts/{alice}/head?proof=true"),
        (await client.preimage("00" * 32, proof=True), f"/preimages/{'00' * 32}?proof=true"),
        (await client.account_transactions(alice, limit=1), f"/accounts/{alice}/transactions?limit=1"),
        (await client.groups(member=member), f"/groups?member={member}"),
        (await client.group(group), f"/groups/{group}"),
        (await client.group_proofs(id_=[group, "00" * 32]), f"/groups/proofs?id={group}&id={'00' * 32}"),
        (await client.value("61", proof=True), "/machine/61?proof=true"),
        (await client.group_transactions(group, limit=3), f"/groups/{group}/transactions?limit=3"),
    ):
        assert msgspec.to_builtins(answer) == await served.get(path), path
    events = [event async for event in _first(client.events(after="0", kind=["transaction", "block"]), 3)]
    assert [(event.id, type(event.data)) for event in events] == [
        ("1-0", TransactionEvent),
        ("1-1", TransactionEvent),
        ("1-3", BlockEvent),
    ]
    resumed = [event async for event in _first(client.events(after="0", last_event_id="1-1", group=[group]), 2)]
    assert [event.id for event in resumed] == ["1-2", "1-3"]
    counted = await client.metrics()
    asked = {line.split('route="')[1].split('"')[0] for line in counted.splitlines() if 'route="' in line}
    asked |= {"/metrics", "/events"}  # which are counted when they end
    assert asked == {path for _, path in OPERATIONS.values()}


async def _first(events: Any, count: int) -> AsyncIterator[Any]:
    for _ in range(count):
        yield await anext(events)
    await events.aclose()


async def test_a_refusal_is_typed_with_its_proof(served: Served, client: ReplicaClient) -> None:
    with pytest.raises(RefusedByReplica, match="there is no group") as told:
        await client.group("00" * 32, proof=True)
    problem = told.value.problem
    assert (told.value.code, problem.status) == ("not_found", 404)
    assert problem.proof is not None
    absent = verify_group(Trust(served.chain.genesis), bytes(32), decode(bytes.fromhex(problem.proof), GroupProof))
    assert absent.value is None


@pytest.mark.parametrize(
    "ask, code",
    [
        (lambda c: c.blocks(limit=0), "bad_parameter"),
        (lambda c: c.blocks(cursor=""), "bad_parameter"),
        (lambda c: c.account("../status"), "bad_address"),
        (lambda c: c.transaction("?proof=true"), "bad_parameter"),
        (lambda c: c.submit([]), "bad_encoding"),
        (lambda c: c.submit([Submission(transaction="zz")]), "bad_encoding"),
        (lambda c: anext(c.events(after="x")), "bad_parameter"),
    ],
)
async def test_what_is_wrong_reaches_the_replica_as_it_is(client: ReplicaClient, ask: Any, code: str) -> None:
    """Nothing that was given is dropped on the way, or becomes another question."""
    with pytest.raises(Refused) as told:
        await ask(client)
    assert told.value.code == code


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"replica": "0"}', b"\xff", b"[" * 100_000, b"null", b'{"replica": 0}']
)
async def test_an_answer_of_another_shape_is_a_lie(net: Net, body: bytes) -> None:
    from aiohttp import web

    await net.liar(lambda _request: web.Response(body=body, content_type="application/json"))
    async with ReplicaClient(net.urls[0], LIMITS) as client:
        with pytest.raises(RemoteError, match="no StatusView"):
            await client.status()


@pytest.mark.parametrize(
    "stream", ["event: money\ndata: {}\n\n", "event: block\ndata: {}\n\n", "data: 1\n\n", "data: x\n" * 200_000]
)
async def test_an_event_of_another_shape_is_a_lie(net: Net, stream: str) -> None:
    from aiohttp import web

    await net.liar(lambda _request: web.Response(text=stream, content_type="text/event-stream"))
    async with ReplicaClient(net.urls[0], LIMITS) as client:
        with pytest.raises(RemoteError):
            await anext(client.events())


async def test_a_busy_replica_is_unavailable(net: Net) -> None:
    """Asked too often, or gone: try another one, or later."""
    await net.replica()
    await net.servers[0].close()
    async with ReplicaClient(net.urls[0], LIMITS) as client:
        with pytest.raises(Unavailable):
            await client.status()
        with pytest.raises(Unavailable):
            await anext(client.events())


async def test_a_newer_replica_may_say_more(net: Net) -> None:
    """Fields that this version does not know are passed over."""
    await net.replica()
    async with ReplicaClient(net.urls[0], LIMITS) as client:
        said = msgspec.to_builtins(await client.status())
    await net.liar(lambda _request: {**said, "weather": "fine"})
    async with ReplicaClient(net.urls[1], LIMITS) as client:
        assert isinstance(await client.status(), StatusView)
