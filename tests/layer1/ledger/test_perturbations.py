"""Every field of every transaction, altered by itself: refused with the code named here, and no state is changed.

The tables must name exactly the fields that exist, so a field added later fails here until somebody decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import msgspec
import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.consensus.evidence import EvidenceKind
from layer1.errors import Refused
from layer1.ledger.admission import verify_transaction
from layer1.ledger.agreements import Concur, Lock
from layer1.ledger.execute import execute
from layer1.ledger.replicas import ChangeReplicas, SetChange, sign_change
from layer1.ledger.transactions import (
    Appoint,
    ChangeGroup,
    OpenGroup,
    Payload,
    RegisterPreimages,
    Reveal,
    Transaction,
    Transfer,
)
from tests.layer1.ledger.world import (
    ALICE,
    BOB,
    CAROL,
    Party,
    World,
    accusation,
    admitted,
    key,
    make_party,
    records_root,
    signed_transactions,
)

Path = tuple[str | int, ...]


def fields(value: object, path: Path = ()) -> Iterator[Path]:
    """Paths of all leaves: fields of structs, items of tuples, of equal ones the first, and `len` for a length."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from fields(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        mixed = len({type(item) for item in value}) > 1
        if not mixed:
            yield (*path, "len")
        for i, item in enumerate(value if mixed else value[:1]):
            yield from fields(item, (*path, i))
    else:
        yield path


def altered(value: Any, path: Path) -> Any:
    """`value` with the leaf at `path` changed to another value of its type."""
    if not path:
        return _other(value)
    head, *rest = path
    if head == "len":
        return (*value, value[-1]) if value else (None,)
    if isinstance(head, int):
        return (*value[:head], altered(value[head], tuple(rest)), *value[head + 1 :])
    return structs.replace(value, **{head: altered(getattr(value, head), tuple(rest))})


def _other(value: object) -> object:
    match value:
        case int():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
        case _:
            raise AssertionError(f"a leaf of type {type(value)}")


def dotted(path: Path) -> str:
    return ".".join(map(str, path))


Start = Callable[[World, Party], Payload]


def close(world: World, party: Party) -> Payload:
    return party.final(900, 1_100)


def wedge(world: World, party: Party) -> Payload:
    """With k = s + 1, so that certified and highest header differ."""
    six = party.header(6, party.body(6, (0, 2_000)))
    return party.wedge(0, party.state(5, 300, 1_700), highest=six)


def wedge_of_initial_state(world: World, party: Party) -> Payload:
    return party.wedge(0, party.state(0))


def report(world: World, party: Party) -> Payload:
    """A higher version alone."""
    world.do(party.wedge(0, party.state(1, 1_000, 1_000)))
    return party.report(party.state(5, 300, 1_700))


def claims(world: World, party: Party) -> Payload:
    """A claim of version 1, of (1, 2), for a group at version 1."""
    world.do(party.wedge(0, party.state(1, 1_000, 1_000)))
    two = party.header(2, party.body(2, (0, 2_000)))
    return party.report(None, party.claim(1, 1, two))


def double(world: World, party: Party) -> Payload:
    world.do(party.wedge(0, party.state(1, 1_000, 1_000)))
    return party.report(double=party.double(0))


def wedge_with_proof(world: World, party: Party) -> Payload:
    six = party.header(6, party.body(6, (0, 2_000)))
    return structs.replace(party.wedge(0, party.state(5, 300, 1_700), highest=six), double=party.double(1))


def wedge_with_locks(world: World, party: Party) -> Payload:
    locks = (Lock(1, 0, 1, 100, bytes(32), 900_000), Lock(2, 1, 0, 50, bytes(32), 900_000))
    body = structs.replace(party.body(5, (250, 1_600)), locks=locks)
    six = party.header(6, party.body(6, (0, 2_000)))
    return party.wedge(0, (party.certify(party.header(5, body)), body), highest=six)


def wedge_without_body(world: World, party: Party) -> Payload:
    six = party.header(6, party.body(6, (0, 2_000)))
    return party.wedge(0, party.hidden(5, 300, 1_700), highest=six)


