"""What replicas say to each other about views, and the certificates that votes add up to.

A vote is a verb (`Notarize`), its certificate a noun (`Notarization`). Votes are signed in a domain of their own with
chain and epoch; a certificate is q votes of distinct replicas, in the order of their indices.

Source: docs/design/consensus.md, "Objects".
"""

from __future__ import annotations

from layer1.codec import Struct
from layer1.crypto import Hash, Signature
from layer1.header import BlockId, Header

View = int


class Notarize(Struct, tag=1):
    """Vote: `block` is valid, and the only one that I notarize in `view`. Signed over (epoch, view, block)."""

    epoch: int
    view: View
    block: BlockId
    replica: int
    signature: Signature


class Finalize(Struct, tag=2):
    """Vote: I hold a notarization of `block` and nullify no range with `view`. Signed over (epoch, view, block)."""

    epoch: int
    view: View
    block: BlockId
    replica: int
    signature: Signature


class Nullify(Struct, tag=3):
    """Vote: nothing will be final in the views `start` .. end of its term by my doing. Signed over (epoch, start)."""

    epoch: int
    start: View
    replica: int
    signature: Signature


class Notarization(Struct, tag=4):
    """q notarize votes for one block."""

    epoch: int
    view: View
    block: BlockId
    signatures: tuple[tuple[int, Signature], ...]
    """(replica, signature), in the order of the replicas."""


class Finalization(Struct, tag=5):
    """q finalize votes for one block: it and all its ancestors are final."""

    epoch: int
    view: View
    block: BlockId
    signatures: tuple[tuple[int, Signature], ...]


class Nullification(Struct, tag=6):
    """q nullify votes whose ranges all contain `view`; it covers from the latest start among them to the term's end."""

    epoch: int
    view: View
    """The latest start among the votes: the first view that it covers."""
    votes: tuple[tuple[int, View, Signature], ...]
    """(replica, start, signature), in the order of the replicas."""


Certificate = Notarization | Finalization | Nullification


class Proposal(Struct, tag=7):
    """A leader's block: its header, the digests of its batches, its notarize vote, and what justifies its parent."""

    header: Header
    batches: tuple[Hash, ...]
    vote: Notarize
    justification: tuple[Certificate, ...]
    """The parent's notarization or finalization and the nullifications between (rule 2)."""


class Fetch(Struct, tag=8):
    """Ask a peer for what it holds: the proposal of `block`, or certificates of views `first` .. `last`."""

    block: BlockId | None
    first: View
    last: View


Message = Notarize | Finalize | Nullify | Notarization | Finalization | Nullification | Proposal | Fetch
