"""Evidence: what proves a lie and what does not, what a replica notices, and that no honest replica is ever caught."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.consensus import evidence
from layer1.consensus.certificates import Checker, Signer, Vote, view_of, votes_of
from layer1.consensus.events import Accuse, CaughtUp, Commit, Validated
from layer1.consensus.evidence import Evidence, EvidenceKind, Witness, pair, verify
from layer1.consensus.messages import (
    Finalization,
    Finalize,
    Message,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
)
from layer1.errors import LocalError, Refused, RemoteError
from tests.layer1.consensus.network import Network, SafetyError, child, config, genesis, key_of, voters_of
from tests.layer1.consensus.network import verify as memo
from tests.layer1.consensus.scenarios import chaos
from tests.layer1.consensus.test_rules import OTHER, Bench, of
from tests.simulation.mutants.consensus import finalizes_after_nullify, forgets_votes
from tests.simulation.mutants.registry import Break

LIAR = 2
LOW, HIGH = bytes(32), bytes([1] * 32)
CONFIG = config(term_views=8)
VOTERS = voters_of(CONFIG)
SIGNER = Signer(CONFIG, key_of(LIAR), LIAR)
CASES: dict[EvidenceKind, Callable[[Signer], tuple[Vote, Vote]]] = {
    EvidenceKind.NOTARIZED_TWICE: lambda s: (s.notarize(10, LOW), s.notarize(10, HIGH)),
    EvidenceKind.FINALIZED_TWICE: lambda s: (s.finalize(10, LOW), s.finalize(10, HIGH)),
    EvidenceKind.FINALIZED_AND_NULLIFIED: lambda s: (s.finalize(10, HIGH), s.nullify(9)),
}


def made(kind: EvidenceKind) -> Evidence:
    found = pair(*CASES[kind](SIGNER))
    assert found is not None
    return found


def refusal(found: Evidence, **other: Any) -> str:
    with pytest.raises(Refused) as error:
        verify(found, structs_or(other))
    assert error.value.message
    return error.value.code


def structs_or(changes: dict[str, Any]) -> evidence.Voters:
    return evidence.Voters(**{name: changes.get(name, getattr(VOTERS, name)) for name in VOTERS.__slots__})


@pytest.mark.parametrize("kind", EvidenceKind)
def test_each_kind_is_proven_by_its_two_votes_in_whatever_order_they_came(kind: EvidenceKind) -> None:
    """One pair has one encoding and one id."""
    one, other = CASES[kind](SIGNER)
    found, turned = pair(one, other), pair(other, one)
    assert found is not None
    verify(found, VOTERS)
    assert found == turned
    assert (found.kind, found.replica, found.epoch) == (kind, LIAR, 0)
    assert decode(encode(found), Evidence) == found


def test_the_id_names_what_was_said_not_how_it_was_signed() -> None:
    """A signer has many signatures of one vote; they are no new contradictions."""
    ids = {made(kind).id for kind in EvidenceKind}
    assert len(ids) == len(EvidenceKind)
    found = made(EvidenceKind.NOTARIZED_TWICE)
    resigned = structs.replace(found, first=structs.replace(found.first, signature=bytes(64)))
    assert resigned.id == found.id and encode(resigned) != encode(found)


@pytest.mark.parametrize(
    ("one", "other", "code"),
    [
        (SIGNER.notarize(10, LOW), SIGNER.notarize(10, LOW), "same_block"),
        (SIGNER.finalize(10, LOW), SIGNER.finalize(10, LOW), "same_block"),
        (SIGNER.notarize(10, LOW), SIGNER.notarize(11, HIGH), "different_views"),
        (SIGNER.finalize(10, LOW), SIGNER.finalize(11, HIGH), "different_views"),
        (SIGNER.finalize(10, LOW), SIGNER.nullify(11), "range_without_view"),
        (SIGNER.finalize(16, LOW), SIGNER.nullify(10), "range_without_view"),
        (SIGNER.finalize(7, LOW), SIGNER.nullify(8), "range_without_view"),
        (SIGNER.notarize(10, LOW), SIGNER.nullify(10), "no_contradiction"),
        (SIGNER.notarize(10, LOW), SIGNER.finalize(10, HIGH), "no_contradiction"),
        (SIGNER.finalize(10, LOW), SIGNER.notarize(10, HIGH), "no_contradiction"),
    ],
)
def test_what_an_honest_replica_may_cast_is_no_evidence(one: Any, other: Any, code: str) -> None:
    assert refusal(Evidence(one, other)) == code


def test_pairs_that_never_contradict_are_not_even_made() -> None:
    """Notarize and nullify may stand together (rule 3); so may two ranges, which the encoding cannot even hold."""
    assert pair(SIGNER.notarize(10, LOW), SIGNER.nullify(10)) is None
    assert pair(SIGNER.nullify(9), SIGNER.nullify(10)) is None
    assert pair(SIGNER.finalize(10, LOW), SIGNER.notarize(10, HIGH)) is None
    with pytest.raises(RemoteError):
        decode(encode((encode(SIGNER.nullify(9)), encode(SIGNER.nullify(10)))), Evidence)


@pytest.mark.parametrize(("start", "last"), [(8, 15), (9, 15), (15, 15)])
def test_a_range_ends_with_its_term(start: int, last: int) -> None:
    """nullify(view .. end of its term), with eight views in a term."""
    for view in range(1, 24):
        found = Evidence(SIGNER.finalize(view, LOW), SIGNER.nullify(start))
        if start <= view <= last:
            verify(found, VOTERS)
        else:
            assert refusal(found) == "range_without_view"


TWICE: list[tuple[str, dict[str, Any], str]] = [
    ("first", {"epoch": 1}, "wrong_epoch"),
    ("second", {"epoch": 1}, "wrong_epoch"),
    ("first", {"replica": 1}, "different_replicas"),
    ("second", {"replica": 1}, "different_replicas"),
    ("first", {"view": 11}, "different_views"),
    ("second", {"view": 11}, "different_views"),
    ("first", {"view": 0}, "bad_vote"),
    ("first", {"view": -(2**63)}, "bad_vote"),
    ("second", {"view": 2**62}, "bad_vote"),
    ("first", {"block": bytes([2] * 32)}, "bad_order"),
    ("first", {"block": bytes(31) + b"x"}, "bad_signature"),
    ("second", {"block": bytes([2] * 32)}, "bad_signature"),
    ("first", {"block": HIGH}, "same_block"),
    ("first", {"block": b""}, "bad_vote"),
    ("second", {"block": bytes(33)}, "bad_vote"),
    ("first", {"signature": bytes(64)}, "bad_signature"),
    ("second", {"signature": b""}, "bad_signature"),
]
BOTH: list[tuple[str, dict[str, Any], str]] = [
    ("first", {"epoch": 1}, "wrong_epoch"),
    ("second", {"epoch": 1}, "wrong_epoch"),
    ("first", {"replica": 1}, "different_replicas"),
    ("second", {"replica": 1}, "different_replicas"),
    ("first", {"view": 11}, "bad_signature"),
    ("first", {"view": 8}, "range_without_view"),
    ("first", {"view": 0}, "bad_vote"),
    ("first", {"block": LOW}, "bad_signature"),
    ("first", {"block": b""}, "bad_vote"),
    ("second", {"start": 10}, "bad_signature"),
    ("second", {"start": 11}, "range_without_view"),
    ("second", {"start": 0}, "bad_vote"),
    ("second", {"start": 2**62}, "bad_vote"),
    ("first", {"signature": bytes(64)}, "bad_signature"),
    ("second", {"signature": bytes(64)}, "bad_signature"),
]
PERTURBED = [
    *((EvidenceKind.NOTARIZED_TWICE, *row) for row in TWICE),
    *((EvidenceKind.FINALIZED_TWICE, *row) for row in TWICE),
    *((EvidenceKind.FINALIZED_AND_NULLIFIED, *row) for row in BOTH),
]


@pytest.mark.parametrize(("kind", "half", "change", "code"), PERTURBED)
def test_each_field_counts(kind: EvidenceKind, half: str, change: dict[str, Any], code: str) -> None:
    found = made(kind)
    vote = structs.replace(getattr(found, half), **change)
    assert refusal(structs.replace(found, **{half: vote})) == code


def test_the_tables_name_every_field() -> None:
    for kind in EvidenceKind:
        found = made(kind)
        for half in ("first", "second"):
            named = {name for k, h, change, _ in PERTURBED if (k, h) == (kind, half) for name in change}
            assert named == set(getattr(found, half).__struct_fields__)


@pytest.mark.parametrize("kind", EvidenceKind)
def test_evidence_is_of_one_chain_one_epoch_and_a_replica_of_its_set(kind: EvidenceKind) -> None:
    found = made(kind)
    assert refusal(found, chain_id=HIGH) == "bad_signature"
    assert refusal(found, epoch=1) == "wrong_epoch"
    assert refusal(found, replicas=VOTERS.replicas[:LIAR]) == "unknown_replica"
    assert refusal(found, replicas=VOTERS.replicas[::-1]) == "bad_signature"
    both = {half: structs.replace(getattr(found, half), replica=-1) for half in ("first", "second")}
    assert refusal(structs.replace(found, **both)) == "unknown_replica"


def test_a_shorter_term_ends_the_range_sooner() -> None:
    """The signature covers the start alone; where the range ends is the genesis's word."""
    found = made(EvidenceKind.FINALIZED_AND_NULLIFIED)
    assert refusal(found, term_views=1) == "range_without_view"


