"""What breaks, in an order that a seed decides: every kind of harm once, each held for a while and then undone.

Two lanes run side by side, one for processes and clocks, one for links, so that harms meet. Nothing waits for the
ledger: the nemesis does not know whether it hurts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from tests.chaos.cluster import REPLICAS, Cluster

HOLD_S = (0.5, 1.2)
GAP_S = (0.1, 0.4)

Undo = Callable[[], None]
Harm = Callable[[Cluster, Random], Undo]


def _any(random: Random) -> int:
    return random.randrange(REPLICAS)


def kill_one(net: Cluster, random: Random) -> Undo:
    """SIGKILL, and a start."""
    victim = _any(random)
    net.kill(victim)
    return lambda: net.spawn(victim)


def kill_two(net: Cluster, random: Random) -> Undo:
    """More than f at once: the ledger stands still, and forgets nothing."""
    victims = random.sample(range(REPLICAS), 2)
    net.kill(*victims)

    def start() -> None:
        for victim in victims:
            net.spawn(victim)

    return start


def kill_all(net: Cluster, _random: Random) -> Undo:
    """The power goes."""
    net.kill(*range(REPLICAS))

    def start() -> None:
        for index in range(REPLICAS):
            net.spawn(index)

    return start


def pause_one(net: Cluster, random: Random) -> Undo:
    """SIGSTOP, and SIGCONT: it goes on as if nothing had been."""
    victim = _any(random)
    net.pause(victim)
    return lambda: net.resume(victim)


def pause_two(net: Cluster, random: Random) -> Undo:
    """More than f stand still."""
    victims = random.sample(range(REPLICAS), 2)
    for victim in victims:
        net.pause(victim)

    def resume() -> None:
        for victim in victims:
            net.resume(victim)

    return resume


def skew_within(net: Cluster, random: Random) -> Undo:
    """A clock is off, by less than the drift bound."""
    return _skew(net, random, net.genesis.parameters.drift_bound_ms * 8 // 10)


def skew_beyond(net: Cluster, random: Random) -> Undo:
    """A clock is off by far more than the drift bound."""
    return _skew(net, random, 20 * net.genesis.parameters.drift_bound_ms)


def _skew(net: Cluster, random: Random, offset_ms: int) -> Undo:
    victim = _any(random)
    net.skew(victim, random.choice((-offset_ms, offset_ms)))
    return lambda: net.skew(victim, 0)


def part_one(net: Cluster, random: Random) -> Undo:
    """One replica is alone."""
    net.links.part([_any(random)])
    return net.links.heal


def part_halves(net: Cluster, random: Random) -> Undo:
    """Two and two: no quorum anywhere."""
    net.links.part(random.sample(range(REPLICAS), 2))
    return net.links.heal


def deafen(net: Cluster, random: Random) -> Undo:
    """One way: a replica speaks and does not hear."""
    net.links.silence(range(REPLICAS), [_any(random)])
    return net.links.heal


def mute(net: Cluster, random: Random) -> Undo:
    """One way: a replica hears and is not heard."""
    net.links.silence([_any(random)], range(REPLICAS))
    return net.links.heal


def cut(net: Cluster, random: Random) -> Undo:
    """All connections of a replica are reset, and refused."""
    net.links.cut(_any(random))
    return net.links.heal


def delay(net: Cluster, random: Random) -> Undo:
    """Every message is late; a view still fits into its timeout, or not quite."""
    net.links.slow(delay_s=random.uniform(0.05, 0.15))
    return net.links.heal


def throttle(net: Cluster, random: Random) -> Undo:
    """Links are narrow."""
    net.links.slow(bytes_per_s=random.uniform(20_000, 60_000))
    return net.links.heal


PROCESSES: Sequence[Harm] = (kill_one, kill_two, kill_all, pause_one, pause_two, skew_within, skew_beyond)
LINKS: Sequence[Harm] = (part_one, part_halves, deafen, mute, cut, delay, throttle)
ONE_AT_A_TIME: Sequence[Harm] = (kill_one, pause_one, skew_beyond, part_one, mute, cut)


async def attack(net: Cluster, random: Random, *lanes: Sequence[Harm]) -> None:
    """Do all of this, each lane in an order of its own, and heal everything."""
    seeds = [random.getrandbits(64) for _ in lanes]
    try:
        await asyncio.gather(*(_lane(net, Random(seed), lane) for seed, lane in zip(seeds, lanes, strict=True)))
    finally:
        net.heal()


async def _lane(net: Cluster, random: Random, lane: Sequence[Harm]) -> None:
    for harm in random.sample(lane, len(lane)):
        undo = harm(net, random)
        try:
            await asyncio.sleep(random.uniform(*HOLD_S))
        finally:
            undo()
        await asyncio.sleep(random.uniform(*GAP_S))
