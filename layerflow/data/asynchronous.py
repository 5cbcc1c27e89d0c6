"""map_async: a function of elements awaited in an event loop of its own, or run in threads."""

from __future__ import annotations

import inspect
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from layerflow.data.failures import located


def results(elements: Iterator[Any], f: Callable[[Any], Any], parallel: int) -> Iterator[Any]:
    """f(element) for each element, in order, up to `parallel` of them under way at once."""
    # Not at the top: these take long to import, and few programs use them.
    import asyncio
    import concurrent.futures
    import threading

    if not (inspect.iscoroutinefunction(f) or inspect.iscoroutinefunction(type(f).__call__)):
        pool = concurrent.futures.ThreadPoolExecutor(parallel, "layerflow-map")
        try:
            yield from _in_order(elements, lambda element: pool.submit(f, element), f, parallel)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return
    # A loop in a thread: the caller's own loop may be running already, as in a notebook.
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="layerflow-map-async", daemon=True)
    thread.start()
    try:
        yield from _in_order(elements, lambda e: asyncio.run_coroutine_threadsafe(f(e), loop), f, parallel)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    import asyncio

    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _in_order(
    elements: Iterator[Any], submit: Callable[[Any], Any], f: Callable[[Any], Any], parallel: int
) -> Iterator[Any]:
    waiting = deque(submit(element) for element in itertools.islice(elements, parallel))
    for number in itertools.count():
        if not waiting:
            return
        try:
            result = waiting.popleft().result()
        except Exception as error:
            located(error, "map_async()", f, number)
            raise
        # Before the result is handed on, so that the next ones go on while it is used.
        waiting.extend(submit(element) for element in itertools.islice(elements, 1))
        yield result
