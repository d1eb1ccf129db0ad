"""On a new link it says at times that it knows less than it does, as if it had lost data, and later the truth again."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Hash
from layer2.messages import Resume, decode_message
from tests.simulation.groups.roles.role import Host, Role


class FeigningLoss(Role):
    """Plays dumb."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._feigned: set[Hash] = set()
        """Groups in which its last word was a lie."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if not isinstance(message, Resume) or message.group_id not in self.known:
            return (data,)  # of a group whose opening it has not seen final yet there is nothing to hide
        if message.group_id in self._feigned or self.random.random() < 0.3:
            self._feigned.discard(message.group_id)
            return (data,)
        self._feigned.add(message.group_id)
        certificate, _ = self.known[message.group_id][self.old_version(message.group_id)]
        if certificate.header == message.certificate.header:
            return (encode(replace(message, highest=None, signature=None)),)
        return (encode(Resume(message.group_id, certificate)),)
