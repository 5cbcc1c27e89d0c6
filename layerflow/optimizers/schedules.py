"""Learning rates that follow the number of batches.

A schedule is evaluated inside the compiled step, so that native loops over many batches use a new rate for each.
Formulas, argument names and defaults are those of Keras 3 (`keras.optimizers.schedules`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError

SCHEDULES = registry.Names("learning-rate schedule")


class LearningRateSchedule(registry.Configurable):
    """Base: override `__call__(step) -> rate`, in terms of NumPy functions and operators.

    `step` is the number of batches trained on before: a number, or inside a step that is compiled a float symbol of
    shape [].  So choose between values with `np.where`, not with `if`.  The constructor's arguments are the
    configuration; `lf.register_class` lets files name the class.

    >>> class Halving(lf.optimizers.schedules.LearningRateSchedule):
    ...     def __init__(self, first, every):
    ...         self.first, self.every = first, every
    ...     def __call__(self, step):
    ...         return self.first * 0.5 ** np.floor(step / self.every)
    """

    BASE_ARGUMENTS: Mapping[str, str] = {"name": "name"}  # Keras's; means nothing here

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step).")


def _steps(owner: Any, name: str, value: Any) -> float:
    """A number of batches above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not value > 0:
        raise ArgumentError(f"{type(owner).__name__}: {name} must be a number above 0, got {value!r}.")
    return value if isinstance(value, int) else float(value)


@SCHEDULES.register()
class ExponentialDecay(LearningRateSchedule):
    """rate = initial_learning_rate decay_rate**(step / decay_steps); `staircase` rounds the exponent down.

    Raises:
        ArgumentError: decay_steps is not above 0.
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False):
        self.initial_learning_rate, self.decay_rate = float(initial_learning_rate), float(decay_rate)
        self.decay_steps, self.staircase = _steps(self, "decay_steps", decay_steps), bool(staircase)

    def __call__(self, step: Any) -> Any:
        periods = step / self.decay_steps
        return self.initial_learning_rate * np.power(self.decay_rate, np.floor(periods) if self.staircase else periods)


@SCHEDULES.register()
class InverseTimeDecay(LearningRateSchedule):
    """rate = initial_learning_rate / (1 + decay_rate step / decay_steps); `staircase` rounds the quotient down.

    Raises:
        ArgumentError: decay_steps is not above 0.
    """

    def __init__(self, initial_learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False):
        self.initial_learning_rate, self.decay_rate = float(initial_learning_rate), float(decay_rate)
        self.decay_steps, self.staircase = _steps(self, "decay_steps", decay_steps), bool(staircase)

    def __call__(self, step: Any) -> Any:
        periods = step / self.decay_steps
        return self.initial_learning_rate / (1.0 + self.decay_rate * (np.floor(periods) if self.staircase else periods))


@SCHEDULES.register("PiecewiseConstant")
class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] while step <= boundaries[0], values[1] while step <= boundaries[1], ..., then values[-1].

    Raises:
        ArgumentError: there is not one value more than boundaries, or the boundaries do not grow.
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float]):
        self.boundaries, self.values = [float(b) for b in boundaries], [float(v) for v in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ArgumentError(
                f"PiecewiseConstantDecay: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, "
                f"got {len(self.values)}."
            )
        if sorted(self.boundaries) != self.boundaries:
            raise ArgumentError(f"PiecewiseConstantDecay: the boundaries must grow, got {self.boundaries}.")

    def __call__(self, step: Any) -> Any:
        rate: Any = self.values[-1]
        for boundary, value in zip(reversed(self.boundaries), reversed(self.values[:-1]), strict=True):
            rate = np.where(step <= boundary, value, rate)
        return rate


@SCHEDULES.register()
class PolynomialDecay(LearningRateSchedule):
    """rate = (initial_learning_rate - end_learning_rate) (1 - step / decay_steps)**power + end_learning_rate.

    After decay_steps it stays at end_learning_rate; with `cycle` decay_steps is instead taken as often as needed to
    reach the step.

    Raises:
        ArgumentError: decay_steps is not above 0.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ):
        self.initial_learning_rate, self.end_learning_rate = float(initial_learning_rate), float(end_learning_rate)
        self.decay_steps, self.power, self.cycle = _steps(self, "decay_steps", decay_steps), float(power), bool(cycle)

    def __call__(self, step: Any) -> Any:
        if self.cycle:
            done = step / (self.decay_steps * np.maximum(np.ceil(step / self.decay_steps), 1.0))
        else:
            done = np.minimum(step, self.decay_steps) / self.decay_steps
        left = 1.0 - done if self.power == 1.0 else np.power(1.0 - done, self.power)
        return (self.initial_learning_rate - self.end_learning_rate) * left + self.end_learning_rate


