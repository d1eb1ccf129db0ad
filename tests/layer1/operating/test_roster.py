"""Who runs a ledger: number, position, since when, and what to do about a mark."""

from __future__ import annotations

from layer1.consensus.evidence import EvidenceKind
from layer1.ledger.records import Mark
from layer1.ledger.replicas import ReplicaSet, Seat, first_set
from layer1.operating.joining import Known
from layer1.operating.roster import advice, role, roster, terms_of

A, B, C, D, E = (bytes([i]) * 32 for i in range(5))
SETS = [
    first_set([A, B, C], "byzantine"),
    ReplicaSet(1, "byzantine", (Seat(1, B), Seat(2, C), Seat(3, D)), 4),
    ReplicaSet(2, "byzantine", (Seat(2, C), Seat(3, D)), 4),
    ReplicaSet(3, "byzantine", (Seat(2, C), Seat(3, D), Seat(4, A)), 5),
]
MARK = Mark(D, 1, 2, EvidenceKind.NOTARIZED_TWICE, b"e" * 32, b"t" * 32, 1_000)


def known(key: bytes, number: int | None) -> Known:
    return Known(key, number, "10.0.0.1:7000", "http://10.0.0.1:7001", connected=key != C)


def test_terms_are_the_stretches_of_epochs_in_which_a_key_was_in_the_set() -> None:
    assert [terms_of(key, SETS) for key in (A, B, C, D, E)] == [[(0, 0), (3, 3)], [(0, 1)], [(0, 3)], [(1, 3)], []]


def test_each_row_says_number_position_and_since_when() -> None:
    rows = roster([known(C, 2), known(D, 3), known(A, 4), known(B, 1), known(E, None)], SETS, {D: MARK})
    assert [(row["number"], row["position"], role(row)) for row in rows] == [
        (2, 0, "since epoch 0"),
        (3, 1, "since epoch 1, marked"),
        (4, 2, "since epoch 3"),
        (1, None, "left: was in epochs 0 to 1"),
        (None, None, "not yet: listens"),
    ]
    assert [(row["since_epoch"], row["until_epoch"]) for row in rows] == [
        (0, None), (1, None), (3, None), (0, 1), (None, None),
    ]  # fmt: skip
    assert [row["connected"] for row in rows] == [False, True, True, True, True]
    (said,) = advice(rows)
    assert said.startswith("Replica 3 was shown to have contradicted itself (transaction 747474747474;")
    assert "layer1 replica rotate 3 KEY" in said and "layer1 replica remove 3" in said
    assert role(roster([known(A, 0)], SETS[:2], {})[0]) == "left: was in epoch 0"
    assert not list(advice(roster([known(D, 3)], SETS, {})))
