"""The command: what a newcomer types, what programs read, and how it fails."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layer1.client import ClientLimits, LedgerClient, LedgerUnreachable
from layer1.errors import LocalError, NotYet, Refused, RemoteError
from layer1.ledger.genesis import to_json
from layer1.link import LinkClosed
from layer2.driver import Pending
from tests.wallet.standin import make_genesis
from wallet import assembly, cli, session, show
from wallet.cli import app
from wallet.exits import EXITS, Exit, as_refusal, exit_of
from wallet.home import Home
from wallet.keystore import Keystore

PASSPHRASE = "correct horse battery"
DEAD = "http://127.0.0.1:1"
"""Nobody listens there."""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cheap_scrypt")]


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line that it printed."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The error's code."""
        return str(self.json["error"]["code"])


class Shell:
    """Runs the command in this process, as its entry point does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.home = home
        monkeypatch.setenv("WALLET_PASSPHRASE", PASSPHRASE)
        monkeypatch.setenv("WALLET_HOME", str(home))
        monkeypatch.delenv("COLUMNS", raising=False)  # nobody's screen: texts are not folded

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["wallet", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = self._capsys.readouterr()
        return Done(int(caught.value.code or 0), said.out, said.err)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    return Shell(monkeypatch, capsys, tmp_path / "home")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is away is given up soon."""
    client = partial(LedgerClient, limits=ClientLimits(patience_ms=100))
    for module in (assembly, session, show):
        monkeypatch.setattr(module, "LedgerClient", client)


@pytest.fixture
def wallet(shell: Shell, tmp_path: Path) -> Shell:
    """A shell in which a wallet was made, for a ledger that is away."""
    genesis = tmp_path / "genesis.json"
    genesis.write_text(to_json(make_genesis()))
    assert shell("create", "--ledger", DEAD, "--genesis", str(genesis), "--json").code == 0
    return shell


