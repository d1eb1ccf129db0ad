"""The authenticated map and lists against dumb twins, forged proofs, and broken verifiers."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1 import codec, merkle
from layer1.crypto import ZERO_HASH, Domain, Hash, digest
from layer1.merkle import EMPTY, ListProof, Proof, Tree, list_root, prove_index, verify, verify_index


def near_key(head: int, tail: int, shared: int) -> Hash:
    """A key that shares most of its bits with many others."""
    return bytes([head]) * shared + bytes(31 - shared) + bytes([tail])


near_keys = st.builds(near_key, st.integers(0, 3), st.integers(0, 255), st.sampled_from([0, 1, 2, 31]))
keys = near_keys | st.binary(min_size=32, max_size=32)
values = st.integers(0, 3).map(lambda number: bytes([number]) * 32)
maps = st.dictionaries(keys, values, max_size=80)
changes = st.lists(st.dictionaries(keys, values | st.none(), max_size=30), max_size=8)


def key_of(number: int) -> Hash:
    return digest(Domain.STATE_KEY, number.to_bytes(8, "big"))


def value_of(number: int) -> Hash:
    return digest(Domain.LEAF, number.to_bytes(8, "big"))


def big_tree(leaves: int = 600) -> Tree:
    return EMPTY.update({key_of(number): value_of(number) for number in range(leaves)})


def twin_root(contents: dict[Hash, Hash], bits: int = 0) -> Hash:
    """The root by its definition, one key bit at a time, with nothing kept."""
    if not contents:
        return ZERO_HASH
    if bits % 4 == 0 and len(contents) <= 24:
        entries = b"".join(key + contents[key] for key in sorted(contents))
        return digest(Domain.LEAF, bytes([bits]) + entries)
    sides: list[dict[Hash, Hash]] = [{}, {}]
    for key, value in contents.items():
        sides[int.from_bytes(key) >> (255 - bits) & 1][key] = value
    return digest(Domain.NODE, bytes([bits]) + b"".join(twin_root(side, bits + 1) for side in sides))


@pytest.mark.slow
@given(maps)
def test_the_root_is_that_of_the_twin(contents: dict[Hash, Hash]) -> None:
    tree = EMPTY.update(contents)
    assert tree.root == twin_root(contents)
    assert list(tree) == sorted(contents.items())
    assert len(tree) == len(contents)


@pytest.mark.slow
@given(changes)
def test_the_root_depends_on_the_contents_alone(history: list[dict[Hash, Hash | None]]) -> None:
    """Splitting and merging of buckets leave no trace; older trees stay what they were."""
    tree, twin, older = EMPTY, dict[Hash, Hash](), []
    for step in history:
        older.append((tree, tree.root, dict(twin)))
        tree = tree.update(step)
        twin = {key: value for key, value in (twin | step).items() if value is not None}
        assert (tree.root, dict(tree)) == (twin_root(twin), twin)
        assert all(tree.get(key) == twin.get(key) for key in step)
    assert all((old.root, dict(old)) == (root, contents) for old, root, contents in older)
    assert tree.update(dict.fromkeys(twin)).root == ZERO_HASH


@pytest.mark.slow
@given(maps, st.dictionaries(keys, values | st.none(), max_size=80))
def test_all_at_once_is_one_by_one_and_anew(contents: dict[Hash, Hash], step: dict[Hash, Hash | None]) -> None:
    """One pass over many keys, a pass for each key, and building it from nothing: the same tree, the same proofs."""
    bulk = single = EMPTY.update(contents)
    bulk = bulk.update(step)
    for key, value in step.items():
        single = single.update({key: value})
    twin = {key: value for key, value in (contents | step).items() if value is not None}
    anew = EMPTY.update(twin)
    assert bulk.root == single.root == anew.root == twin_root(twin)
    for key in step:
        assert bulk.prove(key) == single.prove(key) == anew.prove(key)
        assert verify(bulk.root, key, twin.get(key), bulk.prove(key))


def test_a_key_that_stands_among_values_is_no_entry() -> None:
    """A bucket is searched as bytes: what looks like a key in a value, or across two entries, is not found."""
    key = bytes(range(1, 33))
    inside = EMPTY.update({bytes(32): key})
    across = EMPTY.update({bytes(32): key[16:] + key[:16], bytes(31) + b"\1": key[16:] + key[:16]})
    for tree in (inside, across):
        assert tree.get(key) is None
        both = dict(tree) | {key: ZERO_HASH}
        assert tree.update({key: ZERO_HASH}).root == twin_root(both)
        assert tree.update({key: None}) is tree


def test_one_leaf_more_than_fits_splits_a_bucket_and_one_less_merges_it_again() -> None:
    full = big_tree(24)
    assert full.prove(key_of(0)).depth == 0
    assert big_tree(25).prove(key_of(0)).depth == 1
    assert big_tree(25).update({key_of(24): None}).root == full.root


def test_keys_that_differ_in_their_last_bits_only_go_deep_and_come_back() -> None:
    contents = {bytes(31) + bytes([tail]): ZERO_HASH for tail in range(256)}
    deep = EMPTY.update(contents)
    assert deep.root == twin_root(contents)
    proof = deep.prove(bytes(32))
    assert proof.depth == merkle.MAX_DEPTH
    assert verify(deep.root, bytes(32), ZERO_HASH, proof)
    assert deep.update(dict.fromkeys(contents)).root == ZERO_HASH


def test_an_update_that_changes_nothing_gives_the_same_tree() -> None:
    tree = big_tree()
    assert tree.update({}) is tree
    assert tree.update({key_of(7): value_of(7), key_of(9999): None}) is tree


def test_an_update_shares_what_it_does_not_touch() -> None:
    tree = big_tree()
    node, other = tree._node, tree.update({key_of(7): ZERO_HASH})._node
    assert isinstance(node, merkle._Inner) and isinstance(other, merkle._Inner)
    assert sum(a is not b for a, b in zip(node.children, other.children, strict=True)) == 1


def test_nodes_are_nothing_to_the_garbage_collector() -> None:
    """Millions of tracked nodes would mean pauses of most of a second."""
    node = big_tree()._node
    assert isinstance(node, merkle._Inner)
    assert not type(node).__flags__ & 1 << 14, "its type must not take part in collection"


@pytest.mark.parametrize(
    "key, value", [(b"short", ZERO_HASH), (ZERO_HASH, b"short"), (bytes(33), None), (bytes(33), bytes(33))]
)
def test_an_update_refuses_other_lengths(key: bytes, value: bytes | None) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        EMPTY.update({key: value})


def test_reading_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 5"):
        EMPTY.get(b"short")
    with pytest.raises(ValueError, match="32 bytes, not 33"):
        EMPTY.prove(bytes(33))


@pytest.mark.slow
@given(maps, st.lists(keys, max_size=5))
def test_every_presence_and_absence_has_a_proof(contents: dict[Hash, Hash], others: list[Hash]) -> None:
    tree = EMPTY.update(contents)
    for key in [*contents, *others]:
        proof = codec.decode(codec.encode(tree.prove(key)), Proof)
        assert verify(tree.root, key, contents.get(key), proof)
        assert not verify(tree.root, key, bytes([9]) * 32, proof)
        assert verify(tree.root, key, None, proof) == (key not in contents)


def test_a_proof_is_compact() -> None:
    tree = big_tree(20_000)
    sizes = [len(codec.encode(tree.prove(key_of(number)))) for number in range(500)]
    assert sum(sizes) / len(sizes) < 1000


@given(keys, values | st.none(), st.integers(-(2**63), 2**64 - 1), *[st.binary(max_size=200)] * 3)
def test_hostile_proofs_are_false_and_raise_nothing(
    key: Hash, value: Hash | None, depth: int, present: bytes, siblings: bytes, bucket: bytes
) -> None:
    root = big_tree(40).root
    for forged in (Proof(depth, present, siblings, bucket), Proof(depth % 64, present, siblings, bucket)):
        assert not verify(root, key, value, forged)


Forgery = tuple[Hash, Hash, Hash | None, Proof]


def variants(proof: Proof) -> Iterator[Proof]:
    """The proof with each field changed a little."""
    depth, present, siblings, bucket = proof.depth, proof.present, proof.siblings, proof.bucket
    for changed in (depth - 1, depth + 1, 0, 63, 64, -1):
        yield Proof(changed, present, siblings, bucket)
    for other in (present[:-1], present + b"\0", bytes(len(present)), b"\1" + present[1:], b"\2" + present[1:]):
        yield Proof(depth, other, siblings, bucket)
    for other in (siblings[32:], siblings + bytes(32), siblings[32:] + siblings[:32], siblings[:-1]):
        yield Proof(depth, present, other, bucket)
    for other in (b"", bucket[64:], bucket[:-1], bucket + bytes(64), bucket[64:] + bucket[:64]):
        yield Proof(depth, present, siblings, other)
    yield Proof(depth + 1, present + b"\0", siblings, bucket)
    yield Proof(64, bytes(32), b"", bucket)
    if present:
        yield Proof(depth, present[:-1] + bytes([present[-1] | 0x80]), siblings + ZERO_HASH, bucket)


def claims(tree: Tree, older: Tree) -> Iterator[Forgery]:
    """Statements with proofs, few of them true."""
    for number in (0, 1, 2, 9, 50, 1000, 1001):
        key, value = key_of(number), tree.get(key_of(number))
        proof = tree.prove(key)
        yield older.root, key, value, proof
        yield tree.root, key, None if value else key, proof
        yield tree.root, key[:-1], None, proof
        yield tree.root, key + b"\0", None, proof
        for third in (b"\0" + key[1:], bytes([key[0] ^ 0x10]) + key[1:], bytes([key[0] ^ 0x01]) + key[1:]):
            yield tree.root, third, None, proof
        elsewhere = key_of(number + 5)
        yield tree.root, key, None, tree.prove(elsewhere)
        yield tree.root, elsewhere, tree.get(elsewhere), proof
        for variant in variants(proof):
            yield tree.root, key, value, variant
            yield tree.root, key, None, variant
    yield tree.root, key_of(0), None, Proof(0, b"", b"", b"")
    yield tree.root, key_of(0), None, Proof(0, b"", b"", bytes(64))


def forgeries() -> Iterator[Forgery]:
    """False statements, and true ones whose proof is not the one that proving gives."""
    for leaves in (10, 100, 600):
        tree = big_tree(leaves)
        for root, key, value, proof in claims(tree, big_tree(leaves - 1)):
            is_true = root == tree.root and len(key) == 32 and tree.get(key) == value
            if not (is_true and tree.prove(key) == proof):
                yield root, key, value, proof


def accepted(module: Any) -> list[Forgery]:
    """Forgeries that this module's verify takes, or stumbles over."""

    def takes(forgery: Forgery) -> bool:
        try:
            return bool(module.verify(*forgery))
        except Exception:  # noqa: BLE001 - whatever it is, a stranger caused it
            return True

    return [forgery for forgery in forgeries() if takes(forgery)]


