"""A witness's home and its copies: what was put back from a backup does not serve (decision 040)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from layer1.errors import Refused
from layer1.journal import Journal
from wallet.home import Home
from wallet.witness.serving import live_on


def served(home: Path) -> Home:
    """A home whose witness has taken something in."""
    home.mkdir()
    live_on(Home(home), moved=False)
    journal = Journal.open(home / "witness")
    journal.append(b"what it ACKed")
    journal.sync()
    journal.close()
    return Home(home)


def test_the_same_home_serves_again_and_a_copy_does_not(tmp_path: Path) -> None:
    """An old one has forgotten what it ACKed: its claim would help one that lies."""
    home = served(tmp_path / "wanda")
    live_on(home, moved=False)
    shutil.copytree(home.path, tmp_path / "copy")
    for _ in range(2):  # a refused start does not make it an original
        with pytest.raises(Refused, match="replace-witness") as refusal:
            live_on(Home(tmp_path / "copy"), moved=False)
        assert refusal.value.code == "old_copy"
    live_on(home, moved=False)


def test_records_put_back_alone_are_a_copy_too(tmp_path: Path) -> None:
    home = served(tmp_path / "wanda")
    shutil.copytree(home.path / "witness", tmp_path / "backup")
    shutil.rmtree(home.path / "witness")
    shutil.copytree(tmp_path / "backup", home.path / "witness")
    with pytest.raises(Refused, match="are a copy"):
        live_on(home, moved=False)


def test_a_home_that_its_owner_moved_goes_on(tmp_path: Path) -> None:
    """Said once: the next start needs no word."""
    home = served(tmp_path / "wanda")
    shutil.copytree(home.path, tmp_path / "moved")
    shutil.rmtree(home.path)
    moved = Home(tmp_path / "moved")
    live_on(moved, moved=True)
    live_on(moved, moved=False)


def test_a_start_that_crashed_before_there_was_a_record_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / "wanda" / "witness").mkdir(parents=True)
    (tmp_path / "wanda" / "witness" / ".life.next").write_bytes(b"torn")
    live_on(Home(tmp_path / "wanda"), moved=False)
