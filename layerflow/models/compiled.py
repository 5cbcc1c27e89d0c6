"""Compiled: what `compile` settled, as models show it."""

from __future__ import annotations

from typing import Any

from layerflow.errors import NotCompiledError
from layerflow.graph.variable import Variable
from layerflow.models.compilation import Compilation


class Compiled:
    """Mixin of models: optimizer, losses and metrics of the last `compile`."""

    name: str
    outputs: list[Any]
    output_names: list[str]
    _compilation: Compilation | None = None

    @property
    def compiled(self) -> bool:
        return self._compilation is not None

    @property
    def compilation(self) -> Compilation | None:
        """All that compile settled, None before it."""
        return self._compilation

    @property
    def optimizer(self) -> Any:
        """The optimizer, None before compile; its `learning_rate` may be set at any time."""
        return self._compilation.optimizer if self._compilation else None

    @property
    def loss(self) -> Any:
        """The loss as given to compile."""
        return self._compilation.given["loss"] if self._compilation else None

    @property
    def compile_arguments(self) -> dict[str, Any] | None:
        """The arguments of compile as they were given (for saving), or None."""
        return self._compilation.given if self._compilation else None

    @property
    def loss_functions(self) -> list[Any]:
        return self._compilation.loss_functions if self._compilation else []

    @property
    def loss_weights(self) -> list[float] | None:
        return self._compilation.loss_weights if self._compilation else None

    @property
    def metrics(self) -> list[list[Any]]:
        """Per output the metrics as (key in the logs, function or streaming metric)."""
        return self._compilation.metrics if self._compilation else []

    @property
    def metrics_names(self) -> list[str]:
        """Names of what training reports: `loss`, with several outputs `<output>_loss`, then the metrics."""
        compilation = self._compiled_as("metrics_names")
        several = [f"{name}_loss" for name in self.output_names] if len(self.outputs) > 1 else []
        return ["loss", *several, *(key for entries in compilation.metrics for key, _ in entries)]

    @property
    def metrics_variables(self) -> list[Variable]:
        """What streaming metrics gather over batches, in training and in evaluation: part of a backup."""
        running = self._compilation.running if self._compilation else {}
        return [v for states in running.values() for state in states.values() for v in state.variables.values()]

    def reset_metrics(self, mode: str | None = None) -> None:
        """Empties what streaming metrics have gathered; `fit` and `evaluate` do so at the beginning of their epochs.

        Args:
            mode: "train" or "test", by default both.
        """
        for of, states in self._compiled_as("reset_metrics").running.items():
            for state in states.values() if mode in (None, of) else ():
                state.reset()

    def _compiled_as(self, method: str) -> Compilation:
        if self._compilation is None:
            raise NotCompiledError(
                f'model "{self.name}": {method} needs compile first, for example '
                'model.compile(optimizer="sgd", loss="meanSquaredError").'
            )
        return self._compilation
