"""Proposals to change the replica set: what is signed is what was shown, and a file that lies is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layer1.crypto import PublicKey, SigningKey
from layer1.errors import LocalError, Refused
from layer1.ledger.replicas import ReplicaSet, Seat, SetChange, apply_change, first_set
from layer1.operating.joining import join, known_replicas, peers_table
from layer1.operating.proposals import (
    MAX_BYTES,
    Proposal,
    check_proposal,
    describe,
    merge,
    read_proposal,
    request_of,
    sign_proposal,
    write_proposal,
)
from tests.layer1.replica.network import GENESIS

KEYS = [SigningKey(bytes([i]) * 32) for i in range(7)]
MEMBERS = first_set([key.public for key in KEYS[:4]], "byzantine")
NEW = KEYS[4]
CHAIN = b"c" * 32
NOW = 1_000


def proposal(add: tuple[SigningKey, ...] = (NEW,), remove: tuple[int, ...] = (0,), epoch: int = 0) -> Proposal:
    return Proposal(CHAIN, SetChange(epoch, tuple(key.public for key in add), remove, NOW + 100_000))


def signed_by(found: Proposal, *keys: SigningKey) -> Proposal:
    for key in keys:
        found = sign_proposal(found, MEMBERS, key)
    return found


def check(found: Proposal) -> ReplicaSet:
    return check_proposal(found, MEMBERS, CHAIN, NOW)


def test_each_signs_in_turn_until_the_ledger_takes_it(tmp_path: Path) -> None:
    """ "A proposal file that each signs in turn"."""
    path = tmp_path / "p.json"
    write_proposal(path, proposal(), new=True)
    for key in (KEYS[3], KEYS[0], NEW, KEYS[1]):
        found = read_proposal(path)
        check(found)
        with pytest.raises(Refused, match="signatures are missing"):
            request_of(found, MEMBERS)
        write_proposal(path, sign_proposal(found, MEMBERS, key))
    following = apply_change(MEMBERS, request_of(read_proposal(path), MEMBERS), CHAIN, NOW)
    assert following == check(read_proposal(path))
    assert following.numbers == (1, 2, 3, 4)
    with pytest.raises(LocalError, match="is there already"):
        write_proposal(path, proposal(), new=True)


def test_copies_that_were_signed_apart_are_put_together() -> None:
    one, two = signed_by(proposal(), KEYS[0], NEW), signed_by(proposal(), KEYS[1], KEYS[2])
    assert request_of(merge([one, two]), MEMBERS).approvals[2][0] == 2
    with pytest.raises(Refused, match="different changes"):
        merge([one, proposal(remove=())])


def test_what_is_missing_is_said_by_name() -> None:
    with pytest.raises(Refused) as refused:
        request_of(signed_by(proposal(), KEYS[2]), MEMBERS)
    assert f"2 of the replicas 0, 1, 3 and the new key {NEW.public.hex()}" in refused.value.message


def test_who_is_not_concerned_signs_nothing() -> None:
    with pytest.raises(Refused, match="neither in the replica set"):
        sign_proposal(proposal(), MEMBERS, KEYS[6])


LATER = ReplicaSet(1, "byzantine", MEMBERS.seats, 4)
WRONG: list[tuple[str, Callable[[], object], str]] = [
    ("another chain", lambda: check_proposal(proposal(), MEMBERS, b"d" * 32, NOW), "wrong_chain"),
    ("an epoch that is over", lambda: check_proposal(proposal(), LATER, CHAIN, NOW), "wrong_epoch"),
    ("an epoch to come", lambda: check(proposal(epoch=1)), "wrong_epoch"),
    ("too old", lambda: check_proposal(proposal(), MEMBERS, CHAIN, NOW + 100_001), "change_expired"),
    ("nobody of this number", lambda: check(proposal(remove=(9,))), "unknown_replica"),
    ("a key that is in", lambda: check(proposal(add=(KEYS[1],))), "replica_twice"),
    ("nothing", lambda: check(proposal(add=(), remove=())), "no_change"),
    ("nobody left", lambda: check(proposal(add=(), remove=(0, 1, 2, 3))), "bad_size"),
]


@pytest.mark.parametrize(("attempt", "code"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_proposal_that_the_ledger_would_not_take_is_not_signed(attempt: Callable[[], object], code: str) -> None:
    with pytest.raises(Refused) as refused:
        attempt()
    assert refused.value.code == code


def test_a_signature_is_over_all_of_it() -> None:
    """Whatever somebody changes in a signed file, the file is refused as a whole."""
    good = signed_by(proposal(), KEYS[0], NEW)
    check(good)
    others = [
        proposal(remove=(1,)), proposal(add=(NEW, KEYS[5])), proposal(add=()),
        Proposal(CHAIN, SetChange(0, (NEW.public,), (0,), NOW + 100_001)),
    ]  # fmt: skip
    for other in others:
        with pytest.raises(Refused, match=r"changed the file|not to be added"):
            check(Proposal(CHAIN, other.change, good.approvals, good.acceptances))
    moved = Proposal(CHAIN, good.change, {1: good.approvals[0]}, {})
    with pytest.raises(Refused, match="the signature of replica 1 is not over this"):
        check(moved)
    with pytest.raises(Refused, match="replica 7 approves"):
        check(Proposal(CHAIN, good.change, {7: good.approvals[0]}, {}))


SIGNATURE = "ab" * 64
HOSTILE: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("another kind", lambda file: {**file, "kind": "x"}),
    ("a newer format", lambda file: {**file, "format": 2}),
    ("one more field", lambda file: {**file, "note": "please sign"}),
    ("a field less", lambda file: {name: value for name, value in file.items() if name != "epoch"}),
    ("no object", lambda file: [file]),
    ("text for a number", lambda file: {**file, "epoch": "0"}),
    ("a number below 0", lambda file: {**file, "remove": [-1]}),
    ("a huge number", lambda file: {**file, "expires_ms": 10**30}),
    ("a fraction", lambda file: {**file, "expires_ms": 1.5}),
    ("numbers twice", lambda file: {**file, "remove": [0, 0]}),
    ("numbers in disorder", lambda file: {**file, "remove": [1, 0]}),
    ("a short key", lambda file: {**file, "add": ["ab"]}),
    ("a key in capitals", lambda file: {**file, "add": [file["add"][0].upper()]}),
    ("control characters", lambda file: {**file, "chain_id": "\x1b[2J" * 16}),
    ("two names of one number", lambda file: {**file, "approvals": {"0": SIGNATURE, "00": SIGNATURE}}),
    ("digits of another script", lambda file: {**file, "approvals": {"٠": SIGNATURE}}),
    ("a number with a sign", lambda file: {**file, "approvals": {"+0": SIGNATURE}}),
    ("a short signature", lambda file: {**file, "approvals": {"0": "ab"}}),
    ("too many keys", lambda file: {**file, "add": file["add"] * 101}),
    ("too many signatures", lambda file: {**file, "approvals": {str(i): SIGNATURE for i in range(101)}}),
]


@pytest.mark.parametrize("change", [case[1] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_what_is_no_proposal_is_refused_in_one_line(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = tmp_path / "p.json"
    write_proposal(path, proposal())
    read_proposal(path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(Refused, match="is no proposal") as refused:
        read_proposal(path)
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 600


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 50_000, b" " * (MAX_BYTES + 1), b"{}"])
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(data)
    with pytest.raises(Refused, match="is no proposal"):
        read_proposal(path)
    with pytest.raises(LocalError, match="cannot be read"):
        read_proposal(tmp_path / "none")


def words(found: Proposal, up: list[PublicKey]) -> list[str]:
    return list(describe(found, MEMBERS, check(found), up, NOW))


def test_what_changes_is_shown_in_words() -> None:
    """ "n, f, q before and after"; warnings "when f falls or when fewer than q of the new set would be up"."""
    everybody = [key.public for key in KEYS]
    told = words(signed_by(proposal(remove=()), KEYS[1]), everybody)
    assert f"  + replica 4, key {NEW.public.hex()}" in told
    assert "Before: n = 4 (0, 1, 2, 3), f = 1, q = 3" in told
    assert "After:  n = 5 (0, 1, 2, 3, 4), f = 1, q = 4" in told
    assert not any(line.startswith("WARNING") for line in told)
    assert told[-1].startswith("Signed by replicas: 1; signatures are missing: 2 of the replicas 0, 2, 3 and the new")
    fewer = words(proposal(add=(), remove=(3,)), everybody)
    assert f"  - replica 3, key {KEYS[3].public.hex()}" in fewer
    assert "WARNING: of the new set 0 may fail, of the old one 1" in fewer
    (down,) = [line for line in words(proposal(remove=()), everybody[:3]) if line.startswith("WARNING")]
    assert down.startswith("WARNING: 3 of the new set are up, 4 are needed: the ledger stands still")
    (tight,) = [line for line in words(proposal(remove=()), everybody[:4]) if line.startswith("WARNING")]
    assert tight.startswith("WARNING: 4 of the new set are up: 0 of them may fail")


def test_a_home_is_made_of_what_others_say_and_nothing_slips_into_it(tmp_path: Path) -> None:
    """Addresses are the word of whoever is asked: they go into a file, so they are nothing but addresses."""
    keys = [key.public.hex() for key in KEYS]
    items = [
        {"key": keys[0], "link": "10.0.0.1:7000", "api": "https://ledger.example:7001/a", "connected": True},
        {"key": keys[1], "link": '10.0.0.2:7000"\nkey = "/etc/shadow', "api": "http://x", "connected": "yes"},
        {"key": keys[2], "link": "[::1]:7000", "api": 'http://x"\ndata = "/', "connected": False},
        {"key": keys[3], "link": "nowhere", "api": None},
        {"key": "zz", "link": "10.0.0.9:1"}, {"link": "10.0.0.9:1"}, "junk", None,
        {"key": keys[5], "link": "10.0.0.5:7000", "api": "http://ledger.example:7001"},
    ]  # fmt: skip
    sets = [MEMBERS, ReplicaSet(1, "byzantine", (*MEMBERS.seats, Seat(4, NEW.public)), 5)]
    known = known_replicas([{"items": items}, {"items": "junk"}, {"error": "no answer"}], sets)
    assert [(one.number, one.connected) for one in known] == [
        (0, True), (1, False), (2, False), (3, False), (4, False), (None, False),
    ]  # fmt: skip
    config, key = join(tmp_path / "home", GENESIS, known, "10.0.0.7", 7_000)
    assert [(peer.key.hex(), str(peer.link), peer.api) for peer in config.peers] == [
        (keys[0], "10.0.0.1:7000", "https://ledger.example:7001/a"),
        (keys[2], "[::1]:7000", ""),
        (keys[5], "10.0.0.5:7000", "http://ledger.example:7001"),
    ]
    assert key.public not in {peer.key for peer in config.peers}
    assert f'key = "{key.public.hex()}"\nlink = "10.0.0.7:7000"' in peers_table(key.public, config)
    with pytest.raises(LocalError, match="is there already"):
        join(tmp_path / "home", GENESIS, known, "10.0.0.7", 7_000)
    with pytest.raises(LocalError, match="nobody says where"):
        join(tmp_path / "other", GENESIS, known_replicas([], sets), "10.0.0.7", 7_000)
