"""Which process acts for an account: decision 030, "Appoint", in the ledger, in proofs, in snapshots."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from layer1 import merkle
from layer1.codec import decode, encode
from layer1.crypto import SigningKey
from layer1.errors import Refused, check
from layer1.ledger import admission, appointments, draft
from layer1.ledger.admission import verify_transaction
from layer1.ledger.execute import execute
from layer1.ledger.image import collect
from layer1.ledger.records import Head, head_key, leaf_hash
from layer1.ledger.state import Snapshot, State
from layer1.ledger.transactions import Appoint, Output, Transfer
from tests.layer1.ledger.test_perturbations import altered, dotted, extremes, fields
from tests.layer1.ledger.world import ALICE, BOB, World, admitted, key, records_root

ONE, TWO = b"1" * 32, b"2" * 32


def appoint(world: World, term: int, head: bytes, who: SigningKey = ALICE) -> Output:
    return world.do(Appoint(who.public, term, head), who)


def test_terms_follow_one_another() -> None:
    world = World()
    assert world.state.appointed(ALICE.public) is None
    for term, head in enumerate((ONE, TWO, TWO, ONE), 1):
        assert appoint(world, term, head).code == "ok"
        assert world.state.appointed(ALICE.public) == Head(ALICE.public, term, head)
    assert world.state.appointed(BOB.public) is None


@pytest.mark.parametrize("term", [-1, 0, 1, 3, 2**63])
def test_another_term_than_the_next_is_refused(term: int) -> None:
    world = World()
    appoint(world, 1, ONE)
    before = records_root(world.state)
    refused = appoint(world, term, TWO)
    assert (refused.code, refused.message) == (
        "wrong_term",
        f"term {term} is asked for, the next one is 2; look who is head now",
    )
    assert records_root(world.state) == before


def test_of_two_in_one_block_the_first_wins() -> None:
    world = World()
    appoint(world, 1, ONE)
    block = world.block(*(world.sign(Appoint(ALICE.public, 2, head), ALICE) for head in (TWO, ONE)))
    assert [output.code for output in block.outputs] == ["ok", "wrong_term"]
    assert world.state.appointed(ALICE.public) == Head(ALICE.public, 2, TWO)


def test_two_branches_hold_their_own_heads() -> None:
    world = World()
    one, two = (
        execute(world.state, world.state.wall_time + 1, [world.sign(Appoint(ALICE.public, 1, head), ALICE)]).state
        for head in (ONE, TWO)
    )
    assert one.appointed(ALICE.public) == Head(ALICE.public, 1, ONE)
    assert two.appointed(ALICE.public) == Head(ALICE.public, 1, TWO)
    assert world.state.appointed(ALICE.public) is None


def test_the_first_appointment_needs_money_and_later_ones_do_not() -> None:
    """Each makes a leaf for good; and a hub whose money is all in its groups must go on."""
    world, poor = World(), key("poor")
    assert appoint(world, 1, ONE, poor).code == "empty_account"
    world.do(Transfer(ALICE.public, poor.public, 1), ALICE)
    assert appoint(world, 1, ONE, poor).code == "ok"
    world.do(Transfer(poor.public, ALICE.public, 1), poor)
    assert world.balance(poor) == 0
    assert appoint(world, 2, TWO, poor).code == "ok"


def test_each_altered_field_is_refused() -> None:
    """By the ledger, whatever a faulty replica packs; and each breaks the account's signature."""
    world = World()
    appoint(world, 1, ONE)
    good = world.sign(Appoint(ALICE.public, 2, TWO), ALICE)
    for path in fields(good):
        with pytest.raises(Refused) as refusal:
            verify_transaction(altered(good, path), world.chain_id)
        assert refusal.value.code == "bad_signature", dotted(path)
    for wrong, code in (
        (Appoint(key("poor").public, 1, TWO), "empty_account"),
        (Appoint(ALICE.public, 3, TWO), "wrong_term"),
        (Appoint(ALICE.public, 2, TWO + b"x"), "bad_head"),
        (Appoint(ALICE.public, 2, b""), "bad_head"),
    ):
        assert world.do(wrong).code == code
        assert admitted(world, world.sign(wrong)) == code
    assert world.state.appointed(ALICE.public) == Head(ALICE.public, 1, ONE)
    assert admitted(world, good) == "ok"


