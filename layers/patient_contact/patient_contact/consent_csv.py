"""Consent as CSV: read row by row from another system's file, and written so that no cell starts a formula.

Pure: imports facts and the library that knows phone numbers. What is refused is named by its place, never by its value.
"""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from patient_contact.contact_info import e164

COLUMNS = ("number", "line", "status", "said_at", "source")
MAX_ROWS = 5_000
MAX_CELL = 200

# With what a spreadsheet program begins a formula, or comes to one.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


class BadFile(Exception):
    """The file cannot be read at all: `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Row:
    """One row that can be imported; `csv_line` is the line of the file on which it begins, the header's being 1."""

    csv_line: int
    phone_number: str
    line: str
    status: str
    said_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row that cannot be, and why: the column, or None when it is the row."""

    csv_line: int
    column: str | None
    message: str


def read(text: str, lines: Collection[str], country: str, now: datetime) -> tuple[list[Row], list[Refusal]]:
    """Read a file with the columns `number,line,status,said_at,source`, in any order; raise BadFile.

    Numbers are read as dialled in `country`, times are ISO 8601 with an offset, and not after `now`.
    """
    if not text.strip("\ufeff \r\n"):
        raise BadFile("the file is empty")
    if len(text.splitlines()) == 1 and text.count(",") >= 2 * (len(COLUMNS) - 1):
        raise BadFile("the file is one line: its line ends were lost on the way (curl keeps them with --data-binary)")
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[Row] = []
    refused: list[Refusal] = []
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            raise BadFile(
                f"the first line is a header with the columns {','.join(COLUMNS)}, each once, separated by commas"
            )
        begins = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(rows) + len(refused) == MAX_ROWS:
                    raise BadFile(f"a file has at most {MAX_ROWS} rows beside its header")
                row = _row(begins, header, cells, lines, country, now)
                (rows if isinstance(row, Row) else refused).append(row)  # type: ignore[arg-type]  # each to its own
            begins = reader.line_num + 1
    except csv.Error:
        raise BadFile(
            f"line {reader.line_num} is not CSV: a quote is not closed or not doubled, or a cell is too long"
        ) from None
    return rows, refused


def _row(
    csv_line: int, header: Sequence[str], cells: Sequence[str], lines: Collection[str], country: str, now: datetime
) -> Row | Refusal:
    if len(cells) != len(header):
        return Refusal(csv_line, None, f"a row has {len(header)} cells")
    # An apostrophe is how spreadsheets, and we, keep a cell from being a formula.
    given = {name: cell.strip().removeprefix("'") for name, cell in zip(header, cells, strict=True)}
    number = e164(given["number"], country)
    if number is None:
        return Refusal(csv_line, "number", "not a valid phone number")
    if given["line"] not in lines:
        return Refusal(csv_line, "line", "the practice has no such line")
    if given["status"].lower() not in ("opted_out", "opted_in"):
        return Refusal(csv_line, "status", "is opted_out or opted_in")
    said_at = _time(given["said_at"])
    if said_at is None:
        return Refusal(csv_line, "said_at", "not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z")
    if said_at > now:
        return Refusal(csv_line, "said_at", "lies in the future")
    if len(given["source"]) > MAX_CELL or not given["source"].isprintable():
        return Refusal(csv_line, "source", f"at most {MAX_CELL} printable characters")
    return Row(csv_line, number, given["line"], given["status"].lower(), said_at, given["source"])


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None or not 1970 < time.year < 9999:
        return None
    return time.astimezone(UTC)


def written(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write rows under a header; a cell that a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
