"""`lf.data.csv`: rows of a CSV file, read a block at a time by Python's csv module."""

from __future__ import annotations

import csv as standard
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from layerflow.data.columns import Column
from layerflow.data.dataset import Dataset
from layerflow.data.reading import Source
from layerflow.data.rows import Rows
from layerflow.errors import ArgumentError, DataError, UnknownNameError
from layerflow.registry import accepts_camel_case

# Rows read and turned into arrays at a time; the first so many decide what a column holds.
ROWS = 1024


class CSVDataset(Dataset):
    """Rows of a CSV file; made by `lf.data.csv`."""

    def __init__(self, table: Table):
        rows = Rows(table.blocks, plain=True)
        super().__init__(rows.elements, None, rows)
        self._table = table

    def column_names(self) -> list[str]:
        """The names of the columns that elements hold, labels included."""
        return [column.name for column in self._table.columns if column is not None]


@accepts_camel_case
def csv(
    source: Any,
    has_header: bool = True,
    column_names: Sequence[str] | None = None,
    column_configs: Mapping[str, Mapping[str, Any] | None] | None = None,
    configured_columns_only: bool = False,
    delimiter: str = ",",
    delim_whitespace: bool = False,
    encoding: str = "utf-8-sig",
) -> CSVDataset:
    """A dataset of the rows of a CSV file: dicts by column, or `{"xs": ..., "ys": ...}` of such if there are labels.

    Columns whose first 1,024 cells are numbers hold numbers: Python floats, float32 in batches.  Others hold text.  An
    empty cell is NaN, or "" in text.  The file is read as it is used, a block of rows at a time, and `batch`,
    `shuffle`, `take` and so on move whole blocks.

    Args:
        source: a path (`.gz` too), a URL (other than `file://` with the extra `remote`), or a file object that can
            seek.
        has_header: whether the first row holds names.
        column_names: names in place of those of the header; needed if there is none.
        column_configs: settings of columns by name: `dtype` (number, float32, int32, int64, bool, string; int
            rounds down, bool is true, false, 1, 0), `default` (what an empty cell means), `required` (an empty cell is
            an error), `is_label` (the column belongs to `ys`, and must not be empty).
        configured_columns_only: leave out columns without an entry in column_configs.
        delimiter: a character between cells.
        delim_whitespace: cells are separated by blanks and tabs, any number of them.
        encoding: of the bytes; by default UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ArgumentError, UnknownArgumentError: an argument that makes no sense.
        UnknownNameError: column_configs names a column that does not exist.
        DataError: the file is empty, names a column twice; while iterating, cells that do not fit, with their row (the
            first row after the header is 1) and column.
    """
    if len(delimiter) != 1:
        raise ArgumentError(f"csv(): delimiter must be one character, but is {delimiter!r}.")
    text = Source(source, encoding, "csv()")
    table = Table(text, has_header, " " if delim_whitespace else delimiter, delim_whitespace)
    table.describe(column_names, column_configs or {}, configured_columns_only)
    return CSVDataset(table)


class Table:
    """A file and what is known of its columns."""

    def __init__(self, text: Source, has_header: bool, delimiter: str, squeeze: bool):
        self._text, self._has_header, self._delimiter, self._squeeze = text, has_header, delimiter, squeeze
        self.columns: list[Column | None] = []  # None: not wanted

    def describe(
        self, names: Sequence[str] | None, configs: Mapping[str, Mapping[str, Any] | None], configured_only: bool
    ) -> None:
        """Finds out what the columns are called; see `csv` for the arguments."""
        rows = self._rows()
        first = next(rows, None)
        rows.close()
        if first is None:
            raise DataError(f'csv(): "{self._text.name}" is empty.')
        if names is None:
            if not self._has_header:
                raise ArgumentError(f"csv(): without a header give column_names; the first row has {len(first)} cells.")
            names = [name.strip() for name in first]
        if len(names) != len(first):
            raise ArgumentError(
                f"csv(): column_names has {len(names)} names, but the first row of the file has {len(first)} cells."
            )
        twice = sorted({name for name in names if list(names).count(name) > 1})
        if twice:
            raise DataError(f"csv(): the columns {', '.join(map(repr, twice))} exist twice; give column_names.")
        for name in configs:
            if name not in names:
                raise UnknownNameError.of("column of the CSV file in column_configs", name, names)
        wanted = configs if configured_only else names
        self.columns = [Column.configured(name, configs.get(name)) if name in wanted else None for name in names]
        if not any(self.columns):
            raise ArgumentError("csv(): with configured_columns_only, column_configs must name a column.")

    def _rows(self) -> Any:
        """Cells of each row that is not blank; the header is one of them."""
        lines = self._text.lines()
        if self._squeeze:
            lines = (" ".join(line.split()) for line in lines)
        return (row for row in standard.reader(lines, delimiter=self._delimiter) if row)

    def blocks(self) -> Iterator[Any]:
        """Columns of the next rows as arrays, in the structure of an element."""
        rows = self._rows()
        if self._has_header:
            next(rows, None)
        columns: list[Column | None] | None = None
        for number in itertools.count(1, ROWS):
            cells = self._cells(rows, number)
            if not cells:
                return
            if columns is None:
                columns = [c and c.seen(part) for c, part in zip(self.columns, cells, strict=True)]
            arrays = {c.name: c.array(part, number) for c, part in zip(columns, cells, strict=True) if c is not None}
            yield self._element(arrays)

    def _cells(self, rows: Iterator[list[str]], number: int) -> list[tuple[str, ...]]:
        """The next rows, column by column."""
        try:
            block = list(itertools.islice(rows, ROWS))
        except standard.Error as error:
            raise DataError(f'csv(): "{self._text.name}" cannot be read after row {number - 1}: {error}.') from None
        width = len(self.columns)
        for at, row in enumerate(block):
            if len(row) != width:
                raise DataError(
                    f"csv(): row {number + at} has {len(row)} cells, but the file has {width} columns. "
                    "Quote cells that hold the delimiter, or say with delimiter what separates cells."
                )
        return list(zip(*block, strict=True))

    def _element(self, values: dict[str, Any]) -> dict[str, Any]:
        labels = {column.name for column in self.columns if column is not None and column.is_label}
        if not labels:
            return values
        return {
            "xs": {name: value for name, value in values.items() if name not in labels},
            "ys": {name: value for name, value in values.items() if name in labels},
        }
