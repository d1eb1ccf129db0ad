"""Proofs: the true ones hold, and a change anywhere in one is refused, with a word that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layer1 import merkle
from layer1.codec import decode, encode
from layer1.consensus.evidence import EvidenceKind
from layer1.consensus.messages import Finalization
from layer1.errors import RemoteError
from layer1.ledger.agreements import Lock
from layer1.ledger.genesis import Parameters, genesis_header
from layer1.ledger.records import (
    REPLICA_SET_KEY,
    Account,
    Bounty,
    ClosedLock,
    Delegate,
    Forfeit,
    Reason,
    Status,
    account_key,
    group_key,
    mark_key,
)
from layer1.proof import (
    MAX_PATH,
    AccountProof,
    BlockProof,
    GroupProof,
    GroupsProof,
    HeadProof,
    MarksProof,
    OutputProof,
    Trust,
    check_fresh,
    max_age_ms,
    verify_account,
    verify_block,
    verify_group,
    verify_groups,
    verify_head,
    verify_marks,
    verify_output,
)
from tests.layer1.api.stand_in import ALICE, BOB, CAROL, REPLICAS, Chain, make_genesis

replace = msgspec.structs.replace

CHAIN = Chain(make_genesis(1_700_000_000_000))
OPENING, TRANSFER = CHAIN.opening(), CHAIN.transfer(5)
FIRST = CHAIN.commit([OPENING, TRANSFER, CHAIN.transfer(10**9)], 1_700_000_001_000)
OLD_STATE_PROOF = CHAIN.state.prove(account_key(ALICE.public))
CHAIN.commit([CHAIN.transfer(1), CHAIN.accusation(1)], 1_700_000_002_000)
LAST = CHAIN.commit([], 1_700_000_003_000)
GENESIS = CHAIN.genesis
GROUP_ID = FIRST.outputs[0].group_id or b""
assert GROUP_ID, FIRST.outputs
HEAD = HeadProof(LAST.header, (), LAST.finalization)


def _account(key: bytes = ALICE.public) -> AccountProof:
    return AccountProof(HEAD, CHAIN.state.account(key), CHAIN.state.prove(account_key(key)))


def _group(name: bytes = GROUP_ID) -> GroupProof:
    return GroupProof(HEAD, CHAIN.state.group(name), CHAIN.state.prove(group_key(name)))


def _marks() -> MarksProof:
    keys = GENESIS.replicas
    marks = tuple(CHAIN.state.mark(key) for key in keys)
    replicas, proof = CHAIN.state.replica_set, CHAIN.state.prove(REPLICA_SET_KEY)
    return MarksProof(HEAD, replicas, proof, marks, tuple(CHAIN.state.prove(mark_key(key)) for key in keys))


def _output(index: int = 0) -> OutputProof:
    leaves = [output.hash for output in FIRST.outputs]
    head = HeadProof(FIRST.header, (), FIRST.finalization)
    return OutputProof(head, FIRST.outputs[index], merkle.prove_index(leaves, index))


def test_true_proofs_hold_and_survive_their_encoding() -> None:
    account = decode(encode(_account()), AccountProof)
    assert verify_account(Trust(GENESIS), ALICE.public, account).value.balance == 1_000_000 - 110 - 5 - 1
    assert verify_account(Trust(GENESIS), ALICE.public, account).header == LAST.header
    group = decode(encode(_group()), GroupProof)
    assert verify_group(Trust(GENESIS), GROUP_ID, group).value == CHAIN.state.group(GROUP_ID)
    for index, transaction in enumerate(FIRST.transactions):
        output = decode(encode(_output(index)), OutputProof)
        assert verify_output(Trust(GENESIS), transaction.id, output).value == FIRST.outputs[index]
    block = BlockProof(_output().head, FIRST.outputs)
    assert verify_block(Trust(GENESIS), decode(encode(block), BlockProof)).value == FIRST.outputs


def test_absence_is_proven() -> None:
    assert verify_account(Trust(GENESIS), CAROL.public, _account(CAROL.public)).value == Account(0)
    assert verify_group(Trust(GENESIS), bytes(32), _group(bytes(32))).value is None


def test_absence_is_not_proven_of_what_is_there() -> None:
    with pytest.raises(RemoteError, match="does not lead"):
        verify_account(Trust(GENESIS), ALICE.public, replace(_account(), account=Account(0)))
    with pytest.raises(RemoteError, match="does not lead"):
        verify_group(Trust(GENESIS), GROUP_ID, replace(_group(), group=None))
    with pytest.raises(RemoteError, match="does not lead"):
        verify_group(Trust(GENESIS), GROUP_ID, replace(_group(bytes(32)), group=None))


def test_marks_are_proven_and_so_is_their_absence() -> None:
    verified = verify_marks(Trust(GENESIS), decode(encode(_marks()), MarksProof))
    assert verified.header == LAST.header
    assert [mark is not None for mark in verified.value.marks] == [False, True, False, False]
    mark = verified.value.marks[1]
    assert mark is not None
    assert (mark.number, mark.transaction_id) == (1, CHAIN.blocks[1].transactions[1].id)


def test_every_field_of_a_mark_is_proven() -> None:
    answer = _marks()
    mark = answer.marks[1]
    assert mark is not None
    changes: dict[str, Any] = {
        "replica": GENESIS.replicas[0],
        "epoch": 1,
        "number": 2,
        "kind": EvidenceKind.FINALIZED_TWICE,
        "evidence_id": bytes(32),
        "transaction_id": bytes(32),
        "clock_ms": mark.clock_ms + 1,
    }
    assert set(changes) == set(mark.__struct_fields__)
    for field, value in changes.items():
        marks = (None, replace(mark, **{field: value}), None, None)
        with pytest.raises(RemoteError, match=r"does not lead|is of key"):
            verify_marks(Trust(GENESIS), replace(answer, marks=marks))


def test_marks_left_out_made_up_or_of_another_replica_are_refused() -> None:
    answer = _marks()
    mark = answer.marks[1]
    for marks in ((None,) * 4, (mark, None, None, None), (None, mark, mark, None)):
        with pytest.raises(RemoteError, match=r"does not lead|is of key"):
            verify_marks(Trust(GENESIS), replace(answer, marks=marks))
    for count in (0, 3):
        with pytest.raises(RemoteError, match="for 4 replicas"):
            verify_marks(Trust(GENESIS), replace(answer, marks=answer.marks[:count], proofs=answer.proofs[:count]))


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(RemoteError, match="does not lead"):
        verify_account(Trust(GENESIS), BOB.public, _account())
    with pytest.raises(RemoteError, match="the record is of group"):
        verify_group(Trust(GENESIS), bytes(32), _group())
    with pytest.raises(RemoteError, match="the output is of"):
        verify_output(Trust(GENESIS), TRANSFER.id, _output(0))


def test_a_record_of_another_height_is_refused() -> None:
    with pytest.raises(RemoteError, match="does not lead"):
        verify_account(Trust(GENESIS), ALICE.public, replace(_account(), proof=OLD_STATE_PROOF))


def test_the_genesis_header_needs_no_certificate_and_no_other_has_height_0() -> None:
    head = HeadProof(genesis_header(GENESIS), (), None)
    assert verify_head(Trust(GENESIS), head).height == 0
    with pytest.raises(RemoteError, match="genesis makes it"):
        verify_head(Trust(GENESIS), replace(head, header=replace(head.header, clock=1)))
    with pytest.raises(RemoteError, match="only genesis needs none"):
        verify_head(Trust(GENESIS), replace(HEAD, finalization=None))


def test_a_finalization_of_a_descendant_counts_with_the_path_to_it() -> None:
    first, second, third = CHAIN.headers[1:4]
    head = HeadProof(first, (second, third), LAST.finalization)
    assert verify_head(Trust(GENESIS), head) == first
    for path in ((), (second,), (third,), (third, second), (second, third, third), (first, second, third)):
        with pytest.raises(RemoteError, match="path"):
            verify_head(Trust(GENESIS), replace(head, path=path))


def test_a_long_path_is_refused_before_it_is_read() -> None:
    with pytest.raises(RemoteError, match=f"{MAX_PATH + 1} headers"):
        verify_head(Trust(GENESIS), replace(HEAD, path=(HEAD.header,) * (MAX_PATH + 1)))


def _finalization(**changes: Any) -> HeadProof:
    assert HEAD.finalization is not None
    return replace(HEAD, finalization=replace(HEAD.finalization, **changes))


def _certified_by(signatures: tuple[tuple[int, bytes], ...]) -> HeadProof:
    return _finalization(signatures=signatures)


def test_a_certificate_needs_a_quorum_of_distinct_replicas() -> None:
    votes = tuple(
        (vote.replica, vote.signature)
        for vote in (signer.finalize(LAST.header.view, LAST.header.id) for signer in CHAIN.signers)
    )
    assert verify_head(Trust(GENESIS), _certified_by(votes[1:])) == LAST.header
    for wrong in (
        (),
        votes[:2],
        votes,
        (votes[0], votes[0], votes[1]),
        (votes[2], votes[1], votes[0]),
        ((7, votes[0][1]), *votes[1:3]),
        (*votes[:2], (2, votes[3][1])),
        (*votes[:2], (2, bytes(64))),
        (*votes[:2], (2, b"")),
        ((-1, votes[0][1]), *votes[1:3]),
    ):
        with pytest.raises(RemoteError):
            verify_head(Trust(GENESIS), _certified_by(wrong))


def test_a_notarization_or_a_certificate_of_another_chain_is_none() -> None:
    signer = CHAIN.signers[0]
    notarize = [s.notarize(LAST.header.view, LAST.header.id) for s in CHAIN.signers[:3]]
    with pytest.raises(RemoteError, match="bad signature"):
        verify_head(Trust(GENESIS), _certified_by(tuple((vote.replica, vote.signature) for vote in notarize)))
    other = Chain(make_genesis(1_700_000_000_000, name="other"))
    assert other.genesis.replicas == GENESIS.replicas
    assert signer is not other.signers[0]
    votes = [s.finalize(LAST.header.view, LAST.header.id) for s in other.signers[:3]]
    with pytest.raises(RemoteError, match="bad signature"):
        verify_head(Trust(GENESIS), _certified_by(tuple((vote.replica, vote.signature) for vote in votes)))


def test_another_replica_set_is_refused() -> None:
    mine = replace(GENESIS, replicas=tuple(key.public for key in reversed(REPLICAS)))
    with pytest.raises(RemoteError, match="replica set"):
        verify_head(Trust(mine), HEAD)
    with pytest.raises(RemoteError, match="epoch 1"):
        verify_head(Trust(GENESIS), replace(HEAD, header=replace(HEAD.header, epoch=1)))


@pytest.mark.parametrize("field", LAST.header.__struct_fields__)
def test_every_field_of_the_header_is_certified(field: str) -> None:
    old = getattr(LAST.header, field)
    changed = old + 1 if isinstance(old, int) else bytes(31) + b"\1"
    with pytest.raises(RemoteError):
        verify_head(Trust(GENESIS), replace(HEAD, header=replace(HEAD.header, **{field: changed})))


@pytest.mark.parametrize("field", Finalization.__struct_fields__)
def test_every_field_of_the_finalization_is_checked(field: str) -> None:
    assert HEAD.finalization is not None
    old = getattr(HEAD.finalization, field)
    changed: Any = old + 1 if isinstance(old, int) else bytes(32) if isinstance(old, bytes) else old[:-1]
    with pytest.raises(RemoteError):
        verify_head(Trust(GENESIS), _finalization(**{field: changed}))


def _outputs() -> Iterator[tuple[Any, ...]]:
    shown = FIRST.outputs[0]
    yield (replace(shown, code="other"),)
    yield (replace(shown, message="x"),)
    yield (replace(shown, group_id=None),)


@pytest.mark.parametrize("output", [row[0] for row in _outputs()])
def test_every_field_of_an_output_is_proven(output: Any) -> None:
    with pytest.raises(RemoteError, match="does not lead"):
        verify_output(Trust(GENESIS), OPENING.id, replace(_output(), output=output))
    with pytest.raises(RemoteError, match="have the root"):
        verify_block(Trust(GENESIS), BlockProof(_output().head, (output, *FIRST.outputs[1:])))


def test_outputs_left_out_added_or_reordered_are_refused() -> None:
    head, outputs = _output().head, FIRST.outputs
    for wrong in ((), outputs[1:], outputs[:-1], outputs[::-1], (*outputs, outputs[0])):
        with pytest.raises(RemoteError, match="have the root"):
            verify_block(Trust(GENESIS), BlockProof(head, wrong))


def test_every_field_of_a_group_is_proven() -> None:
    group = CHAIN.state.group(GROUP_ID)
    assert group is not None
    assert group.body is not None
    changes: dict[str, Any] = {
        "group_id": None,  # another group's record is refused before its place in the tree is looked at
        "agreement": replace(group.agreement, challenge_period_ms=1),
        "epoch": 1,
        "status": Status.WEDGED,
        "opened_clock_ms": 0,
        "origin": replace(group.origin, epoch=1),
        "certificate": replace(group.certificate, signatures=(bytes(64),)),
        "body": replace(group.body, balances=(150, 0)),
        "claims": (None,),
        "forfeits": (Forfeit.LIE, None),
        "pleas": (True, False),
        "concurs": (True, False),
        "delegates": (Delegate(ALICE.public, 1, 0), None),
        "wedged_by": 0,
        "deadline_ms": 5,
        "revealing": Reason.CLAIMS,
        "payouts": (1, 2),
        "bounties": (Bounty(0, ALICE.public, 1),),
        "locks": (ClosedLock(Lock(1, 0, 1, 5, bytes(32), 9), 9),),
        "reason": Reason.FINAL,
        "closed_clock_ms": 5,
        "wedged_clock_ms": 5,
    }
    assert set(changes) == set(group.__struct_fields__)
    with pytest.raises(RemoteError, match="the record is of group"):
        verify_group(Trust(GENESIS), GROUP_ID, replace(_group(), group=replace(group, group_id=bytes(32))))
    del changes["group_id"]
    for field, value in changes.items():
        with pytest.raises(RemoteError, match="does not lead"):
            verify_group(Trust(GENESIS), GROUP_ID, replace(_group(), group=replace(group, **{field: value})))


def test_several_groups_are_proven_under_one_header() -> None:
    absent = bytes(32)
    proofs = (CHAIN.state.prove(group_key(GROUP_ID)), CHAIN.state.prove(group_key(absent)))
    answer = GroupsProof(HEAD, (CHAIN.state.group(GROUP_ID), None), proofs)
    ids = [GROUP_ID, absent]
    assert verify_groups(Trust(GENESIS), ids, answer).value == answer.groups
    there = answer.groups[0]
    wrong = {
        "1 groups and 2 proofs for 2 ids": replace(answer, groups=(there,)),
        "2 groups and 1 proofs for 2 ids": replace(answer, proofs=proofs[:1]),
        "the record is of group": replace(answer, groups=(there, there)),
        "does not lead from the record of group": replace(answer, groups=(None, None)),
    }
    for why, lie in wrong.items():
        with pytest.raises(RemoteError, match=why):
            verify_groups(Trust(GENESIS), ids, lie)
    with pytest.raises(RemoteError, match="the record is of group"):
        verify_groups(Trust(GENESIS), ids[::-1], answer)


VERIFIERS: list[tuple[type, bytes, Callable[[Any], object]]] = [
    (AccountProof, encode(_account()), lambda proof: verify_account(Trust(GENESIS), ALICE.public, proof)),
    (GroupProof, encode(_group()), lambda proof: verify_group(Trust(GENESIS), GROUP_ID, proof)),
    (OutputProof, encode(_output()), lambda proof: verify_output(Trust(GENESIS), OPENING.id, proof)),
    (MarksProof, encode(_marks()), lambda proof: verify_marks(Trust(GENESIS), proof)),
    (BlockProof, encode(BlockProof(_output().head, FIRST.outputs)), lambda proof: verify_block(Trust(GENESIS), proof)),
]


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    """Bit flips, cuts and junk either do not decode or do not verify; nothing else is ever raised."""
    kind, encoded, check = data.draw(st.sampled_from(VERIFIERS))
    check(decode(encoded, kind))
    place = data.draw(st.integers(0, len(encoded) - 1))
    changed = bytearray(encoded)
    changed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteError):
        check(decode(bytes(changed), kind))


def test_freshness_is_judged_by_the_readers_clock() -> None:
    parameters = Parameters(heartbeat_ms=10_000, view_timeout_ms=1_000, drift_bound_ms=2_000)
    header, most = LAST.header, 26_000
    assert max_age_ms(parameters) == most
    check_fresh(header, header.wall_time + most, parameters)
    check_fresh(header, header.wall_time - 4_000, parameters)
    with pytest.raises(RemoteError, match="26001 ms old, a healthy ledger's newest is at most 26000 ms"):
        check_fresh(header, header.wall_time + most + 1, parameters)
    with pytest.raises(RemoteError, match="4001 ms from now, 4000 ms are allowed"):
        check_fresh(header, header.wall_time - 4_001, parameters)
