"""Feeds: where the batches of a training or an evaluation come from, and where in them it stands."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.graph.ops import random
from layerflow.models.batches import Data, batch_sizes
from layerflow.models.streams import Stream

_NO_BATCH = (
    "the dataset gave no batch in this epoch. Every epoch iterates it anew: "
    "the function given to lf.data.generator must return a new iterator each time."
)


class Feed:
    """Batches, epoch by epoch.

    Attributes:
        rows, batch_size, steps: examples, rows of a batch, batches of an epoch; None where nobody knows.
        units, unit: what a progress bar counts.
        measures_early: whether the last batch of an epoch is known as such, and validated before its event.
    """

    rows: int | None = None
    batch_size: int | None = None
    steps: int | None = None
    units: int | None = None
    unit = " batches"
    measures_early = False

    def begin_epoch(self) -> bool:
        """Prepares the next epoch; False if there is none."""
        return True

    def end_epoch(self, stopped: bool) -> bool:
        """The epoch is over; False if training must end with it.  `stopped`: somebody wants it to end anyway."""
        return True

    def units_done(self, rows: int, batches: int) -> int:
        return batches

    def ready(self) -> bool:
        """Whether the epoch has another batch."""
        raise NotImplementedError(f"{type(self).__name__} must define ready().")

    def run(self, step: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Runs the next batches, at most so many: their values [batches, names], and their sizes."""
        raise NotImplementedError(f"{type(self).__name__} must define run(step, most).")

    def run_one(self, step: Any) -> tuple[int, list[float]]:
        """Runs the next batch: its size, and its values."""
        values, sizes = self.run(step, 1)
        return int(sizes[0]), values[0].tolist()

    def state(self) -> dict[str, Any]:
        """The position, as numbers."""
        raise NotImplementedError(f"{type(self).__name__} must define state().")

    def check(self, state: Mapping[str, Any], done: int) -> None:
        """Raises DataError if `state` is of other data."""

    def restore(self, state: Mapping[str, Any], done: int) -> None:
        """Goes to a position, `done` batches into an epoch; the random generator is anywhere afterwards."""
        raise NotImplementedError(f"{type(self).__name__} must define restore(state, done).")