# ------------------------------------------------------------------------------------------------- what a core notices


def other_block(bench: Bench, view: int) -> Notarize:
    return bench.signers[LIAR].notarize(view, HIGH)


def accusations(bench: Bench, *messages: Message) -> list[Evidence]:
    """What the core says of these, each of which must be proof."""
    found = []
    for accuse in of(bench.get(*messages), Accuse):
        proof = pair(accuse.first, accuse.second)
        assert proof is not None and proof.replica == accuse.replica
        verify(proof, voters_of(bench.config))
        found.append(proof)
    return found


def test_one_half_may_come_inside_a_certificate() -> None:
    """A notarization carries the replica's vote for one block; we hold, or get, its vote for another one."""
    before, after = Bench(), Bench()
    certificate = before.notarization(5, LOW)
    assert accusations(before, other_block(before, 5)) == []
    assert [found.kind for found in accusations(before, certificate)] == ["notarized_twice"]
    assert accusations(after, certificate) == []
    assert [found.kind for found in accusations(after, other_block(after, 5))] == ["notarized_twice"]


def nullification_by(bench: Bench, *replicas: int) -> Nullification:
    votes = [bench.signers[replica].nullify(5) for replica in replicas]
    return Nullification(0, 5, tuple((vote.replica, 5, vote.signature) for vote in votes))


