"""Authenticated state: an immutable map of 32-byte keys to 32-byte hashes, and lists, each with a root and proofs.

What: :class:`Tree` has a root that commits to all it holds; :func:`verify` tells, from the root alone, that a key
has a value or is absent. An update gives a new tree that shares what did not change, so a copy-on-write view above a
parent's state is just another tree. :func:`list_root` does the same for an ordered list and its length.

*Safety:* two different maps have different roots, and nobody can prove a value, or an absence, that is not so,
unless BLAKE2b-256 has a collision.

A subtree with at most 24 leaves is a *bucket*, one sorted byte string; a larger one is a node of 16 children, chosen
by four bits of the key. The shape follows from the contents alone, so the order of updates cannot change the root.
The 16 children are committed by a binary tree, so a proof carries four hashes for a level and not fifteen; an empty
subtree is 32 zero bytes and costs a proof one bit. A hash names its domain (bucket or pair) and the number of key
bits above it, and the key itself says left or right at every step: so a bucket can stand only in its own place.
A list's root names its length, which fixes the shape, so no inner hash passes for a leaf.

*Source:* docs/design/consensus.md, "Execution and state"; Merkle, A Digital Signature Based on a Conventional
Encryption Function (1987); for pruned empty subtrees: Dahlberg, Pulls, Peeters, Efficient Sparse Merkle Trees (2016).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TypeAlias

import msgspec

from layer1.codec import Struct
from layer1.crypto import HASH_BYTES, ZERO_HASH, Domain, Hash, digest, hasher

RADIX_BITS = 4
RADIX = 1 << RADIX_BITS
BUCKET_LEAVES = 24
"""More would lengthen proofs, fewer would cost time and memory: with 16, two subtrees in five of a million leaves were
nodes of buckets with one leaf each. At least RADIX, so that keys which differ in their last bits only fit a bucket at
depth 63."""
MAX_DEPTH = 256 // RADIX_BITS - 1
"""Depth of the deepest bucket, in steps of four bits."""

_ENTRY_BYTES = 2 * HASH_BYTES
_BUCKET_BYTES = BUCKET_LEAVES * _ENTRY_BYTES
_PAIR_BYTES = 2 * HASH_BYTES
_ZERO_PAIR = bytes(_PAIR_BYTES)
_BITS_ABOVE = [bytes([bits]) for bits in range(256)]
_BUCKETS = [hasher(Domain.LEAF, bits) for bits in _BITS_ABOVE[::RADIX_BITS]]
"""What hashes a bucket, by its depth. This and the tables below are made once: each key needs a dozen hashes."""
_PAIRS = [hasher(Domain.NODE, bits) for bits in _BITS_ABOVE]
"""What hashes a pair below so many bits."""
_SLOT_AT = [slice(slot * HASH_BYTES, (slot + 1) * HASH_BYTES) for slot in range(2 * RADIX)]
_PAIR_AT = [slice(slot * _PAIR_BYTES, (slot + 1) * _PAIR_BYTES) for slot in range(RADIX)]
"""Where the two slots below a slot stand."""
_PLACES = [
    [(_SLOT_AT[slot], _PAIR_AT[slot], _PAIRS[bits + max(slot.bit_length() - 1, 0)]) for slot in range(RADIX)]
    for bits in range(0, 256, RADIX_BITS)
]
"""By a node's depth and slot: where the slot and the two below it stand, and what hashes them."""
_ABOVE = [tuple((RADIX + nibble) >> level for level in range(1, RADIX_BITS + 1)) for nibble in range(RADIX)]
"""By a child's nibble: the slots above it, the lowest first."""


class _Inner(msgspec.Struct, frozen=True, gc=False):
    """More leaves than a bucket holds, by the next four bits of their keys."""

    count: int
    """Leaves below."""
    children: tuple[_Node, ...]
    hashes: bytes
    """A binary tree in heap order, 32 slots of 32 bytes: 1 is this node, 16 to 31 are the children, 0 is unused."""


_Node: TypeAlias = bytes | _Inner
"""A bucket is its sorted entries, 64 bytes each; an empty subtree is the empty bucket."""
_Change: TypeAlias = tuple[Hash, Hash | None]


class Proof(Struct):
    """Shows what one key's value is, or that it has none. About 1,200 bytes in 100,000 leaves, 1,500 in a million."""

    depth: int
    """Depth of the bucket, in steps of four bits."""
    present: bytes
    """One bit per key bit above the bucket, the lowest first: whether the sibling there is not empty."""
    siblings: bytes
    """Hashes of the siblings that are not empty, the lowest first, 32 bytes each."""
    bucket: bytes
    """All entries of the bucket where the key is, or would be: key and value, 32 bytes each, sorted."""


