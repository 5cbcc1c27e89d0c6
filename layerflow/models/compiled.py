"""Compiled: what `compile` settled, as models show it."""

from __future__ import annotations

from typing import Any

from layerflow.errors import NotCompiledError
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

    def reset_metrics(self) -> None:
        """Streaming metrics begin anew; needed with `train_on_batch` only: `fit` and `evaluate` do it themselves."""
        for mode in ("train", "test"):
            self._compiled_as("reset_metrics").reset(mode)

    def _compiled_as(self, method: str) -> Compilation:
        if self._compilation is None:
            raise NotCompiledError(
                f'model "{self.name}": {method} needs compile first, for example '
                'model.compile(optimizer="sgd", loss="meanSquaredError").'
            )
        return self._compilation