def test_a_nullification_that_is_no_news_still_testifies() -> None:
    """The replica's nullify vote goes to another one, which puts it into its own nullification of the term."""
    bench = Bench()
    liar = bench.signers[LIAR]
    assert accusations(bench, liar.finalize(5, LOW), nullification_by(bench, 0, 1, 3)) == []
    late = nullification_by(bench, 0, 1, LIAR)
    assert [found.kind for found in accusations(bench, late)] == ["finalized_and_nullified"]
    assert accusations(bench, late, liar.nullify(5)) == [], "one proof is enough"


def test_a_nullify_vote_after_its_terms_nullification_still_testifies() -> None:
    bench = Bench()
    liar = bench.signers[LIAR]
    assert accusations(bench, liar.finalize(5, LOW), nullification_by(bench, 0, 1, 3)) == []
    assert [found.kind for found in accusations(bench, liar.nullify(5))] == ["finalized_and_nullified"]


def final_bench(view: int = 5) -> tuple[Bench, Any]:
    """A core with one final block."""
    bench = Bench()
    proposal = bench.proposal(view, genesis(), *(bench.nullification(v) for v in range(1, view)))
    bench.get(proposal, bench.notarization(view, proposal.vote.block))
    bench.do(Validated(proposal.vote.block, True))
    assert of(bench.get(bench.finalization(view, proposal.vote.block)), Commit)
    return bench, proposal


