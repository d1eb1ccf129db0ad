"""A machine of one's own in the ledger: what it writes is kept, proven and bounded; what it refuses leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from msgspec import structs

from layer1 import merkle
from layer1.config import load_machine
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.admission import admit
from layer1.ledger.execute import execute
from layer1.ledger.genesis import from_json, to_json, validate
from layer1.ledger.image import collect
from layer1.ledger.records import leaf_hash, machine_key
from layer1.ledger.state import State
from layer1.ledger.transactions import Command
from layer1.proof import Trust, ValueProof, verify_value
from layer1.replica.weight import COMMAND_WEIGHT, bound, weight
from layer1.statemachine import MAX_ANSWER_CHARS, MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_WRITES, View
from tests.layer1.api import stand_in
from tests.layer1.api.stand_in import Chain
from tests.layer1.ledger.world import ALICE, BOB, World, make_genesis, records_root

Act = Callable[[View, bytes], str]


@dataclass
class Machine:
    """Does what a test says."""

    act: Act
    name: str = "test/1"

    def execute(self, view: View, sender: PublicKey, command: bytes, clock_ms: int) -> str:
        return self.act(view, command)


def note(view: View, command: bytes) -> str:
    """``key=text`` adds the text to what the key has; without a text, forgets the key; ``no`` refuses."""
    key, _, text = command.partition(b"=")
    before = view.get(key)
    view.set(key, (before or b"") + text if text else None)
    if text == b"no":
        raise Refused("not_wanted", "no is no note")
    return f"was {before!r}"


GENESIS = structs.replace(make_genesis(), machine="test/1")


def world_of(act: Act = note) -> World:
    """A ledger that runs this machine."""
    world = World()
    world.genesis, world.state = GENESIS, State.genesis(GENESIS, Machine(act))
    return world


def do(world: World, data: bytes, key: SigningKey = ALICE) -> tuple[str, str]:
    """Code and message of one command in a block of its own."""
    output = world.do(Command(key.public, data), key)
    return output.code, output.message


def value(state: State, key: bytes) -> bytes | None:
    """What the state has under a key, which its root agrees with."""
    found = state.value(machine_key(key))
    assert merkle.verify(state.root, machine_key(key), leaf_hash(found), state.prove(machine_key(key)))
    return found


def test_a_command_reads_writes_and_answers() -> None:
    world = world_of()
    assert do(world, b"a=1") == ("ok", "was None")
    assert do(world, b"a=2", BOB) == ("ok", "was b'1'")
    assert (value(world.state, b"a"), value(world.state, b"b")) == (b"12", None)
    root = records_root(world.state)
    assert do(world, b"c=1") == ("ok", "was None")
    assert records_root(world.state) != root
    assert do(world, b"c=") == ("ok", "was b'1'")
    assert value(world.state, b"c") is None
    assert records_root(world.state) == root, "a value that is no more leaves nothing behind"


def test_commands_of_one_block_see_each_other_and_those_of_a_sibling_do_not() -> None:
    world = world_of()
    one, two, three = (world.sign(Command(ALICE.public, b"a=%d" % i), ALICE) for i in range(3))
    start = world.state.wall_time
    left, right = execute(world.state, start + 1, [one, two]), execute(world.state, start + 1, [three])
    assert [output.message for output in left.outputs] == ["was None", "was b'0'"]
    assert (value(left.state, b"a"), value(right.state, b"a"), value(world.state, b"a")) == (b"01", b"2", None)
    above = execute(left.state, start + 2, [three])
    assert above.outputs[0].message == "was b'01'"


def many(count: int) -> Act:
    """Writes so many keys, the first of them twice."""

    def act(view: View, _command: bytes) -> str:
        for number in (0, *range(count)):
            view.set(b"key%d" % number, b"")
        return ""

    return act


def raises(error: Exception) -> Act:
    """Writes, and fails."""

    def act(view: View, _command: bytes) -> str:
        view.set(b"a", b"written")
        raise error

    return act


def sets(key: object, value: object) -> Act:
    """Writes this."""

    def act(view: View, _command: bytes) -> str:
        view.set(key, value)  # type: ignore[arg-type]  # as careless code does
        return ""

    return act


def says(answer: object) -> Act:
    """Writes, and answers this."""

    def act(view: View, _command: bytes) -> str:
        view.set(b"a", b"written")
        return answer  # type: ignore[return-value]  # as careless code does

    return act


REFUSED = {
    "its own": (raises(Refused("not_wanted", "no")), "not_wanted"),
    "no key": (sets(b"", b""), "bad_key"),
    "a long key": (sets(bytes(MAX_KEY_BYTES + 1), b""), "bad_key"),
    "a long value": (sets(b"a", bytes(MAX_VALUE_BYTES + 1)), "value_too_large"),
    "many writes": (many(MAX_WRITES + 1), "too_many_writes"),
    "a key that can change": (sets(bytearray(b"a"), b""), "machine_failed"),
    "a value that can change": (sets(b"a", bytearray(1)), "machine_failed"),
    "a bug": (raises(KeyError("a")), "machine_failed"),
    "a peer's fault": (raises(RemoteError("mine")), "machine_failed"),
    "a stop": (raises(LocalError("stop them all")), "machine_failed"),
    "no answer": (says(None), "machine_failed"),
    "bytes": (says(b""), "machine_failed"),
    "a long answer": (says("x" * (MAX_ANSWER_CHARS + 1)), "machine_failed"),
    "half a character": (says("\ud800"), "machine_failed"),
    "a refusal that says ok": (raises(Refused("ok", "")), "machine_failed"),
    "a long code": (raises(Refused("x" * 65, "")), "machine_failed"),
    "a code of control characters": (raises(Refused("a\n", "")), "machine_failed"),
    "no code": (raises(Refused(None, "")), "machine_failed"),  # type: ignore[arg-type]
    "long words": (raises(Refused("a", "x" * (MAX_ANSWER_CHARS + 1))), "machine_failed"),
    "words in halves": (raises(Refused("a", "\udfff")), "machine_failed"),
    "no words": (raises(Refused("a", None)), "machine_failed"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("act", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_changes_nothing_whatever_the_machine_did_before(act: Act, code: str) -> None:
    """An exception that is no refusal refuses the command: were it to stop replicas, one command ended the ledger."""
    world = world_of(act)
    root = records_root(world.state)
    found = do(world, b"a=no")
    assert found[0] == code
    assert records_root(world.state) == root
    assert do(world, b"a=no") == found, "the same words, whatever the exception's are"


@pytest.mark.parametrize(
    "act",
    [many(MAX_WRITES), sets(bytes(MAX_KEY_BYTES), bytes(MAX_VALUE_BYTES)), says("x" * MAX_ANSWER_CHARS)],
    ids=["writes", "sizes", "answer"],
)
def test_what_the_bounds_allow_is_done(act: Act) -> None:
    world = world_of(act)
    root = records_root(world.state)
    assert do(world, b"")[0] == "ok"
    assert records_root(world.state) != root


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()], ids=["memory", "stack"])
def test_what_depends_on_the_process_stops_it(error: Exception) -> None:
    """Another replica may have had the memory: an answer here could contradict its."""
    with pytest.raises(LocalError, match=r"test/1 could not execute a command of 3 bytes"):
        do(world_of(raises(error)), b"a=1")


def test_nobody_commands_without_money_or_a_machine() -> None:
    world, plain, poor = world_of(), World(), SigningKey(b"p" * 32)
    for ledger, key, code in ((world, poor, "insufficient_balance"), (plain, ALICE, "no_machine")):
        transaction = ledger.sign(Command(key.public, b"a=1"), key)
        with pytest.raises(Refused) as refusal:
            admit(ledger.state, transaction)
        root = records_root(ledger.state)
        assert refusal.value.code == ledger.block(transaction).outputs[0].code == code
        assert records_root(ledger.state) == root
    admit(world.state, world.sign(Command(ALICE.public, b"a=1"), ALICE))


def test_the_genesis_says_which_machine_runs() -> None:
    """ "name + version in Genesis": a replica with other code does not start."""
    assert from_json(to_json(GENESIS)) == GENESIS
    assert GENESIS.chain_id != make_genesis().chain_id
    for machine in (None, Machine(note, "test/2")):
        with pytest.raises(LocalError, match=r"'test/1', this replica has '(test/2)?'"):
            State.genesis(GENESIS, machine)
    with pytest.raises(LocalError, match="runs the machine '', this replica has 'test/1'"):
        State.genesis(make_genesis(), Machine(note))
    for name in ("two words", "x" * 65, "ä"):
        with pytest.raises(Refused, match="is called like"):
            validate(structs.replace(GENESIS, machine=name))


def test_a_snapshot_and_a_checkpoint_hold_the_values() -> None:
    world = world_of()
    for number in range(120):
        world.block(world.sign(Command(ALICE.public, b"key%d=%d" % (number, number)), ALICE))
    do(world, b"key7=")
    state, machine = world.state, Machine(note)
    restored = State.restore(GENESIS, state.snapshot(), machine)
    image = state.image()
    do(world, b"key8=later")
    assembled = State.assemble(GENESIS, collect(image.pieces()), (state.height, state.clock, state.wall_time), machine)
    for found in (restored, assembled):
        assert found.root == state.root
        assert [value(found, key) for key in (b"key7", b"key8", b"key119")] == [None, b"8", b"119"]
    assert value(world.state, b"key8") == b"8later"


def test_a_command_weighs_what_its_writes_cost() -> None:
    """And no ledger has parameters under which it would be too heavy."""
    command = world_of().sign(Command(ALICE.public, b""), ALICE)
    assert weight(command) == 1 + COMMAND_WEIGHT <= bound(command, make_genesis(max_members=2).parameters)


def test_a_value_is_proven_from_the_genesis_alone_and_nothing_else_is() -> None:
    genesis = structs.replace(stand_in.make_genesis(), machine="test/1")
    chain = Chain(genesis, Machine(note))
    command = Command(stand_in.ALICE.public, b"a=1")
    chain.commit([stand_in.signed(genesis, command, [stand_in.ALICE], 500_000, 1)])
    trust = Trust(genesis)

    def answer(key: bytes) -> ValueProof:
        place = machine_key(key)
        return ValueProof(chain.head, chain.state.value(place), chain.state.prove(place))

    assert verify_value(trust, b"a", answer(b"a")).value == b"1"
    assert verify_value(trust, b"b", answer(b"b")).value is None
    for key, forged in (
        (b"a", structs.replace(answer(b"a"), value=b"2")),
        (b"a", structs.replace(answer(b"a"), value=None)),
        (b"a", structs.replace(answer(b"a"), value=b"")),
        (b"b", structs.replace(answer(b"b"), value=b"1")),
        (b"b", answer(b"a")),
        (b"a", answer(b"b")),
    ):
        with pytest.raises(RemoteError, match="does not lead from the record of key"):
            verify_value(trust, key, forged)
    other = structs.replace(genesis, machine="test/2")
    with pytest.raises(RemoteError):
        verify_value(Trust(other), b"a", answer(b"a"))


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("no_such_module_at_all:M", "No module named"),
        ("examples.own_machine", "no colon"),
        ("examples.own_machine:NOBODY", "NOBODY"),
        ("examples.own_machine:main", "no name or cannot execute"),
        (":x", "Empty module name"),
    ],
)
def test_a_machine_that_cannot_be_imported_stops_the_start(place: str, wrong: str) -> None:
    with pytest.raises(LocalError, match=wrong):
        load_machine(place)
