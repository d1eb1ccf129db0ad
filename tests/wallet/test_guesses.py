"""Verbs that people bring along from Lightning wallets are answered with the right one."""

from __future__ import annotations

import pytest
from typer.main import get_command

from wallet.cli import app, main
from wallet.guesses import GUESSES, right_verb, verbs_of

KNOWN = verbs_of(get_command(app))


@pytest.mark.parametrize("guess", sorted(GUESSES))
def test_each_guess_leads_to_a_verb_that_there_is(guess: str) -> None:
    assert right_verb(f"No such command '{guess}'.", KNOWN) in KNOWN
    assert guess not in KNOWN, "it is a verb of ours: nobody has to guess it"


@pytest.mark.parametrize(
    ("typed", "verb"),
    [("getinfo", "show"), ("list-channels", "channel list"), ("OpenChannel", "channel open"), ("new_address", "show")],
)
def test_spellings_do_not_matter(typed: str, verb: str) -> None:
    assert right_verb(f"No such command '{typed}'.", KNOWN) == verb


@pytest.mark.parametrize("message", ["No such command 'xyzzy'.", "Missing argument 'A'.", "", "No such command ''."])
def test_what_nobody_can_tell_is_left_alone(message: str) -> None:
    assert right_verb(message, KNOWN) is None


def test_the_command_says_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["wallet", "listchannels"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "`wallet channel list`" in capsys.readouterr().err