def plea(world: World, party: Party) -> Payload:
    return party.plea(0)


def plea_in_a_dispute(world: World, party: Party) -> Payload:
    world.do(party.wedge(1, party.state(1, 1_000, 1_000)))
    return party.plea(0)


def reveal(world: World, party: Party) -> Payload:
    world.do(party.wedge(0, party.hidden(5, 300, 1_700)))
    return Reveal(party.id, party.state(5, 300, 1_700)[1])


def concurs(world: World, party: Party) -> Payload:
    world.do(party.wedge(0, party.state(1, 1_000, 1_000)))
    return party.concur(1, 1)


def guarded(world: World, party: Party) -> Payload:
    """What a delegate brings: the header alone, and for whom."""
    world.do(party.wedge(0, party.state(1, 1_000, 1_000)))
    return party.guarded(party.hidden(5, 300, 1_700), 1, CAROL, 20)


def guarded_by_another(world: World, party: Party) -> Payload:
    """The same version, which somebody else brought before: its signatures are not read any more."""
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    return party.guarded(party.hidden(5, 300, 1_700), 1, CAROL, 20)


def witness_claim(world: World, party: Party) -> Payload:
    witnessed = world.opened(ALICE, BOB, CAROL, name="w", witnessed=True)
    world.do(witnessed.wedge(0, witnessed.state(5, 300, 1_700, 1_000)))
    return witnessed.report(None, witnessed.claim(4, 5, witnessed.state(5, 300, 1_700, 1_000)[0].header))


def replicas(world: World, party: Party) -> Payload:
    """Replica 0 leaves, another one comes."""
    newcomer = key("replica 9")
    change = SetChange(0, (newcomer.public,), (0,), 10_000)
    approvals = tuple((i, sign_change(change, world.chain_id, key(f"replica {i}"))) for i in range(3))
    return ChangeReplicas(change, approvals, (sign_change(change, world.chain_id, newcomer),))


def notarized_twice(world: World, party: Party) -> Payload:
    return accusation(world.genesis, 1, EvidenceKind.NOTARIZED_TWICE)


def finalized_twice(world: World, party: Party) -> Payload:
    return accusation(world.genesis, 2, EvidenceKind.FINALIZED_TWICE)


def finalized_and_nullified(world: World, party: Party) -> Payload:
    return accusation(world.genesis, 0, EvidenceKind.FINALIZED_AND_NULLIFIED)


def header(prefix: str, named: str, signed: str, hashed: str) -> dict[str, str]:
    """Codes for a header: what names its group, what only signatures cover, and the body's hash."""
    names = dict.fromkeys((f"{prefix}.{name}" for name in ("chain_id", "group_id", "epoch")), named)
    rest = dict.fromkeys((f"{prefix}.{name}" for name in ("parent", "log_root")), signed)
    return {**names, **rest, f"{prefix}.body_hash": hashed}


