"""What `fit` tells the outside: callbacks, the history it returns, the progress bar."""

from layerflow.callbacks.base import Callback, CallbackList, FunctionCallback
from layerflow.callbacks.history import History, Logs
from layerflow.callbacks.progress import ProgressBar

__all__ = ["Callback", "CallbackList", "FunctionCallback", "History", "Logs", "ProgressBar"]
