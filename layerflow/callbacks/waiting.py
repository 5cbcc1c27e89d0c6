"""Callbacks that are coroutines: awaited on the event loop of `fit_async`, before training goes on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

# The event loop that awaits fit_async; threads started by asyncio inherit it.
EVENT_LOOP: ContextVar[Any] = ContextVar("layerflow_event_loop", default=None)


def waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself; for a coroutine function one that runs it on the event loop and waits for it.

    Raises:
        TypeError: a coroutine function where no event loop awaits the training.
    """
    if not inspect.iscoroutinefunction(function):
        return function
    loop = EVENT_LOOP.get()
    if loop is None:
        raise TypeError(
            f"the callback {function.__name__} is a coroutine function, which only fit_async can await: "
            "write await model.fit_async(...)."
        )
    # Not at the top: asyncio takes a third of layerflow's time to import; here it is loaded already.
    import asyncio

    @functools.wraps(function)
    def wait(*arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(function(*arguments), loop).result()

    return wait