def test_no_forgery_is_accepted() -> None:
    assert sum(1 for _ in forgeries()) > 200
    assert accepted(merkle) == []


def mutant(correct: str, broken: str) -> ModuleType:
    """The module with one text replaced."""
    source = inspect.getsource(merkle)
    assert source.count(correct) == 1, correct
    module = ModuleType("mutant")
    exec(compile(source.replace(correct, broken), "mutant", "exec"), module.__dict__)
    return module


VERIFY_MUTANTS = [
    ("proof) == root", "proof) != ZERO_HASH"),
    (".get(key) != value:", ".get(key) not in (value, None):"),
    (".get(key) != value:", ".get(key, value) != value:"),
    ("if len(key) != HASH_BYTES or not 0 <= proof.depth", "if not 0 <= proof.depth"),
    ("or not 0 <= proof.depth <= MAX_DEPTH:", "or proof.depth < 0:"),
    ("or present >> bits:", "or False:"),
    ("len(proof.siblings) != HASH_BYTES * present.bit_count() or", ""),
    ("if prefix >> level & 1 else current + sibling", "if present >> level & 1 else current + sibling"),
    ("sibling + current if prefix", "current + sibling if prefix"),
    (", node) if node else ZERO_HASH", ", node) if len(node) > 64 else ZERO_HASH"),
]


