"""A machine of one's own in a group: three members count together, until one of them is gone.

Run it: ``python -m examples.shared_counter``. Every count is signed by all three; no ledger is asked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from examples.table import table
from layer1.errors import Refused
from layer2.machine import Balances

MOST = 2**63


class Counter:
    """The command ``+5`` adds 5, ``-5`` takes it away; the count never falls below 0. Nobody's money moves."""

    name = "counter/1"

    def initial(self, member_count: int) -> int:
        """At version 0."""
        return 0

    def encode(self, state: int) -> bytes:
        """One byte string for each state."""
        return b"%d" % state

    def decode(self, data: bytes, member_count: int) -> int:
        """Its inverse."""
        return int(data)

    def apply(self, state: int, balances: Balances, member: int, command: bytes) -> tuple[Balances, Any]:
        """See :class:`layer2.machine.StateMachine`."""
        sign, digits = command[:1], command[1:]
        if sign not in (b"+", b"-") or not digits.isdigit() or len(digits) > 18:
            raise Refused("bad_command", f"{command[:40]!r} is not a sign and up to 18 digits, such as +5")
        after = state + int(command)
        if not 0 <= after < MOST:
            raise Refused("out_of_range", f"{state} would become {after}: it stays from 0 to {MOST - 1}")
        return balances, after


async def main() -> None:
    """Count, disagree, and see whom the others wait for when one is gone."""
    names = ("Ann", "Bob", "Cid")
    async with table(Counter(), deposits=(0, 0, 0)) as (group_id, seats):
        ann, bob, cid = seats
        await asyncio.gather(*(seat.submit(group_id, b"+1") for seat in seats for _ in range(100)))
        await bob.submit(group_id, b"-50")
        try:
            await cid.submit(group_id, b"-1000")
        except Refused as refusal:
            print(f"Cid is refused: {refusal.message}")
        await ann.until(lambda: all(seat.group(group_id).version == ann.group(group_id).version for seat in seats))
        print(f"All signed {[seat.state(group_id) for seat in seats]} at version {ann.group(group_id).version}")

        await cid.__aexit__(None, None, None)
        await bob.until(lambda: not bob.group(group_id).connected)
        waiting = await bob.waiting(group_id)
        assert waiting is not None
        print(f"The group waits for {', '.join(names[i] for i in waiting.absent)}, Bob knows")


if __name__ == "__main__":
    asyncio.run(main())
