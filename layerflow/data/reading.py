"""Text from paths, URLs and file objects; and `text_line`, the dataset of its lines."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from typing import Any, TextIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from layerflow.data.dataset import Dataset
from layerflow.data.failures import noted
from layerflow.errors import ArgumentError


class Source:
    """Text that can be read from its beginning as often as needed.

    Args:
        given: a path (with `.gz` it is unpacked), a `file://` URL, another URL (through fsspec, the extra `remote`), or
            a file object that can seek; it is read from where it stands now.
        encoding: of the bytes.
        caller: for messages.

    Raises:
        ArgumentError: it is none of these.
    """

    def __init__(self, given: Any, encoding: str, caller: str):
        self._given, self._encoding, self._caller = given, encoding, caller
        if isinstance(given, (str, os.PathLike)):
            self.name = os.fspath(given)
        elif hasattr(given, "read") and hasattr(given, "seek") and given.seekable():
            self.name = str(getattr(given, "name", type(given).__name__))
            self._start = given.tell()
        else:
            raise ArgumentError(
                f"{caller}: expected a path, a URL or a file object that can seek (every epoch reads it anew), got "
                f"{type(given).__name__}. Wrap text in io.StringIO, or write it to a file."
            )

    def lines(self) -> Iterator[str]:
        """The lines with their ends, which stay as they are.  The file is closed at the end, or with the iterator."""
        file = self._open()
        try:
            for line in file:  # noqa: UP028 - `yield from` would close the file together with this generator
                yield line
        except UnicodeDecodeError as error:
            noted(error, f'{self._caller}: "{self.name}" is not {self._encoding}; say with encoding what it is.')
            raise
        finally:
            if file is not self._given:
                _let_go(file) if hasattr(self._given, "read") else file.close()

    def _open(self) -> TextIO:
        if not isinstance(self._given, (str, os.PathLike)):
            return self._rewound(self._given)
        url = urlsplit(self.name) if "://" in self.name else None
        path = self.name if url is None else url2pathname(url.path)
        if url is not None and url.scheme != "file":
            return self._remote()
        if path.endswith(".gz"):
            return io.TextIOWrapper(gzip.open(path), self._encoding, newline="\n")
        return open(path, encoding=self._encoding, newline="\n")

    def _rewound(self, file: Any) -> Any:
        # Of what lies in memory every iteration gets a file of its own, so that they do not disturb each other.
        if isinstance(file, io.StringIO):
            file = io.StringIO(file.getvalue(), newline="")
        elif isinstance(file, io.BytesIO):
            file = io.BytesIO(file.getvalue())
        file.seek(self._start)
        return file if isinstance(file, io.TextIOBase) else io.TextIOWrapper(file, self._encoding, newline="\n")

    def _remote(self) -> TextIO:
        try:
            import fsspec  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise ArgumentError(
                f"{self._caller}: {self.name} is a URL, which needs fsspec: pip install layerflow[remote]. "
                "Or download the file and give its path."
            ) from None
        return fsspec.open(self.name, "rt", encoding=self._encoding, newline="\n", compression="infer").open()


def _let_go(file: TextIO) -> None:
    """The user's bytes stay open when the text around them goes."""
    if isinstance(file, io.TextIOWrapper):
        file.detach()


def text_line(source: Any, encoding: str = "utf-8") -> Dataset:
    """A dataset of the lines of a text, as strings without the ends of the lines.

    Args:
        source: a path (`.gz` too), a URL (other than `file://` with the extra `remote`), or a file object that can
            seek.
        encoding: of the bytes.

    Raises:
        ArgumentError: source is nothing that can be read.
        FileNotFoundError, UnicodeDecodeError: while iterating.
    """
    text = Source(source, encoding, "text_line()")
    return Dataset(lambda: (line.removesuffix("\n").removesuffix("\r") for line in text.lines()))
