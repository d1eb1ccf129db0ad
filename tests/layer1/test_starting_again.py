"""`layer1 start` after a snapshot: another replica in the same process, with what the one before was told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from layer1 import cli
from layer1.config import load_config
from layer1.devnet import Plan, home_of, initialize
from layer1.errors import StartAgain
from layer1.replica import driver


@dataclass
class Lives:
    """Of the replica in this process."""

    begun: list[Any] = field(default_factory=list)
    """What each was made from."""
    stopped: int = 0


async def test_it_has_the_peers_that_were_loaded_last_and_rebuilds_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialize(tmp_path, Plan(replicas=4))
    config, lives = load_config(home_of(tmp_path, 0)), Lives()
    fewer = replace(config, peers=config.peers[:1])

    class Replica:
        """Told of other peers, as by SIGHUP, in its first life; its second is a short one."""

        def __init__(self, given: Any, **options: bool) -> None:
            self.config = given
            lives.begun.append((given, options))

        def reload(self) -> None: ...

        async def start(self) -> None:
            self.config = fewer

        async def wait(self) -> None:
            assert lives.stopped == len(lives.begun) - 1, "one at a time"
            if len(lives.begun) == 1:
                raise StartAgain("a snapshot is ready")

        async def stop(self) -> None:
            lives.stopped += 1

    monkeypatch.setattr(driver, "Replica", Replica)
    await cli._start(config, under_devnet=False, json=False, rebuild=True, rejoin=True)
    assert lives.begun == [(config, {"rebuild": True, "rejoin": True}), (fewer, {})]
    assert lives.stopped == 2
