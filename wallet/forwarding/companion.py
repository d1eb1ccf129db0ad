"""The forwarder's core, and its records in the journal of the groups (decision 042).

Source: `layer2.hosting.Companion`; decision 041, "What is durable".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from layer1.codec import decode, encode
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.ledger.genesis import Genesis
from layer2.events import Effect
from layer2.value import Group
from wallet.forwarding.core import Forwarder
from wallet.forwarding.events import Record
from wallet.forwarding.policy import Terms, Timing
from wallet.period import margin_ms

LIFE_MARGINS = 3
"""Of M (rule 22): a lock that expires sooner is not forwarded. By so many its payee registers what was not taken."""
PATIENCE_MARGINS = 2
"""Of M: after an expiry, before the group of a payer is wedged that does not honour a registration."""

Signing = Callable[[Hash, Group, Group, Sequence[Effect]], Iterable[bytes]]


def timing_of(genesis: Genesis) -> Timing:
    """What the ledger makes of our margins."""
    margin = margin_ms(genesis)
    least = LIFE_MARGINS * margin
    return Timing(margin, least, max(least, genesis.parameters.max_lock_ms), PATIENCE_MARGINS * margin)


class Passages:
    """The companion of a wallet's host. A standby has one that nobody drives: it keeps step, and compacts.

    Attributes:
        core: Rebuilt from the records.
        terms_of: On which terms we forward over a channel. `wallet.tolls` says.
        on_signing: What the driver makes of a version that is about to be signed.
    """

    def __init__(self, genesis: Genesis) -> None:
        """Nothing is forwarded yet.

        Args:
            genesis: Of the ledger, whose parameters the margins follow from.
        """
        self._timing = timing_of(genesis)
        self.terms_of: Callable[[Hash], Terms] = lambda group_id: Terms()
        self.on_signing: Signing = lambda group_id, before, after, effects: ()
        self.clear()

    def replay(self, record: bytes) -> None:
        """See `layer2.hosting.Companion`."""
        try:
            self.core.replay(decode(record, Record))  # type: ignore[arg-type]  # a union of structs
        except RemoteError as error:
            raise LocalError(f"a record of the forwarder does not decode: {error}") from error

    def records(self) -> Iterable[bytes]:
        """See `layer2.hosting.Companion`."""
        return [encode(record) for record in self.core.records()]

    def clear(self) -> None:
        """See `layer2.hosting.Companion`."""
        self.core = Forwarder(self._terms, self._timing)

    def _terms(self, group_id: Hash) -> Terms:
        return self.terms_of(group_id)

    def signing(self, group_id: Hash, before: Group, after: Group, effects: Sequence[Effect]) -> Iterable[bytes]:
        """See `layer2.hosting.Companion`."""
        return self.on_signing(group_id, before, after, effects)
