"""A replica on a disk of a few MiB: ``python -m ... HOME DATA_MIB MORE_MIB``, in a mount namespace of its own.

Mounts a file system over the data, pays until the disk is full and the replica ends by itself, starts it again without
and with room, and prints what happened as JSON. Where the replica watches its disk, another program fills it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

from layer1.config import load_config
from layer1.disk import MIB
from layer1.errors import Refused, WedgeError
from layer1.loop import run
from layer1.replica import driver
from layer1.replica.driver import Replica
from tests.layer1.replica.network import BOB
from tests.layer1.replica.paying import transfer

BULK = 200


async def pay(home: Path) -> tuple[int, str]:
    """Until the replica ends; what it acknowledged, and its last words."""
    replica, acknowledged = Replica(load_config(home)), 0
    await replica.start()
    ended = asyncio.create_task(replica.wait())
    try:
        while not ended.done():
            ids = replica.submit([transfer(replica.genesis.chain_id) for _ in range(BULK)])
            final = asyncio.create_task(replica.wait_final(ids, 20_000))
            await asyncio.wait({final, ended}, return_when=asyncio.FIRST_COMPLETED)
            if final.done():
                acknowledged += len(final.result())
            if acknowledged >= 3 * BULK and replica.config.disk.stop_mib:
                fill(replica.config.data, leave=3 * MIB)
            final.cancel()
    except Refused:
        pass
    await asyncio.wait({ended})
    error = ended.exception()
    await replica.stop()
    return acknowledged, str(error)


def fill(data: Path, leave: int) -> None:
    """As some other program on the same disk does; once."""
    path = data / "other"
    if not path.exists():
        path.write_bytes(bytes(shutil.disk_usage(data).free - leave))


async def again(home: Path) -> int:
    """What Bob has after a restart, one more payment included."""
    replica = Replica(load_config(home))
    try:
        await replica.start()
        before = replica.head().state.balance(BOB.public)
        ids = replica.submit([transfer(replica.genesis.chain_id)])
        assert len(await replica.wait_final(ids, 10_000)) == 1
    finally:  # or the journal's lock is held, which the end of a process of its own would give back
        await replica.stop()
    return before


def main() -> None:
    driver.DISK_WATCH_S = 0.02
    home, small, large = Path(sys.argv[1]), *sys.argv[2:]
    data = home / "data"
    kept = {path.name: path for path in data.iterdir()}
    assert set(kept) == {"journal"}
    old = data.rename(home / "before")
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={small}m", "tmpfs", str(data)]
    subprocess.run(mount, check=True)
    subprocess.run(["cp", "-a", f"{old}/journal", str(data)], check=True)
    acknowledged, why = run(pay(home))
    try:
        run(again(home))
        refused = ""
    except WedgeError as error:
        refused = str(error)
    subprocess.run(["mount", "-o", f"remount,size={large}m", str(data)], check=True)
    balance = run(again(home))
    print(json.dumps({"acknowledged": acknowledged, "why": why, "refused": refused, "balance": balance}))


if __name__ == "__main__":
    main()
