"""Lists of patients, as bytes: where a chunk of rows ends, which patients are in it, and which rows are none.

Shapes. A row is a line; a list is CSV with a header, or JSON Lines. What is wrong with a row is said by its number and
a code, never with its value.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Format = Literal["csv", "jsonl"]
# Why a row gets no message, beside what routing says: it is none, or its patient is unknown, or in the list already.
Refusal = Literal[
    "EMPTY_ROW",
    "ROW_TOO_LONG",
    "NOT_UTF8",
    "NOT_CSV",
    "NOT_JSON",
    "NO_PATIENT_ID",
    "BAD_CONTEXT",
    "MISSING_PLACEHOLDER",
    "TOO_LONG_WHEN_FILLED",
    "UNKNOWN_PATIENT",
    "DUPLICATE",
]
SENTENCES: dict[Refusal, str] = {
    "EMPTY_ROW": "The row is empty.",
    "ROW_TOO_LONG": "The row is longer than 64 KB.",
    "NOT_UTF8": "The row is not in UTF-8.",
    "NOT_CSV": "The row does not have the columns of the header.",
    "NOT_JSON": 'The row is neither a patient id in quotes nor an object like {"patient_id": "…", "context": {…}}.',
    "NO_PATIENT_ID": "The row's patient id is none: 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -",
    "BAD_CONTEXT": "The row's context is not an object of texts and numbers.",
    "MISSING_PLACEHOLDER": "The row's context does not fill a placeholder of the message.",
    "TOO_LONG_WHEN_FILLED": "The message is too long when it is filled from the row's context.",
    "UNKNOWN_PATIENT": "The practice has no such patient.",
    "DUPLICATE": "The patient is in the list more than once, and counts once.",
}

# So many rows are routed together.
CHUNK_ROWS = 100
# A row is longer than that by mistake: a file without line ends, or another kind of file.
MAX_ROW = 64 * 1024
# So long a row is passed by, and told; behind one that is longer nobody looks for the next.
MAX_PASSED_BY = 1024 * 1024 * 1024
# A header's columns are kept with the bulk, which each message that is sent reads.
MAX_HEADER = 4 * 1024
FORMATS: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_BOM = b"\xef\xbb\xbf"
_COLUMN = "patient_id"


@dataclass(frozen=True, slots=True)
class Row:
    """One patient of a list, by the row's number (from 1, the header not counted), and what fills the placeholders."""

    number: int
    patient_id: str
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that gets no message, and why; with its patient, where that much could be read."""

    number: int
    reason: Refusal
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of a list that lie together: from which byte to which, the number of the first, and how many.

    One that is `too_long` is a single row, which nobody should read.
    """

    number: int
    begin: int
    end: int
    first_row: int
    rows: int
    too_long: bool = False

    @property
    def last_row(self) -> int:
        """The number of its last row."""
        return self.first_row + self.rows - 1


class BadList(Exception):
    """No row of the list can be read; `reason` says why, fit for staff."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a list a chunk begins: its byte, its number, and that of its first row."""

    begin: int
    number: int = 0
    first_row: int = 1

    def as_data(self) -> dict[str, int]:
        """Give the place as it is kept."""
        return asdict(self)


class Cutter:
    """Cuts a list that is read piece by piece into chunks, from any place at which a chunk begins.

    It keeps numbers only, whatever is in the list: where a chunk ends follows from where it begins.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._at = self._row_begin = place.begin
        self._rows = 0

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Take the next piece of the list, and give the chunks that end in it; afterwards `place` is behind them.

        Raises BadList for a row that does not end.
        """
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._at += end + 1 - start
            start = end + 1
            yield from self._end_of_row()
        self._at += len(piece) - start
        if self._at - self._row_begin > MAX_PASSED_BY:
            raise BadList(f"row {self.place.first_row + self._rows:,} is longer than 1 GB")

    def last(self) -> Iterator[Chunk]:
        """Give the chunks with which the list ends, whether or not its last line does."""
        if self._at > self._row_begin:
            yield from self._end_of_row()
        if self._rows:
            yield self._cut(self._row_begin, self._rows)

    def _end_of_row(self) -> Iterator[Chunk]:
        if self._at - self._row_begin > MAX_ROW:
            if self._rows:
                yield self._cut(self._row_begin, self._rows)
            yield self._cut(self._at, 1, too_long=True)
        else:
            self._rows += 1
        self._row_begin = self._at
        if self._rows == CHUNK_ROWS:
            yield self._cut(self._at, self._rows)

    def _cut(self, end: int, rows: int, *, too_long: bool = False) -> Chunk:
        place = self.place
        self.place = Place(end, place.number + 1, place.first_row + rows)
        self._rows = 0
        return Chunk(place.number, place.begin, end, place.first_row, rows, too_long)


