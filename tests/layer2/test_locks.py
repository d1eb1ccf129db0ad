"""Conditional payments of the machine ``payments/2``: what its commands do, and what no command can do (rule 20)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from layer1.codec import encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.agreements import Body, Limits, Lock, locked_units
from layer1.ledger.locks import LOCK_BYTES, preimage_hash
from layer2.events import ClockSeen
from layer2.machine import Balances, apply_guarded, locks_of, starting_state
from layer2.messages import MAX_COMMAND_BYTES
from layer2.payments import (
    MAX_PACKET_BYTES,
    MAX_REASON_BYTES,
    MAX_TIME_MS,
    Locks,
    Payments,
    claim,
    expire,
    offer,
    pay,
    release,
)
from tests.layer2.harness import pair

MACHINE = Payments()
SECRET = b"p" * 32
HASH = preimage_hash(SECRET)
LOCK = Lock(1, 0, 1, 40, HASH, 5_000)
LOCKED = Locks(1, (LOCK,))


@pytest.mark.parametrize(
    ("state", "member", "command", "balances", "after"),
    [
        (None, 0, offer(1, 40, HASH, 5_000, b"packet"), (60, 100), LOCKED),
        (LOCKED, 0, offer(1, 100, HASH, 9), (0, 100), Locks(2, (LOCK, Lock(2, 0, 1, 100, HASH, 9)))),
        (LOCKED, 1, claim(1, SECRET), (100, 140), Locks(1)),
        (LOCKED, 1, release(1, b"no route"), (140, 100), Locks(1)),
        (LOCKED, 0, expire(1), (140, 100), Locks(1)),
        (LOCKED, 0, pay(1, 100), (0, 200), LOCKED),
    ],
)
def test_each_command_moves_what_it_names(
    state: Locks | None, member: int, command: bytes, balances: Balances, after: Locks
) -> None:
    """Rule 20: "pay, lock, claim (preimage), release (by payee), expire (after expiry)"."""
    assert apply_guarded(MACHINE, state, (100, 100), member, command) == (balances, after)


@pytest.mark.parametrize(
    ("state", "member", "command", "code"),
    [
        (None, 0, offer(0, 1, HASH, 1), "bad_payee"),
        (None, 0, offer(2, 1, HASH, 1), "bad_payee"),
        (None, 0, offer(1, 0, HASH, 1), "bad_amount"),
        (None, 0, offer(1, 101, HASH, 1), "insufficient_balance"),
        (None, 0, offer(1, 1, HASH[1:], 1), "bad_hash"),
        (None, 0, offer(1, 1, HASH, -1), "bad_expiry"),
        (None, 0, offer(1, 1, HASH, MAX_TIME_MS + 1), "bad_expiry"),
        (None, 0, offer(1, 1, HASH, 1, bytes(MAX_PACKET_BYTES + 1)), "packet_too_long"),
        (None, 1, claim(1, SECRET), "unknown_lock"),
        (LOCKED, 1, claim(2, SECRET), "unknown_lock"),
        (LOCKED, 0, claim(1, SECRET), "not_your_lock"),
        (LOCKED, 1, claim(1, b"q" * 32), "wrong_preimage"),
        (LOCKED, 1, claim(1, SECRET + b"\0"), "wrong_preimage"),
        (LOCKED, 0, release(1), "not_your_lock"),
        (LOCKED, 1, release(1, bytes(MAX_REASON_BYTES + 1)), "reason_too_long"),
        (LOCKED, 1, expire(1), "not_your_lock"),
        (Locks(1), 1, claim(1, SECRET), "unknown_lock"),
    ],
)
def test_refuses(state: Locks | None, member: int, command: bytes, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        MACHINE.apply(state, (100, 100), member, command)
    assert refusal.value.code == code


def test_a_preimage_has_32_bytes() -> None:
    """A longer one that hashes right would find no place in the registry: its payee could never prove it there."""
    long = SECRET + b"\0"
    state = Locks(1, (structs.replace(LOCK, hash=preimage_hash(long)),))
    with pytest.raises(Refused) as refusal:
        MACHINE.apply(state, (100, 100), 1, claim(1, long))
    assert refusal.value.code == "wrong_preimage"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(max_locks=1), "too_many_locks"),
        (Limits(max_locked_units=59), "too_much_locked"),
        (Limits(min_lock_units=21), "lock_too_small"),
        (Limits(max_locks=2, max_locked_units=60, min_lock_units=20), None),
    ],
)
def test_locks_stay_within_what_the_members_agreed_on(limits: Limits, code: str | None) -> None:
    """Rule 23: "Slots and value in flight are capped per group; a lock too small to be worth its slot is refused"."""
    command = offer(1, 20, HASH, 9)
    if code is None:
        assert locked_units(apply_guarded(MACHINE, LOCKED, (100, 0), 0, command, limits=limits)[1].pending) == 60
        return
    with pytest.raises(Refused) as refusal:
        apply_guarded(MACHINE, LOCKED, (100, 0), 0, command, limits=limits)
    assert refusal.value.code == code
    closed = apply_guarded(MACHINE, LOCKED, (100, 0), 0, expire(1), limits=Limits(max_locks=0, min_lock_units=99))
    assert closed == ((140, 0), Locks(1)), "what is pending ends, whatever was agreed on since"


class Forger(Payments):
    """A machine that has whatever locks it wants."""

    def __init__(self, locks: tuple[Lock, ...]) -> None:
        self.wanted = locks

    def apply(self, state: Any, balances: Balances, member: int, command: bytes) -> tuple[Balances, Locks]:
        units = tuple(map(int, command.split(b",")))
        return units, Locks(9, self.wanted)


@pytest.mark.parametrize(
    "lock",
    [
        structs.replace(LOCK, payee=0),
        structs.replace(LOCK, payee=2),
        structs.replace(LOCK, payer=-1),
        structs.replace(LOCK, amount=0),
        structs.replace(LOCK, hash=b"short"),
        structs.replace(LOCK, expiry_ms=-1),
        structs.replace(LOCK, id=0),
    ],
)
def test_no_machine_makes_locks_that_layer_1_would_not_settle(lock: Lock) -> None:
    """Nothing is certified whose body layer 1 would refuse: the money would be stuck (rule 12)."""
    with pytest.raises(Refused) as refusal:
        apply_guarded(Forger((lock,)), None, (100, 100), 0, b"60,100")
    assert refusal.value.code == "bad_lock"


@pytest.mark.parametrize("after", [b"61,100", b"59,100", b"100,60", b"100,100"])
def test_no_machine_locks_what_it_does_not_take_from_the_issuer(after: bytes) -> None:
    """ "sum(balances) + sum(locks) = funding, always", and only its owner lowers a balance (rule 2)."""
    with pytest.raises(Refused) as refusal:
        apply_guarded(Forger((LOCK,)), None, (100, 100), 0, after)
    assert refusal.value.code == "unfair_command"
    assert apply_guarded(Forger((LOCK,)), None, (100, 100), 0, b"60,100")[1] == Locks(9, (LOCK,))


def test_ids_in_disorder_are_refused() -> None:
    with pytest.raises(Refused) as refusal:
        apply_guarded(Forger((structs.replace(LOCK, id=2), LOCK)), None, (100, 100), 0, b"20,100")
    assert refusal.value.code == "bad_lock"


def test_the_encoded_state_needs_the_locks_of_its_body() -> None:
    """Locks stand in the body, once; the machine's own bytes count them, so that ids are never used again."""
    data = MACHINE.encode(LOCKED)
    assert MACHINE.with_locks(MACHINE.decode(data, 2), (LOCK,)) == LOCKED and MACHINE.encode(None) == b""
    for state, locks in ((None, (LOCK,)), (Locks(1), (structs.replace(LOCK, id=2),))):
        with pytest.raises(RemoteError, match="locks holds lock"):
            MACHINE.with_locks(state, locks)
    for bad in (encode(0), encode(-1), encode(MAX_TIME_MS + 1), b"\xc0"):
        with pytest.raises(RemoteError):
            MACHINE.decode(bad, 2)


