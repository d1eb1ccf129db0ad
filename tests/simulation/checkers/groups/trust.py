"""Trust: an honest wallet never finds that another honest wallet broke the protocol.

Source: docs/design/groups.md, rules 2, 5 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping

from layer1.crypto import Hash, PublicKey
from layer1.errors import RemoteError
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts


class Trust(GroupChecker):
    """Accusations between wallets."""

    def __init__(self, facts: Facts, honest: Mapping[PublicKey, int]) -> None:
        """`honest` are the honest wallets by the key of their links."""
        super().__init__(facts)
        self._honest = dict(honest)

    def misbehaved(self, wallet: int, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        if peer in self._honest:
            self.fail(f"wallet {wallet} accuses wallet {self._honest[peer]}, and both are honest: {error}")