UNREAD = "ok"
"""The header was accepted before, by signatures that were verified: these are not looked at."""
CERTIFICATE = {
    **header("certificate.header", "bad_certificate", "bad_signature", "bad_signature"),
    "certificate.signatures.len": "bad_certificate",
    "certificate.signatures.0": "bad_signature",
}
BODY = dict.fromkeys(
    (
        "body.balances.len",
        "body.balances.0",
        "body.machine_state",
        "body.applied.len",
        "body.applied.0",
        "body.salt",
        "body.locks.len",
    ),
    "bad_body",
)
LOCK = dict.fromkeys(
    (f"body.locks.0.{name}" for name in ("id", "payer", "payee", "amount", "hash", "expiry_ms")), "bad_body"
)
PLEA = {
    "plea.group_id": "unknown_group",
    "plea.epoch": "bad_plea",
    "plea.member": "bad_signature",
    "plea.signature": "bad_signature",
}
DELEGATION = {
    "delegation.group_id": "bad_delegation",
    "delegation.epoch": "bad_delegation",
    "delegation.member": "bad_delegation",
    "delegation.payout": "bad_signature",
    "delegation.bounty": "bad_signature",
    "delegation.signature": "bad_signature",
}
VOTED_TWICE = {
    **{f"evidence.{half}.epoch": "wrong_epoch" for half in ("first", "second")},
    **{f"evidence.{half}.replica": "different_replicas" for half in ("first", "second")},
    **{f"evidence.{half}.view": "different_views" for half in ("first", "second")},
    **{f"evidence.{half}.block": "bad_signature" for half in ("first", "second")},
    **{f"evidence.{half}.signature": "bad_signature" for half in ("first", "second")},
}
TABLE: list[tuple[Start, Mapping[str, str]]] = [
    (
        close,
        {
            "final.group_id": "unknown_group",
            "final.epoch": "wrong_epoch",
            "final.base": "bad_signature",
            "final.base_version": "bad_signature",
            "final.payout.len": "bad_payout",
            "final.payout.0": "bad_payout",
            "signatures.len": "bad_signature",
            "signatures.0": "bad_signature",
        },
    ),
    (
        wedge,
        {
            **CERTIFICATE,
            **BODY,
            **header("claim.highest", "bad_claim", "bad_signature", "bad_signature"),
            "certificate.header.version": "bad_claim",
            "claim.group_id": "unknown_group",
            "claim.epoch": "bad_claim",
            "claim.member": "bad_signature",
            "claim.version": "bad_claim",
            "claim.highest.version": "bad_claim",
            "claim.signature": "bad_signature",
        },
    ),
    (
        wedge_of_initial_state,
        {
            **header("certificate.header", "bad_claim", "bad_claim", "bad_claim"),
            **BODY,
            **header("claim.highest", "bad_claim", "bad_claim", "bad_claim"),
            "certificate.header.version": "bad_claim",
            "certificate.signatures.len": "bad_certificate",
            "claim.group_id": "unknown_group",
            "claim.epoch": "bad_claim",
            "claim.member": "bad_signature",
            "claim.version": "bad_claim",
            "claim.highest.version": "bad_signature",
            "claim.signature": "bad_signature",
        },
    ),
    (
        wedge_with_locks,
        {
            **CERTIFICATE,
            **BODY,
            **LOCK,
            **header("claim.highest", "bad_claim", "bad_signature", "bad_signature"),
            "certificate.header.version": "bad_claim",
            "claim.group_id": "unknown_group",
            "claim.epoch": "bad_claim",
            "claim.member": "bad_signature",
            "claim.version": "bad_claim",
            "claim.highest.version": "bad_claim",
            "claim.signature": "bad_signature",
        },
    ),
    (
        wedge_with_proof,
        {
            **CERTIFICATE,
            **BODY,
            **header("claim.highest", "bad_claim", "bad_signature", "bad_signature"),
            "certificate.header.version": "bad_claim",
            "claim.group_id": "unknown_group",
            "claim.epoch": "bad_claim",
            "claim.member": "bad_signature",
            "claim.version": "bad_claim",
            "claim.highest.version": "bad_claim",
            "claim.signature": "bad_signature",
            **header("double.first", "bad_proof", "bad_signature", "bad_signature"),
            **header("double.second", "bad_proof", "bad_signature", "bad_signature"),
            "double.member": "bad_proof",
            "double.first.version": "bad_proof",
            "double.second.version": "bad_proof",
            "double.first_signature": "bad_signature",
            "double.second_signature": "bad_signature",
        },
    ),
    (
        report,
        {
            **CERTIFICATE,
            **BODY,
            "group_id": "unknown_group",
            "certificate.header.version": "bad_signature",
            "claims.len": "bad_claim",
            "concurs.len": "wrong_version",
        },
    ),
    (
        claims,
        {
            **header("claims.0.highest", "bad_claim", "bad_signature", "bad_signature"),
            "group_id": "unknown_group",
            "claims.0.group_id": "bad_claim",
            "claims.0.epoch": "bad_claim",
            "claims.0.member": "bad_claim",
            "claims.0.version": "bad_signature",
            "claims.0.highest.version": "bad_claim",
            "claims.0.signature": "bad_signature",
            "concurs.len": "bad_signature",
        },
    ),
    (
        double,
        {
            **header("double.first", "bad_proof", "bad_signature", "bad_signature"),
            **header("double.second", "bad_proof", "bad_signature", "bad_signature"),
            "group_id": "unknown_group",
            "claims.len": "bad_claim",
            "concurs.len": "bad_signature",
            "double.member": "bad_signature",
            "double.first.version": "bad_proof",
            "double.second.version": "bad_proof",
            "double.first_signature": "bad_signature",
            "double.second_signature": "bad_signature",
        },
    ),
    (
        wedge_without_body,
        {
            **CERTIFICATE,
            **header("claim.highest", "bad_claim", "bad_signature", "bad_signature"),
            "certificate.header.version": "bad_claim",
            "claim.group_id": "unknown_group",
            "claim.epoch": "bad_claim",
            "claim.member": "bad_signature",
            "claim.version": "bad_claim",
            "claim.highest.version": "bad_claim",
            "claim.signature": "bad_signature",
        },
    ),
    (plea, PLEA),
    (plea_in_a_dispute, PLEA),
    (reveal, {**BODY, "group_id": "unknown_group"}),
    (
        concurs,
        {
            "group_id": "unknown_group",
            "claims.len": "bad_claim",
            "concurs.len": "bad_signature",
            "concurs.0.group_id": "bad_concur",
            "concurs.0.epoch": "bad_concur",
            "concurs.0.member": "bad_concur",
            "concurs.0.version": "wrong_version",
            "concurs.0.signature": "bad_signature",
        },
    ),
    (
        guarded,
        {
            **CERTIFICATE,
            **DELEGATION,
            "group_id": "unknown_group",
            "certificate.header.version": "bad_signature",
            "claims.len": "bad_claim",
            "concurs.len": "wrong_version",
        },
    ),
    (
        guarded_by_another,
        {
            **header("certificate.header", "stale_report", "stale_report", "stale_report"),
            **DELEGATION,
            "group_id": "unknown_group",
            "certificate.header.version": "bad_signature",
            "certificate.signatures.len": UNREAD,
            "certificate.signatures.0": UNREAD,
            "claims.len": "bad_claim",
            "concurs.len": "wrong_version",
        },
    ),
    (
        witness_claim,
        {
            **header("claims.0.highest", "bad_claim", "bad_signature", "bad_signature"),
            "group_id": "unknown_group",
            "claims.0.group_id": "bad_claim",
            "claims.0.epoch": "bad_claim",
            "claims.0.member": "bad_claim",
            "claims.0.version": "bad_claim",
            "claims.0.highest.version": "bad_claim",
            "claims.0.signature": "bad_signature",
            "concurs.len": "bad_concur",
        },
    ),
    (
        replicas,
        {
            "change.epoch": "wrong_epoch",
            "change.add.len": "replica_twice",
            "change.add.0": "bad_signature",
            "change.remove.len": "bad_order",
            "change.remove.0": "bad_signature",
            "change.expires_ms": "bad_signature",
            "approvals.len": "bad_order",
            "approvals.0.0": "bad_order",
            "approvals.0.1": "bad_signature",
            "acceptances.len": "bad_signature",
            "acceptances.0": "bad_signature",
        },
    ),
    (notarized_twice, VOTED_TWICE),
    (finalized_twice, VOTED_TWICE),
    (
        finalized_and_nullified,
        {
            **{f"evidence.{half}.epoch": "wrong_epoch" for half in ("first", "second")},
            **{f"evidence.{half}.replica": "different_replicas" for half in ("first", "second")},
            **{f"evidence.{half}.signature": "bad_signature" for half in ("first", "second")},
            "evidence.first.view": "bad_signature",
            "evidence.first.block": "bad_signature",
            "evidence.second.start": "range_without_view",
        },
    ),
]
HARMLESS = {
    "claims.len": "a claim twice in one report: the first stands; instead a stranger's is added",
    "concurs.len": "the same; instead one without a signature is added",
    "certificate": "absent",
    "body": "absent",
    "double": "absent",
    "delegation": "absent",
}
"""Leaves that the walk finds, but whose change is no fault or no change of a value."""