VERBS = [
    ["create"],
    ["connect"],
    ["show"],
    ["send"],
    ["serve"],
    ["pay"],
    ["history"],
    ["prune"],
    ["channel", "open"],
    ["channel", "list"],
    ["channel", "show"],
    ["channel", "close"],
    ["channel", "period"],
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_takes_home_and_json_and_explains_itself(verb: list[str]) -> None:
    """Issue: `--home` (or `WALLET_HOME`), `--json` on every verb."""
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for text in ("--home", "WALLET_HOME", "--json"):
        assert text in shown.output


def test_the_exit_codes_stand_in_the_help() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400", "TERM": "dumb"}).output
    for code in range(9):
        assert f"{code} " in text


def test_a_new_wallet_shows_its_phrase_once(shell: Shell) -> None:
    made = shell("create", "--json")
    assert made.code == 0
    assert set(made.json) == {"home", "address", "savings", "chain_id", "phrase"}
    assert len(made.json["phrase"].split()) == 12
    words = made.json["phrase"]
    assert all(words not in path.read_text() for path in shell.home.rglob("*") if path.is_file())
    assert words not in shell("show", "--json").out


def test_a_new_wallet_for_people(shell: Shell) -> None:
    made = shell("create")
    assert "shown once" in made.out
    assert "wedge1" in made.out


def test_the_phrase_makes_the_wallet_again(shell: Shell, tmp_path: Path) -> None:
    made = shell("create", "--json").json
    (tmp_path / "phrase").write_text(made["phrase"] + "\n")
    again = shell("create", "--json", "--home", str(tmp_path / "again"), "--phrase-file", str(tmp_path / "phrase")).json
    assert (again["address"], again["savings"]) == (made["address"], made["savings"])
    assert "phrase" not in again, "who has it in a file need not have it on the screen"


def test_a_wallet_without_a_ledger_shows_its_addresses(shell: Shell) -> None:
    made = shell("create", "--json").json
    shown = shell("show", "--json").json
    assert shown["address"] == made["address"]
    assert shown["spending"] == {"address": made["address"], "balance": None}
    assert "wallet connect" in shell("show").out
    assert shell("channel", "list", "--json").error == "no_ledger"


def test_a_wallet_is_never_overwritten(wallet: Shell) -> None:
    again = wallet("create", "--json")
    assert (again.code, again.error) == (Exit.REFUSED, "home_exists")


def test_a_wallet_stays_with_its_ledger(wallet: Shell, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(to_json(make_genesis(bytes(32))))
    done = wallet("connect", "--ledger", DEAD, "--genesis", str(other), "--json")
    assert (done.code, done.error) == (Exit.REFUSED, "wrong_chain")


def test_the_chain_id_is_checked(shell: Shell, tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(to_json(make_genesis()))
    done = shell("create", "--ledger", DEAD, "--genesis", str(genesis), "--chain-id", "00" * 32, "--json")
    assert (done.code, done.error) == (Exit.REFUSED, "wrong_chain")
    assert not (shell.home / "keystore.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["nonsense"], Exit.USAGE, "bad_usage"),
        (["pay"], Exit.USAGE, "bad_usage"),
        (["pay", "abcd", "1", "--count", "0"], Exit.USAGE, "bad_usage"),
        (["pay", "abcd", "1.234"], Exit.USAGE, "bad_amount"),
        (["pay", "abcd", "-1"], Exit.USAGE, "bad_usage"),
        (["send", "wedge1nope", "1"], Exit.USAGE, "bad_address"),
        (["send", "wedge1nope", "1,50"], Exit.USAGE, "bad_amount"),
        (["channel", "open", "nobody", "--deposit", "1", "--challenge-period", "soon"], Exit.USAGE, "bad_duration"),
        (["channel", "open", "nobody", "--deposit", "1"], Exit.USAGE, "bad_contact"),
        (["channel", "show", "abcdef"], Exit.REFUSED, "unknown_channel"),
        (["pay", "abcdef", "1"], Exit.REFUSED, "unknown_channel"),
        (["channel", "close", "abcdef"], Exit.REFUSED, "unknown_channel"),
        (["serve", "--listen", "nowhere"], Exit.USAGE, "bad_contact"),
        (["serve", "--min-challenge-period", "5s"], Exit.USAGE, "bad_usage"),
        (["show"], Exit.LEDGER, "ledger_unreachable"),
        (["show", "--home", "/nonexistent"], Exit.REFUSED, "no_wallet"),
        (["connect", "--ledger", "nonsense"], Exit.REFUSED, "bad_config"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_errors_have_codes_and_texts_and_no_traceback(
    wallet: Shell, arguments: list[str], code: Exit, error: str
) -> None:
    """Issue: exit codes and error texts are for people: what happened, what to do."""
    as_json, for_people = wallet(*arguments, "--json"), wallet(*arguments)
    assert (as_json.code, as_json.error) == (code, error)
    assert for_people.code == code
    assert for_people.out == ""
    assert for_people.err.strip().splitlines()[-1].startswith("wallet: ")
    assert "Traceback" not in for_people.err


def test_a_negative_amount_is_no_option(wallet: Shell) -> None:
    assert "no amount begins with '-1'" in wallet("pay", "abcd", "-1.00").err


def test_without_a_verb_the_help_is_all_that_is_said(wallet: Shell) -> None:
    done = wallet("channel")
    assert (done.code, done.err) == (Exit.USAGE, "")
    assert "close" in done.out


def test_who_interrupts_is_told(wallet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    done = wallet("show")
    assert (done.code, done.err.startswith("wallet: interrupted")) == (Exit.INTERRUPTED, True)


def test_the_history_of_an_unknown_channel_is_refused(wallet: Shell) -> None:
    done = wallet("history", "--channel", "abcd", "--json")
    assert (done.code, done.error) == (Exit.REFUSED, "unknown_channel")


def test_an_unreachable_ledger_is_said_in_words(wallet: Shell) -> None:
    said = wallet("show").err
    assert f"{DEAD} does not answer" in said
    assert "Error" not in said


def test_a_file_that_is_not_there_is_named(shell: Shell, tmp_path: Path) -> None:
    said = shell("create", "--phrase-file", str(tmp_path / "missing")).err
    assert str(tmp_path / "missing") in said
    assert "Errno" not in said


def test_a_wrong_passphrase_is_told_from_none(wallet: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong").write_text("not the right one\n")
    done = wallet("channel", "list", "--passphrase-file", str(tmp_path / "wrong"), "--json")
    assert (done.code, done.error) == (Exit.LOCKED, "wrong_passphrase")
    monkeypatch.delenv("WALLET_PASSPHRASE")
    done = wallet("channel", "list", "--json")
    assert (done.code, done.error) == (Exit.LOCKED, "no_passphrase")
    assert "not the right one" not in done.out + done.err


def test_a_damaged_key_file_is_told_from_a_wrong_passphrase(wallet: Shell) -> None:
    (wallet.home / "keystore.json").write_text("{}")
    done = wallet("channel", "list", "--json")
    assert (done.code, done.error) == (Exit.FAULT, "bad_keystore")


def test_a_home_that_another_process_works_in_is_busy(wallet: Shell) -> None:
    """Issue: one process per home, locked."""
    lock = Home(wallet.home).lock()
    for verb in (["channel", "list"], ["history"], ["pay", "abcd", "1"]):
        done = wallet(*verb, "--json")
        assert (done.code, done.error) == (Exit.BUSY, "home_busy")
    lock.release()
    assert wallet("history", "--json").code == 0


def test_an_empty_wallet_has_empty_lists(wallet: Shell) -> None:
    currency = {"symbol": "WDG", "decimals": 2}
    assert wallet("history", "--json").json == {"entries": [], "currency": currency, "labels": {}, "next": None}
    assert wallet("history", "--csv").out.startswith("time,kind,amount,currency,")
    listed = wallet("channel", "list", "--json").json
    assert listed == {"channels": [], "clock_ms": None, "currency": {"symbol": "WDG", "decimals": 2}}
    assert "Nothing has happened" in wallet("history").out
    assert "No channels yet" in wallet("channel", "list").out


def test_the_challenge_period_is_explained(wallet: Shell) -> None:
    """groups.md, rule 18: `wallet` computes and explains it."""
    assert "in all; the default is" in wallet("channel", "period").out
    told = wallet("channel", "period", "--json").json
    assert told["default_ms"] == 2 * told["least_safe_ms"] > told["least_served_ms"]


def test_savings_are_sent_with_the_savings_key_only(wallet: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the savings stay sealed")

    monkeypatch.setattr(Keystore, "unlock_savings", refuse)
    address = json.loads((wallet.home / "keystore.json").read_text())["savings_address"]
    assert wallet("send", address, "1", "--json").error == "ledger_unreachable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("insufficient_balance", "text"), Exit.REFUSED),
        (LedgerUnreachable("text"), Exit.LEDGER),
        (LinkClosed("text"), Exit.PEER),
        (Pending(bytes(32), 1, "text"), Exit.PENDING),
        (NotYet("text"), Exit.PENDING),
        (RemoteError("text"), Exit.REFUSED),
        (LocalError("text"), Exit.FAULT),
        (ZeroDivisionError("secret"), Exit.FAULT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, code: Exit) -> None:
    refusal = as_refusal(error)
    assert exit_of(refusal.code) is code
    assert "secret" not in refusal.message


def test_no_two_exit_codes_share_a_number() -> None:
    assert len({int(code) for code in Exit}) == len(Exit)
    assert set(EXITS.values()) <= set(Exit)
