"""The event loop that every process of ours runs on: uvloop where it exists, asyncio's own elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a fresh loop and return what it returns."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not installed on the platforms above

    return uvloop.run(main)
