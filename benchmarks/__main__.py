"""``python -m benchmarks [--json] [--only NAME] [--quick]``: the marks, each beside its floor of the same run."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from rich.console import Console

from benchmarks import blocks, channel, floors, groups, hub, leader, network, restart, routes, standby, tower, transfers
from benchmarks.result import show, to_json

MEASUREMENTS = {
    "transfers": transfers.measure,
    "leader": leader.measure,
    "blocks": blocks.measure,
    "restart": restart.measure,
    "channel": channel.measure,
    "groups": groups.measure,
    "hub": hub.measure,
    "network": network.measure,
    "standby": standby.measure,
    "tower": tower.measure,
    "routes": routes.measure,
}


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    parser.add_argument("--only", choices=MEASUREMENTS, help="run one of the measurements")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"restart with {restart.FEWER_BLOCKS:,} blocks: preparing {restart.BLOCKS:,} takes minutes",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        MEASUREMENTS["restart"] = partial(restart.measure, blocks=restart.FEWER_BLOCKS)
        MEASUREMENTS["hub"] = partial(hub.measure, channels=hub.FEWER_CHANNELS)
        MEASUREMENTS["network"] = partial(network.measure, channels=network.FEWER_CHANNELS, load_s=network.LESS_S)
        MEASUREMENTS["tower"] = partial(tower.measure, storm=tower.FEWER)
        MEASUREMENTS["routes"] = partial(routes.measure, queries=routes.FEWER)
    progress = Console(stderr=True)
    with progress.status("measuring the floors") as status:
        bounds = floors.measure()
        results = []
        for name, measure in MEASUREMENTS.items():
            if arguments.only in {None, name}:
                status.update(f"measuring {name}")
                results += measure(bounds)
    if arguments.json:
        sys.stdout.write(to_json(results) + "\n")
    else:
        show(results, Console())


if __name__ == "__main__":
    main()