@pytest.mark.parametrize(("start", "codes"), TABLE, ids=[start.__name__ for start, _ in TABLE])
def test_each_altered_field_is_refused(start: Start, codes: Mapping[str, str]) -> None:
    world = World()
    party = world.opened()
    payload = start(world, party)
    paths = {dotted(path): path for path in fields(payload)}
    assert set(paths) - set(HARMLESS) == set(codes) - set(HARMLESS)
    root = records_root(world.state)
    for name, code in codes.items():
        if name == "concurs.len":
            wrong = structs.replace(payload, concurs=(Concur(party.id, 0, 0, 1),))
        elif name == "claims.len":
            stranger = structs.replace(party.claim(0, 0, party.state(0)[0].header), member=7)
            wrong = structs.replace(payload, claims=(stranger,))
        else:
            wrong = altered(payload, paths[name])
        if code == UNREAD:
            assert execute(world.state, world.state.wall_time + 1, [world.sign(wrong)]).outputs[0].code == UNREAD
            continue
        output = world.do(wrong)
        assert (name, output.code) == (name, code), output.message
        assert output.message
        assert output.group_id is None
        assert records_root(world.state) == root, name
    assert world.do(payload).code == "ok"


def test_each_altered_field_breaks_the_accounts_signature() -> None:
    """Transfers and openings: the id covers everything but the signatures."""
    world = World()
    for transaction in signed_transactions(world):
        verify_transaction(transaction, world.chain_id)
        for path in fields(transaction):
            wrong = altered(transaction, path)
            with pytest.raises(Refused) as refusal:
                verify_transaction(wrong, world.chain_id)
            assert refusal.value.code == "bad_signature", dotted(path)


