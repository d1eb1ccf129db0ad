"""The example of a machine of one's own: it does what it says, in fewer than 60 lines, and so do four processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import own_machine
from examples.own_machine import NAMES
from layer1.crypto import SigningKey
from layer1.errors import Refused
from layer1.statemachine import CommandView, StateMachine, run

ALICE, BOB = (SigningKey(bytes([i]) * 32).public for i in (1, 2))

TABLE = [
    ("a free name is taken", ALICE, b"bob=1", "taken"),
    ("an owner rewrites", ALICE, b"wedge=new=er", "rewritten"),
    ("and may write nothing", ALICE, b"wedge=", "rewritten"),
    ("nobody else writes", BOB, b"wedge=mine", "name_taken"),
    ("there must be a text", ALICE, b"wedge", "bad_command"),
    ("and a name", ALICE, b"=text", "bad_command"),
    ("of letters and digits", ALICE, b"we dge=text", "bad_command"),
    ("that fits", ALICE, b"x" * 257 + b"=text", "bad_key"),
    ("as must the text", ALICE, b"wedge=" + bytes(4_096), "value_too_large"),
    ("any bytes are a command", BOB, b"\xff\x00\xfe", "bad_command"),
]


@pytest.mark.parametrize(("sender", "command", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_names(sender: bytes, command: bytes, expected: str) -> None:
    machine: StateMachine = NAMES
    before = CommandView(lambda _place: None)
    run(machine, before, ALICE, b"wedge=old", 0)
    view = CommandView(before.written.get)
    name, _, text = command.partition(b"=")
    if expected in {"taken", "rewritten"}:
        assert run(machine, view, sender, command, 0) == expected
        assert view.get(name) == sender + text
        return
    with pytest.raises(Refused) as refusal:
        run(machine, view, sender, command, 0)
    assert (refusal.value.code, view.written) == (expected, {})


def test_it_has_fewer_than_60_lines() -> None:
    assert len(Path(own_machine.__file__).read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
async def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """With four processes; it checks the proven value itself."""
    await own_machine.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Alice: wedge=hello -> ok: taken"
    assert lines[1].startswith("Bob: wedge=mine -> name_taken: ")
    assert lines[2].endswith("wedge is Alice's and says 'hello'")
