"""An event loop in virtual time, for the asyncio code of gateways and of their clients.

Callbacks run in the order in which they were asked for, timers by the scheduler; there is no file
descriptor, thread or clock in it. All gateways and clients share one loop.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.world import US, Scheduler, SimulationFailure

__all__ = ["SimulatedLoop"]


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See the module. Work is begun from outside by ``call_soon`` alone."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._ready: deque[asyncio.Handle] = deque()
        self._awake = False
        self._closed = False

    def time(self) -> float:
        return self._scheduler.now_us / US

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, list(args), self, context)
        self._ready.append(handle)
        if not self._awake:
            self._awake = True
            self._scheduler.after(0, self._run_ready)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, list(args), self, context)
        # Later, be it by a microsecond: time goes on while a timer is waited for.
        when_us = max(math.ceil(when * US), self._scheduler.now_us + 1)
        self._scheduler.at(when_us, lambda: self._fire(timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name)

    def _fire(self, timer: asyncio.TimerHandle) -> None:
        if not timer.cancelled():
            self._ready.append(timer)
            if not self._awake:
                self._run_ready()

    def _run_ready(self) -> None:
        self._awake = True
        events._set_running_loop(self)
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(None)
            self._awake = False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """The run is over: what is still waiting is of no interest any more."""
        self._closed = True

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._closed:
            return
        error = context.get("exception")
        if isinstance(error, SimulationFailure):
            raise error
        raise SimulationFailure("crash", "event loop", f"{context['message']}: {error!r}")
