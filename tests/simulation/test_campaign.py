"""A campaign names every seed that failed, whatever it failed by, with the command that replays it."""

from __future__ import annotations

from typing import Any

import pytest

from layer1.replica.core import ReplicaCore
from tests.simulation.__main__ import main
from tests.simulation.scenario import Options, Scenario
from tests.simulation.twins.scenario import run_random


def break_down(*_: Any) -> Any:
    raise KeyError("a bug")


def test_a_run_that_breaks_down_is_reported_like_a_violation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core that raises what nobody expects: that seed is named, and the others go on."""
    monkeypatch.setattr(ReplicaCore, "step", break_down)
    assert main(["--seeds", "3..4", "--processes", "1"]) == 1
    said = capsys.readouterr().err
    assert "2 seeds" in said and "2 violations" in said and "per minute" in said
    assert all(f"python -m tests.simulation --seed {seed}" in said for seed in (3, 4))
    assert "unexpected KeyError: 'a bug', in test_campaign.py" in said


def test_a_run_that_breaks_down_shows_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplicaCore, "step", break_down)
    result = Scenario(Options(seed=3), keep_trace=True).run()
    assert result.error.startswith("unexpected KeyError") and "replica0  starts at height 0" in result.trace[0]


def test_twins_that_break_down_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.twins.network.Instance.step", break_down)
    assert run_random(3).error.startswith("unexpected KeyError")


def test_seeds_without_a_violation_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "2..2", "--processes", "1"]) == 0
    assert "1 seeds" in (said := capsys.readouterr().err) and "0 violations" in said
    assert main(["--seed", "2"]) == 0
    said = capsys.readouterr().out
    assert "trace hash " in said and "no violation" in said and "Proposal(" in said
