"""`layer1 status` in words: each thing that is wrong is said, with what to do, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from layer1.cli_status import _collect
from layer1.console import UNTRUSTED
from layer1.health import ACT, Bounds, Health, State, assess
from tests.layer1.test_cli import run

BOUNDS = Bounds(replicas=4, quorum=3, heartbeat_ms=10_000, view_timeout_ms=1_000)


def row(index: int, **changes: Any) -> dict[str, Any]:
    well = {
        "index": index, "api": f"http://r{index}", "height": 100, "lag": 0, "head_age_ms": 2_000, "view": 7,
        "leader": 1, "peers_connected": 3, "peers": 3, "vote_from": 0, "disk_free_bytes": 2**40,
        "waiting_for_database": 0, "catching_up": False, "disk_low": False, "release": "0.1.0", "marked": False,
        "unlinked": {}, "error": None, "member": True, "epoch": 0, "oldest_block": 1, "untrusted": False,
    }  # fmt: skip
    return {**well, **changes}


def four(**changed: dict[str, Any]) -> Health:
    """Replicas of which some differ: ``_2={...}``."""
    return assess([row(i, **changed.get(f"_{i}", {})) for i in range(4)], BOUNDS)


GONE: dict[str, Any] = {"error": "no answer", "height": None, "lag": None, "head_age_ms": None, "view": None}

CASES: list[tuple[str, Health, State, list[str]]] = [
    ("all is well", four(), State.HEALTHY, ["all 4 replicas take part", "Block 100 is 2 s old"]),
    ("one is gone", four(_2=GONE), State.DEGRADED,
     ["3 of 4 replicas take part; none may fail besides", "replica 2 does not answer at http://r2 (no answer): start"]),
    ("two are gone", four(_1=GONE, _2=GONE), State.STOPPED, ["2 of 4 replicas take part, 3 are needed", "replica 1"]),
    ("one has a certificate that is not trusted", four(_2={**GONE, "error": UNTRUSTED, "untrusted": True}),
     State.DEGRADED, ["3 of 4 replicas take part; 1 cannot be asked from here", "replica 2 cannot be asked at http://r2"]),
    ("two have", four(**{f"_{i}": {**GONE, "error": UNTRUSTED, "untrusted": True} for i in (1, 2)}),
     State.DEGRADED, ["2 of 4 replicas take part; 2 cannot be asked from here"]),
    ("two have, and nobody makes blocks", assess([
        *(row(i, head_age_ms=31_000) for i in (0, 1)),
        *(row(i, **{**GONE, "error": UNTRUSTED, "untrusted": True}) for i in (2, 3))], BOUNDS),
     State.STOPPED, ["no block for 31 s"]),
    ("one has, two are gone", four(_1=GONE, _3=GONE, _2={**GONE, "error": UNTRUSTED, "untrusted": True}),
     State.STOPPED, ["1 of 4 replicas take part, 3 are needed"]),
    ("one catches up", four(_3={"catching_up": True, "lag": 500}), State.DEGRADED,
     ["500 blocks behind and catches up"]),
    ("two catch up", four(_3={"catching_up": True}, _2={"catching_up": True}), State.STOPPED, ["3 are needed"]),
    ("one stays behind", four(_3={"lag": 51}), State.DEGRADED, ["51 blocks behind and does not catch up"]),
    ("one rejoined", four(_0={"vote_from": 128}), State.DEGRADED, ["votes from view 128 on, this is 7: wait"]),
    ("a disk", four(_0={"disk_low": True, "disk_free_bytes": 90 * 2**20}), State.DEGRADED, ["90 MiB of disk left"]),
    ("a database", four(_0={"waiting_for_database": 5_000}), State.DEGRADED, ["waits for its database with 5000"]),
    ("a liar", four(_1={"marked": True}), State.DEGRADED,
     ["replica 1 was shown to have contradicted itself", "`layer1 replica rotate 1 KEY`"]),
    ("a link", four(_1={"unlinked": {3: "no route"}}, _3={"unlinked": {1: ""}}), State.DEGRADED,
     ["replicas 1 and 3 have no link (no route)"]),
    ("one without any link", four(
        _3={"unlinked": {0: "", 1: "wire version 3: upgrade"}, "peers_connected": 0}, _0={"unlinked": {3: "x"}}),
     State.DEGRADED,
     ["3 of 4 replicas take part; none may fail", "replica 3 has no link with any other (wire version 3: upgrade)."]),
    ("two without any link", four(_3={"peers_connected": 0}, _0={"peers_connected": 0}), State.STOPPED,
     ["2 of 4 replicas take part, 3 are needed", "replica 0 has no link with any other: see the network", "replica 3"]),
    ("a link with who is gone", four(_1={"unlinked": {2: "x"}}, _2=GONE), State.DEGRADED, ["replica 2 does not"]),
    ("an upgrade", four(_1={"release": "0.2.0"}), State.DEGRADED, ["different releases (0.1.0: 0, 2, 3; 0.2.0: 1)"]),
    ("who left listens, or is stopped", assess(
        [*(row(i) for i in range(4)), row(4, member=False, vote_from=2**62), row(5, member=False, **GONE)], BOUNDS),
     State.HEALTHY, ["all 4 replicas take part"]),
    ("one whose API nobody knows", assess([row(i) for i in range(3)], replace(BOUNDS, members=(0, 1, 2, 7))),
     State.DEGRADED, ["replica 7 cannot be asked: its API is in nobody's [[peers]]"]),
    ("no block", assess([row(i, head_age_ms=31_000) for i in range(4)], BOUNDS), State.STOPPED, ["no block for 31 s"]),
    ("nobody", assess([row(0, **GONE)], BOUNDS), State.UNKNOWN, ["no replica answers"]),
    ("no genesis", assess([row(0)], None), State.UNKNOWN, ["no replica answers"]),
]  # fmt: skip


@pytest.mark.parametrize(("health", "state", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_trouble_is_said_in_words_and_nothing_else(health: Health, state: State, said: list[str]) -> None:
    """ "Healthy / degraded, who is missing, whether to act"."""
    text = "\n".join([health.summary, *health.findings])
    assert health.state is state
    assert all(words in text for words in said), text
    assert health.act == ACT[state]
    assert len(health.findings) <= 3


def test_a_ledger_of_one_and_a_short_silence_are_well() -> None:
    assert assess([row(0)], Bounds(1, 1, 10_000, 1_000)).state is State.HEALTHY
    assert assess([row(i, head_age_ms=29_000) for i in range(4)], BOUNDS).state is State.HEALTHY
    assert assess([row(i, head_age_ms=-500) for i in range(4)], BOUNDS).state is State.HEALTHY


NONSENSE: list[Any] = [
    {}, [], "text", {"items": 5}, {"items": {"index": 0}}, None, {"head": "x", "details": 3},
    {"head": {"height": "9"}, "details": {"view": [], "release": {}}},
    {"items": [{"index": "0", "api": 5}, {"index": 1, "api": None}, 7], "head": {"height": True, "wall_time": -1}},
]  # fmt: skip


@pytest.mark.parametrize("said", NONSENSE, ids=[json.dumps(said)[:30] for said in NONSENSE])
async def test_a_replica_that_talks_nonsense_ends_in_words(said: Any, serve_value: Any) -> None:
    url = await serve_value(said)
    rows, bounds = await _collect([url], None)
    assert isinstance(assess(rows, bounds).summary, str)
    assert all(found["height"] is None or type(found["height"]) is int for found in rows)


@pytest.fixture
async def serve_value() -> Any:
    """Serves one JSON value under every path."""
    runners = []

    async def serve(value: Any) -> str:
        app = web.Application()

        async def answer(_: web.Request) -> web.Response:
            return web.json_response(value)

        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


def test_nobody_answers_is_said_once_and_has_its_exit_code() -> None:
    code, text = run("status", "--api", "http://127.0.0.1:1")
    assert code == 3
    assert text.startswith("UNKNOWN: no replica answers.") and text.strip().endswith("--api URL.")
    assert run("status", "--api", "http://127.0.0.1:1", "--check")[0] == 3


def test_where_none_may_lie_a_contradiction_is_an_alarm() -> None:
    """Model: with n > 2f one liar can fork the ledger; with n > 3f it is one of those that may fail."""
    rows = [row(i, marked=i == 1) for i in range(3)]
    told = assess(rows, Bounds(3, 2, 10_000, 1_000, 1, "omission"))
    assert told.state is State.DEGRADED and "this ledger may have forked" in told.findings[0]
    assert not any("forked" in finding for finding in assess(rows, Bounds(3, 3, 10_000, 1_000)).findings)
    assert not assess([row(i) for i in range(3)], Bounds(3, 2, 10_000, 1_000, 1, "omission")).findings


def test_what_nobody_keeps_any_more_is_said_and_is_no_trouble() -> None:
    kept = [900, 950, 900, 1_000]
    health = assess([row(i, oldest_block=oldest) for i, oldest in enumerate(kept)], BOUNDS)
    (note,) = health.notes
    assert health.state is State.HEALTHY and "keeps the blocks before 900" in note
    assert not assess([row(i, oldest_block=min(i, 1) * 99 + 1) for i in range(4)], BOUNDS).notes, "one keeps all"
    assert not assess([row(0, oldest_block=None), row(1, oldest_block=9)], BOUNDS).notes, "of an older release"
    assert assess([row(0, **GONE), row(1, oldest_block=9)], BOUNDS).notes


def test_who_left_the_set_is_named_and_is_no_trouble() -> None:
    health = assess([*(row(i) for i in range(4)), row(4, member=False), row(5, member=False, **GONE)], BOUNDS)
    (note,) = health.notes
    assert note.startswith("replica 4 at http://r4 listens: not in the replica set.")
    assert (health.state, health.findings) == (State.HEALTHY, ())


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        ((0, 0, 0, 0), "KEEP IT RUNNING until 3 are in epoch 1, now 0"),
        ((1, 1, 0, 0), "KEEP IT RUNNING until 3 are in epoch 1, now 2"),
        ((1, 1, 1, 0), "3 of the set are in epoch 1: its operator may stop it"),
        ((2, 2, 1, 1), "KEEP IT RUNNING until 3 are in epoch 2, now 2"),
        ((None, 1, 1, 1), "3 of the set are in epoch 1: its operator may stop it"),
    ],
)
def test_who_left_runs_on_until_a_quorum_has_the_boundary(epochs: tuple[int | None, ...], said: str) -> None:
    """Decision 021: "the finalization of the boundary may be on three disks only, one of them that of" who leaves."""
    rows = [row(i, epoch=epoch) for i, epoch in enumerate(epochs)]
    (note,) = assess([*rows, row(4, member=False, epoch=1)], BOUNDS).notes
    assert said in note
    gone = row(2, **{**GONE, "epoch": 1})
    (note,) = assess([row(0, epoch=1), row(1, epoch=1), gone, row(4, member=False, epoch=1)], BOUNDS).notes
    assert "KEEP IT RUNNING until 3 are in epoch 1, now 2" in note, "who does not answer may have lost it"
    (note,) = assess([row(0), row(4, member=False)], None).notes
    assert "KEEP IT RUNNING until a quorum is" in note
    (note,) = assess([*rows, {**row(4, member=False), "index": None}], BOUNDS).notes
    assert note.startswith("the replica at http://r4 listens") and "`layer1 replica add` its key" in note


def replica_says(number: int, api: str, marked: Sequence[int]) -> dict[str, Any]:
    """What one replica answers to everything, with these marked."""
    items = [{"index": i, "api": api if i == number else None, "marked": "t" * 64 if i in marked else None,
              "connected": True, "member": True} for i in range(4)]  # fmt: skip
    parameters = {"heartbeat_ms": 10_000, "view_timeout_ms": 1_000}
    head = {"height": 9, "wall_time": 0}
    return {"replica": number, "head": head, "details": {"epoch": 0}, "items": items, "parameters": parameters}


@pytest.mark.parametrize(
    ("marked", "found"),
    [
        (((), (), (), ()), []),
        (((), (1,), (), ()), [1]),
        (((3,), (), (), ()), []),
        (((3,), (3,), (), ()), [3]),
        (((3,), (3,), (3,), ()), [3]),
    ],
    ids=["none", "one of itself", "one liar of another", "two of another", "all others, itself silent"],
)
async def test_a_mark_is_what_a_replica_says_of_itself_or_more_of_the_others_than_may_lie(
    marked: tuple[Sequence[int], ...], found: list[int], serve_value: Any
) -> None:
    said: list[dict[str, Any]] = [{} for _ in range(4)]
    urls = [await serve_value(each) for each in said]
    for i, each in enumerate(said):
        each.update(replica_says(i, urls[i], marked[i]))
    rows, bounds = await _collect(urls, None)
    assert [row["index"] for row in rows if row["marked"]] == found
    assert ("contradicted itself" in " ".join(assess(rows, bounds).findings)) is bool(found)