class ListProof(Struct):
    """Shows that a leaf stands at an index of a list."""

    index: int
    length: int
    siblings: bytes
    """Lowest first, 32 bytes each; a node without a sibling moves up as it is and needs none."""


class Tree:
    """An immutable authenticated map. Make one by updating :data:`EMPTY`."""

    __slots__ = ("_node", "root")

    root: Hash
    """Commits to all keys and values; 32 zero bytes when there are none."""

    def __init__(self, node: bytes | _Inner = b"") -> None:
        """Use :meth:`update`."""
        self._node = node
        self.root = _hash(node, 0)

    def __len__(self) -> int:
        return _count(self._node)

    def __iter__(self) -> Iterator[tuple[Hash, Hash]]:
        """All keys and values, by key: what a snapshot holds."""
        return _entries_of(self._node)

    def get(self, key: Hash) -> Hash | None:
        """The value of ``key``, or None."""
        bucket = self._path(key)[-1]
        assert isinstance(bucket, bytes)
        position, found = _search(bucket, key)
        return bucket[position + HASH_BYTES : position + _ENTRY_BYTES] if found else None

    def update(self, changes: Mapping[Hash, Hash | None]) -> Tree:
        """A tree with these values set; None deletes, and deleting what is absent does nothing.

        Raises:
            ValueError: A key or a value does not have 32 bytes.
        """
        for key, value in changes.items():
            if len(key) != HASH_BYTES or (value is not None and len(value) != HASH_BYTES):
                raise ValueError(f"keys and values have {HASH_BYTES} bytes: {key!r}, {value!r}; hash them first")
        node = _update(self._node, 0, changes.items()) if changes else self._node
        return self if node is self._node else Tree(node)

    def prove(self, key: Hash) -> Proof:
        """A proof of the value of ``key``, or of its absence."""
        *inner, bucket = self._path(key)
        assert isinstance(bucket, bytes)
        siblings = []
        for depth in range(len(inner) - 1, -1, -1):
            node = inner[depth]
            assert isinstance(node, _Inner)
            slot = RADIX + _nibble(key, depth)
            while slot > 1:
                siblings.append(_slot(node.hashes, slot ^ 1))
                slot >>= 1
        present = sum(1 << level for level, sibling in enumerate(siblings) if sibling != ZERO_HASH)
        return Proof(
            depth=len(inner),
            present=present.to_bytes(_present_bytes(len(inner)), "little"),
            siblings=b"".join(sibling for sibling in siblings if sibling != ZERO_HASH),
            bucket=bucket,
        )

    def _path(self, key: Hash) -> list[_Node]:
        """The nodes from the top to the bucket of ``key``."""
        if len(key) != HASH_BYTES:
            raise ValueError(f"a key has {HASH_BYTES} bytes, not {len(key)}; hash it first")
        path = [self._node]
        while isinstance(node := path[-1], _Inner):
            path.append(node.children[_nibble(key, len(path) - 1)])
        return path


def verify(root: Hash, key: Hash, value: Hash | None, proof: Proof) -> bool:
    """Whether ``proof`` shows that ``key`` has this value (None: is absent) under ``root``. Never raises."""
    if len(key) != HASH_BYTES or not 0 <= proof.depth <= MAX_DEPTH:
        return False
    bits = RADIX_BITS * proof.depth
    present = int.from_bytes(proof.present, "little")
    if len(proof.present) != _present_bytes(proof.depth) or present >> bits:
        return False
    if len(proof.siblings) != HASH_BYTES * present.bit_count() or len(proof.bucket) % _ENTRY_BYTES:
        return False
    if dict(_entries_of(proof.bucket)).get(key) != value:
        return False
    return _climb(_hash(proof.bucket, proof.depth), int.from_bytes(key) >> (256 - bits), bits, proof) == root


def _climb(current: Hash, prefix: int, bits: int, proof: Proof) -> Hash:
    """The root that follows from a bucket's hash, the key's first ``bits`` bits and the siblings."""
    present, position = int.from_bytes(proof.present, "little"), 0
    for level in range(bits):
        sibling = ZERO_HASH
        if present >> level & 1:
            sibling = proof.siblings[position : position + HASH_BYTES]
            position += HASH_BYTES
        pair = sibling + current if prefix >> level & 1 else current + sibling
        current = _pair(pair, bits - 1 - level)
    return current


