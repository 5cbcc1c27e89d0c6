"""Optimizer: the base class, with the state, the settings and the calls that all optimizers share."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import closures, execution, ops
from layerflow.graph.variable import Variable, changed
from layerflow.optimizers import common, schedules
from layerflow.optimizers.clock import Clock
from layerflow.optimizers.gradients import paired
from layerflow.optimizers.updates import ACCUMULATOR, AVERAGE, updates

Slots = dict[str, Any]


class Optimizer(registry.Configurable):
    """Base of optimizers.

    A subclass declares in `SLOTS` the arrays it keeps for each weight (name -> initial value) and defines `update`,
    which is NumPy code for one weight; it is traced and compiled into the training step.

    Args:
        learning_rate: a number, a schedule (`lf.optimizers.schedules`), or a function of the number of batches done.

    Every optimizer also takes these arguments of Keras 3, whether or not its `__init__` names them:

        weight_decay: each update first takes weight_decay * learning_rate * weight off the weight (decoupled,
            Loshchilov and Hutter 2017).
        clipnorm: the gradient of each weight is scaled down to at most this L2 norm.
        global_clipnorm: all gradients are scaled by one factor, so that their common norm is at most this.
        clipvalue: the elements of gradients are cut off at plus and minus this.
        use_ema, ema_momentum: keep a moving average of each weight, average = ema_momentum average +
            (1 - ema_momentum) weight; the weights become it when `fit` ends (`finalize_variable_values`).
        ema_overwrite_frequency: also every so many updates.
        gradient_accumulation_steps: update once in so many batches, with the mean of their gradients.

    Raises:
        ArgumentError: a setting that makes no sense; UnknownArgumentError: one that does not exist.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {"lr": "learning_rate"}
    BASE_ARGUMENTS: ClassVar[Mapping[str, str]] = {registry.fold(name): name for name in common.DEFAULTS}
    SLOTS: ClassVar[Mapping[str, float]] = {}
    SHARED: ClassVar[Mapping[str, float]] = {}  # scalars kept once, not per weight; `update` finds them among the slots
    LAZY: ClassVar[bool] = False  # rows of a table that the batch does not name keep their weights and slots
    API: ClassVar[str] = "keras"  # whose formulas; tells optimizers of the same name apart in files

    name: str
    weight_decay: float | None
    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    gradient_accumulation_steps: int | None
    schedule: Callable[[Any], Any] | None = None
    _slots: dict[Variable, dict[str, Variable]]

    def __init__(self, learning_rate: Any, **settings: Any):
        settings = {**common.DEFAULTS, **self._base_arguments, **settings}
        for name, value in settings.items():
            setattr(self, name, value)
        self.name = self.name or registry.class_snake_case(self.get_class_name())
        common.check(self)
        self.version = 0  # grows whenever a setting changes that compiled steps contain
        self._clock = Clock()
        self._slots = {}
        self._shared: dict[str, Variable] | None = None
        self._excluded = common.Exclusions()
        self._named: dict[str, Variable] = {}
        self._clock.rate, self.schedule = self._checked_rate(learning_rate)

    def _made(self) -> None:
        if "_slots" not in self.__dict__:
            raise ArgumentError(
                f"{type(self).__name__}.__init__ must call super().__init__(learning_rate), or leave __init__ out."
            )

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get(name, value)
        super().__setattr__(name, value)
        if name[0] != "_" and name != "version" and before is not value and not np.array_equal(before, value):
            if name in common.DEFAULTS:
                common.check(self)
            self._changed()

    def __copy__(self) -> Optimizer:
        made = object.__new__(type(self))
        vars(made).update(vars(self), _clock=Clock(self._clock.batches, self._clock.rate))
        return made

    def _changed(self) -> None:
        """Compiled steps are out of date."""
        self.version = self.__dict__.get("version", 0) + 1
        changed()

    # --- learning rate and counters ------------------------------------------

    def _checked_rate(self, given: Any) -> tuple[float, Callable[[Any], Any] | None]:
        if isinstance(given, Mapping) or (callable(given) and not isinstance(given, type)):
            return 0.0, schedules.get(given)
        if isinstance(given, np.ndarray) and given.ndim == 0:
            given = given.item()
        if isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or math.isnan(given):
            raise ArgumentError(
                f"{type(self).__name__}: learning_rate must be a number, a schedule such as "
                f"lf.optimizers.schedules.CosineDecay(0.1, 1000), or a function of the step, got {given!r}."
            )
        return float(given), None

    @property
    def learning_rate(self) -> float:
        """The rate of the next batch.

        May be set at any time to a number, which compiled steps read: nothing is compiled again.  A schedule is code
        of the step: setting one, or a number in its place, compiles the step once more.
        """
        return self._clock.rate if self.schedule is None else float(self.schedule(self._clock.batches))

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._clock.rate, schedule = self._checked_rate(value)
        if schedule is not self.schedule:
            self.schedule = schedule

    lr = learning_rate

    def set_learning_rate(self, learning_rate: Any) -> None:
        self.learning_rate = learning_rate

    @property
    def iterations(self) -> int:
        """Number of updates so far: of batches, or with gradient accumulation of groups of batches."""
        return self._clock.batches // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, value: int) -> None:
        self._clock.batches = int(value) * (self.gradient_accumulation_steps or 1)

    @property
    def clock(self) -> Clock:
        """Number of gradients so far and rate, where native code finds them."""
        return self._clock

    @property
    def batches(self) -> int:
        """Number of gradients so far."""
        return self._clock.batches

    def advance(self, batches: int = 1) -> None:
        """Counts batches whose gradients have been applied."""
        self._clock.batches += batches

    def scalars(self) -> dict[str, float]:
        """What the next compiled step reads: the number of its (first) batch, and the rate if it is a number."""
        return {"iteration": self._clock.batches + 1, "learning_rate": self._clock.rate}

    # --- the update ----------------------------------------------------------

    @property
    def slots(self) -> Mapping[str, float]:
        """Names of the arrays kept for each weight, with their initial value; override it where arguments matter."""
        return self.SLOTS

    def slots_of(self, variable: Variable) -> Mapping[str, Any]:
        """The slots of one weight: a number stands for an array of the weight's shape, an array for itself."""
        return self.slots

    def update(self, param: Any, grad: Any, slots: Slots, step: Any, learning_rate: Any) -> tuple[Any, Slots]:
        """The weight and its slots after one update, in terms of NumPy functions and operators.

        Args:
            param: the weight.
            grad: its gradient, of the same shape, accumulated and clipped.
            slots: the arrays kept for it, by name.
            step: float scalar, 1 at the first update.
            learning_rate: float scalar.

        Returns:
            The new weight, and the new slots by name; a slot that is left out stays as it is.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(param, grad, slots, step, learning_rate).")

    def updates(self, pairs: Sequence[tuple[Variable, Any]], batch: Any, rate: Any) -> dict[Variable, Any]:
        """See `layerflow.optimizers.updates.updates`."""
        return updates(self, pairs, batch, rate)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Chooses the weights that do not decay.

        Args:
            var_list: these variables.
            var_names: and those whose name contains one of these words (regular expressions), such as "bias".
        """
        self._excluded = common.Exclusions(var_list or (), var_names or ())
        self._changed()

    def decay_of(self, variable: Variable) -> float | None:
        """The weight decay of one weight."""
        return None if self.weight_decay is None or variable in self._excluded else float(self.weight_decay)

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """With `use_ema`: the weights become their averages, brought to their constraints; `fit` ends with it."""
        for variable in var_list if self.use_ema and self._clock.batches else ():
            if variable in self._slots:
                average = self._slots[variable][AVERAGE].numpy()
                variable.assign(average if variable.constraint is None else variable.constraint(average))

    # --- running -------------------------------------------------------------

    def minimize(
        self, f: Callable[[], Any], return_cost: bool = False, var_list: Sequence[Variable] | None = None
    ) -> Any:
        """One step on the scalar that `f()` computes from variables.

        Args:
            f: the loss; traced at each call, compiled once.
            return_cost: whether to return the loss (before the step).
            var_list: the variables to change; by default all trainable ones that `f` uses.
        """
        cost = closures.minimize(self, f, var_list)
        return cost if return_cost else None

    def compute_gradients(
        self, f: Callable[[], Any], var_list: Sequence[Variable] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """(value of f(), {variable name: gradient}); `apply_gradients` takes the dict."""
        value, gradients = closures.gradients_of(f, var_list)
        self._named.update({v.name: v for v in gradients})
        return value, {v.name: g for v, g in gradients.items()}

    def apply_gradients(self, gradients: Any, var_list: Sequence[Variable] | None = None) -> None:
        """One step with given gradients.

        Args:
            gradients: [(gradient, variable), ...] as in Keras, {variable name: gradient} or
                [{"name": ..., "tensor": ...}, ...] as in TF.js; a gradient may be None.
            var_list: the variables that names mean; by default those of `compute_gradients` and of earlier steps.

        Raises:
            ArgumentError: no such pairs, or an unknown name; ShapeError: a gradient is not of its variable's shape.
        """
        named = {**self._named, **{v.name: v for v in self._slots}} if var_list is None else None
        named = {v.name: v for v in var_list or ()} if named is None else named
        execution.apply_gradients(self, paired(type(self).__name__, gradients, named))

    def apply(self, gradients: Sequence[Any], trainable_variables: Sequence[Variable] | None = None) -> None:
        """Keras's spelling: gradients in the order of the variables (by default those of earlier steps or `build`)."""
        variables = list(self._slots) if trainable_variables is None else list(trainable_variables)
        if len(gradients) != len(variables):
            raise ArgumentError(
                f"{type(self).__name__}.apply: {len(gradients)} gradients for {len(variables)} variables; call "
                "optimizer.build(variables) first, or pass the variables."
            )
        self.apply_gradients(list(zip(gradients, variables, strict=True)))

    # --- state ---------------------------------------------------------------

    def build(self, variables: Sequence[Variable]) -> None:
        """Makes the slots of these variables; without it they are made at the first step."""
        for variable in variables:
            self.slot_variables(variable)

    def slot_variables(self, variable: Variable) -> dict[str, Variable]:
        """The arrays kept for a weight, made at first use: `<weight>/m` and so on."""
        kept = self._slots.get(variable)
        if kept is None:
            first = dict(self.slots_of(variable))
            if self.gradient_accumulation_steps:
                first[ACCUMULATOR] = 0.0
            if self.use_ema:
                first[AVERAGE] = variable.numpy()
            kept = self._slots[variable] = {
                name: Variable(
                    np.broadcast_to(float(value), variable.shape) if isinstance(value, numbers.Real) else value,
                    False,
                    f"{variable.name}/{name}",
                    variable.dtype,
                )
                for name, value in first.items()
            }
        return kept

    def shared_variables(self, variables: Sequence[Variable]) -> dict[str, Variable]:
        """The scalars of `SHARED`, made at first use, as precise as these weights."""
        if self._shared is None:
            dtype = np.result_type(np.float32, *(v.dtype for v in variables))
            self._shared = {
                name: Variable(value, False, f"{self.name}/{name}", dtype) for name, value in self.SHARED.items()
            }
        return self._shared

    def state(self, variables: Sequence[Variable]) -> list[tuple[Variable | None, str, Variable]]:
        """(weight or None, slot name, array): scalars, then every weight's first slot, every weight's second, ..."""
        kept = [(v, self.slot_variables(v)) for v in variables]
        names = dict.fromkeys(name for _, slots in kept for name in slots)
        shared = [(None, name, array) for name, array in self.shared_variables(variables).items()]
        return [*shared, *((v, name, slots[name]) for name in names for v, slots in kept if name in slots)]

    @property
    def variables(self) -> list[Variable]:
        """All arrays kept so far."""
        return [array for _, _, array in self.state(list(self._slots))]

    def weight_names(self, variables: Sequence[Variable] | None = None) -> list[str]:
        """Names of `get_weights(variables)`: `iter`, scalars, every weight's first slot, every weight's second, ..."""
        return ["iter", *(a.name for _, _, a in self.state(list(self._slots) if variables is None else variables))]

    def get_weights(self, variables: Sequence[Variable] | None = None) -> list[np.ndarray]:
        """The state: number of batches (int32 scalar), then the arrays in the order of `weight_names`."""
        kept = self.state(list(self._slots) if variables is None else variables)
        return [np.int32(self._clock.batches).reshape(()), *(array.numpy() for _, _, array in kept)]

    def set_weights(self, values: Sequence[Any], variables: Sequence[Variable] | None = None) -> None:
        """Restores what `get_weights` gave; nothing is changed if it does not fit.

        Args:
            variables: the weights whose state it is; by default those of earlier steps or of `build`.

        Raises:
            ShapeError: another number of arrays, or an array of another shape, than is kept.
        """
        targets = [a for _, _, a in self.state(list(self._slots) if variables is None else variables)]
        if len(values) != len(targets) + 1:
            raise ShapeError(
                f"{type(self).__name__}.set_weights: {len(values)} arrays arrive, {len(targets) + 1} are kept"
                f" ({', '.join(self.weight_names(variables))})."
                + ("" if targets or not self.slots else " Call optimizer.build(variables) first.")
            )
        arrays = [np.asarray(value) for value in values]
        if arrays[0].ndim:
            raise ShapeError(
                f"{type(self).__name__}.set_weights: the first value is the number of batches, got an array of shape "
                f"{list(arrays[0].shape)}."
            )
        for target, array in zip(targets, arrays[1:], strict=True):
            if target.shape != array.shape:
                raise ShapeError(
                    f"{target.name}: values of shape {list(array.shape)} do not fit its shape {list(target.shape)}."
                )
        self._clock.batches = int(arrays[0])
        for target, array in zip(targets, arrays[1:], strict=True):
            target.assign(array)

    def get_config(self) -> dict[str, Any]:
        """The arguments as they are now; with these `from_config` makes an equal optimizer, without its state."""
        given = {name: self.__dict__.get(name, value) for name, value in self._arguments.items()}
        settings = {**{name: getattr(self, name) for name in common.DEFAULTS}, **given}
        settings["learning_rate"] = self._clock.rate if self.schedule is None else schedules.serialize(self.schedule)
        if self._excluded.names():
            settings["excluded_from_weight_decay"] = self._excluded.names()
        return {name: registry.serialize_value(value) for name, value in settings.items()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        settings = {registry.snake_case(name): value for name, value in config.items()}
        excluded = settings.pop("excluded_from_weight_decay", None)
        if settings.get("loss_scale_factor", 1) is None:  # Keras writes it always
            del settings["loss_scale_factor"]
        optimizer = cls(**settings)
        if excluded:
            optimizer.exclude_from_weight_decay(var_names=excluded)
        return optimizer

    def dispose(self) -> None:
        """Drops the slots."""
        self._slots.clear()
        self._named.clear()
        self._shared = None
        vars(self).pop("_steps", None)


def decayed(beta: float, step: Any) -> Any:
    """1 - beta**step, precise where beta is near 1."""
    return -ops.expm1(step * math.log(beta)) if 0.0 < beta < 1.0 else 1.0