@pytest.mark.parametrize("correct, broken", VERIFY_MUTANTS)
def test_a_broken_verify_is_caught(correct: str, broken: str) -> None:
    module = mutant(correct, broken)
    tree = big_tree()
    refuses_the_truth = not all(
        module.verify(tree.root, key_of(number), tree.get(key_of(number)), tree.prove(key_of(number)))
        for number in range(590, 610)
    )
    assert refuses_the_truth or accepted(module)


UPDATE_MUTANTS = [
    ("{s for n in changed for s in _ABOVE[n]}, reverse=True", "{s for n in changed for s in _ABOVE[n]}"),
    ("{s for n in changed for s in _ABOVE[n]}, reverse=True", "set(_ABOVE[nibble]), reverse=True"),
    ("_ABOVE[nibble] if len(changed) == 1", "_ABOVE[nibble][:3] if len(changed) == 1"),
    ("range(RADIX - 1, 0, -1))", "range(RADIX - 1, 1, -1))"),
    ("inner.count + (not found)", "inner.count"),
    ("count += _count(new) - _count(old)", "count += _count(new)"),
    ("updated if count > BUCKET_LEAVES else", "updated if count > 0 else"),
    ("fits = len(entries) <= _BUCKET_BYTES", "fits = True"),
    ("if len(keys) <= BUCKET_LEAVES:", "if len(keys) <= 2 * BUCKET_LEAVES:"),
    ("if start % _ENTRY_BYTES == 0:", "if start >= 0:"),
    ("(start + n * step)", "(start + n * step + 1)"),
    ("_build(left, sorted(left), depth)", "_build(left, list(left), depth)"),
    ("if pair == _ZERO_PAIR:", "if False:"),
]