def list_root(leaves: Sequence[Hash]) -> Hash:
    """The root of a list of 32-byte hashes; commits to every leaf, to their order and to their number.

    Raises:
        ValueError: A leaf does not have 32 bytes.
    """
    return _with_length(_levels(leaves)[-1][0] if leaves else ZERO_HASH, len(leaves))


def prove_index(leaves: Sequence[Hash], index: int) -> ListProof:
    """A proof that ``leaves[index]`` stands there.

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a list of {len(leaves)}")
    siblings, place = [], index
    for level in _levels(leaves):
        siblings += level[place ^ 1 : (place ^ 1) + 1]
        place >>= 1
    return ListProof(index, len(leaves), b"".join(siblings))


def verify_index(root: Hash, leaf: Hash, proof: ListProof) -> bool:
    """Whether ``proof`` shows that ``leaf`` stands at its index in the list of this root. Never raises."""
    if len(leaf) != HASH_BYTES or not 0 <= proof.index < proof.length < 1 << 64:
        return False
    place, width, position, current = proof.index, proof.length, 0, leaf
    while width > 1:
        if place ^ 1 < width:
            sibling = proof.siblings[position : position + HASH_BYTES]
            position += HASH_BYTES
            current = digest(Domain.NODE, sibling + current if place & 1 else current + sibling)
        place, width = place >> 1, (width + 1) >> 1
    return position == len(proof.siblings) and _with_length(current, proof.length) == root


def _levels(leaves: Sequence[Hash]) -> list[list[Hash]]:
    """All levels of a list's tree, the leaves first, the single top last; none for an empty list."""
    if any(len(leaf) != HASH_BYTES for leaf in leaves):
        raise ValueError(f"a leaf has {HASH_BYTES} bytes; hash it first")
    levels = [list(leaves)]
    while len(level := levels[-1]) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [digest(Domain.NODE, left + right) for left, right in pairs]
        levels.append(above + level[len(above) * 2 :])
    return levels


def _with_length(top: Hash, length: int) -> Hash:
    return digest(Domain.NODE, length.to_bytes(8, "big") + top)


def _hash(node: bytes | _Inner, depth: int) -> Hash:
    if isinstance(node, _Inner):
        return _slot(node.hashes, 1)
    return _finish(_BUCKETS[depth], node) if node else ZERO_HASH


def _pair(pair: bytes, bits: int) -> Hash:
    """The hash of two siblings, below so many key bits."""
    return ZERO_HASH if pair == _ZERO_PAIR else _finish(_PAIRS[bits], pair)


def _finish(prepared: blake2b, data: bytes) -> Hash:
    """The hash of ``data`` by a prepared hasher, which stays as it is."""
    hashed = prepared.copy()
    hashed.update(data)
    return hashed.digest()


def _slot(hashes: bytes, slot: int) -> Hash:
    return hashes[slot * HASH_BYTES : (slot + 1) * HASH_BYTES]


def _present_bytes(depth: int) -> int:
    return (RADIX_BITS * depth + 7) // 8


def _nibble(key: Hash, depth: int) -> int:
    byte = key[depth >> 1]
    return byte & 15 if depth & 1 else byte >> 4


def _count(node: _Node) -> int:
    return node.count if isinstance(node, _Inner) else len(node) // _ENTRY_BYTES


def _entries_of(node: _Node) -> Iterator[tuple[Hash, Hash]]:
    if isinstance(node, _Inner):
        for child in node.children:
            yield from _entries_of(child)
        return
    for start in range(0, len(node), _ENTRY_BYTES):
        middle = start + HASH_BYTES
        yield node[start:middle], node[middle : start + _ENTRY_BYTES]


def _search(bucket: bytes, key: Hash) -> tuple[int, bool]:
    """Where the entry of ``key`` starts, or would start, and whether it is there."""
    start = bucket.find(key)  # several times as fast as the search below, and nearly always enough
    if start % _ENTRY_BYTES == 0:
        return start, True  # elsewhere it is part of other keys and values, or nowhere
    low, high = 0, len(bucket) // _ENTRY_BYTES
    while low < high:
        middle = (low + high) >> 1
        start = middle * _ENTRY_BYTES
        if bucket[start : start + HASH_BYTES] < key:
            low = middle + 1
        else:
            high = middle
    start = low * _ENTRY_BYTES
    return start, bucket[start : start + HASH_BYTES] == key


def _update(node: _Node, depth: int, changes: Collection[_Change]) -> _Node:
    """``node`` with these changes made: the same object if they change nothing."""
    if len(changes) == 1:
        ((key, value),) = changes
        if value is not None:
            return _put(node, depth, key, value)
    return _update_inner(node, depth, changes) if isinstance(node, _Inner) else _update_bucket(node, depth, changes)


