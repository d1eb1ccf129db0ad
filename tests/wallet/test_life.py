"""Decision 040: a home knows a copy of its files from the originals, however it was made."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from layer1.errors import LocalError
from layer1.files import sync_directory, write_durably
from wallet import life as module
from wallet.life import DIRECTORY_VARIABLE, Life


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    Life(made).renew(copied=True)
    return made


def _copy(home: Path) -> Path:
    shutil.copytree(home, home.with_name("copy"))
    return home.with_name("copy")


def _moved_to_another_disk(home: Path) -> Path:
    shutil.copytree(home, home.with_name("copy"))
    shutil.rmtree(home)
    home.with_name("copy").rename(home)
    return home


def _unpacked(home: Path) -> Path:
    with tarfile.open(home.with_name("backup.tar"), "w") as archive:
        archive.add(home, "home")
    shutil.rmtree(home)
    with tarfile.open(home.with_name("backup.tar")) as archive:
        archive.extractall(home.parent, filter="fully_trusted")
    return home


def _written_over_in_place(home: Path) -> Path:
    """As `cp -a backup/. home` does: the inodes stay, and the times of modification are put back."""
    backup = _copy(home)
    Life(home).renew()
    for file in backup.iterdir():
        target = home / file.name
        target.write_bytes(file.read_bytes())
        os.utime(target, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    return home


def _only_what_changed_put_back(home: Path) -> Path:
    """As `rsync -a backup/ home` does: of the mark both files have changed since, so both come back, as new files."""
    backup = _copy(home)
    Life(home).renew()
    for file in backup.iterdir():
        if file.read_bytes() != (home / file.name).read_bytes():
            shutil.copy2(file, home / ".incoming")
            (home / ".incoming").rename(home / file.name)
    return home


def _half_put_back(home: Path) -> Path:
    """Only the file with the stamps."""
    backup = _copy(home)
    Life(home).renew()
    shutil.copy2(backup / "life.seen", home / "life.seen")
    return home


def _without_its_mark(home: Path) -> Path:
    (home / "life").unlink()
    return home


COPIES = [
    _copy,
    _moved_to_another_disk,
    _unpacked,
    _written_over_in_place,
    _only_what_changed_put_back,
    _half_put_back,
    _without_its_mark,
]


@pytest.mark.parametrize("make", COPIES, ids=lambda make: make.__name__.strip("_"))
def test_a_copy_knows_that_it_is_one_until_it_lives_itself(home: Path, make: Callable[[Path], Path]) -> None:
    assert Life(home).is_original
    copy = make(home)
    assert not Life(copy).is_original
    Life(copy).renew(copied=True)
    assert Life(copy).is_original


def test_what_happens_every_day_makes_no_copy(home: Path) -> None:
    """Restarts, a renamed home, others' files in it, being read and backed up."""
    for _ in range(3):
        Life(home).renew()
    _copy(home)
    (home / "wallet.db").write_bytes(b"anything")
    moved = home.rename(home.with_name("elsewhere"))
    assert Life(moved).is_original


@pytest.mark.parametrize("step", range(1, 5))
def test_a_crash_at_any_step_of_renewing_makes_no_copy(home: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files are written, one gets its name."""
    done = 0

    def crashing(true: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **options: object) -> object:
            nonlocal done
            done += 1
            if done == step:
                raise OSError("the power is gone")
            return true(*args, **options)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_durably", crashing(write_durably))
        patch.setattr(module, "sync_directory", crashing(sync_directory))
        with pytest.raises(LocalError, match="power"):
            Life(home).renew()
    assert Life(home).is_original
    Life(home).renew()
    assert Life(home).is_original


def test_a_journal_that_was_put_back_alone_is_an_old_copy(home: Path) -> None:
    """The mark is the home's own; the journal ends before where it was seen."""
    assert Life(home).knows((1, 0)), "nothing is known of it"
    Life(home).renew(journal=(2, 9_000))
    found = {place: Life(home).knows(place) for place in ((1, 99_000), (2, 8_999), (2, 9_000), (2, 9_001), (3, 4_096))}
    assert list(found.values()) == [False, False, True, True, True]


def test_a_copy_gets_a_name_of_its_own(home: Path) -> None:
    """The original may live on; what is kept outside for it must not be the copy's."""
    copy = _copy(home)
    Life(copy).renew(copied=True)
    before = (home / "life").read_bytes()
    Life(copy).renew()
    assert (home / "life").read_bytes() == before and Life(home).is_original
    assert b'"name"' in before and before[:44] != (copy / "life").read_bytes()[:44]


def test_a_disk_that_goes_back_is_noticed_by_what_is_kept_outside(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot brings the inodes and all times back; nothing in it can tell."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "outside"))
    Life(home).renew()
    (outside,) = (tmp_path / "outside").iterdir()
    assert Life(home).is_original
    outside.write_bytes(b'["ffff"]')  # the same, seen from the snapshot: outside is newer
    assert not Life(home).is_original
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    assert Life(home).is_original, "without it nobody knows"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 10_000, b'{"name": 1}'])
@pytest.mark.parametrize("file", ["life", "life.seen"])
def test_a_damaged_mark_is_that_of_a_copy(home: Path, file: str, content: bytes) -> None:
    (home / file).write_bytes(content)
    assert not Life(home).is_original
