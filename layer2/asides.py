"""What wallets say to each other beside their groups: it waits behind what the groups have to say, and is bounded.

- *Out*: to each peer one at a time, with a pause between, so that a group's message waits behind one aside at most; as
  many wait as :data:`ROOM` says, and no more are taken.
- *In*: each peer has an allowance that fills up at a fixed rate. What it says beyond that is dropped unread, and is a
  fault of its own: whoever keeps to the pace above never gets there.

Source: docs/decisions/042.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from layer1.codec import encode
from layer1.crypto import PublicKey
from layer1.errors import RemoteError
from layer2.hosting import Channel
from layer2.messages import MAX_ASIDE_BYTES, Aside

PACE_S = 0.01
"""Between two asides to one peer: 3 MB a second at most."""
ROOM = 64
"""Asides that wait for one peer."""
ALLOWANCE = 256
"""Asides that a peer may say at once: what comes in a burst after a link stood still for 2.5 s."""
REFILL_PER_S = 110
"""A little more than :data:`PACE_S` allows."""


class Asides:
    """Of all links of one host."""

    def __init__(self, link_of: Callable[[PublicKey], Channel | None]) -> None:
        self._link_of = link_of
        self._waiting: dict[PublicKey, deque[bytes]] = {}
        """Encoded, in order; of each peer here the next one leaves when its pause is over."""
        self._pauses: dict[PublicKey, asyncio.Handle] = {}
        self._allowed: dict[PublicKey, tuple[float, float]] = {}
        """Of linked peers that ever said something: how many they may say, as of when, by the loop's time."""

    def say(self, peer: PublicKey, data: bytes) -> bool:
        """Queue it; False if there is no link, or no room: then it is dropped."""
        if len(data) > MAX_ASIDE_BYTES:
            raise ValueError(f"an aside of {len(data)} bytes; at most {MAX_ASIDE_BYTES}: split it")
        waiting = self._waiting.get(peer)
        if self._link_of(peer) is None or (waiting is not None and len(waiting) >= ROOM):
            return False
        if waiting is None:
            waiting = self._waiting[peer] = deque()
            soon = asyncio.get_running_loop().call_soon(self._send_next, peer)  # behind what this turn says
            self._pauses[peer] = soon
        waiting.append(encode(Aside(data)))
        return True

    def hear(self, peer: PublicKey, aside: Aside) -> None:
        """Return if a peer may say this now.

        Raises:
            RemoteError: It is too long, or beyond the peer's allowance.
        """
        if len(aside.data) > MAX_ASIDE_BYTES:
            raise RemoteError(f"an aside of {len(aside.data)} bytes; at most {MAX_ASIDE_BYTES}")
        now_s = asyncio.get_running_loop().time()
        allowed, at_s = self._allowed.get(peer, (float(ALLOWANCE), now_s))
        allowed = min(allowed + (now_s - at_s) * REFILL_PER_S, ALLOWANCE)
        if allowed < 1:
            raise RemoteError(f"more than {ALLOWANCE} asides at once, or {REFILL_PER_S} a second: it is not read")
        self._allowed[peer] = allowed - 1, now_s

    def drop(self, peer: PublicKey) -> None:
        """Its link is gone, and what waited for it."""
        self._forget(peer)
        self._allowed.pop(peer, None)

    def _send_next(self, peer: PublicKey) -> None:
        waiting, link = self._waiting[peer], self._link_of(peer)
        if not waiting or link is None:
            self._forget(peer)
            return
        link.send_nowait(waiting.popleft())
        self._pauses[peer] = asyncio.get_running_loop().call_later(PACE_S, self._send_next, peer)

    def _forget(self, peer: PublicKey) -> None:
        self._waiting.pop(peer, None)
        if (pause := self._pauses.pop(peer, None)) is not None:
            pause.cancel()