def test_the_largest_lock_and_command_have_room() -> None:
    large = Lock(MAX_TIME_MS, 15, 14, MAX_TIME_MS, HASH, MAX_TIME_MS)
    assert len(encode(large)) <= LOCK_BYTES
    assert len(offer(15, MAX_TIME_MS, HASH, MAX_TIME_MS, bytes(MAX_PACKET_BYTES))) <= MAX_COMMAND_BYTES


@dataclass
class Twin:
    """Locks kept by hand."""

    balances: list[int]
    locks: dict[int, list[Any]] = field(default_factory=dict)
    count: int = 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_agrees_with_a_book_kept_by_hand(data: st.DataObject) -> None:
    """Any commands of anybody: what the machine takes, the book takes, and every unit is where the book has it."""
    twin, state = Twin([50, 60]), None
    balances: Balances = (50, 60)
    for _ in range(data.draw(st.integers(1, 12))):
        member, amount = data.draw(st.integers(0, 1)), data.draw(st.integers(1, 70))
        number, right = data.draw(st.integers(1, 4)), data.draw(st.booleans())
        kind = data.draw(st.sampled_from(["pay", "offer", "claim", "release", "expire"]))
        lock = twin.locks.get(number)
        match kind:
            case "pay":
                command, good = pay(1 - member, amount), amount <= twin.balances[member]
            case "offer":
                command, good = offer(1 - member, amount, HASH, 7), amount <= twin.balances[member]
            case "claim":
                command = claim(number, SECRET if right else b"w" * 32)
                good = lock is not None and lock[1] == member and right
            case "release":
                command, good = release(number), lock is not None and lock[1] == member
            case _:
                command, good = expire(number), lock is not None and lock[0] == member
        if not good:
            with pytest.raises(Refused):
                apply_guarded(MACHINE, state, balances, member, command)
            continue
        balances, state = apply_guarded(MACHINE, state, balances, member, command)
        if kind == "pay":
            twin.balances[member] -= amount
            twin.balances[1 - member] += amount
        elif kind == "offer":
            twin.count += 1
            twin.balances[member] -= amount
            twin.locks[twin.count] = [member, 1 - member, amount]
        else:
            payer, payee, units = twin.locks.pop(number)
            twin.balances[payee if kind == "claim" else payer] += units
        assert list(balances) == twin.balances
        named = {each.id: [each.payer, each.payee, each.amount] for each in locks_of(MACHINE, state)}
        assert named == twin.locks and sum(balances) + locked_units(locks_of(MACHINE, state)) == 110


