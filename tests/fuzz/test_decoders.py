"""Every decoder, with input that is right, almost right, and noise: a value of one encoding, or a typed error."""

from __future__ import annotations

import random
import tracemalloc

import msgspec
import pytest

from layer1.codec import decode, encode
from layer1.errors import RemoteError
from tests.fuzz.generate import value
from tests.fuzz.mutate import HUGE, mutated
from tests.fuzz.places import places
from tests.fuzz.run import Finding, feed, inputs
from tests.fuzz.targets import TARGETS, Target

INPUTS = 300
"""Of each target here; `python -m tests.fuzz` goes on with fresh ones."""
SPARE_BYTES = 16 * 2**20
"""More than the largest input times what its values take; far less than what a promise of four gigabytes would."""

pytestmark = pytest.mark.slow


def test_every_decoder_has_a_target() -> None:
    """A new one fails this until it gets a target; one that is gone, until its name is."""
    covered = {place for target in TARGETS for place in target.covers}
    assert places() == covered
    assert len(covered) > 40


def test_names_are_unique() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_refused_with_a_typed_error(target: Target) -> None:
    """In bounded time, and in bounded memory: what a head promises is not set aside before it comes."""
    given = inputs(target, 0, INPUTS)
    tracemalloc.start()
    try:
        taken, refused = feed(target, 0, given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken + refused == INPUTS
    assert peak < SPARE_BYTES


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_inputs_reach_what_lies_behind_the_form(target: Target) -> None:
    """Fuzzing that is always refused at the door tests the door. Some inputs are in the right form."""
    forms = 0
    for data in inputs(target, 1, 40):
        try:
            target.read(data)
            forms += 1
        except target.errors as error:
            forms += "do not decode" not in str(error) and "not the canonical" not in str(error)
    assert forms > 0 or not target.errors


def test_a_wrong_decoder_is_found() -> None:
    """The three kinds of decoders that must not be: one that crashes, one that is lax, one that never ends well."""

    def crashes(data: bytes) -> object:
        return msgspec.msgpack.decode(data, type=tuple[int, ...])[0]

    def lax(data: bytes) -> None:
        found = msgspec.msgpack.decode(data, type=tuple[int, ...])
        assert encode(found) == data

    def hashable(data: bytes) -> None:
        hash(msgspec.msgpack.decode(data))

    for read in (crashes, lax, hashable):
        made = Target("wrong", read, (msgspec.MsgspecError,), lambda rng: encode(value(tuple[int, ...], rng)))
        with pytest.raises(Finding, match="again: python"):
            feed(made, 0, inputs(made, 0, INPUTS))


def test_the_same_seed_makes_the_same_inputs() -> None:
    target = next(each for each in TARGETS if each.name == "link message")
    assert inputs(target, 5, 100) == inputs(target, 5, 100)
    assert inputs(target, 5, 100) != inputs(target, 6, 100)


def test_mutations_are_of_all_kinds() -> None:
    """Half of them still decode as something: they are wrong further inside. Some are the same value in other bytes."""
    rng, data = random.Random(0), encode((1, b"x" * 40, ("a", None, (2**40, True))))
    made = [mutated(data, [data, encode((5,))], rng) for _ in range(2_000)]
    well_formed = same = promises = deep = 0
    for each in made:
        promises += any(head in each for head in HUGE[:5])
        deep += len(each) > 50_000
        try:
            found = msgspec.msgpack.decode(each)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            continue
        well_formed += 1
        same += found == msgspec.msgpack.decode(data) and each != data
    assert well_formed > 600
    assert min(same, promises, deep) > 20


@pytest.mark.parametrize("kind", [int, tuple[bytes, ...], tuple[int | None, str]])
def test_the_codec_takes_one_encoding_of_each_value(kind: type) -> None:
    rng, taken = random.Random(0), 0
    for _ in range(500):
        data = encode(value(kind, rng))
        other = mutated(data, [data], rng)
        try:
            assert encode(decode(other, kind)) == other
            taken += 1
        except RemoteError:
            pass
    assert taken > 10
