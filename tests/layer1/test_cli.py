"""The command: texts and exit codes for people, JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from layer1.cli import app, main
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


def invoke(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """As from a shell: exit code, standard output, standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["layer1", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    assert isinstance(end.value.code, int)
    return end.value.code, *capfd.readouterr()


WRONG: list[tuple[list[str], str]] = [
    (["nonsense"], "nonsense"),
    (["init"], "DIR"),
    (["init", "DIR", "--replicas", "many"], "--replicas"),
    (["init", "DIR", "--replicas", "0"], "--replicas"),
    (["init", "DIR", "--allocate", "nobody"], "ADDRESS=UNITS"),
    (["status", "--nonsense"], "--nonsense"),
    (["evidence", "submit"], "--genesis"),
]


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_a_wrong_command_line_is_told_as_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """With --json it was a text for people, on standard error, and nothing for the program that asked."""
    arguments = [str(tmp_path / "l") if each == "DIR" else each for each in arguments]
    code, out, err = invoke(capfd, *arguments, "--json")
    error = json.loads(out)["error"]
    assert (code, error["code"], err) == (2, "bad_usage", "")
    assert told in error["message"]
    code, out, err = invoke(capfd, *arguments)
    assert (code, out) == (2, "")
    assert told in err and "Usage" in err
    assert not (tmp_path / "l").exists()


def test_without_a_verb(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = invoke(capfd)
    assert code == 2
    assert (out + err).count("Usage") == 1
    code, out, _ = invoke(capfd, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "bad_usage")


def test_other_ends_keep_their_exit_codes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = invoke(capfd, "init", tmp_path / "l", "--replicas", "1", "--json")
    assert code == 0 and "chain_id" in json.loads(out)
    code, out, _ = invoke(capfd, "init", tmp_path / "l", "--replicas", "1", "--json")
    assert code == 1 and "already" in json.loads(out)["error"]["message"]
    assert invoke(capfd, "status", "--api", "http://127.0.0.1:1")[0] == 3
    assert invoke(capfd, "init", "--help")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layer1.cli.initialize", _interrupted)
        assert invoke(capfd, "init", tmp_path / "other")[0] == 130


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


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


def test_init_asks_how_replicas_may_fail(tmp_path: Path) -> None:
    """Three replicas by default where none may lie; and it says what that costs."""
    code, text = run("init", tmp_path / "o", "--fault-model", "omission")
    assert code == 0
    assert "3 replicas, of which 1 may crash or be silent, and none may lie (omission)" in text
    assert "can fork this ledger" in text
    genesis = read_genesis(tmp_path / "o" / "genesis.json")
    assert (genesis.fault_model, len(genesis.replicas), genesis.replica_set.quorum) == ("omission", 3, 2)
    code, text = run("init", tmp_path / "b")
    assert code == 0 and "4 replicas, of which 1 may fail in any way (byzantine)" in text
    assert "fork" not in text
    assert "1 replica, of which none may fail" in run("init", tmp_path / "one", "--replicas", "1")[1]
    assert run("init", tmp_path / "n", "--fault-model", "none")[0] == 2
    assert "--fault-model omission" in " ".join(run("devnet", "--help")[1].split())


def test_inspect_shows_how_replicas_may_fail(tmp_path: Path) -> None:
    run("init", tmp_path / "l", "--fault-model", "omission", "--replicas", "5")
    code, text = run("inspect", tmp_path / "l" / "replica-0")
    assert code == 0 and "fault model: omission" in text and "faults: 2" in text


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
    (row,) = json.loads(text)["replicas"]
    assert row["error"]
    code, text = run("status", "--api", "http://127.0.0.1:1")
    assert code == 3
    assert "replica" in text
