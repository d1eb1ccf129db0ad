"""A network namespace for each replica, joined by a bridge, for links that are cut below TCP.

Nothing of it has a name outside, or outlives the test: each namespace is held by a process that ends when its standard
input does, the bridge and all cables are inside them, and so are all addresses. The test's own thread steps into the
namespace of the bridge while it runs.

Source: network_namespaces(7), veth(4).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from random import Random

from layer1.config import Address
from tests.chaos.cluster import REPLICAS, Cluster
from tests.chaos.nemesis import Harm, Undo
from tests.chaos.proxy import Links

CLONE_NEWNET = 0x40000000
"""From sched.h."""
LINK_PORT, API_PORT = 7_000, 7_001
TRY_S = 5.0
DISCIPLINES = ("netem delay 40ms 20ms loss 2%", "tbf rate 400kbit burst 8kb latency 60ms")
"""Delay and loss by chance; or a narrow cable, where queues delay, and lose what does not fit."""
TRIAL = "ip link add trial0 type bridge && ip link add trial1 type veth peer name trial2"


def why_not() -> str | None:
    """Why this machine cannot do it; None if it can."""
    missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if missing:
        return f"network namespaces need {', '.join(missing)}: install util-linux and iproute2"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", TRIAL], capture_output=True, text=True, check=False)
    return f"network namespaces are not permitted here: {tried.stderr.strip()}" if tried.returncode else None


def shaping() -> str | None:
    """The best queueing discipline that this kernel has for making a cable bad; None if it has none."""
    for discipline in DISCIPLINES:
        trial = f"{TRIAL} && tc qdisc add dev trial1 root {discipline}"
        if subprocess.run(["unshare", "--net", "sh", "-c", trial], capture_output=True, check=False).returncode == 0:
            return discipline
    return None


def addresses() -> dict[int, tuple[Address, Address]]:
    """Where each replica listens: (link, API)."""
    return {i: (Address(host_of(i), LINK_PORT), Address(host_of(i), API_PORT)) for i in range(REPLICAS)}


def host_of(index: int) -> str:
    """The address of a replica's namespace."""
    return f"10.77.0.{index + 1}"


class Cables(Links):
    """The cables from each namespace to a bridge, and a second bridge to plug them into."""

    def __init__(self, holders: Sequence[int]) -> None:
        """Lay them, from inside the namespace of the bridges.

        Args:
            holders: Process ids of who holds each replica's namespace.
        """
        super().__init__({})
        self._spoiled, self._count = False, len(holders)
        for bridge in ("one", "other"):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("link", "set", bridge, "up")
        _ip("address", "add", "10.77.0.100/24", "dev", "one")
        for index, holder in enumerate(holders):
            _ip("link", "add", f"cable{index}", "type", "veth", "peer", "name", "eth0", "netns", str(holder))
            _ip("link", "set", f"cable{index}", "master", "one", "up")
            for command in (("address", "add", f"{host_of(index)}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                            ("link", "set", "lo", "up")):  # fmt: skip
                _run(*entering(holder), "ip", *command)

    def unplug(self, index: int) -> None:
        """Take a cable out."""
        _ip("link", "set", f"cable{index}", "down")

    def part(self, side: Sequence[int]) -> None:  # type: ignore[override]
        """Plug these into the other bridge, away from the rest and from the clients."""
        for index in side:
            _ip("link", "set", f"cable{index}", "master", "other")

    def spoil(self, discipline: str) -> None:
        """Give every cable this queueing discipline, towards the replica."""
        self._spoiled = True
        for index in range(self._count):
            _run("tc", "qdisc", "replace", "dev", f"cable{index}", "root", *discipline.split())

    def heal(self) -> None:
        """As new."""
        for index in range(self._count):
            _ip("link", "set", f"cable{index}", "master", "one", "up")
            if self._spoiled:
                _run("tc", "qdisc", "delete", "dev", f"cable{index}", "root")
        self._spoiled = False


def _cables(net: Cluster) -> Cables:
    assert isinstance(net.links, Cables)
    return net.links


def unplug_one(net: Cluster, random: Random) -> Undo:
    """A cable is out: nobody reaches one replica."""
    _cables(net).unplug(random.randrange(REPLICAS))
    return net.links.heal


def unplug_all(net: Cluster, _random: Random) -> Undo:
    """No network at all."""
    for index in range(REPLICAS):
        _cables(net).unplug(index)
    return net.links.heal


def part_halves(net: Cluster, random: Random) -> Undo:
    """Two and two on bridges of their own; clients reach one half."""
    net.links.part(random.sample(range(REPLICAS), 2))
    return net.links.heal


def part_one(net: Cluster, random: Random) -> Undo:
    """One replica is on a bridge of its own."""
    net.links.part([random.randrange(REPLICAS)])
    return net.links.heal


def spoil(discipline: str) -> Harm:
    """Cables that delay and lose."""

    def bad_cables(net: Cluster, _random: Random) -> Undo:
        _cables(net).spoil(discipline)
        return net.links.heal

    return bad_cables


@contextmanager
def joined(replicas: int = REPLICAS) -> Iterator[tuple[Cables, dict[int, Sequence[str]]]]:
    """Namespaces for so many replicas, with cables, and what to put before a command so that it runs inside each."""
    with ExitStack() as stack:
        hub, *holders = (stack.enter_context(_namespace()) for _ in range(1 + replicas))
        stack.enter_context(_inside(hub))
        yield Cables(holders), {index: entering(holder) for index, holder in enumerate(holders)}


def entering(holder: int) -> Sequence[str]:
    """What to put before a command so that it runs in the namespace that this process holds."""
    return ("nsenter", f"--net=/proc/{holder}/ns/net", "--")


@contextmanager
def _namespace() -> Iterator[int]:
    """The id of a process that holds a fresh namespace."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, start_new_session=True) as holder:
        try:
            ends = time.monotonic() + TRY_S
            while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                assert time.monotonic() < ends, "unshare made no namespace"
                time.sleep(0.005)
            yield holder.pid
        finally:
            holder.kill()


@contextmanager
def _inside(holder: int) -> Iterator[None]:
    """This thread, and what it starts, in the namespace that a process holds."""
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        inside = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY)
        try:
            _set_namespace(inside)
        finally:
            os.close(inside)
        try:
            yield
        finally:
            _set_namespace(outside)
    finally:
        os.close(outside)


def _set_namespace(file: int) -> None:
    """`os.setns`, which Python has from 3.12 on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(file, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