def header(beginning: bytes, size: int, format_: Format) -> tuple[int, list[str]]:
    """Read where the first row begins, and the columns of a CSV file, from the file's first 4 KB; raise BadList."""
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadList("the list is not in UTF-8")
    begin = len(_BOM) if beginning.startswith(_BOM) else 0
    if size <= begin:
        raise BadList("the list is empty")
    if format_ == "jsonl":
        return begin, []
    end = beginning.find(b"\n")
    if (end < 0 and size > len(beginning)) or end >= MAX_HEADER:
        raise BadList("the list has no header: its first line is longer than 4 KB")
    try:
        (columns,) = csv.reader([beginning[begin : end if end >= 0 else size].decode()], strict=True)
    except UnicodeDecodeError:
        raise BadList("the list is not in UTF-8") from None
    except (csv.Error, ValueError):
        raise BadList("the list's header is not CSV") from None
    columns = [column.strip() for column in columns]
    if columns.count(_COLUMN) != 1 or len(set(columns)) < len(columns):
        raise BadList("the list's header needs one column patient_id, and each column once")
    if end < 0 or end + 1 >= size:
        raise BadList("the list has a header and no rows")
    return end + 1, columns


def rows(data: bytes, chunk: Chunk, format_: Format, columns: Sequence[str]) -> list[Row | BadRow]:
    """Read the rows of a chunk, each for itself, in their order."""
    if chunk.too_long:
        return [BadRow(chunk.first_row, "ROW_TOO_LONG")]
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [
        _row(number, line.removesuffix(b"\r"), format_, columns) for number, line in enumerate(lines, chunk.first_row)
    ]


def _row(number: int, line: bytes, format_: Format, columns: Sequence[str]) -> Row | BadRow:
    if not line.strip():
        return BadRow(number, "EMPTY_ROW")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return BadRow(number, "NOT_UTF8")
    if format_ == "csv":
        try:
            (values,) = csv.reader([text], strict=True)
        except (csv.Error, ValueError):
            return BadRow(number, "NOT_CSV")
        if len(values) != len(columns):
            return BadRow(number, "NOT_CSV")
        context: dict[str, Any] = dict(zip(columns, values, strict=True))
        return _checked(number, context.pop(_COLUMN).strip(), context)
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return BadRow(number, "NOT_JSON")
    if isinstance(read, str):
        read = {_COLUMN: read}
    if not isinstance(read, dict) or read.keys() - {_COLUMN, "context"}:
        return BadRow(number, "NOT_JSON")
    return _checked(number, read.get(_COLUMN), read.get("context", {}))


def _checked(number: int, patient_id: object, context: object) -> Row | BadRow:
    if not isinstance(patient_id, str) or not _ID.fullmatch(patient_id):
        return BadRow(number, "NO_PATIENT_ID")
    if not isinstance(context, dict) or not all(_is_plain(value) for value in context.values()):
        return BadRow(number, "BAD_CONTEXT", patient_id)
    return Row(number, patient_id, context)


def _is_plain(value: object) -> bool:
    """A text that can be stored (a lone surrogate cannot), or a number that is one."""
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)
    return isinstance(value, int) or (isinstance(value, float) and value - value == 0)
