"""The command: texts and exit codes for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layer1.cli import app
from layer1.config import read_genesis
from layer1.crypto import SigningKey, format_address

ALICE = format_address(SigningKey(b"a" * 32).public)


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("verb", ["init", "start", "devnet", "status"])
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    code, text = run(verb, "--help")
    assert code == 0
    assert "Example" in text
    assert "--json" in text


def test_init_makes_a_ledger(tmp_path: Path) -> None:
    code, text = run(
        "init", tmp_path / "l", "--replicas", "4", "--currency", "EUR", "--allocate", f"{ALICE}=250", "--json"
    )
    assert code == 0
    genesis = read_genesis(Path(json.loads(text)["genesis"]))
    assert (genesis.currency.symbol, genesis.supply_units, len(genesis.replicas)) == ("EUR", 250, 4)
    assert json.loads(text)["chain_id"] == genesis.chain_id.hex()


def test_init_speaks_to_people(tmp_path: Path) -> None:
    code, text = run("init", tmp_path / "l", "--replicas", "1")
    assert code == 0
    assert "layer1 start --home" in text


def test_a_second_init_is_refused(tmp_path: Path) -> None:
    run("init", tmp_path / "l", "--replicas", "1")
    code, text = run("init", tmp_path / "l", "--replicas", "1", "--json")
    assert code == 1
    assert "already" in json.loads(text)["error"]["message"]


@pytest.mark.parametrize("text", ["nobody=5", f"{ALICE}", f"{ALICE}=2.50", f"{ALICE}=-1", f"{ALICE[:-1]}x=5"])
def test_bad_allocations_are_a_wrong_command_line(tmp_path: Path, text: str) -> None:
    code, _ = run("init", tmp_path / "l", "--allocate", text)
    assert code == 2
    assert not (tmp_path / "l").exists()


def test_starting_nothing_says_what_is_missing(tmp_path: Path) -> None:
    code, text = run("start", "--home", tmp_path, "--json")
    assert code == 1
    assert "layer1 init" in json.loads(text)["error"]["message"]


def test_status_of_nobody_is_an_exit_code_of_its_own(tmp_path: Path) -> None:
    code, text = run("status", "--api", "http://127.0.0.1:1", "--json")
    assert code == 3
    (row,) = json.loads(text)
    assert row["error"]
    code, text = run("status", "--api", "http://127.0.0.1:1")
    assert code == 3
    assert "replica" in text
