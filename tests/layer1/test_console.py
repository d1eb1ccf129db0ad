"""What the commands print arrives whole."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console
from rich.table import Table

from layer1.console import cells, print_json, write_out


class Narrow(io.RawIOBase):
    """A pipe whose reader is slow: it takes little at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # narrower than any buffer
        self.taken += bytes(data[:1_000])
        return min(len(data), 1_000)


def unbuffered(monkeypatch: pytest.MonkeyPatch) -> Narrow:
    """Standard output as `PYTHONUNBUFFERED` makes it."""
    pipe = Narrow()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="utf-8", write_through=True))  # type: ignore[type-var]
    return pipe


def test_a_pipe_that_takes_little_at_a_time_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = unbuffered(monkeypatch)
    write_out("first\n")
    print_json(list(range(10_000)))
    write_out("last\n")
    first, *lines, last = pipe.taken.decode().splitlines()
    assert (first, last) == ("first", "last")
    assert json.loads("".join(lines)) == list(range(10_000))


def test_without_care_the_rest_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python itself does: so the test above can fail."""
    pipe = unbuffered(monkeypatch)
    sys.stdout.write("x" * 5_000)
    assert len(pipe.taken) == 1_000


def test_it_keeps_the_order_of_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print("one")
    write_out("two\n")
    print("three")
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_a_cell_shows_what_it_is_given() -> None:
    """An IPv6 address looks like a style, and a replica may say anything of itself."""
    table = Table()
    table.add_row(*cells(["[fd00::1]:80", "http://[fd00::1]:81", None, 7, "[bold]x"]))
    shown = io.StringIO()
    Console(file=shown, width=200).print(table)
    for text in ("[fd00::1]:80", "http://[fd00::1]:81", " - ", "7", "[bold]x"):
        assert text in shown.getvalue()
