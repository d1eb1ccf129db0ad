"""A release never touches what a newer one wrote."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from layer1.config import load_config
from layer1.dataformat import check_format, mark_format, read_format
from layer1.devnet import Plan, home_of, initialize
from layer1.errors import LocalError
from layer1.release import DATA_FORMAT, RELEASE
from layer1.replica.driver import Replica
from tests.layer1.test_cli import invoke

ROOT = Path(__file__).parents[2]


def test_a_new_directory_is_marked_once(tmp_path: Path) -> None:
    assert read_format(tmp_path) is None
    mark_format(tmp_path)
    assert read_format(tmp_path) == DATA_FORMAT
    written = (tmp_path / "format").stat().st_mtime_ns
    mark_format(tmp_path)
    assert (tmp_path / "format").stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["format"]


def test_a_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "format").write_text(f"{DATA_FORMAT + 1}\nwritten by release 9.0.0\n")
    for check in (check_format, mark_format):
        with pytest.raises(LocalError, match=f"have format {DATA_FORMAT + 1}, .* reads up to {DATA_FORMAT}: start the"):
            check(tmp_path)


@pytest.mark.parametrize("text", ["", "\n1", "one", "-1", "1" * 10, "1.0", "\x00"])
def test_what_is_no_number_is_never_guessed(tmp_path: Path, text: str) -> None:
    (tmp_path / "format").write_text(text)
    with pytest.raises(LocalError, match="not with the number of a format"):
        mark_format(tmp_path)


@pytest.mark.slow
def test_nothing_of_newer_data_is_touched(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By no verb, and before the database is opened, which would make its tables."""
    initialize(tmp_path / "l", Plan())
    config = load_config(home_of(tmp_path / "l", 0))
    (config.data / "format").write_text("1000\n")
    before = {path: path.stat().st_mtime_ns for path in config.home.rglob("*")}
    with pytest.raises(LocalError, match="start the newer release"):
        Replica(config)
    for verb in (["start", "--home"], ["verify"], ["reset", "--yes", "--journal"], ["export", "--to", "1"]):
        arguments = [*verb, str(config.home), *(["blocks"] if verb[0] == "export" else [])]
        code, _, err = invoke(capfd, *arguments)
        assert (code, "start the newer release" in err) == (1, True), verb
    code, out, _ = invoke(capfd, "inspect", config.home, "--json")
    assert json.loads(out)["format"]["data"] == 1000
    assert {path: path.stat().st_mtime_ns for path in config.home.rglob("*")} == before


def test_the_release_is_that_of_the_package(capfd: pytest.CaptureFixture[str]) -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == RELEASE
    code, out, _ = invoke(capfd, "version", "--json")
    assert (code, json.loads(out)["release"]) == (0, RELEASE)
    assert "data format" in invoke(capfd, "version")[1]