def updates_like_the_twin(module: Any) -> bool:
    """Whether trees that grow, change and shrink, by one key or by many at a time, have the twin's root throughout."""
    tree, twin = module.EMPTY, dict[Hash, Hash]()
    names = [key_of(number) for number in range(400)] + [bytes(31) + bytes([tail]) for tail in range(60)]
    for size, value in ((400, 1), (1, 2), (30, 3), (1, 4), (300, None), (1, None), (3, 5), (410, None)):
        for start in range(0, len(names) if size > 1 else 40, size):
            step = {name: None if value is None else bytes([value]) * 32 for name in names[start : start + size]}
            tree = tree.update(step)
            twin = {key: value for key, value in (twin | step).items() if value is not None}
            if size > 3 and tree.root != twin_root(twin):
                return False
        if tree.root != twin_root(twin) or len(tree) != len(twin):
            return False
    inside = module.EMPTY.update({bytes(32): key_of(1)})
    return inside.get(key_of(1)) is None


def test_updates_are_like_the_twin() -> None:
    assert updates_like_the_twin(merkle)


@pytest.mark.parametrize("correct, broken", UPDATE_MUTANTS)
def test_a_broken_update_is_caught(correct: str, broken: str) -> None:
    try:
        assert not updates_like_the_twin(mutant(correct, broken))
    except (IndexError, ValueError, RecursionError):
        pass  # it did not even end


