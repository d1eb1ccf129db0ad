"""How much a payment may cost, unless its payer says.

At most a hundredth of what is paid, and for small payments at most :data:`LEAST_UNITS`: a hop's base fee must fit. A
direct payment costs nothing. Whoever wants it otherwise says ``--max-fee``; 0 is a limit like any other.
"""

from __future__ import annotations

PPM = 10_000
"""One percent, in millionths of the amount."""
LEAST_UNITS = 5
"""Minor units."""


def most_fee(amount: int, wanted: int | None = None) -> int:
    """What all forwarders together may keep of a payment of `amount`, minor units."""
    return max(amount * PPM // 1_000_000, LEAST_UNITS) if wanted is None else wanted
