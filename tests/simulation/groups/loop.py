"""An event loop of asyncio that is one process of the simulated world.

Callbacks are actions of the world's queue, time is the world's, and tasks are hashed by their number, so that even a
set of tasks has the same order in every run. A process can pause, be busy, and die: then nothing of it ever runs
again, but for the burial of its tasks, in which it reaches nobody.
"""

from __future__ import annotations

import asyncio
import traceback
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, TypeVar

from tests.simulation.kernel import World

T = TypeVar("T")

MOST_LAST_RITES = 100_000
"""Callbacks of one burial; honest ones need some dozens."""
PRUNE = 500
"""Tasks between two looks at which of them are done."""


class Killed(BaseException):
    """The process is gone, in the middle of what it did. Nothing in it may catch this."""


class _Task(asyncio.Task[T]):
    """A task with a hash that does not depend on where it lies in memory."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], *, loop: ProcessLoop, name: str | None) -> None:
        loop.tasks_made += 1
        self._number = loop.tasks_made
        super().__init__(coroutine, loop=loop, name=name or f"task {self._number}")

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class ProcessLoop(asyncio.AbstractEventLoop):
    """The loop of one life of one process."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self.dead = False
        self.paused = False
        self.busy_until_us = 0
        """Until then it waits for its disk."""
        self.tasks_made = 0
        self.failure: BaseException | None = None
        """What ended a callback or a task that nothing should end."""
        self._held: deque[asyncio.Handle] = deque()
        self._soon: dict[asyncio.Handle, None] = {}
        """What is due at once, timers apart."""
        self._last_rites: deque[asyncio.Handle] = deque()
        self._tasks: list[_Task[Any]] = []

    def urandom(self, size: int) -> bytes:
        """This process's chance."""
        return self.random.randbytes(size)

    # ------------------------------------------------------------------------------------------------------- the world

    @contextmanager
    def running(self) -> Iterator[None]:
        """What happens within this happens in this process."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def resume(self) -> None:
        """SIGCONT."""
        self.paused = False
        held, self._held = self._held, deque()
        for handle in held:
            self._schedule(self.world.now_us, handle)

    def bury(self) -> None:
        """Unwind the tasks of a dead process, so that nothing is left for the garbage collector to find."""
        assert self.dead, "only the dead are buried"
        with self.running():
            self._last_rites.extend(self._soon)
            self._soon.clear()
            for _ in range(MOST_LAST_RITES):
                if not self._last_rites:
                    self._cancel_all()
                if not self._last_rites:
                    break
                handle = self._last_rites.popleft()
                if not handle.cancelled():
                    handle._run()
        self._tasks.clear()

    def _cancel_all(self) -> None:
        """Those too that began when the process was dead already."""
        self._tasks = [task for task in self._tasks if not task.done()]
        for task in self._tasks:
            task.cancel()

    def _schedule(self, at_us: int, handle: asyncio.Handle) -> None:
        self.world.schedule(max(at_us, self.busy_until_us), partial(self._run, handle))

    def _run(self, handle: asyncio.Handle) -> None:
        if self.dead or handle.cancelled():
            return
        if self.paused:
            self._held.append(handle)
            return
        if self.busy_until_us > self.world.now_us:
            self._schedule(self.busy_until_us, handle)
            return
        self._soon.pop(handle, None)
        with self.running():
            handle._run()
        if self.failure is not None:
            raise self.failure

    # ------------------------------------------------------------------------------------------------ what asyncio asks

    def time(self) -> float:
        return self.world.now_us / 1e6

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return self.dead

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self.dead:
            self._last_rites.append(handle)
        else:
            self._soon[handle] = None
            self._schedule(self.world.now_us, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self._schedule(round(when * 1e6), handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the queue and does nothing."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task = _Task(coro, loop=self, name=name)
        self._tasks.append(task)
        if len(self._tasks) % PRUNE == 0:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def spawn(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        """A task that must not fail: if it does, the run has."""
        self.create_task(coroutine).add_done_callback(partial(self._ended, what))

    def _ended(self, what: str, task: asyncio.Task[None]) -> None:
        if self.dead or task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, Killed):
            trace = "".join(traceback.format_exception(error)[-3:])
            self.fail(error if isinstance(error, AssertionError) else AssertionError(f"{what} failed: {trace}"))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException) and not isinstance(error, Killed) and "handle" in context:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Something went wrong that nothing may hide: it ends the run when this callback is over."""
        if not self.dead:
            self.failure = self.failure or error
