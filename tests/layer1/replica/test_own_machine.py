"""A machine of one's own in a network of replicas: all agree, and no restart loses a value."""

from __future__ import annotations

from itertools import count

import pytest
from msgspec import structs

from examples.own_machine import NAMES, Names
from layer1 import merkle
from layer1.errors import LocalError
from layer1.ledger.records import leaf_hash, machine_key
from layer1.ledger.transactions import Command, Transaction
from layer1.replica.checkpoints import CheckpointPolicy
from tests.layer1.replica.network import ALICE, GENESIS, Network, Node, signed

OWN = structs.replace(GENESIS, machine=NAMES.name)
_salts = count(1)


def command(data: bytes) -> Transaction:
    """Alice's, unlike any other."""
    bare = Transaction(Command(ALICE.public, data), 500_000, next(_salts).to_bytes(16, "little"))
    return signed(bare, ALICE, OWN)


def text(node: Node, name: bytes) -> bytes | None:
    """What a replica says under a name, which its root agrees with."""
    state, place = node.core.application.floor.state, machine_key(name)
    found = state.value(place)
    assert merkle.verify(state.root, place, leaf_hash(found), state.prove(place))
    return None if found is None else found[32:]


def run(network: Network, blocks: int) -> None:
    """Commands, each in a block of its own, brought to one replica after the other."""
    for number in range(blocks):
        network.submit(number % 4, [command(b"name%d=%d" % (number % 5, number)), command(b"no command")])
        wanted = str(number).encode()
        network.run_until(
            lambda name=b"name%d" % (number % 5), wanted=wanted: all(  # type: ignore[misc]
                text(node, name) == wanted for node in network.alive()
            )
        )
    network.check()


def test_all_replicas_agree_and_a_restart_executes_the_same() -> None:
    network = Network(genesis=OWN, machine=NAMES)
    run(network, 7)
    assert {output.code for block in network.nodes[0].delivered for output in block.outputs} == {"ok", "bad_command"}
    network.crash(2)
    run(network, 3)
    network.start(2)
    network.run_until(lambda: text(network.nodes[2], b"name2") == b"2")
    network.run_until(lambda: len({node.core.application.floor.state.root for node in network.nodes}) == 1)
    network.check()


def test_a_restart_from_a_checkpoint_has_every_value() -> None:
    network = Network(genesis=OWN, policy=CheckpointPolicy(blocks=3), machine=NAMES)
    network.checkpoint_ms = lambda: 2
    run(network, 10)
    network.run_until(lambda: all(node.checkpoint for node in network.nodes))
    node = network.nodes[1]
    node.durable, node.buffer = node.durable + node.buffer, []
    before = node.core.application.floor.state.snapshot()
    assert len(before.values) == 5
    node.restart()
    assert node.core.checkpoint_height > 0
    assert node.core.application.floor.state.snapshot() == before


class Liar(Names):
    """The name and version of the others, and another behaviour."""

    def execute(self, view, sender, command, clock_ms):  # type: ignore[no-untyped-def]
        return super().execute(view, sender, command + b"!", clock_ms)


def test_a_replica_that_runs_other_code_under_the_name_stops_rather_than_diverge() -> None:
    """What is final and executes to anything else stops a replica; the other three go on."""
    network = Network(genesis=OWN, machine=NAMES)
    network.liars = True
    network.nodes[3].machine = Liar()
    network.start(3)
    network.submit(0, [command(b"a=1")])
    network.run_until(lambda: all(text(node, b"a") == b"1" for node in network.nodes[:3]))
    network.run_until(lambda: network.nodes[3].failed is not None)
    with pytest.raises(LocalError, match=r"diverged.*state root is"):
        raise network.nodes[3].failed or AssertionError
    assert text(network.nodes[3], b"a") is None
