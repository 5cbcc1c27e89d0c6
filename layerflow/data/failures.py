"""Where in a chain of datasets a user's function failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Calls:
    """Surrounds a user's code, once an element: an error that leaves it gets a note where that was, and goes on.

    The error keeps its type, so that programs can catch what their own functions raise.

    Args:
        stage: of the dataset, such as "map()".
        what: of the user's is called; by default the function.
        function: the one that is called.
    """

    def __init__(self, stage: str, function: Callable[..., Any], what: str = ""):
        name = what or f"called {getattr(function, '__qualname__', type(function).__name__)}"
        self._text = f"{stage} of the dataset {name}"
        self.number = 0

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            noted(error, f"{self._text} for element {self.number} (counted from 0).")
        self.number += 1


def noted(error: Exception, text: str) -> None:
    """Adds a sentence that is shown with the error."""
    add_note = getattr(error, "add_note", None)
    if add_note is not None:
        add_note(text)
    elif error.args and isinstance(error.args[0], str):  # Python 3.10 has no notes
        error.args = (f"{error.args[0]}\n{text}", *error.args[1:])
