"""What hostile people tried against the ledger: stop it, or make replicas disagree, with numbers of any size.

An exception other than a refusal would stop every replica at the same block.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.errors import Refused
from layer1.ledger.admission import admit
from layer1.ledger.genesis import MAX_MONEY, MAX_TERM_VIEWS, validate
from layer1.ledger.transactions import Appoint, OpenGroup, Payload, Reveal, Transaction, Transfer
from tests.layer1.ledger.changes import top_up
from tests.layer1.ledger.world import ALICE, BOB, CAROL, Party, World, make_genesis, make_party

NUMBERS = (0, -1, 1, 2, 2**63, 2**64 - 1, -(2**63), MAX_MONEY, MAX_MONEY + 1)
BYTES = (b"", bytes(32), b"\xff" * 32, b"x" * 31, b"y" * 5_000)
TEXTS = ("", "\0", "é" * 70, "x")


def twist(dice: random.Random, value: Any, rate: float) -> Any:
    """`value` with some of its fields replaced by the worst that the encoding can carry."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return structs.replace(value, **{name: twist(dice, getattr(value, name), rate) for name in names})
    if isinstance(value, tuple):
        items = tuple(twist(dice, item, rate) for item in value)
        return dice.choice(((), items * 2, items[1:])) if dice.random() < rate / 2 else items
    if value is None or dice.random() >= rate:
        return value
    for kind, odd in ((int, NUMBERS), (bytes, BYTES), (str, TEXTS)):
        if isinstance(value, kind):
            return dice.choice(odd)
    return value


def honest(dice: random.Random, world: World, party: Party, number: int) -> Payload:
    members, total = len(party.keys), party.agreement.funding_units
    balances = [0] * members
    balances[dice.randrange(members)] = total
    state = party.state(dice.choice((0, 1, 2, 3, MAX_MONEY)), *balances)
    header, member = state[0].header, dice.randrange(members)
    match dice.randrange(11):
        case 0:
            return party.wedge(member, state)
        case 1:
            claims = [party.claim(i, header.version, header) for i in range(dice.randrange(2))]
            return party.report(state, *claims, double=dice.choice((None, party.double(member))))
        case 2:
            return party.final(*balances)
        case 3:
            return OpenGroup(make_party(world.chain_id, [ALICE, BOB], name=f"other {number}").agreement)
        case 4:
            return party.plea(member)
        case 5:
            return Reveal(party.id, state[1])
        case 6:
            return structs.replace(party.concur(member, header.version), certificate=state[0])
        case 7:
            return party.guarded((state[0], None), member, ALICE, dice.choice((0, 5, MAX_MONEY)))
        case 8:
            return party.wedge(member, (state[0], None))
        case 9:
            return dice.choice((Appoint(ALICE.public, 1, bytes(32)), top_up(world, party, ALICE)))
        case _:
            return Transfer(ALICE.public, BOB.public, dice.choice((*NUMBERS, 5)))


def test_no_member_makes_a_record_large_by_its_word_alone() -> None:
    """The header of a claim is kept, and its version k need not be certified: who claims can write there what it likes.

    A record of many such claims would be in every checkpoint, every proof and every answer about the group.
    """
    world = World()
    party = world.opened()
    honest_one = party.header(1, party.body(1, (0, 2_000)))
    for name in ("parent", "log_root", "body_hash"):
        for odd in (b"p" * 15_000, b"", b"p" * 31):
            highest = structs.replace(honest_one, **{name: odd})
            assert world.do(party.wedge(0, party.state(0), highest=highest)).code == "bad_claim"
    assert world.do(party.wedge(0, party.state(0), highest=honest_one)).code == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_encoding_can_carry_is_executed_or_refused(seed: int) -> None:
    dice, world = random.Random(seed), World()
    party = world.opened(ALICE, BOB, CAROL)
    codes = set()
    for number in range(400):
        if world.group(party).status == "closed":
            party = world.opened(ALICE, BOB, CAROL, name=f"g{number}")
        payload = twist(dice, honest(dice, world, party, number), dice.choice((0, 0.02, 0.1, 0.4)))
        sent = Transaction(payload, world.state.clock + 1_000, number.to_bytes(16, "big"))
        received = decode(encode(sent), Transaction)
        try:
            admit(world.state, received)
        except Refused as refusal:
            encode(refusal.message)
        done = world.block(received, after_ms=dice.choice((0, 1, 20_000)))
        encode((done.outputs, done.events))
        codes |= {output.code for output in done.outputs}
    assert len(codes) > 10, "the dice must reach most refusals"


def test_a_term_is_short_enough_to_be_looked_through_at_every_vote() -> None:
    validate(make_genesis(term_views=MAX_TERM_VIEWS))
    with pytest.raises(Refused, match="term_views"):
        validate(make_genesis(term_views=MAX_MONEY))
