"""What else outlives the processes of a wallet in a network: preimages of locks that it claims.

Source: wallet/locking.py, which keeps one file for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

from tests.simulation.disk import Disk
from tests.simulation.stories.homes import MemberHome


@dataclass
class NetworkHome(MemberHome):
    """One home."""

    claims: dict[str, bytes] = field(default_factory=dict)
    """By name of the file, what is in it."""

    def copy(self) -> NetworkHome:
        """A backup."""
        home = NetworkHome(self.disk.copy(), dict(self.book), dict(self.versions), copied=True)
        home.receipts, home.standing, home.claims = dict(self.receipts), self.standing, dict(self.claims)
        return home

    def from_phrase(self) -> NetworkHome:
        """All that the phrase and layer 1 bring back."""
        return NetworkHome(Disk(), dict(self.book), standing=self.standing, lost=True)


class ClaimFile:
    """A path, as far as `wallet.locking` asks."""

    def __init__(self, files: ClaimFiles, name: str) -> None:
        self._files, self.name = files, name

    def stat(self) -> SimpleNamespace:
        """Its size."""
        return SimpleNamespace(st_size=len(self.read_bytes()))

    def read_bytes(self) -> bytes:
        """What is in it."""
        return self._files.home.claims[self.name]

    def write(self, data: bytes) -> None:
        """Durable on return."""
        self._files.boundary()
        self._files.home.claims[self.name] = data
        self._files.boundary()

    def unlink(self, *, missing_ok: bool) -> None:
        """Remove it."""
        assert missing_ok, "it may be gone"
        self._files.home.claims.pop(self.name, None)


class ClaimFiles:
    """A directory, likewise."""

    def __init__(self, home: NetworkHome, boundary: Callable[[], None]) -> None:
        self.home, self.boundary = home, boundary

    def __truediv__(self, name: str) -> ClaimFile:
        return ClaimFile(self, name)

    def glob(self, pattern: str) -> Iterator[ClaimFile]:
        """All there are."""
        return iter([ClaimFile(self, name) for name in self.home.claims])


def write_durably(path: ClaimFile, data: bytes) -> None:
    """In place of `layer1.files.write_durably`."""
    path.write(data)
