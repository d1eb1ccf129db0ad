"""Snapshots made to harm: heads that are certified and lead astray, records that break who puts them together."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from layer1.codec import encode
from layer1.consensus.certificates import Checker
from layer1.errors import RemoteError
from layer1.ledger.image import Balances, Remembered, Values
from layer1.replica import checkpoints
from layer1.replica.checkpoints import FORMAT_VERSION, CheckpointPolicy, Head, check_head, fault_of
from tests.layer1.replica.network import GENESIS, Network
from tests.layer1.replica.test_epochs import carry_out, change, pay
from tests.layer1.replica.test_epochs_attacked import make_filler

# ---------------------------------------------------------------------------- heads: no state root covers what they say


def head_now(network: Network, node: int = 0) -> Head:
    application = network.nodes[node].core.application
    return checkpoints.head_of(application.trust, application.floor)


@pytest.fixture(scope="module")
def heads() -> list[Head]:
    """Of blocks of the epochs 0, 1 and 2."""
    network = Network()
    network.add()
    found = []
    pay(network, 0, 1)
    found.append(head_now(network))
    carry_out(network, 0, add=[4])
    pay(network, 0, 2)
    found.append(head_now(network))
    carry_out(network, 0, remove=[4])
    pay(network, 0, 3)
    found.append(head_now(network))
    assert [head.header.epoch for head in found] == [0, 1, 2]
    for head in found:
        check_head(head, GENESIS)
    return found


@pytest.mark.parametrize(("epoch", "handovers"), [(0, 1), (0, 2), (1, 2)])
def test_handovers_beyond_the_block_are_refused(heads: list[Head], epoch: int, handovers: int) -> None:
    """True as they are: who went on from there would call the blocks of its own epoch filler."""
    head = replace(heads[epoch], handovers=heads[2].handovers[:handovers])
    with pytest.raises(RemoteError, match=f"{handovers} handovers lead beyond block"):
        check_head(head, GENESIS)


def test_a_handover_counts_once_and_costs_no_signature_where_it_does_not(
    heads: list[Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands fit into a message, and each is true."""
    verified: list[object] = []
    monkeypatch.setattr(Checker, "certificate", lambda _self, certificate: verified.append(certificate))
    first, second = heads[2].handovers
    for handovers in ((first,) * 1_000, (first, second) + (second,) * 1_000, (second, first)):
        with pytest.raises(RemoteError, match=r"handover \d stands where that of epoch \d belongs"):
            check_head(replace(heads[2], handovers=handovers), GENESIS)
    assert verified == []


def test_a_path_behind_a_block_that_ends_no_epoch_is_refused() -> None:
    """Its certificate would be taken for that of the block itself."""
    network = Network()
    network.checkpoint_ms = lambda: 2
    pay(network, 0, 1)
    early = network.nodes[0].core.application.floor.header
    pay(network, 0, 2)
    blocks = [block for block in network.nodes[0].delivered if block.header.height > early.height]
    late = next(block for block in blocks if not block.path)
    path = tuple(block.header for block in blocks if block.header.height <= late.header.height)
    head = Head(FORMAT_VERSION, GENESIS.chain_id, (), early, path, late.finalization)
    with pytest.raises(RemoteError, match=r"headers behind block \d+, which ends no epoch"):
        check_head(head, GENESIS)


@pytest.mark.parametrize("tells", [True, False])
def test_filler_is_no_snapshot(tells: bool) -> None:
    """It is certified, and has the root of the boundary's state: an epoch that begins on it is another ledger."""
    network = Network(policy=CheckpointPolicy(blocks=10**6))
    network.add()
    make_filler(network, change(network, add=[4]))
    application = network.nodes[1].core.application
    handovers = tuple(application.trust.handovers)
    boundary = handovers[0].head
    filler = boundary.path[-1]
    assert filler.state_root == boundary.header.state_root
    assert boundary.finalization is not None
    head = Head(FORMAT_VERSION, GENESIS.chain_id, handovers if tells else (), filler, (), boundary.finalization)
    assert application.floor.is_boundary, "its state is that of the boundary"
    records = application.floor.state.image()
    fault = fault_of(GENESIS, iter([encode(head), *records.pieces()]))
    assert fault is not None
    assert "lead" in fault
    honest = checkpoints.head_of(application.trust, application.floor)
    assert honest.path == boundary.path
    assert fault_of(GENESIS, iter([encode(honest), *records.pieces()])) is None


# ---------------------------------------------------------------- records: whatever they are, one is told what is wrong


@pytest.mark.parametrize(
    "piece",
    [
        Balances({b"": 5}),
        Balances({b"short": 5}),
        Balances({bytes(32): -1}),
        Balances({bytes(32): 0}),
        Values({b"x": b"y"}),
        Remembered(-1, bytes(32)),
        Remembered(2**63, bytes(32)),
        Remembered(5, b""),
        Remembered(5, bytes(33)),
    ],
    ids=str,
)
def test_records_that_no_ledger_has_are_a_fault_and_break_nothing(heads: list[Head], piece: object) -> None:
    assert fault_of(GENESIS, iter([encode(heads[0]), encode(piece)]))
