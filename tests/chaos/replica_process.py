"""A replica process that tests can harm: ``python -m tests.chaos.replica_process OPTIONS start --home DIR``.

It runs the command `layer1` with the arguments that are not its own. With ``--skew FILE``, its wall clock is off by
what the file says, at any moment (:mod:`tests.chaos.skew`). With ``--role NAME --tally FILE``, it is Byzantine
(:mod:`tests.chaos.byzantine_replica`).
The product knows nothing of either.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from layer1 import cli


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--skew", type=Path)
    parser.add_argument("--role")
    parser.add_argument("--tally", type=Path)
    options, rest = parser.parse_known_args()
    if options.skew is not None:
        from tests.chaos import skew

        skew.install(options.skew)
    if options.role is not None:
        from tests.chaos import byzantine_replica

        byzantine_replica.install(options.role, options.tally)
    sys.argv = ["layer1", *rest]
    cli.main()


if __name__ == "__main__":
    main()