def test_no_value_stops_the_ledger() -> None:
    world = World()
    plain = world.sign(Appoint(ALICE.public, 1, ONE))
    for path in fields(plain):
        for wrong in extremes(plain, path):
            again = decode(encode(wrong), type(plain))
            outputs = execute(world.state, world.state.wall_time + 1, [again]).outputs
            assert all(len(output.message) < 400 for output in outputs)
            assert isinstance(admitted(world, wrong), str)


def test_a_head_is_proven_against_the_root_and_so_is_its_absence() -> None:
    world = World()
    root, place = world.state.root, head_key(ALICE.public)
    assert merkle.verify(root, place, None, world.state.prove(place))
    appoint(world, 1, ONE)
    root, proof = world.state.root, world.state.prove(place)
    assert merkle.verify(root, place, leaf_hash(Head(ALICE.public, 1, ONE)), proof)
    for wrong in (None, Head(ALICE.public, 1, TWO), Head(ALICE.public, 2, ONE), Head(BOB.public, 1, ONE)):
        assert not merkle.verify(root, place, leaf_hash(wrong), proof)


def test_heads_come_back_from_a_snapshot_and_from_a_checkpoint() -> None:
    world = World()
    appoint(world, 1, ONE)
    appoint(world, 1, TWO, BOB)
    state = world.state
    restored = State.restore(world.genesis, decode(encode(state.snapshot()), Snapshot))
    position = (state.height, state.clock, state.wall_time)
    assembled = State.assemble(world.genesis, collect(state.image().pieces()), position)
    for other in (restored, assembled):
        assert other.root == state.root
        assert other.appointed(BOB.public) == Head(BOB.public, 1, TWO)
        following = execute(other, other.wall_time + 1, [world.sign(Appoint(ALICE.public, 2, TWO), ALICE)])
        assert following.outputs[0].code == "ok"


# ------------------------------------------------------------------------------------------------------------ mutants


def any_later_term(current: Head | None, request: Appoint, balance: int) -> Head:
    check(current is None or request.term > current.term, "wrong_term", "")
    return Head(request.account, request.term, request.head)


def any_head(current: Head | None, request: Appoint, balance: int) -> Head:
    check(current is None or request.term == current.term + 1, "wrong_term", "")
    return Head(request.account, request.term, request.head)


def the_same_term_again(current: Head | None, request: Appoint, balance: int) -> Head:
    check(len(request.head) == 32, "bad_head", "")
    check(current is not None or balance > 0, "empty_account", "")
    check(request.term >= (1 if current is None else current.term), "wrong_term", "")
    return Head(request.account, request.term, request.head)


def always_needs_money(current: Head | None, request: Appoint, balance: int) -> Head:
    check(balance > 0, "empty_account", "")
    return Head(request.account, request.term, request.head)


@pytest.mark.parametrize(
    ("mutant", "story"),
    [
        (any_later_term, lambda: test_another_term_than_the_next_is_refused(3)),
        (any_head, test_each_altered_field_is_refused),
        (the_same_term_again, test_of_two_in_one_block_the_first_wins),
        (always_needs_money, test_the_first_appointment_needs_money_and_later_ones_do_not),
    ],
)
def test_broken_ledgers_are_noticed(
    mutant: Callable[..., Head], story: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appointments, "appoint", mutant)
    monkeypatch.setattr(admission, "appoint", mutant)
    with pytest.raises(AssertionError):
        story()


def test_a_block_forgets_no_head_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that looks at the parent alone gives one term to two."""

    def careless(self: draft.Draft, request: Appoint) -> None:
        current = self.parent.appointed(request.account)
        self.changes.heads[request.account] = appointments.appoint(current, request, 1)

    monkeypatch.setattr(draft.Draft, "appoint", careless)
    with pytest.raises(AssertionError):
        test_of_two_in_one_block_the_first_wins()
