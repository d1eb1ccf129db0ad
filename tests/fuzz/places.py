"""Every place in the product where bytes become values, found in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT_DECODERS = {"", "utf-8", "ascii"}
"""First arguments of `bytes.decode`, which makes text, not values."""


def places() -> set[str]:
    """As ``file: kind``; for what is not the codec's, ``file: function``."""
    found: set[str] = set()
    for package in ("layer1", "layer2", "wallet"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path != ROOT / "layer1/codec.py":
                name = path.relative_to(ROOT).as_posix()
                found |= {f"{name}: {kind}" for kind in _kinds(ast.parse(path.read_text(encoding="utf-8")))}
    return found


def _kinds(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            kind = _kind(node)
            if kind is not None:
                yield kind


def _kind(call: ast.Call) -> str | None:
    """What this call decodes, or None if it does not decode."""
    match call.func:
        case ast.Name("decode"):
            return ast.unparse(call.args[1])
        case ast.Attribute(value, "decode"):
            first = call.args[0] if call.args else ast.Constant("")
            if isinstance(first, ast.Constant) and first.value in TEXT_DECODERS:
                return None
            return f"{ast.unparse(value)}.decode{''.join(f' {ast.unparse(word.value)}' for word in call.keywords)}"
        case ast.Attribute(ast.Name("tomllib"), name) if name in {"load", "loads"}:
            return f"tomllib.{name}"
        case _:
            return None