def _put(node: _Node, depth: int, key: Hash, value: Hash) -> _Node:
    """``node`` with one value set. In a large tree most nodes see one change, so this one is not recursive."""
    path, below = [], node
    while isinstance(below, _Inner):
        nibble = _nibble(key, depth)
        path.append((below, nibble))
        below = below.children[nibble]
        depth += 1
    start, found = _search(below, key)
    end = start + _ENTRY_BYTES * found
    if found and below[start + HASH_BYTES : end] == value:
        return node
    entries = b"".join((below[:start], key, value, below[end:]))
    fits = len(entries) <= _BUCKET_BYTES
    new = entries if fits else _update_bucket(below, depth, [(key, value)])
    for inner, nibble in reversed(path):
        depth -= 1
        new = _replace(inner, depth, {nibble: new}, inner.count + (not found))
    return new


def _update_inner(node: _Inner, depth: int, changes: Collection[_Change]) -> _Node:
    """All changes below a node in one pass: each hash above them is taken once."""
    groups: dict[int, list[_Change]] = {}
    for change in changes:
        groups.setdefault(_nibble(change[0], depth), []).append(change)
    changed, count = {}, node.count
    for nibble, group in groups.items():
        old = node.children[nibble]
        new = _update(old, depth + 1, group)
        if new is not old:
            changed[nibble] = new
            count += _count(new) - _count(old)
    if not changed:
        return node
    updated = _replace(node, depth, changed, count)
    return updated if count > BUCKET_LEAVES else b"".join(key + value for key, value in _entries_of(updated))


def _update_bucket(bucket: bytes, depth: int, changes: Collection[_Change]) -> _Node:
    """An empty bucket may be the empty tree, and the changes a whole state."""
    values: dict[Hash, Hash | None] = dict(_entries_of(bucket))
    values.update(changes)
    left = {key: value for key, value in values.items() if value is not None}
    new = _build(left, sorted(left), depth)
    return bucket if new == bucket else new


def _build(values: Mapping[Hash, Hash], keys: Sequence[Hash], depth: int) -> _Node:
    """The one node that holds these sorted keys: from the buckets up, each hash taken once."""
    if len(keys) <= BUCKET_LEAVES:
        return b"".join([key + values[key] for key in keys])
    children = tuple(_build(values, keys[low:high], depth + 1) for low, high in pairwise(_cuts(keys, depth)))
    hashes = bytearray(RADIX * HASH_BYTES) + b"".join(_hash(child, depth + 1) for child in children)
    _hash_slots(hashes, depth, range(RADIX - 1, 0, -1))
    return _Inner(len(keys), children, bytes(hashes))


def _cuts(keys: Sequence[Hash], depth: int) -> list[int]:
    """Where the keys of each of 16 children start, and where the last end; all share the bits above ``depth``."""
    start = int.from_bytes(keys[0]) >> (256 - RADIX_BITS * depth) << (256 - RADIX_BITS * depth)
    step = 1 << (256 - RADIX_BITS * (depth + 1))
    return [0, *(bisect_left(keys, (start + n * step).to_bytes(HASH_BYTES)) for n in range(1, RADIX)), len(keys)]


def _replace(node: _Inner, depth: int, changed: dict[int, _Node], count: int) -> _Inner:
    """``node`` with other children at these nibbles, and so many leaves below."""
    children, hashes = list(node.children), bytearray(node.hashes)
    for nibble, child in changed.items():
        children[nibble] = child
        hashes[_SLOT_AT[RADIX + nibble]] = _hash(child, depth + 1)
    slots = _ABOVE[nibble] if len(changed) == 1 else sorted({s for n in changed for s in _ABOVE[n]}, reverse=True)
    _hash_slots(hashes, depth, slots)
    return _Inner(count, tuple(children), bytes(hashes))


def _hash_slots(hashes: bytearray, depth: int, slots: Iterable[int]) -> None:
    """Hash these slots of a node's binary tree anew, in descending order: from the children up.

    Most of the time of an update is spent here, so nothing is called that can be written out.
    """
    places = _PLACES[depth]
    for slot in slots:
        slot_at, pair_at, pairs = places[slot]
        pair = hashes[pair_at]
        if pair == _ZERO_PAIR:
            hashes[slot_at] = ZERO_HASH
        else:
            hashed = pairs.copy()
            hashed.update(pair)
            hashes[slot_at] = hashed.digest()


EMPTY = Tree()
"""The map without any key."""