@SCHEDULES.register()
class CosineDecay(LearningRateSchedule):
    """Half a cosine wave from initial_learning_rate down to alpha times it (Loshchilov and Hutter 2016).

    It takes decay_steps.  With `warmup_target` the rate first rises on a line from initial_learning_rate to it, in
    `warmup_steps`, and then falls from there.

    Raises:
        ArgumentError: decay_steps is not above 0, or warmup_target is given without warmup_steps above 0.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ):
        self.initial_learning_rate, self.alpha = float(initial_learning_rate), float(alpha)
        self.decay_steps = _steps(self, "decay_steps", decay_steps)
        self.warmup_target = None if warmup_target is None else float(warmup_target)
        self.warmup_steps = warmup_steps if warmup_target is None else _steps(self, "warmup_steps", warmup_steps)

    def _decayed(self, peak: float, step: Any) -> Any:
        wave = 0.5 * (1.0 + np.cos(math.pi / self.decay_steps * np.minimum(step, self.decay_steps)))
        return peak * ((1.0 - self.alpha) * wave + self.alpha)

    def __call__(self, step: Any) -> Any:
        if self.warmup_target is None:
            return self._decayed(self.initial_learning_rate, step)
        rise = (self.warmup_target - self.initial_learning_rate) / self.warmup_steps
        return np.where(
            step < self.warmup_steps,
            self.initial_learning_rate + rise * step,
            self._decayed(self.warmup_target, np.maximum(step - self.warmup_steps, 0.0)),
        )


@SCHEDULES.register()
class CosineDecayRestarts(LearningRateSchedule):
    """Half cosine waves one after another (SGDR, Loshchilov and Hutter 2016).

    The first takes first_decay_steps, each next one t_mul times as many and starts at m_mul times the rate; all end
    at alpha initial_learning_rate.

    Raises:
        ArgumentError: first_decay_steps or t_mul is not above 0.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ):
        self.initial_learning_rate, self.m_mul, self.alpha = float(initial_learning_rate), float(m_mul), float(alpha)
        self.first_decay_steps = _steps(self, "first_decay_steps", first_decay_steps)
        self.t_mul = float(_steps(self, "t_mul", t_mul))

    def _place(self, step: Any) -> tuple[Any, Any]:
        """Number of the wave and the part of it that is over."""
        periods = step / self.first_decay_steps
        if self.t_mul == 1.0:
            number = np.floor(periods)
            return number, periods - number
        number = np.floor(np.log1p(periods * (self.t_mul - 1.0)) / math.log(self.t_mul) + 1e-6)
        length = np.power(self.t_mul, number)
        return number, np.maximum(periods - (length - 1.0) / (self.t_mul - 1.0), 0.0) / length

    def __call__(self, step: Any) -> Any:
        number, over = self._place(step)
        wave = 0.5 * np.power(self.m_mul, number) * (1.0 + np.cos(math.pi * over))
        return self.initial_learning_rate * ((1.0 - self.alpha) * wave + self.alpha)


def get(identifier: Any) -> Callable[[Any], Any]:
    """The schedule for a {class_name, config} mapping; a schedule or function of the step as it is.

    Raises:
        ArgumentError: neither; UnknownNameError: no such class; the message says the nearest.
    """
    if isinstance(identifier, Mapping):
        return registry.construct(SCHEDULES, identifier)
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    raise ArgumentError(
        "a learning-rate schedule must be an object such as lf.optimizers.schedules.CosineDecay(0.1, 1000) or a "
        f"function of the step, got {identifier!r}."
    )


def deserialize(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The schedule of a {class_name, config} mapping; `custom_objects` has classes of yours by name."""
    with registry.custom_objects(custom_objects):
        return get(config)


def serialize(schedule: Any) -> dict[str, Any]:
    """The {class_name, config} mapping of a schedule; a function must be registered (`lf.register_class`).

    Raises:
        ArgumentError: a function nobody could find by its name.
    """
    if isinstance(schedule, LearningRateSchedule):
        return registry.serialize_value(schedule)
    name = getattr(schedule, "__name__", type(schedule).__name__)
    if registry.custom(name) is schedule:
        return {"class_name": name, "config": {}}
    raise ArgumentError(
        f"the learning rate {name!r} has no name to save it by: register it with lf.register_class, or write it as a "
        "class derived from lf.optimizers.schedules.LearningRateSchedule."
    )
