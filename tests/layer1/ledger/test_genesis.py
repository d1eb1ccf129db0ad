"""Genesis: what is refused, what it derives, and its file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from layer1.errors import Refused
from layer1.ledger.genesis import (
    MAX_MONEY,
    Allocation,
    Currency,
    Genesis,
    Parameters,
    from_json,
    genesis_header,
    to_json,
    validate,
)
from layer1.ledger.state import State
from tests.layer1.ledger.world import ALICE, BOB, key, make_genesis

A, B = ALICE.public, BOB.public


def altered(**changes: Any) -> Genesis:
    return structs.replace(make_genesis(), **changes)


@pytest.mark.parametrize(
    ("genesis", "code"),
    [
        (altered(name=""), "bad_name"),
        (altered(name="n" * 65), "bad_name"),
        (altered(salt=bytes(15)), "bad_salt"),
        (altered(currency=Currency("wdg", 2)), "bad_currency"),
        (altered(currency=Currency("W", 2)), "bad_currency"),
        (altered(currency=Currency("WDG", 9)), "bad_currency"),
        (altered(replicas=()), "no_replicas"),
        (altered(replicas=(A, B, A)), "replica_twice"),
        (altered(replicas=(bytes(31),)), "bad_key"),
        (altered(fault_model="none"), "bad_fault_model"),
        (altered(allocations=(Allocation(A, 1), Allocation(A, 1))), "allocation_twice"),
        (altered(allocations=(Allocation(A, 0),)), "bad_amount"),
        (altered(allocations=(Allocation(bytes(33), 1),)), "bad_key"),
        (altered(allocations=(Allocation(A, MAX_MONEY), Allocation(B, 1))), "too_much_money"),
        (altered(wall_time=-1), "bad_wall_time"),
        (make_genesis(max_step_ms=11_999), "max_step_too_small"),
        (make_genesis(min_challenge_ms=2, max_challenge_ms=1), "bad_challenge_bounds"),
        (make_genesis(due_per_block=0), "bad_parameter"),
        (make_genesis(term_views=0), "bad_parameter"),
        (make_genesis(max_members=1), "bad_parameter"),
        (make_genesis(max_members=17), "bad_parameter"),
        (make_genesis(max_transaction_bytes=4_095), "bad_parameter"),
    ],
)
def test_validate_refuses(genesis: Genesis, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        validate(genesis)
    assert refusal.value.code == code


def test_validate_accepts_the_bounds() -> None:
    validate(make_genesis(max_step_ms=12_000))  # heartbeat 10 s, f = 1, two view timeouts of 1 s
    validate(altered(allocations=(Allocation(A, MAX_MONEY),)))
    validate(altered(allocations=()))


@pytest.mark.parametrize(
    ("count", "model", "faults", "quorum"),
    [
        (1, "byzantine", 0, 1),
        (3, "byzantine", 0, 3),
        (4, "byzantine", 1, 3),
        (6, "byzantine", 1, 5),
        (7, "byzantine", 2, 5),
        (20, "byzantine", 6, 14),
        (1, "omission", 0, 1),
        (2, "omission", 0, 2),
        (3, "omission", 1, 2),
        (5, "omission", 2, 3),
    ],
)
def test_faults_and_quorum(count: int, model: str, faults: int, quorum: int) -> None:
    """Model: n > 3f or n > 2f; f is the largest that fits and q = n - f."""
    genesis = altered(replicas=tuple(key(f"r{i}").public for i in range(count)), fault_model=model)
    assert (genesis.replica_set.faults, genesis.replica_set.quorum) == (faults, quorum)


def test_the_header_of_genesis() -> None:
    genesis = make_genesis()
    header = genesis_header(genesis)
    assert header.state_root == State.genesis(genesis).root
    assert (header.height, header.view, header.epoch, header.clock) == (0, 0, 0, 0)
    assert header.parent == genesis.chain_id
    assert header.replica_set == genesis.replica_set.hash != altered(fault_model="omission").replica_set.hash
    assert genesis_header(altered(salt=b"x" * 16)).id != header.id


def test_the_file_brings_back_the_same_chain() -> None:
    genesis = make_genesis(due_per_block=7)
    text = to_json(genesis)
    assert from_json(text) == genesis
    assert from_json(text).chain_id == genesis.chain_id
    assert json.loads(text)["allocations"][0]["address"].startswith("wedge1")
    assert text.endswith("}\n")


def test_parameters_left_out_have_their_defaults() -> None:
    raw = json.loads(to_json(make_genesis()))
    del raw["parameters"]
    assert from_json(json.dumps(raw)).parameters == Parameters()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"parameters": {"no_such": 1}}, "bad_genesis"),
        ({"parameters": {"due_per_block": "1"}}, "bad_genesis"),
        ({"parameters": {"due_per_block": True}}, "bad_genesis"),
        ({"salt": "xyz"}, "bad_genesis"),
        ({"replicas": ["0g"]}, "bad_genesis"),
        ({"replicas": "00"}, "bad_genesis"),
        ({"fault_model": "none"}, "bad_genesis"),
        ({"surprise": 1}, "bad_genesis"),
        ({"allocations": [{"address": "wedge1qqq", "amount": 1}]}, "bad_address"),
        ({"name": ""}, "bad_name"),
    ],
)
def test_a_wrong_file_is_refused(change: dict[str, Any], code: str) -> None:
    raw = json.loads(to_json(make_genesis())) | change
    with pytest.raises(Refused) as refusal:
        from_json(json.dumps(raw))
    assert refusal.value.code == code


def test_no_file_at_all() -> None:
    for text in ("", "{}", "[]", "nonsense"):
        with pytest.raises(Refused, match="no genesis file"):
            from_json(text)
