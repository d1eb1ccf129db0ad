"""The direction of imports, and the cores that do no I/O (architecture.md, "Packages and the direction of imports")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IO_MODULES = {
    "asyncio", "time", "random", "secrets", "os", "socket", "ssl", "threading", "subprocess", "sqlalchemy", "aiohttp",
    "logging", "uvloop", "pathlib",
}  # fmt: skip
"""What a core may not import: clocks, sockets, disks, randomness, tasks, logs."""

CORES = sorted(
    path
    for folder, names in {
        "layer1": ["codec", "errors", "header", "block", "merkle", "proof", "framing", "handshake", "conduct"],
        "layer1/ledger": ["*"],
        "layer1/consensus": ["*"],
        "layer1/replica": [
            "core",
            "mempool",
            "batches",
            "application",
            "catchup",
            "checkpoints",
            "generations",
            "rejoin",
            "restart",
            "work",
            "messages",
            "events",
            "records",
            "weight",
            "jobs",
            "serving",
            "evidence",
        ],
        "layer2": ["*"],
        "wallet/onion": ["*"],
        "wallet/invoices": ["bech32m", "invoice", "receipt", "qr", "records", "receiving"],
        "wallet/routing": ["*"],
        "wallet/forwarding": ["*"],
    }.items()
    for name in names
    for path in (ROOT / folder).glob(f"{name}.py")
    if path.name not in {"driver.py", "seat.py", "chain_driver.py", "lingering.py", "asides.py"}
)
LEVELS = {"layer1": 1, "layer2": 2, "wallet": 3, "examples": 4, "benchmarks": 4, "tests": 5}


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", CORES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_core_does_no_io(path: Path) -> None:
    """ "Protocol cores do no I/O: no clock, no socket, no disk, no randomness, no asyncio, no logging."."""
    assert not imports(path) & IO_MODULES


@pytest.mark.parametrize("package", ["layer1", "layer2", "wallet"])
def test_nothing_imports_upwards(package: str) -> None:
    """ "wallet -> layer2 -> layer1. Nothing imports upwards."."""
    for path in sorted((ROOT / package).rglob("*.py")):
        upwards = {name for name in imports(path) if LEVELS.get(name, 0) > LEVELS[package]}
        assert not upwards, f"{path.relative_to(ROOT)} imports {upwards}"


def test_the_cores_are_found() -> None:
    assert len(CORES) > 10
