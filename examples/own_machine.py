"""A state machine of one's own on layer 1: names, each of whoever took it first, and what its owner wrote there.

Run it: ``python -m examples.own_machine``. Four replica processes execute it; what is shown is proven from the genesis.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from layer1.client import LedgerClient
from layer1.crypto import PublicKey, SigningKey
from layer1.devnet import Devnet, Plan, initialize
from layer1.errors import Refused
from layer1.ledger.genesis import Allocation
from layer1.statemachine import View


class Names:
    """The command ``name=text`` takes a free name, or rewrites one's own; a value is its owner's key and the text."""

    name = "names/1"

    def execute(self, view: View, sender: PublicKey, command: bytes, clock_ms: int) -> str:
        """See :class:`layer1.statemachine.StateMachine`."""
        key, equals, text = command.partition(b"=")
        if not equals or not key.isalnum():
            raise Refused("bad_command", f"{command[:40]!r} is not name=text, the name of letters and digits")
        known = view.get(key)
        if known is not None and known[:32] != sender:
            raise Refused("name_taken", f"{key.decode()} is of {known[:32].hex()}, not of {sender.hex()}")
        view.set(key, sender + text)
        return "taken" if known is None else "rewritten"


NAMES = Names()


async def main() -> None:
    """Alice takes a name, Bob cannot, and anybody may verify whose it is."""
    alice, bob = SigningKey.generate(), SigningKey.generate()
    with tempfile.TemporaryDirectory(prefix="wedge-") as folder:
        rich = tuple(Allocation(key.public, 1) for key in (alice, bob))
        genesis = initialize(Path(folder, "ledger"), Plan(allocations=rich, machine="examples.own_machine:NAMES"))
        async with Devnet(Path(folder, "ledger")) as net, LedgerClient(net.urls, genesis) as ledger:
            for who, key, command in (("Alice", alice, b"wedge=hello"), ("Bob", bob, b"wedge=mine")):
                output = await ledger.submit(await ledger.new_command(key, command))
                print(f"{who}: {command.decode()} -> {output.code}: {output.message}")
            found = await ledger.value(b"wedge")
            assert found.value == alice.public + b"hello"
            print(f"Proven at block {found.header.height}: wedge is Alice's and says {found.value[32:].decode()!r}")


if __name__ == "__main__":
    asyncio.run(main())
