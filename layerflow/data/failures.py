"""Where in a chain of datasets a user's function failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def located(error: Exception, stage: str, function: Callable[..., Any], number: int) -> None:
    """Adds to an error of a user's function which stage called it for which element.

    The error keeps its type, so that programs can catch what their own functions raise.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    noted(error, f"{stage} of the dataset called {name} for element {number} (counted from 0).")


def noted(error: Exception, text: str) -> None:
    """Adds a sentence that is shown with the error."""
    add_note = getattr(error, "add_note", None)
    if add_note is not None:
        add_note(text)
    elif error.args and isinstance(error.args[0], str):  # Python 3.10 has no notes
        error.args = (f"{error.args[0]}\n{text}", *error.args[1:])
