"""What ends a watchtower or a witness, and how it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused
from layer1.link_server import LinkServer
from wallet.home import Home
from wallet.service import Failure, fail, first_cause, listen_at, watched


async def broken() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_raise())


async def _raise() -> None:
    raise OSError("the disk is gone")


async def test_a_lookout_that_ends_by_a_fault_ends_the_service_and_says_which_fault_it_was() -> None:
    """Not that "1 sub-exception" happened in a task group."""
    failed: Failure = asyncio.get_running_loop().create_future()
    async with watched(broken(), failed, "it no longer watches"):
        error = await asyncio.wait_for(failed, 5)
    assert str(error) == "it no longer watches: OSError('the disk is gone')"


async def test_a_service_that_is_stopped_has_not_failed_and_leaves_nothing_running() -> None:
    failed: Failure = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    async with watched(asyncio.sleep(3600), failed, "never"):
        assert len(asyncio.all_tasks() - before) == 1
    assert not failed.done() and asyncio.all_tasks() == before


async def test_the_first_reason_stands() -> None:
    failed: Failure = asyncio.get_running_loop().create_future()
    first = LocalError("first")
    fail(failed, first)
    fail(failed, LocalError("second"))
    assert failed.result() is first


def test_the_first_cause_of_groups_in_groups() -> None:
    inner = ValueError("inner")
    assert first_cause(ExceptionGroup("a", [ExceptionGroup("b", [inner]), OSError()])) is inner
    assert first_cause(inner) is inner


async def test_a_place_that_is_taken_is_named(tmp_path: Path) -> None:
    key, home = SigningKey(b"k" * 32), Home(tmp_path)

    def server() -> LinkServer:
        return LinkServer(key, bytes(32), lambda *_: True, lambda _: asyncio.sleep(0))

    one, two = server(), server()
    contact = await listen_at(one, home, key, "127.0.0.1:0")
    try:
        assert home.endpoint() == f"127.0.0.1:{contact.port}" and contact.address == key.public
        with pytest.raises(Refused, match=f"127.0.0.1:{contact.port} cannot be listened on") as refusal:
            await listen_at(two, home, key, None)
        assert refusal.value.code == "cannot_listen"
    finally:
        await one.stop()
        await two.stop()
