"""Every honest report of a flood is final before its deadline; the other floods are grounds of mutants.

Source: docs/flood.md; `tests.simulation.mutants`.
"""

from __future__ import annotations

import pytest

from layer1.ledger.admission import verify_transaction
from layer1.ledger.execute import execute
from layer1.ledger.state import State
from layer1.replica import application
from tests.simulation.flood.__main__ import main
from tests.simulation.flood.groups import NEWEST, Wallets
from tests.simulation.flood.machine import EXECUTE_US, Meter
from tests.simulation.flood.scenario import Flood, Options, genesis_of
from tests.simulation.replica import VERIFY_US
from wallet.period import lane_ms


@pytest.mark.slow
def test_every_honest_report_is_final_before_its_deadline() -> None:
    """Issue 4: "10,000 groups wedge with stale states at once under full ordinary load", at a 50th of all that."""
    options = Options(scale=50)
    outcome = Flood(options).run()
    assert outcome.verdict == ""
    assert {group.closed_version for group in outcome.groups} == {NEWEST}
    assert len(outcome.groups) == 200
    assert outcome.left_ms > 0
    assert outcome.fullness > 0.9, "of every pool, all the time"
    assert outcome.busy > 0.9
    assert outcome.transfers_in < outcome.transfers_before / 2, "disputes go first"
    assert outcome.lane_us / 1_000 < lane_ms(genesis_of(Options()), Options().groups), "the bound of rule 18"


@pytest.mark.slow
def test_the_command_fails_if_somebody_is_late(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody answers within a second."""
    assert main(["--scale", "200", "--groups", "2000", "--period", "1"]) == 1
    assert "2,000 groups" in capsys.readouterr().out


def test_the_meter_counts_what_is_asked_however_often() -> None:
    meter, wallets = Meter(scale=10), Wallets(genesis_of(Options(scale=10)))
    state, transfers = State.genesis(wallets.genesis), [wallets.transfer() for _ in range(3)]
    with meter.reads():
        verify_transaction(transfers[0], wallets.genesis.chain_id)
        verify_transaction(transfers[0], wallets.genesis.chain_id)
        assert meter.us == 2 * VERIFY_US, "votes and the like"
        with meter.ledger():
            verify_transaction(transfers[1], wallets.genesis.chain_id)
        assert meter.us == 12 * VERIFY_US, "what is scaled"
        vars(application)["execute"](state, wallets.genesis.wall_time + 1, transfers)
    assert meter.us == 12 * VERIFY_US + 30 * EXECUTE_US
    assert vars(application)["execute"] is execute
