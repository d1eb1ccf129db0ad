"""On a new link it says at times that it knows less than it does, as if it had lost data, and later the truth again."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from layer1.codec import encode
from layer2.messages import Resume, decode_message
from tests.simulation.groups.roles.role import Role


class FeigningLoss(Role):
    """Plays dumb."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if not isinstance(message, Resume) or self.random.random() < 0.5:
            return (data,)
        certificate, _ = self.known[message.group_id][self.old_version(message.group_id)]
        if certificate.header == message.certificate.header:
            return (encode(replace(message, highest=None, signature=None)),)
        return (encode(Resume(message.group_id, certificate)),)
