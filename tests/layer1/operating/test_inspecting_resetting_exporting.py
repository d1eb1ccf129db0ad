"""`layer1 inspect`, `reset` and `export` on a home that was lived in."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from layer1.config import ReplicaConfig, load_config, read_key
from layer1.crypto import format_address
from layer1.devnet import Plan, home_of, initialize
from layer1.errors import LocalError
from layer1.operating.exporting import Format, What, export
from layer1.operating.resetting import plan_reset, reset_home
from layer1.operating.verification import verify_home
from layer1.storage.store import Store
from tests.layer1.operating.homes import PAID, finalize_together
from tests.layer1.operating.test_verification import database, fingerprint
from tests.layer1.replica.network import ALICE, BOB
from tests.layer1.replica.test_checkpointing import BLOCKS, pay, started
from tests.layer1.test_cli import invoke

pytestmark = pytest.mark.slow


# ------------------------------------------------------------------------------------------------------------- inspect


def test_what_is_there_is_shown_and_left_alone(home: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    before = fingerprint(home.home)
    code, out, _ = invoke(capfd, "inspect", home.home, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["ledger"]["replicas"] == 1
    assert facts["key"] == {"public": read_key(home.key).public.hex(), "in_genesis": True}
    assert facts["journal"]["generation"] == 1
    assert facts["journal"]["begins_after_block"] == facts["checkpoint"]["height"] == 2 * BLOCKS
    assert facts["database"]["height"] >= PAID
    assert facts["disk"]["free_bytes"] > 0
    code, out, _ = invoke(capfd, "inspect", home.home)
    assert (code, "begins after block: 10" in out) == (0, True)
    assert fingerprint(home.home) == before


def test_no_secret_is_shown(
    home: ReplicaConfig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYER1_DATABASE_URL", "postgresql+psycopg://ledger:hunter2@127.0.0.1:1/ledger")
    seed = read_key(home.key).seed().hex()
    for verb in (["inspect"], ["inspect", "--json"], ["reset", "--yes"], ["verify"]):
        _, out, err = invoke(capfd, verb[0], home.home, *verb[1:])
        assert "hunter2" not in out + err
        assert seed not in out + err


def test_what_cannot_be_read_says_why(home: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    home.checkpoint.write_bytes(b"nonsense")
    database(home).unlink()
    code, out, _ = invoke(capfd, "inspect", home.home, "--json")
    facts = json.loads(out)
    assert code == 0
    assert "is damaged" in facts["checkpoint"]["error"]
    assert "there is no database" in facts["database"]["error"]
    assert not database(home).exists()


async def test_a_running_replica_is_shown_as_far_as_possible(
    home: ReplicaConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    async with started(home.home):
        code, out, _ = invoke(capfd, "inspect", home.home, "--json")
    facts = json.loads(out)
    assert code == 0
    assert "a process holds the journal" in facts["journal"]["not_read"]
    assert facts["database"]["height"] >= PAID


# --------------------------------------------------------------------------------------------------------------- reset


async def test_a_reset_deletes_what_comes_back_and_no_vote(home: ReplicaConfig, tmp_path: Path) -> None:
    """Database and checkpoint; the key, the configuration and the journal stay, so no vote is forgotten."""
    before = fingerprint(home.home)
    plan = plan_reset(home, journal=False)
    reset_home(home, plan)
    after = fingerprint(home.home)
    gone = set(before) - set(after)
    assert gone == {"data/checkpoint", "data/ledger.sqlite"}
    assert all(after[name] == before[name] for name in after)
    assert plan.start.endswith("--rebuild")


@pytest.mark.parametrize("journal", [False, True])
def test_the_key_is_never_deleted(tmp_path: Path, capfd: pytest.CaptureFixture[str], journal: bool) -> None:
    initialize(tmp_path / "l", Plan())
    home = load_config(home_of(tmp_path / "l", 0))
    key = home.key.read_text()
    options = ["--journal"] if journal else []
    code, out, _ = invoke(capfd, "reset", home.home, "--yes", *options)
    assert code == 0
    assert home.key.read_text() == key
    assert home.journal.is_dir() is not journal
    assert ("--rejoin" if journal else "--rebuild") in out
    if journal:
        assert "does not know what it signed" in out and "at most 1 of the 4 replicas at a time" in out
        assert not list(home.data.glob("journal*"))


def test_nothing_is_deleted_unasked(
    home: ReplicaConfig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(home.home)
    code, out, err = invoke(capfd, "reset", home.home)
    assert code == 1
    assert "To be deleted:" in out and "nothing was deleted" in err
    code, out, _ = invoke(capfd, "reset", home.home, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "not_confirmed")
    monkeypatch.setattr("layer1.cli_operating._agreed", lambda: False)
    assert invoke(capfd, "reset", home.home)[0] == 1
    assert fingerprint(home.home) == before
    monkeypatch.setattr("layer1.cli_operating._agreed", lambda: True)
    assert invoke(capfd, "reset", home.home)[0] == 0
    assert not database(home).exists()


def test_where_none_may_fail_the_journal_stays(home: ReplicaConfig, capfd: pytest.CaptureFixture[str]) -> None:
    before = fingerprint(home.home)
    code, out, _ = invoke(capfd, "reset", home.home, "--journal", "--yes", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "cannot_rejoin")
    assert fingerprint(home.home) == before


async def test_a_running_replica_is_not_reset(home: ReplicaConfig) -> None:
    async with started(home.home) as replica:
        with pytest.raises(LocalError, match="another process holds the journal"):
            reset_home(home, plan_reset(home, journal=False))
        await pay(replica, 1)
    assert verify_home(home).sound


def test_a_database_elsewhere_is_left_alone(home: ReplicaConfig, tmp_path: Path) -> None:
    text = f'database_url = "sqlite:///{tmp_path}/elsewhere.sqlite"\n' + (home.home / "replica.toml").read_text()
    (home.home / "replica.toml").write_text(text)
    (tmp_path / "elsewhere.sqlite").touch()
    config = load_config(home.home)
    reset_home(config, plan_reset(config, journal=False))
    assert (tmp_path / "elsewhere.sqlite").exists()


# -------------------------------------------------------------------------------------------------------------- export


def exported(home: ReplicaConfig, what: What, **bounds: int) -> list[dict[str, Any]]:
    out = io.StringIO()
    count = export(home, what, Format.JSONL, out, first=bounds.get("first", 1), last=bounds.get("last"))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert count == len(lines)
    return lines


def test_every_block_and_transaction_is_exported_once(home: ReplicaConfig) -> None:
    blocks, transactions = exported(home, What.BLOCKS), exported(home, What.TRANSACTIONS)
    assert [row["height"] for row in blocks] == list(range(1, len(blocks) + 1))
    assert all(later["parent"] == earlier["id"] for earlier, later in pairwise(blocks))
    assert sum(row["transactions"] for row in blocks) == len(transactions) == PAID
    assert {(row["kind"], row["code"], row["payload"]["amount"]) for row in transactions} == {("transfer", "ok", 1)}
    assert [row["height"] for row in exported(home, What.BLOCKS, first=3, last=5)] == [3, 4, 5]
    assert exported(home, What.BLOCKS, first=10**6) == []


@pytest.mark.parametrize("checkpoint", [True, False])
def test_accounts_are_those_after_the_last_block(home: ReplicaConfig, checkpoint: bool) -> None:
    """From the checkpoint on, or from genesis: the same."""
    finalize_together(home, 1, 3)
    finalize_together(home, PAID - 2, PAID)
    if not checkpoint:
        home.checkpoint.unlink()
    rows = {row["address"]: row for row in exported(home, What.ACCOUNTS)}
    store = Store.open(home.database_url, create=False)
    height = store.height
    store.close()
    assert {row["height"] for row in rows.values()} == {height}
    assert rows[format_address(BOB.public)]["balance"] == PAID
    assert rows[format_address(ALICE.public)]["balance"] == 1_000 - PAID


@pytest.mark.parametrize("what", list(What))
def test_csv_says_the_same_as_json_lines(home: ReplicaConfig, what: What) -> None:
    out = io.StringIO()
    export(home, what, Format.CSV, out)
    rows, lines = list(csv.DictReader(io.StringIO(out.getvalue()))), exported(home, what)
    assert len(rows) == len(lines) > 0
    for row, line in zip(rows, lines, strict=True):
        flat = {**line, **line.get("payload", {})}
        assert row == {name: "" if flat.get(name) is None else str(flat[name]) for name in row}


def test_a_file_is_never_overwritten(home: ReplicaConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.csv"
    code, out, _ = invoke(capfd, "export", home.home, "accounts", "--format", "csv", "--output", path)
    assert (code, out) == (0, f"2 lines are in {path}\n")
    written = path.read_text()
    assert written.startswith("address,balance,height,clock\n")
    code, _, err = invoke(capfd, "export", home.home, "blocks", "--output", path)
    assert code == 1 and "not there yet" in err
    assert path.read_text() == written


def test_a_reader_that_has_enough_ends_it_quietly(home: ReplicaConfig) -> None:
    command = f"{sys.executable} -m layer1.cli export {home.home} transactions | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["kind"] == "transfer"
    assert done.stderr == ""