def test_every_kind_of_transaction_has_its_fields_altered() -> None:
    """Issue 5: "for each transaction kind on layer 1 a mutation suite"; a kind added later fails here."""
    world = World()
    altered_here = {type(start(world, world.opened(name=start.__name__))) for start, _ in TABLE}
    signed = {type(transaction.payload) for transaction in signed_transactions(world)}
    elsewhere = {ChangeGroup, Appoint}  # test_changing.py, test_appointments.py
    assert altered_here | signed | elsewhere == set(get_args(Payload))


def opening(world: World, party: Party) -> Payload:
    return OpenGroup(make_party(world.chain_id, (ALICE, BOB), name="h").agreement)


def transfer(world: World, party: Party) -> Payload:
    return Transfer(ALICE.public, BOB.public, 1)


def preimages(world: World, party: Party) -> Payload:
    return RegisterPreimages(ALICE.public, (bytes(32),))


def extremes(value: Any, path: Path) -> Iterator[Any]:
    """Values that decode, at the bounds of what the encoding can carry."""
    if not path:
        if isinstance(value, int):
            yield from (-(2**63), -1, 0, 2**53, 2**64 - 1)
        elif isinstance(value, bytes):
            yield from (b"", b"x", bytes(12_000))
        elif isinstance(value, str):
            yield from ("", "\U0010ffff" * 3_000)
        return
    head, *rest = path
    if head == "len":
        yield from ((), value * 40)
    elif isinstance(head, int):
        yield from ((*value[:head], e, *value[head + 1 :]) for e in extremes(value[head], tuple(rest)))
    else:
        yield from (structs.replace(value, **{head: e}) for e in extremes(getattr(value, head), tuple(rest)))


@pytest.mark.parametrize(
    "start", [transfer, opening, preimages, *(start for start, _ in TABLE)], ids=lambda s: s.__name__
)
def test_no_value_stops_the_ledger(start: Start) -> None:
    """A transaction that made every replica raise would halt the chain: whatever decodes is answered or passed over.

    Signatures are not checked before, as if a faulty replica had packed the batch.
    """
    world = World()
    party = world.opened()
    plain = world.sign(start(world, party))
    for path in fields(plain):
        for wrong in extremes(plain, path):
            execution = execute(world.state, world.state.wall_time + 1, [decode(encode(wrong), Transaction)])
            assert execution.state.total_units() == world.genesis.supply_units
            assert all(len(output.message) < 400 for output in execution.outputs)
            with contextlib.suppress(Refused):
                verify_transaction(wrong, world.chain_id)
            assert isinstance(admitted(world, wrong), str)