class ArrayFeed(Feed):
    """Batches of arrays.

    Args:
        data: the arrays.
        batch_size: rows of a batch; the last one of a pass may be smaller.
        shuffle: take the rows of each pass in a new order.
        steps: batches of an epoch; by default a pass.
        goes_on: whether epochs of `steps` batches go on where the last one ended, and a new pass begins where one ends;
            otherwise each begins a pass.
        argument: the word for `steps` in messages.
    """

    unit = " rows"
    measures_early = True

    def __init__(
        self,
        data: Data,
        batch_size: int,
        shuffle: bool = False,
        steps: int | None = None,
        goes_on: bool = True,
        argument: str = "steps",
    ):
        self.data, self.size = data, batch_size
        self.batch_size, self.rows = batch_size, data.rows
        self.in_pass = -(-data.rows // batch_size)
        if steps is not None and not goes_on and steps > self.in_pass:
            warnings.warn(f"{argument} is {steps}, but the data hold {self.in_pass} batches.", stacklevel=2)
            steps = None
        self.steps = self.per_epoch = steps or self.in_pass
        self.units = data.rows if steps is None else min(steps * batch_size, data.rows) if not goes_on else None
        if self.units is None:
            self.units, self.unit = self.steps, Feed.unit
        self._fixed = steps is not None and goes_on
        self._order = np.arange(data.rows) if shuffle else None
        self._at = self.in_pass  # batches of this pass that are done
        self._left = 0  # batches of this epoch
        self._drawn: Any = None  # the generator before the order of this pass was drawn
        self._single: tuple[Any, Callable[[int], list[float]]] | None = None

    def begin_epoch(self) -> bool:
        self._left = self.per_epoch
        if not self._fixed:
            self._at = self.in_pass
        return True

    def _begin_pass(self) -> None:
        self._at = 0
        if self._order is not None:
            self._drawn = random.get_state()
            self._order[:] = np.arange(len(self._order))
            random.generator().shuffle(self._order)

    def units_done(self, rows: int, batches: int) -> int:
        return rows if self.unit != Feed.unit else batches

    def ready(self) -> bool:
        return self._left > 0

    def _next(self, most: int) -> tuple[int, int]:
        """The next batches: number of the first, and how many."""
        if self._at == self.in_pass:
            self._begin_pass()
        first, count = self._at, min(most, self._left, self.in_pass - self._at)
        self._at += count
        self._left -= count
        return first, count

    def run(self, step: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
        data, size = self.data, self.size
        first, count = self._next(most)
        values = step.run_many(data.xs, data.ys, data.ws, self._order, size, first, count)
        return values, batch_sizes(data.rows, size, first, count)

    def run_one(self, step: Any) -> tuple[int, list[float]]:
        data, size = self.data, self.size
        if self._single is None or self._single[0] is not step:
            self._single = (step, step.singles(data.xs, data.ys, data.ws, self._order, size))
        batch, _ = self._next(1)
        return min(size, data.rows - batch * size), self._single[1](batch)

    def state(self) -> dict[str, Any]:
        return {"rows": self.rows, "batch_size": self.batch_size, "at": self._at, "drawn": self._drawn}

    def check(self, state: Mapping[str, Any], done: int) -> None:
        ours = {"rows": self.rows, "batch_size": self.batch_size}
        theirs = {name: state.get(name) for name in ours}
        if ours != theirs:
            raise DataError(f"the backup was made with {_listed(theirs)}, these data have {_listed(ours)}.")
        if done > self.per_epoch:
            raise DataError(f"the backup stands at batch {done} of an epoch, but an epoch has {self.steps} now.")

    def restore(self, state: Mapping[str, Any], done: int) -> None:
        if state["drawn"] is not None and self._order is not None:
            random.set_state(state["drawn"])
            self._begin_pass()
        self._at, self._left = state["at"], self.per_epoch - done


class StreamFeed(Feed):
    """Batches of a stream.

    Args:
        stream: its elements are batches.
        check_element: turns an element into checked data.
        steps: batches of an epoch; by default what the stream holds.
        goes_on: whether a stream with `steps` is read once over all epochs; otherwise anew for each.
        argument: the word for `steps` in messages.
        owner: the model, for messages.
    """

    def __init__(
        self,
        stream: Stream,
        check_element: Callable[[Any], Data],
        steps: int | None,
        argument: str,
        owner: str,
        goes_on: bool = True,
    ):
        self.stream, self._check, self._limit = stream, check_element, steps
        self._goes_on = stream.once or (goes_on and steps is not None)
        self._training, self._argument, self._owner = goes_on, argument, owner
        self.units = self.steps = steps or stream.size
        self._elements: Iterator[Any] = iter(())
        self._next: Data | None = None
        self._held: list[Any] = []
        self._epochs = self._done = self._total = 0
        self._begun: Any = None  # the random generator when the elements were begun

    def _begin_elements(self) -> None:
        self._elements = iter(self.stream)

    def begin_epoch(self) -> bool:
        self._done = 0
        if not self._goes_on or self._epochs == 0:
            self._begun, self._held, self._next = random.get_state(), [], None
            self._begin_elements()
        elif self._training and not self._peek():
            # One ahead, so that a stream that ended with the last epoch does not begin another one.
            self._ended(f"after {self._epochs} epochs")
            return False
        self._epochs += 1
        return True

    def _peek(self) -> bool:
        """Whether there is another element, which is held then; a stream whose way it is begins once more."""
        if not self._held:
            self._held = list(itertools.islice(self._elements, 1))
        if not self._held and self._goes_on and self.stream.restarts:
            self._begin_elements()
            self._held = list(itertools.islice(self._elements, 1))
        return bool(self._held)

    def ready(self) -> bool:
        if self._next is None and (self._limit is None or self._done < self._limit) and self._peek():
            self._next = checked(self._check, self._held.pop(), self._done)
        return self._next is not None

    def run(self, step: Any, most: int) -> tuple[np.ndarray, np.ndarray]:
        data = self._taken()
        return step.run(data.xs, data.ys, data.ws)[None], np.array([data.rows])

    def run_one(self, step: Any) -> tuple[int, list[float]]:
        data = self._taken()
        return data.rows, step.numbers(data.xs, data.ys, data.ws)

    def _taken(self) -> Data:
        data, self._next = self._next, None
        assert data is not None
        self._done += 1
        self._total += 1
        return data

    def end_epoch(self, stopped: bool) -> bool:
        if self._done == 0:
            raise DataError(
                f"{self._owner}: {_NO_BATCH if self._training else 'the dataset to measure with is empty.'}"
            )
        self.stream.end_epoch()
        if self._limit is None or self._done >= self._limit or stopped:
            return True
        if self._training:
            self._ended(f"after {self._done} of the {self._limit} batches of an epoch")
        else:
            warnings.warn(f"{self._argument} is {self._limit}, but the dataset ended after {self._done}.", stacklevel=2)
        return False

    def _ended(self, when: str) -> None:
        warnings.warn(
            f"the dataset ended {when}, and training with it. It must hold {self._argument} * epochs batches; "
            "use dataset.repeat() if it may be read several times.",
            stacklevel=2,
        )

    def state(self) -> dict[str, Any]:
        return {"epochs": self._epochs, "total": self._total, "begun": self._begun}

    def restore(self, state: Mapping[str, Any], done: int) -> None:
        """Reads the stream again up to the position.

        Epochs before it are begun and not read: streams that count how often they were begun then go on as they would.
        """
        self._epochs, self._total, self._done = state["epochs"], state["total"], done
        if state["begun"] is None:
            return
        if self._goes_on:
            random.set_state(state["begun"])
            self._begun = state["begun"]
            self._begin_elements()
            self._skip(self._total)
            return
        for _ in range(self._epochs - bool(done)):
            next(iter(self.stream), None)
            self.stream.end_epoch()
        if done:
            random.set_state(state["begun"])
            self._begun = state["begun"]
            self._begin_elements()
            self._skip(done)

    def _skip(self, count: int) -> None:
        read = sum(1 for _ in itertools.islice(self._elements, count))
        while read < count and self.stream.restarts and read:
            self._begin_elements()
            read += sum(1 for _ in itertools.islice(self._elements, count - read))
        if read < count:
            raise DataError(f"the dataset ends after {read} batches, but the backup was made after {count}.")


def checked(check: Callable[[Any], Data], element: Any, number: int) -> Data:
    """The element as data; a refusal says which one it was."""
    try:
        return check(element)
    except DataError as error:
        hint = " If its elements are single examples, call dataset.batch(32) first." if number == 0 else ""
        raise DataError(f"{error} (Batch {number} of the dataset.{hint})") from None


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