def test_a_view_that_is_final_is_still_watched() -> None:
    """Views are final three delays after they began; the other half of a double vote may take longer."""
    bench, _ = final_bench()
    liar = bench.signers[LIAR]
    assert [found.kind for found in accusations(bench, liar.notarize(5, HIGH))] == ["notarized_twice"]
    bench, _ = final_bench()
    assert [found.kind for found in accusations(bench, liar.finalize(5, HIGH))] == ["finalized_twice"]
    bench, _ = final_bench()
    assert [found.kind for found in accusations(bench, liar.nullify(5))] == ["finalized_and_nullified"]


@pytest.mark.parametrize(("later", "kinds"), [(1, ["notarized_twice"]), (20, ["notarized_twice"]), (21, [])])
def test_views_are_watched_from_keep_views_below_the_last_final_one_on(later: int, kinds: list[str]) -> None:
    """The other half of a double vote comes when many blocks are final above it."""
    bench = Bench({"keep_views": 20})
    parent, certificate = bench.notarized(1, genesis())
    why: Any = (certificate,)
    for view in range(2, 2 + later):
        parent, certificate = bench.notarized(view, parent, *why)
        bench.get(bench.finalization(view, parent.id))
        why = (certificate,)
    assert bench.core.last_final.view == 1 + later
    assert [found.kind for found in accusations(bench, bench.signers[LIAR].notarize(1, HIGH))] == kinds


def test_the_finalization_of_blocks_that_were_fetched_testifies() -> None:
    """Who is far behind sees many finalizations only there."""
    bench = Bench()
    last = child(genesis(), 5, genesis().wall_time)
    bench.get(bench.signers[LIAR].nullify(5))
    effects = of(bench.do(CaughtUp(last, bench.finalization(5, last.id))), Accuse)
    assert [(found.replica, type(found.first)) for found in effects] == [(LIAR, Nullify)]


def test_a_late_second_proposal_testifies() -> None:
    bench, first = final_bench()
    second = bench.proposal(5, genesis(), *first.justification, batches=OTHER)
    assert [found.kind for found in accusations(bench, second)] == ["notarized_twice"]


def test_nothing_is_believed_without_a_signature() -> None:
    bench, _ = final_bench()
    forged = structs.replace(bench.signers[LIAR].notarize(5, HIGH), signature=bytes(64))
    with pytest.raises(RemoteError):
        bench.get(forged)
    certificate = bench.finalization(5, HIGH)
    broken = structs.replace(certificate, signatures=tuple((i, bytes(64)) for i, _ in certificate.signatures))
    with pytest.raises(RemoteError):
        bench.get(broken)
    stranger = structs.replace(certificate, signatures=((99, bytes(64)), (-1, bytes(64)), (4, bytes(64))))
    assert accusations(bench, stranger) == []
    assert bench.core.status()["accusations"] == 0


def test_a_witness_forgets_what_is_long_past() -> None:
    witness = Witness(CONFIG, Checker(CONFIG, memo))
    for view in range(1, 1_000):
        witness.see(SIGNER.notarize(view, LOW))
        witness.see(SIGNER.notarize(view, HIGH))
        witness.note(SIGNER.finalize(view, LOW))
        witness.forget_below(view - 50)
    assert len(witness._seen.notarizes) == len(witness._accused) == len(witness._noted.finalizes) == 51


def full_quorum() -> tuple[Bench, Signer, list[object]]:
    """A core of seven whose view 6 is certified by five; the sixth votes late. And every signature that is checked."""
    bench = Bench(n=7, index=6)
    bench.get(bench.notarization(6, LOW))
    checked: list[object] = []

    def verify_and_count(*what: Any) -> bool:
        checked.append(what)
        return memo(*what)

    bench.core._checker._verify = verify_and_count
    return bench, bench.signers[5], checked


def test_votes_that_come_when_the_quorum_is_full_testify_too() -> None:
    """Nobody checks the last vote of a view; but both are checked when the other half of a double vote comes."""
    bench, late, checked = full_quorum()
    assert accusations(bench, late.notarize(6, LOW), late.notarize(6, LOW)) == []
    assert checked == [], "a vote that is too late to count costs no signature"
    assert [found.kind for found in accusations(bench, late.notarize(6, HIGH))] == ["notarized_twice"]
    assert len(checked) == 2


