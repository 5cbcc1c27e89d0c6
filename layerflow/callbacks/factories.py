"""The functions that make callbacks, as TF.js spells them: arguments by keyword, or in one dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from layerflow.callbacks.base import Callback, LambdaCallback
from layerflow.callbacks.logging import CSVLogger, TensorBoard
from layerflow.callbacks.progress import ProgbarLogger
from layerflow.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from layerflow.callbacks.saving import BackupAndRestore, ModelCheckpoint
from layerflow.callbacks.stopping import EarlyStopping, TerminateOnNaN

C = TypeVar("C", bound=Callback)


def _factory(cls: Callable[..., C], name: str) -> Callable[..., C]:
    def make(*args: Any, **kwargs: Any) -> C:
        """Makes the callback; options of TF.js may come in a dict: `early_stopping({"monitor": "val_loss"})`."""
        *positional, last = args or (None,)
        if isinstance(last, Mapping):
            args, kwargs = tuple(positional), {**last, **kwargs}
        return cls(*args, **kwargs)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"{make.__doc__}\n\n{cls.__doc__}"
    return make


early_stopping = _factory(EarlyStopping, "early_stopping")
terminate_on_nan = _factory(TerminateOnNaN, "terminate_on_nan")
model_checkpoint = _factory(ModelCheckpoint, "model_checkpoint")
backup_and_restore = _factory(BackupAndRestore, "backup_and_restore")
reduce_lr_on_plateau = _factory(ReduceLROnPlateau, "reduce_lr_on_plateau")
learning_rate_scheduler = _factory(LearningRateScheduler, "learning_rate_scheduler")
csv_logger = _factory(CSVLogger, "csv_logger")
tensor_board = _factory(TensorBoard, "tensor_board")
lambda_callback = _factory(LambdaCallback, "lambda_callback")
progbar_logger = _factory(ProgbarLogger, "progbar_logger")
