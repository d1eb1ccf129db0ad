"""One network namespace per replica: links cut where no process can see it, under TCP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import namespaces
from tests.chaos.cluster import PARAMETERS, place, prepare, running
from tests.chaos.nemesis import Harm, kill_one, pause_one, skew_beyond
from tests.chaos.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_what_one_client_reads_and_writes_is_linearizable_across_namespaces(tmp_path: Path) -> None:
    """Cables out, bridges apart, and processes that die and stop meanwhile; with delay and loss if the kernel can."""
    if (reason := namespaces.why_not()) is not None:
        pytest.skip(reason)
    harms: list[Harm] = [namespaces.unplug_one, namespaces.part_halves, namespaces.unplug_all, namespaces.part_one]
    if (discipline := namespaces.shaping()) is not None:
        harms.append(namespaces.spoil(discipline))
    print(f"cables are spoiled by: {discipline or 'nothing, this kernel has neither netem nor tbf'}")
    genesis = prepare(tmp_path, PARAMETERS)
    with namespaces.joined() as (cables, prefixes):
        configs = place(tmp_path, namespaces.addresses())
        async with running(tmp_path, genesis, configs, cables, {}, prefixes) as net:
            await run(net, 4, harms, [kill_one, pause_one, skew_beyond], allied=True)