def twin_list_root(leaves: list[Hash]) -> Hash:
    def top(part: list[Hash]) -> Hash:
        if len(part) == 1:
            return part[0]
        half = 1 << (len(part) - 1).bit_length() - 1
        return digest(Domain.NODE, top(part[:half]) + top(part[half:]))

    return digest(Domain.NODE, len(leaves).to_bytes(8, "big") + (top(leaves) if leaves else ZERO_HASH))


@given(st.lists(values, max_size=40))
def test_the_list_root_is_that_of_the_twin(leaves: list[Hash]) -> None:
    assert list_root(leaves) == twin_list_root(leaves)


@pytest.mark.parametrize("length", [*range(1, 20), 33])
def test_every_leaf_has_a_proof_and_no_other_place_or_length(length: int) -> None:
    leaves = [value_of(number) for number in range(length)]
    root = list_root(leaves)
    for index, leaf in enumerate(leaves):
        proof = codec.decode(codec.encode(prove_index(leaves, index)), ListProof)
        assert verify_index(root, leaf, proof)
        assert not verify_index(root, ZERO_HASH, proof)
        assert not verify_index(list_root([*leaves, leaf]), leaf, proof)
        for forged in list_variants(proof):
            assert not verify_index(root, leaf, forged)


def list_variants(proof: ListProof) -> Iterator[ListProof]:
    for index, length in ((1, 0), (-1, 0), (0, 1), (0, -1), (2**64, 0), (-(2**63), 0), (0, 2**65)):
        yield ListProof(proof.index + index, proof.length + length, proof.siblings)
    yield ListProof(proof.index, proof.length, proof.siblings + bytes(32))
    if proof.siblings:
        yield ListProof(proof.index, proof.length, proof.siblings[:-1])
        yield ListProof(proof.index, proof.length, proof.siblings[32:])


def test_an_inner_hash_of_a_list_passes_for_no_leaf() -> None:
    leaves = [value_of(number) for number in range(4)]
    pair = digest(Domain.NODE, leaves[0] + leaves[1])
    other = digest(Domain.NODE, leaves[2] + leaves[3])
    root = list_root(leaves)
    assert root != list_root([pair, other])
    assert not any(verify_index(root, pair, ListProof(0, length, other)) for length in range(6))


def test_lists_differ_by_length_order_and_contents() -> None:
    a, b = value_of(1), value_of(2)
    lists = [[], [a], [b], [a, b], [b, a], [a, b, b], [a, a, b], [ZERO_HASH], [ZERO_HASH] * 2]
    assert len({list_root(leaves) for leaves in lists}) == len(lists)


@pytest.mark.parametrize("use", [list_root, lambda leaves: prove_index(leaves, 0)])
def test_a_list_refuses_leaves_of_another_length(use: Callable[[list[bytes]], object]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        use([bytes(32), bytes(31)])


@pytest.mark.parametrize("index", [-1, 2])
def test_a_list_proves_no_index_that_it_lacks(index: int) -> None:
    with pytest.raises(IndexError, match=f"no leaf {index} in a list of 2"):
        prove_index([ZERO_HASH] * 2, index)
    assert not verify_index(list_root([ZERO_HASH]), b"short", ListProof(0, 1, b""))


def test_many_random_updates_agree_with_one() -> None:
    source = random.Random(7)
    contents: dict[Hash, Hash] = {}
    tree = EMPTY
    for _ in range(30):
        step = {key_of(source.randrange(2000)): value_of(source.randrange(9)) for _ in range(100)}
        gone = source.sample(sorted(contents), len(contents) // 3)
        contents = {key: value for key, value in (contents | step).items() if key not in gone or key in step}
        tree = tree.update(dict.fromkeys(gone) | step)
    assert tree.root == EMPTY.update(contents).root == twin_root(contents)
