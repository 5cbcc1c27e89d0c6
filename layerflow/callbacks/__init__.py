"""What training tells the outside: callbacks, the history it returns, the progress bar.

Classes as in Keras, and functions as in TF.js (`lf.callbacks.early_stopping({"monitor": "val_loss", "patience": 3})`).
"""

from layerflow.callbacks.base import (
    Callback,
    CallbackList,
    FunctionCallback,
    LambdaCallback,
    clear_callback_constructors,
    register_callback_constructor,
)
from layerflow.callbacks.factories import (
    backup_and_restore,
    csv_logger,
    early_stopping,
    lambda_callback,
    learning_rate_scheduler,
    model_checkpoint,
    progbar_logger,
    reduce_lr_on_plateau,
    tensor_board,
    terminate_on_nan,
)
from layerflow.callbacks.history import History, Logs
from layerflow.callbacks.logging import CSVLogger, TensorBoard
from layerflow.callbacks.progress import EpochLine, ProgbarLogger, ProgressBar, verbosity
from layerflow.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from layerflow.callbacks.saving import BackupAndRestore, ModelCheckpoint
from layerflow.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "EpochLine",
    "FunctionCallback",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "backup_and_restore",
    "clear_callback_constructors",
    "csv_logger",
    "early_stopping",
    "lambda_callback",
    "learning_rate_scheduler",
    "model_checkpoint",
    "progbar_logger",
    "reduce_lr_on_plateau",
    "register_callback_constructor",
    "tensor_board",
    "terminate_on_nan",
    "verbosity",
]
