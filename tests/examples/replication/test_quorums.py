"""Omission and Byzantine quorums: f silent replicas are masked, f+1 stop everything, and nothing false is final."""

from __future__ import annotations

import pytest

from examples.replication import quorums
from examples.replication.ledger import Ledger, contradiction
from examples.replication.quorums import ALICE, BOB, SIZES, Cost, is_final, measure, measure_group, silence
from layer1.consensus.config import Config
from layer1.consensus.quorum import FaultModel


@pytest.mark.slow
@pytest.mark.parametrize("model, replicas", SIZES)
def test_f_silent_replicas_are_masked_and_one_more_only_delays(model: FaultModel, replicas: int) -> None:
    """ "With at most f silent replicas every transfer becomes final; with more none does, and nothing false is."."""
    ledger = Ledger((ALICE,), replicas=replicas, fault_model=model)
    silence(ledger, ledger.genesis.replica_set.faults)
    assert is_final(ledger, ledger.transfer(ALICE, BOB.public, 5))
    silence(ledger, ledger.genesis.replica_set.faults + 1)
    stuck = ledger.transfer(ALICE, BOB.public, 7)
    assert not is_final(ledger, stuck)
    silence(ledger, 0)
    assert ledger.run(20_000, lambda: all(one.state.balance(BOB.public) == 12 for one in ledger.replicas))
    assert contradiction(ledger.replicas) is None


@pytest.mark.parametrize("less", [0, 1])
def test_quorums_of_one_vote_less_share_nobody_and_fork(monkeypatch: pytest.MonkeyPatch, less: int) -> None:
    quorum = Config.quorum.fget  # type: ignore[attr-defined]  # a property
    monkeypatch.setattr(Config, "quorum", property(lambda self: quorum(self) - less))
    ledger = Ledger((ALICE,), replicas=4)
    ledger.cut("01", "23")
    ledger.submit(ledger.transfer(ALICE, BOB.public, 5), "0", "1")
    ledger.submit(ledger.transfer(ALICE, BOB.public, 7), "2", "3")
    ledger.run(20_000)
    assert (contradiction(ledger.replicas) is not None) == bool(less)


def test_what_a_command_costs() -> None:
    """Every replica says each of four things to each other one, but for one notarize vote: the proposal is one."""
    for model, replicas in SIZES:
        assert measure(model, replicas).messages == 4 * replicas * (replicas - 1)
    assert measure_group() == Cost(messages=2, delays=2)


@pytest.mark.slow
def test_the_lesson_runs(capsys: pytest.CaptureFixture[str]) -> None:
    quorums.main()
    told = capsys.readouterr().out
    assert told.count("NOT final") == len(SIZES)
    assert told.count("final blocks: none") == len(SIZES)