def test_a_machine_without_locks_gets_none() -> None:
    """ "Other machines have no locks": a body that names some for them is nobody's."""

    class Plain:
        name = "plain/1"

        def initial(self, member_count: int) -> None:
            return None

        def encode(self, state: None) -> bytes:
            return b""

        def decode(self, data: bytes, member_count: int) -> None:
            return None

        def apply(self, state: None, balances: Balances, member: int, command: bytes) -> tuple[Balances, None]:
            return balances, None

    body = Body((60, 100), b"", (0, 0), bytes(16), (LOCK,))
    assert locks_of(Plain(), None) == ()
    with pytest.raises(RemoteError, match="1 locks, and plain/1 has none"):
        starting_state(Plain(), body, 2, at_start=False)


def test_who_hears_of_a_version_hears_which_locks_stand() -> None:
    """An offer is told from another with the same hash and amount by the id of its lock, before and after a restart."""
    a, b, wire = pair()
    a.margin_ms = b.margin_ms = 100
    for party in (a, b):
        party.restart()
    wire.connect()
    wire.run()
    a.request(offer(1, 40, HASH, 5_000, b"packet"))
    wire.run()
    for party in (a, b):
        party.step(ClockSeen(1_000))
    told = b.committed[max(b.committed)]
    assert told.locks == (LOCK,)
    b.request(claim(1, SECRET))
    wire.run()
    assert a.committed[max(a.committed)].locks == b.committed[max(b.committed)].locks == ()
    b.committed.clear()
    b.restart()
    assert b.committed[told.ordinal] == told
