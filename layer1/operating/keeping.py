"""Checks blocks whose state is not at hand: those that a pruned database keeps below its checkpoint.

What: that each follows on the one before, is certified by its replica set, and holds what its header names. What
executing them gives cannot be checked, since the state before them is gone; nor what no root covers, their events.

Source: docs/design/consensus.md, "Execution and state"; decision 026.
"""

from __future__ import annotations

from layer1 import merkle
from layer1.block import CommittedBlock, batch_digest
from layer1.consensus.certificates import Checker
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.proof import check_path


class Link:
    """Where a chain of such blocks has come to."""

    def __init__(self, height: int, block: Hash | None) -> None:
        """Begin above this block; above any of that height if there is no id."""
        self.height = height
        self._block = block

    def follow(self, block: CommittedBlock, checker: Checker) -> None:
        """Check the next one.

        Raises:
            RemoteError: It is not the next one, not certified, or does not hold what its header names.
        """
        header = block.header
        if header.height != self.height + 1:
            raise RemoteError(f"it comes after block {self.height}: blocks are missing")
        if self._block is not None and header.parent != self._block:
            raise RemoteError(f"its parent is {header.parent.hex()}, block {self.height} is {self._block.hex()}")
        check_path(header, block.path, block.finalization)
        checker.certificate(block.finalization)
        names = [transaction.id for transaction in block.transactions]
        for output, name in zip(block.outputs, names, strict=True):
            if output.transaction_id != name:
                raise RemoteError(f"transaction {name.hex()} has the output of {output.transaction_id.hex()}")
        for what, named, leaves in (
            ("batches", header.batches_root, [batch_digest(batch) for batch in block.batches]),
            ("transactions", header.transactions_root, names),
            ("outputs", header.outputs_root, [output.hash for output in block.outputs]),
        ):
            if (found := merkle.list_root(leaves)) != named:
                raise RemoteError(f"{what} root is {named.hex()} in the header, {found.hex()} here")
        self.height, self._block = header.height, header.id

    def reaches(self, height: int) -> None:
        """See that it has come so far.

        Raises:
            RemoteError: It has not.
        """
        if self.height < height:
            raise RemoteError(f"blocks {self.height + 1} to {height} are missing")
