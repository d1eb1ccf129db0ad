"""What can be wrong with a packet or a failure, each with the answer that a hop gives."""

from __future__ import annotations

from layer1.errors import RemoteError


class OnionError(RemoteError):
    """A packet that is not forwarded and not paid on. Nothing was changed."""


class MalformedPacket(OnionError):
    """Of another size or version, or its key is no key. It cannot be answered in a wrapped failure."""


class TamperedPacket(OnionError):
    """Altered, made for somebody else, or brought with another lock than its own. It cannot be answered either."""


class BadPayload(OnionError):
    """Authentic, and what its maker wrote makes no sense.

    Attributes:
        secret: What wraps the answer.
    """

    def __init__(self, message: str, secret: bytes) -> None:
        super().__init__(message)
        self.secret = secret


class ReplayedPacket(OnionError):
    """Seen before, and its lock's expiry is not over."""


class UnreadableFailure(OnionError):
    """No hop of the route made this failure: somebody on the way altered it, and nobody can say who."""
