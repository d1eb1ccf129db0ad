"""Seeded misfortune: a safety phase in which anything may happen, then a liveness phase in which all must converge."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from layer1.consensus.certificates import Signer
from layer1.consensus.core import Consensus
from layer1.consensus.messages import Finalization, Finalize, Message, Notarize, Nullify, Proposal
from layer1.crypto import Domain, digest
from layer1.header import BlockId, Header
from tests.layer1.consensus.network import Network, SafetyError, child, config, genesis, key_of

OPTIONS: dict[str, Any] = {
    "view_timeout_ms": 300,
    "rebroadcast_ms": 80,
    "stall_timeout_ms": 600,
    "inclusion_timeout_ms": 3_000,
    "max_view_timeout_ms": 2_400,
    "max_term_ms": 4_000,
    "heartbeat_ms": 1_500,
    "drift_bound_ms": 400,
    "max_step_ms": 10_000,
}
"""Everything about three times as fast as by default, so that runs are short."""
BOUNDS_MS = 60_000
"""How long the liveness phase may last, in fake time."""


class LivenessError(AssertionError):
    """A healed network did not converge."""


class Traitor:
    """One replica that proposes two blocks a view, to two sets of replicas, and votes for and against everything."""

    def __init__(self, network: Network, index: int, seed: int) -> None:
        self.network, self.index = network, index
        self.random = random.Random(seed)
        self.signer = Signer(network.config, key_of(index), index)
        self.twins: dict[BlockId, Proposal] = {}
        network.intercept = self

    def __call__(self, sender: int, receiver: int, message: Message) -> Message | None:
        match message:
            case Proposal() if message.vote.replica == self.index:
                chosen = message if receiver % 2 else self.twin(message)
                self.forge(receiver, chosen)
                return chosen
            case Notarize():
                self.mischief(receiver, message)
                return message
            case Finalize():
                return message if self.random.random() < 0.5 else self.signer.nullify(message.view)
            case Nullify():
                return self.random.choice([message, self.signer.nullify(message.start + 1), None])
            case _:
                return message

    def mischief(self, receiver: int, vote: Notarize) -> None:
        """Votes against its own votes, and ranges that start ahead."""
        match self.random.randrange(10):
            case 0 | 1:
                self.inject(receiver, self.signer.nullify(vote.view))
            case 2 | 3:
                self.inject(receiver, self.signer.nullify(vote.view + 1))
            case 4 | 5:
                self.inject(receiver, self.signer.finalize(vote.view, vote.block))
            case _:
                pass

    def forge(self, receiver: int, proposal: Proposal) -> None:
        """Finalizations of a proposal, made of its own signature alone: under one name, or under many."""
        view, block, q = proposal.header.view, proposal.vote.block, self.network.config.quorum
        signature = self.signer.finalize(view, block).signature
        names = self.random.choice([[self.index] * q, list(range(q)), []])
        if names:
            self.inject(receiver, Finalization(0, view, block, tuple((name, signature) for name in names)))

    def twin(self, proposal: Proposal) -> Proposal:
        """Another block for the same view: other contents, a time before its parent's, or the wrong parent."""
        if proposal.vote.block not in self.twins:
            header = proposal.header
            parent = self.parent(header.parent)
            if parent is not None and self.random.random() < 0.3:
                parent = self.parent(parent.parent)
            if parent is None:
                return proposal
            wall_time = parent.wall_time - 50 if self.random.random() < 0.3 else header.wall_time
            batches = (digest(Domain.BATCH, b"twin%d" % header.view),)
            other = child(parent, header.view, wall_time, batches)
            vote = self.signer.notarize(header.view, other.id)
            self.twins[proposal.vote.block] = Proposal(other, batches, vote, proposal.justification)
        return self.twins[proposal.vote.block]

    def parent(self, block: BlockId) -> Header | None:
        origin = genesis()
        return origin if block == origin.id else self.network.checkers.proposals.get(block)

    def inject(self, receiver: int, message: Message) -> None:
        intercept, self.network.intercept = self.network.intercept, None
        self.network.send(self.index, receiver, message)
        self.network.intercept = intercept


def chaos(
    seed: int,
    term_views: int = 1,
    *,
    n: int = 4,
    traitor: bool | None = None,
    make: Callable[..., Consensus] = Consensus,
    **options: Any,
) -> Network:
    """One run. Everything follows from the arguments; a failure names them.

    Raises:
        SafetyError: A promise was broken.
        LivenessError: The healed network did not converge.
    """
    dice = random.Random(seed)
    traitor = dice.random() < 0.5 if traitor is None else traitor
    chosen = config(n, term_views=term_views, **{**OPTIONS, **options})
    betrayer = dice.randrange(n)
    network = Network(
        chosen,
        seed,
        byzantine={betrayer} if traitor else (),
        make=make,
        delay_ms=dice.choice([(1, 10), (5, 40), (1, 150)]),
        loss=dice.choice([0.0, 0.05, 0.2]),
        duplication=dice.choice([0.0, 0.2]),
        execution_ms=dice.choice([0, 0, 5]),
    )
    for node in network.nodes:
        node.skew_ms = dice.randint(-60, 60)
    if traitor:
        Traitor(network, betrayer, seed)
    try:
        network.start()
        misfortune(network, dice)
        network.heal()
        converge(network)
    except AssertionError as error:
        error.add_note(f"chaos({seed}, {term_views}, n={n}, traitor={traitor}, {options})")
        raise
    return network


def misfortune(network: Network, dice: random.Random, rounds: int = 8) -> None:
    """The safety phase: partitions, crashes between any two effects, restarts."""
    n = len(network.nodes)
    network.crash_points, network.crash_rate = True, dice.choice([0.0, 0.005, 0.02])
    for _ in range(rounds):
        network.submit(dice.choice([0, 1, 2]))
        match dice.randrange(5):
            case 0:
                side = {index for index in range(n) if dice.random() < 0.5}
                network.blocked = {(a, b) for a in side for b in range(n) if b not in side}
                network.blocked |= {(b, a) for a, b in network.blocked}
            case 1:
                network.blocked = {(a, b) for a in range(n) for b in range(n) if a != b and dice.random() < 0.3}
            case 2:
                network.crash(dice.randrange(n))
            case _:
                network.blocked.clear()
        for node in network.nodes:
            if not node.alive and dice.random() < 0.6:
                node.start()
        network.run(dice.choice([60, 200, 500]))


def converge(network: Network) -> None:
    """The liveness phase: from now on messages arrive, and everybody must order three more transactions."""
    goal = network.final_height() + 3
    network.submit(3)
    honest = network.checkers.honest
    if not network.run(BOUNDS_MS, lambda: network.all_at(goal, honest)):
        states = [node.core.status() for node in network.nodes]
        raise LivenessError(f"no {goal - network.final_height()} blocks in {BOUNDS_MS} ms: {states}")


__all__ = ["LivenessError", "SafetyError", "chaos"]