def test_a_certificate_that_is_no_news_is_remembered() -> None:
    """The late vote is known from somebody else's certificate alone, before or after its twin."""
    for certificate_first in (True, False):
        bench, late, _ = full_quorum()
        votes = [bench.signers[i].notarize(6, LOW) for i in (1, 2, 3, 4, 5)]
        theirs = Notarization(0, 6, LOW, tuple((vote.replica, vote.signature) for vote in votes))
        halves = (theirs, late.notarize(6, HIGH)) if certificate_first else (late.notarize(6, HIGH), theirs)
        assert accusations(bench, halves[0]) == []
        assert [found.kind for found in accusations(bench, halves[1])] == ["notarized_twice"]


def test_a_forged_vote_that_was_noted_shields_nobody() -> None:
    """An accomplice sends votes in the liar's name before the liar does: they give way, and accuse nobody."""
    bench, late, _ = full_quorum()
    forged = structs.replace(late.notarize(6, HIGH), signature=bytes(64))
    assert accusations(bench, forged, late.notarize(6, LOW)) == []
    with pytest.raises(RemoteError, match="bad signature"):
        bench.get(forged)
    assert [found.kind for found in accusations(bench, late.notarize(6, HIGH))] == ["notarized_twice"]


def test_votes_of_views_far_off_are_not_even_noted() -> None:
    bench, _ = final_bench(5)
    for view in (5 + bench.config.ahead_views + 2, 2**61):
        bench.get(bench.signers[LIAR].notarize(view, LOW))
    assert set(bench.core._witness._noted.notarizes) <= {5}


# ------------------------------------------------------------------------------------- no honest replica is ever caught


def cast(network: Network) -> Iterator[Vote]:
    """Every vote that anybody ever sent, alone, in a proposal, or in a certificate."""
    for _, _, _, message in network.sent:
        match message:
            case Notarize() | Finalize() | Nullify():
                yield message
            case Notarization() | Finalization() | Nullification():
                yield from votes_of(message)
            case Proposal():
                yield message.vote
                for certificate in message.justification:
                    yield from votes_of(certificate)
            case _:
                pass


def provable(network: Network) -> set[int]:
    """Who could be shown to have lied, from all that was ever sent: every pair of votes is tried."""
    voters = voters_of(network.config)
    votes: dict[tuple[int, int], set[Vote]] = defaultdict(set)
    for vote in cast(network):
        votes[vote.replica, network.config.term(view_of(vote))].add(vote)
    liars = set()
    for (replica, _), said in votes.items():
        for one, other in combinations(said, 2):
            found = pair(one, other)
            if found is not None and is_proof(found, voters):
                liars.add(replica)
    return liars


def is_proof(found: Evidence, voters: evidence.Voters) -> bool:
    try:
        verify(found, voters, memo)
    except Refused:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("term_views", [1, 3, 8])
def test_no_honest_replica_can_be_shown_to_lie(term_views: int) -> None:
    """Whatever happens to it, and whatever is made of its votes; and the liar of the same runs can be."""
    liars = set()
    for seed in range(30):
        network = chaos(seed, term_views)
        found = provable(network)
        assert found <= network.byzantine
        assert network.accused <= found, "a replica accuses only with proof"
        liars |= found
    assert liars


@pytest.mark.slow
@pytest.mark.parametrize("breaks", [finalizes_after_nullify, forgets_votes])
def test_replicas_that_break_a_rule_can_be_shown_to(monkeypatch: pytest.MonkeyPatch, breaks: Break) -> None:
    """The check above can fail: these break rules 3 and 5, nobody stops them, and they leave proof of it."""
    breaks(monkeypatch)
    monkeypatch.setattr("tests.layer1.consensus.network.Checkers.sent", lambda *_: None)
    monkeypatch.setattr("tests.layer1.consensus.network.Checkers.committed", lambda *_: None)
    monkeypatch.setattr("tests.layer1.consensus.scenarios.converge", lambda _network: None)
    assert any(leaves_proof(seed) for seed in range(40))


def leaves_proof(seed: int) -> bool:
    """Whether a run without a traitor shows somebody to have lied, while it runs or afterwards."""
    try:
        return bool(provable(chaos(seed, 1, traitor=False)))
    except SafetyError as error:
        return "accused" in str(error)
    except LocalError:
        return False
