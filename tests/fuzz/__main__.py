"""Fuzz the decoders for as long as one likes: ``python -m tests.fuzz --seconds 60``."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.fuzz.run import Finding, feed
from tests.fuzz.run import inputs as made
from tests.fuzz.targets import TARGETS

PER_ROUND = 300


def main() -> int:
    """Feed all targets in turn; 1 if one of them did what none may do."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="the first one; by default a fresh one")
    parser.add_argument("--rounds", type=int, default=10**9, help="seeds, one after the other")
    parser.add_argument("--target", choices=[target.name for target in TARGETS])
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    chosen = [target for target in TARGETS if asked.target in (None, target.name)]
    ends, inputs, found, rounds = time.monotonic() + asked.seconds, 0, 0, 0
    while rounds < asked.rounds and time.monotonic() < ends:
        for target in list(chosen):
            try:
                inputs += sum(feed(target, seed + rounds, made(target, seed + rounds, PER_ROUND)))
            except Finding as finding:
                print(finding, file=sys.stderr)
                chosen.remove(target)
                found += 1
        rounds += 1
    print(f"{len(TARGETS)} targets, {inputs:,} inputs, seeds {seed}..{seed + rounds - 1}: {found} findings")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
