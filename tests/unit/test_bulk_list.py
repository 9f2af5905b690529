"""Lists of patients, as bytes: where their chunks end, where their first row begins, and which rows are none."""

import json
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patient_contact.bulk_list import (
    CHUNK_ROWS,
    MAX_HEADER,
    MAX_ROW,
    SENTENCES,
    BadList,
    BadRow,
    Chunk,
    Cutter,
    Format,
    Place,
    Refusal,
    Row,
    header,
    rows,
)

# However slow the machine.
unhurried = settings(deadline=None, database=None)

BOM = b"\xef\xbb\xbf"
COLUMNS = ("patient_id", "first_name")
MB = 1024 * 1024
# What a row's length may be on either side of: its line end counts.
LONGEST = b"x" * (MAX_ROW - 1) + b"\n"
TOO_LONG = b"x" * MAX_ROW + b"\n"


def cut(pieces: Iterable[bytes], place: Place | None = None) -> list[Chunk]:
    """Cut a list that is read in these pieces."""
    cutter = Cutter(place or Place(0))
    chunks = [chunk for piece in pieces for chunk in cutter.feed(piece)]
    chunks += cutter.last()
    if chunks:
        assert cutter.place == behind(chunks[-1])
    return chunks


def behind(chunk: Chunk) -> Place:
    """The place at which a list goes on after a chunk."""
    return Place(chunk.end, chunk.number + 1, chunk.first_row + chunk.rows)


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Give the same bytes in pieces, some of which are empty."""
    at = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(at)]


# Rows of all kinds and lengths, the longest of them rarely: short ones, so many that they fill chunks, and either side
# of what is too long. With and without a last line end.
SOME_ROWS = st.one_of(
    st.binary(max_size=12).map(lambda row: row.replace(b"\n", b"") + b"\n"),
    st.integers(0, 3 * CHUNK_ROWS).map(lambda count: b"p-1,Pat\r\n" * count),
    st.integers(CHUNK_ROWS - 2, CHUNK_ROWS + 2).map(lambda count: b"\n" * count),
    st.sampled_from([LONGEST, TOO_LONG, TOO_LONG + b"\n", TOO_LONG * 2]),
)
LISTS = st.builds(lambda parts, last: b"".join(parts) + last, st.lists(SOME_ROWS, max_size=6), st.binary(max_size=4))


def lines_of(data: bytes) -> list[bytes]:
    """The lines of a list, with their ends, the last perhaps without one."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


class TestCutting:
    @unhurried
    @given(LISTS, st.lists(st.integers(0, 400_000), max_size=8))
    def test_in_whatever_pieces_a_list_is_read_its_chunks_are_the_same(self, data: bytes, cuts: list[int]) -> None:
        assert cut(in_pieces(data, cuts)) == cut([data])

    @pytest.mark.parametrize("length", [1, 2, 3, 7])
    def test_and_so_they_are_in_the_smallest_pieces(self, length: int) -> None:
        data = b"p-1,Pat\r\n" * 250 + b"\n\np-2"
        pieces = [data[at : at + length] for at in range(0, len(data), length)]
        assert cut(pieces) == cut([data])

    @unhurried
    @given(LISTS)
    @example(b"")
    @example(b"\n")
    @example(TOO_LONG[:-1])
    def test_chunks_tile_a_list_and_their_rows_add_up(self, data: bytes) -> None:
        chunks, lines = cut([data]), lines_of(data)
        assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
        assert [chunk.begin for chunk in chunks] == [0, *(chunk.end for chunk in chunks)][: len(chunks)]
        assert (chunks[-1].end if chunks else 0) == len(data)
        assert sum(chunk.rows for chunk in chunks) == len(lines)
        for chunk in chunks:
            here = lines[chunk.first_row - 1 : chunk.first_row - 1 + chunk.rows]
            assert b"".join(here) == data[chunk.begin : chunk.end]
            assert 1 <= chunk.rows <= CHUNK_ROWS
            assert chunk.too_long == any(len(line) > MAX_ROW for line in here)
            assert not chunk.too_long or chunk.rows == 1

    @unhurried
    @given(LISTS)
    def test_a_chunk_is_full_unless_the_list_ends_or_the_next_row_is_too_long(self, data: bytes) -> None:
        for chunk, following in pairwise(cut([data])):
            assert chunk.rows == CHUNK_ROWS or chunk.too_long or following.too_long

    @unhurried
    @given(LISTS, st.lists(st.integers(0, 400_000), max_size=4))
    def test_from_behind_any_chunk_the_rest_is_the_same(self, data: bytes, cuts: list[int]) -> None:
        chunks = cut([data])
        for place, chunk in enumerate(chunks):
            assert cut(in_pieces(data[chunk.end :], cuts), behind(chunk)) == chunks[place + 1 :]

    @unhurried
    @given(LISTS, st.lists(st.integers(0, 400_000), max_size=8), st.data())
    def test_whoever_stops_after_any_chunk_finds_the_place_behind_it(
        self, data: bytes, cuts: list[int], draw: st.DataObject
    ) -> None:
        chunks = cut([data])
        stop = draw.draw(st.integers(0, len(chunks)))
        cutter, found = Cutter(Place(0)), []
        for piece in in_pieces(data, cuts):
            for chunk in cutter.feed(piece):
                assert cutter.place == behind(chunk)
                found.append(chunk)
                if len(found) == stop:
                    break
            if len(found) == stop:
                break
        assert found + cut([data[cutter.place.begin :]], cutter.place) == chunks

    def test_rows_are_numbered_from_1_and_lie_behind_the_header(self) -> None:
        assert cut([b"p-1,Pat\np-2,Kim\n"], Place(22)) == [Chunk(0, 22, 38, 1, 2)]

    def test_an_empty_rest_is_no_chunk(self) -> None:
        assert cut([]) == cut([b""]) == []

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["LF", "CRLF", "none"])
    @pytest.mark.parametrize(
        ("count", "sizes"),
        [(1, [1]), (99, [99]), (100, [100]), (101, [100, 1]), (200, [100, 100]), (201, [100, 100, 1])],
    )
    def test_a_chunk_has_100_rows_and_the_last_what_is_left(self, count: int, sizes: list[int], end: bytes) -> None:
        data = (end or b"\n").join([b"p-1"] * count) + end
        assert [chunk.rows for chunk in cut([data])] == sizes

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (LONGEST, [Chunk(0, 0, MAX_ROW, 1, 1)]),
            (LONGEST[:-1], [Chunk(0, 0, MAX_ROW - 1, 1, 1)]),
            (b"x" * MAX_ROW, [Chunk(0, 0, MAX_ROW, 1, 1)]),
            (TOO_LONG, [Chunk(0, 0, MAX_ROW + 1, 1, 1, True)]),
            (b"x" * (MAX_ROW + 1), [Chunk(0, 0, MAX_ROW + 1, 1, 1, True)]),
            (
                b"a\n" + TOO_LONG + b"b\n",
                [
                    Chunk(0, 0, 2, 1, 1),
                    Chunk(1, 2, MAX_ROW + 3, 2, 1, True),
                    Chunk(2, MAX_ROW + 3, MAX_ROW + 5, 3, 1),
                ],
            ),
            (
                TOO_LONG * 2,
                [Chunk(0, 0, MAX_ROW + 1, 1, 1, True), Chunk(1, MAX_ROW + 1, 2 * MAX_ROW + 2, 2, 1, True)],
            ),
            (
                b"a\n" * 100 + TOO_LONG,
                [Chunk(0, 0, 200, 1, 100), Chunk(1, 200, 201 + MAX_ROW, 101, 1, True)],
            ),
        ],
        ids=[
            "longest",
            "without its end",
            "longest without its end",
            "too long",
            "too long without its end",
            "among others",
            "twice",
            "after a full chunk",
        ],
    )
    def test_a_row_over_64_kb_is_a_chunk_of_its_own(self, data: bytes, expected: list[Chunk]) -> None:
        assert cut([data]) == expected

    def test_a_row_of_300_mb_takes_no_more_memory_than_the_piece_that_is_read(self) -> None:
        piece = b"x" * MB
        end = 300 * MB
        cutter = Cutter(Place(10))
        found: list[Chunk] = []
        tracemalloc.start()
        try:
            for _ in range(300):
                found += cutter.feed(piece)
            found += cutter.feed(b"\np-1\n")
            found += cutter.last()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found == [Chunk(0, 10, end + 11, 1, 1, True), Chunk(1, end + 11, end + 15, 2, 1)]
        assert peak < 20_000

    def test_a_place_is_kept_as_numbers(self) -> None:
        assert Place(22, 3, 301).as_data() == {"begin": 22, "number": 3, "first_row": 301}
        assert Place(**Place(22, 3, 301).as_data()) == Place(22, 3, 301)


def refused_list(beginning: bytes, format_: Format = "csv", size: int | None = None) -> str:
    with pytest.raises(BadList) as bad:
        header(beginning, len(beginning) if size is None else size, format_)
    assert str(bad.value) == bad.value.reason
    return bad.value.reason


EMPTY = "the list is empty"
NOT_UTF8 = "the list is not in UTF-8"
NO_HEADER = "the list has no header: its first line is longer than 4 KB"
NOT_CSV = "the list's header is not CSV"
COLUMN = "the list's header needs one column patient_id, and each column once"
NO_ROWS = "the list has a header and no rows"


class TestHeader:
    @pytest.mark.parametrize(
        ("text", "columns"),
        [
            ("patient_id\n", ["patient_id"]),
            ("patient_id,first_name\n", ["patient_id", "first_name"]),
            ("first_name,patient_id,when\r\n", ["first_name", "patient_id", "when"]),
            (' "patient_id" ,first_name\n', None),
            ('"patient_id","first, and last",\n', ["patient_id", "first, and last", ""]),
            ("  patient_id\t, first_name \r\n", ["patient_id", "first_name"]),
            ("patient_id,Straße\n", ["patient_id", "Straße"]),
            ('patient_id,"say ""hi"""\n', ["patient_id", 'say "hi"']),
        ],
    )
    def test_columns_come_in_any_order_among_blanks_and_in_quotes(self, text: str, columns: list[str] | None) -> None:
        beginning = f"{text}p-1".encode()
        if columns is None:
            assert refused_list(beginning) == COLUMN
        else:
            assert header(beginning, len(beginning), "csv") == (len(beginning) - 3, columns)

    def test_a_byte_order_mark_is_no_part_of_the_first_column_or_row(self) -> None:
        text = BOM + b"patient_id\np-1\n"
        assert header(text, len(text), "csv") == (len(BOM) + 11, ["patient_id"])
        text = BOM + b'"p-1"\n'
        assert header(text, len(text), "jsonl") == (len(BOM), [])

    def test_json_lines_have_no_header(self) -> None:
        assert header(b'"p-1"\n', 6, "jsonl") == (0, [])
        assert header(b"patient_id\n", 11, "jsonl") == (0, [])

    def test_only_the_beginning_of_a_list_is_looked_at(self) -> None:
        beginning = b"patient_id\np-1\n"
        assert header(beginning, 300 * MB, "csv") == (11, ["patient_id"])
        assert header(b"x" * MAX_ROW, 300 * MB, "jsonl") == (0, [])

    def test_one_that_is_read_to_the_middle_of_a_character_is_read(self) -> None:
        beginning = ("patient_id\n" + "é" * MAX_ROW).encode()[:MAX_ROW]
        assert header(beginning, 300 * MB, "csv") == (11, ["patient_id"])

    @pytest.mark.parametrize("format_", get_args(Format))
    @pytest.mark.parametrize("text", [b"", BOM])
    def test_an_empty_list_is_refused(self, text: bytes, format_: Format) -> None:
        assert refused_list(text, format_) == EMPTY

    @pytest.mark.parametrize("format_", get_args(Format))
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le-bom", "utf-16-be-bom", "utf-32"])
    def test_one_in_utf_16_or_32_is_refused(self, encoding: str, format_: Format) -> None:
        text = "patient_id\np-1\n"
        if encoding.endswith("-bom"):
            data = f"\ufeff{text}".encode(encoding.removesuffix("-bom"))
        else:
            data = text.encode(encoding)
        assert refused_list(data, format_) == NOT_UTF8

    @pytest.mark.parametrize(
        ("beginning", "reason"),
        [
            ("patient_id,prénom\np-1,Zoé\n".encode("latin-1"), NOT_UTF8),
            (b"patient_id,\xff\np-1,a\n", NOT_UTF8),
            # Without a mark, it is no column that we know.
            ("patient_id\np-1\n".encode("utf-16-le"), COLUMN),
            (b"\n", COLUMN),
            (b"\r\np-1\n", COLUMN),
            (b"p-1\np-2\n", COLUMN),
            (b"first_name,when\nPat,Monday\n", COLUMN),
            (b"Patient_ID\np-1\n", COLUMN),
            (b"patient id\np-1\n", COLUMN),
            (b"patient_id;first_name\np-1;Pat\n", COLUMN),
            (b"patient_id\tfirst_name\np-1\tPat\n", COLUMN),
            (b"patient_id,patient_id\np-1,p-1\n", COLUMN),
            (b"patient_id, patient_id\np-1,p-1\n", COLUMN),
            (b"patient_id,when,when\np-1,a,b\n", COLUMN),
            (b"patient_id,,\np-1,,\n", COLUMN),
            (b'"p-1"\n"p-2"\n', COLUMN),
            (b'{"patient_id": "p-1"}\n{"patient_id": "p-2"}\n', COLUMN),
            (b'patient_id,"first\nname"\np-1,Pat\n', NOT_CSV),
            (b'patient_id,"first_name\np-1,Pat\n', NOT_CSV),
            (b'patient_id,"first"name\np-1,Pat\n', NOT_CSV),
            (b"patient_id\rp-1\rp-2\r", NOT_CSV),
            (b"patient_id", NO_ROWS),
            (b"patient_id\n", NO_ROWS),
            (b"patient_id,first_name\r\n", NO_ROWS),
            (BOM + b"patient_id\n", NO_ROWS),
        ],
    )
    def test_a_list_of_which_no_row_can_be_read_is_refused_and_says_why(self, beginning: bytes, reason: str) -> None:
        assert refused_list(beginning) == reason

    def test_one_whose_first_line_does_not_end_is_refused(self) -> None:
        assert refused_list(b"patient_id," + b"x" * MAX_ROW, size=300 * MB) == NO_HEADER
        assert refused_list((BOM + b"p-1," * MAX_ROW)[:MAX_ROW], size=300 * MB) == NO_HEADER

    def test_a_header_of_4_kb_is_one_and_a_longer_one_is_none(self) -> None:
        beginning = b"patient_id," + b"x" * (MAX_HEADER - 12) + b"\n"
        assert len(beginning) == MAX_HEADER
        assert header(beginning, MAX_HEADER + 4, "csv") == (MAX_HEADER, ["patient_id", "x" * (MAX_HEADER - 12)])
        assert refused_list(b"patient_id," + b"x" * (MAX_HEADER - 11) + b"\np-1,Pat\n") == NO_HEADER


def read(data: bytes, format_: Format = "jsonl", columns: tuple[str, ...] = COLUMNS) -> list[Row | BadRow]:
    """Read a list's rows, as the only chunk, or chunks, that it is cut into."""
    chunks = cut([data])
    found = [row for chunk in chunks for row in rows(data[chunk.begin : chunk.end], chunk, format_, columns)]
    assert [row.number for row in found] == list(range(1, sum(chunk.rows for chunk in chunks) + 1))
    return found


def csv_row(text: str | bytes) -> Row | BadRow:
    (row,) = read(text if isinstance(text, bytes) else text.encode(), "csv")
    return row


def json_row(text: str | bytes) -> Row | BadRow:
    (row,) = read(text if isinstance(text, bytes) else text.encode())
    return row


LONG_ID = "x" * 128


class TestRows:
    @pytest.mark.parametrize(
        ("text", "patient_id", "first_name"),
        [
            ("p-1,Pat", "p-1", "Pat"),
            ("p-1,Pat\n", "p-1", "Pat"),
            ("p-1,Pat\r\n", "p-1", "Pat"),
            (" p-1 , Pat ", "p-1", " Pat "),
            ("p-1,", "p-1", ""),
            ('"p-1","Pat, the first"\n', "p-1", "Pat, the first"),
            ('p-1,"say ""hi"""', "p-1", 'say "hi"'),
            ("p-1,Zoé", "p-1", "Zoé"),
            ("p-1,'Pat'", "p-1", "'Pat'"),
            (f"{LONG_ID},Pat", LONG_ID, "Pat"),
            ("A.b_c~d-0,Pat", "A.b_c~d-0", "Pat"),
        ],
    )
    def test_a_csv_row_is_a_patient_and_what_fills_the_placeholders(
        self, text: str, patient_id: str, first_name: str
    ) -> None:
        assert csv_row(text) == Row(1, patient_id, {"first_name": first_name})

    @pytest.mark.parametrize(
        ("text", "patient_id", "context"),
        [
            ('"p-1"', "p-1", {}),
            ('  "p-1"  \r\n', "p-1", {}),
            ('{"patient_id": "p-1"}', "p-1", {}),
            ('{"patient_id": "p-1", "context": {}}', "p-1", {}),
            (
                '{"context": {"first_name": "Zo\\u00e9", "n": 3, "of": 2.5}, "patient_id": "p-1"}',
                "p-1",
                {"first_name": "Zoé", "n": 3, "of": 2.5},
            ),
            ('{"patient_id": "p-1", "context": {"emoji": "\\ud83d\\ude00"}}', "p-1", {"emoji": "😀"}),
            ('{"patient_id": "p-1", "context": {"": ""}}', "p-1", {"": ""}),
            (f'"{LONG_ID}"', LONG_ID, {}),
        ],
    )
    def test_a_line_of_json_is_a_patient_id_or_has_a_context_too(
        self, text: str, patient_id: str, context: dict[str, Any]
    ) -> None:
        assert json_row(text) == Row(1, patient_id, context)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("\n", "EMPTY_ROW"),
            ("\r\n", "EMPTY_ROW"),
            (" \t \r\n", "EMPTY_ROW"),
            ("p-1,Zo\xe9".encode("latin-1"), "NOT_UTF8"),
            ("p-1,Pat".encode("utf-16"), "NOT_UTF8"),
            (b"p-1,\xed\xa0\x80", "NOT_UTF8"),
            ("p-1", "NOT_CSV"),
            ("p-1,Pat,", "NOT_CSV"),
            ("p-1;Pat", "NOT_CSV"),
            ('p-1,"Pat', "NOT_CSV"),
            ('p-1,"Pat"x', "NOT_CSV"),
            ("p-1\rp-2,Pat", "NOT_CSV"),
            (",Pat", "NO_PATIENT_ID"),
            (" ,Pat", "NO_PATIENT_ID"),
            ("p 1,Pat", "NO_PATIENT_ID"),
            ("p/1,Pat", "NO_PATIENT_ID"),
            ("p#1,Pat", "NO_PATIENT_ID"),
            ("p-é,Pat", "NO_PATIENT_ID"),
            ("\ufeffp-1,Pat", "NO_PATIENT_ID"),
            (f"{LONG_ID}x,Pat", "NO_PATIENT_ID"),
            ("'p-1,Pat", "NO_PATIENT_ID"),
        ],
    )
    def test_a_csv_row_that_is_none_says_why(self, text: str | bytes, reason: Refusal) -> None:
        assert csv_row(text) == BadRow(1, reason)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("\n", "EMPTY_ROW"),
            (b'"p-\xe9"', "NOT_UTF8"),
            ("p-1", "NOT_JSON"),
            ("'p-1'", "NOT_JSON"),
            ('"p-1', "NOT_JSON"),
            ('"p-1",', "NOT_JSON"),
            ('"p-1" "p-2"', "NOT_JSON"),
            ("7", "NOT_JSON"),
            ("null", "NOT_JSON"),
            ("true", "NOT_JSON"),
            ("NaN", "NOT_JSON"),
            ('["p-1"]', "NOT_JSON"),
            ("[" * 30_000, "NOT_JSON"),
            ("9" * 5_000, "NOT_JSON"),
            ('{"patient_id": "p-1", "first_name": "Pat"}', "NOT_JSON"),
            ('{"patient_id": "p-1", "context": {}, "": 1}', "NOT_JSON"),
            ('\ufeff"p-1"', "NOT_JSON"),
            ('{"patient_id": "p-1", "context": {"n": ' + "9" * 5_000 + "}}", "NOT_JSON"),
            ("{}", "NO_PATIENT_ID"),
            ('{"context": {}}', "NO_PATIENT_ID"),
            ('""', "NO_PATIENT_ID"),
            ('" p-1"', "NO_PATIENT_ID"),
            ('"p-1\\n"', "NO_PATIENT_ID"),
            ('"\\ud800"', "NO_PATIENT_ID"),
            ('{"patient_id": 7}', "NO_PATIENT_ID"),
            ('{"patient_id": null}', "NO_PATIENT_ID"),
            ('{"patient_id": ["p-1"]}', "NO_PATIENT_ID"),
            ('{"patient_id": {"patient_id": "p-1"}}', "NO_PATIENT_ID"),
        ],
    )
    def test_a_line_of_json_that_is_no_row_says_why(self, text: str | bytes, reason: Refusal) -> None:
        assert json_row(text) == BadRow(1, reason)

    @pytest.mark.parametrize(
        "context",
        [
            "null",
            "[]",
            '"Pat"',
            "7",
            '{"first_name": null}',
            '{"first_name": true}',
            '{"first_name": ["Pat"]}',
            '{"first_name": {"first": "Pat"}}',
            '{"first_name": "Pat", "n": NaN}',
            '{"n": Infinity}',
            '{"n": -Infinity}',
            '{"n": 1e400}',
            '{"first_name": "\\ud800"}',
            '{"first_name": "Zo\\u00e9 \\udfff"}',
        ],
    )
    def test_a_context_that_cannot_fill_a_message_names_its_patient(self, context: str) -> None:
        assert json_row(f'{{"patient_id": "p-1", "context": {context}}}') == BadRow(1, "BAD_CONTEXT", "p-1")

    @pytest.mark.parametrize("format_", get_args(Format))
    def test_what_is_said_of_a_row_that_is_too_long_needs_no_byte_of_it(self, format_: Format) -> None:
        chunk = Chunk(3, 400, 300 * MB, 301, 1, True)
        assert rows(b"", chunk, format_, COLUMNS) == [BadRow(301, "ROW_TOO_LONG")]

    def test_a_row_of_64_kb_is_read(self) -> None:
        name = "x" * (MAX_ROW - 5)
        assert csv_row(f"p-1,{name}\n") == Row(1, "p-1", {"first_name": name})
        assert csv_row(f"p-1,{name}x\n") == BadRow(1, "ROW_TOO_LONG")

    def test_bad_rows_leave_the_others_as_they_are(self) -> None:
        text = 'p-1,Pat\n\np-2,"Kim\np-3,Sam\n' + "p-4,Zo\xe9\n"
        expected = [
            Row(1, "p-1", {"first_name": "Pat"}),
            BadRow(2, "EMPTY_ROW"),
            BadRow(3, "NOT_CSV"),
            Row(4, "p-3", {"first_name": "Sam"}),
            BadRow(5, "NOT_UTF8"),
        ]
        assert read(text.encode("latin-1"), "csv") == expected

    def test_an_open_quote_takes_no_other_row_with_it(self) -> None:
        assert read(b'p-1,"Pat\np-2,Kim"\np-3,Sam\n', "csv") == [
            BadRow(1, "NOT_CSV"),
            # A quote that does not begin a cell is part of it.
            Row(2, "p-2", {"first_name": 'Kim"'}),
            Row(3, "p-3", {"first_name": "Sam"}),
        ]

    def test_a_patient_who_is_in_it_again_is_for_whoever_routes_it(self) -> None:
        assert read(b"p-1,Pat\n p-1 ,Lee\n", "csv") == [
            Row(1, "p-1", {"first_name": "Pat"}),
            Row(2, "p-1", {"first_name": "Lee"}),
        ]
        assert read(b'"p-1"\n{"patient_id": "p-1"}\n"P-1"\n') == [Row(1, "p-1"), Row(2, "p-1"), Row(3, "P-1")]

    def test_who_is_in_another_chunk_again_is_for_whoever_routes_it(self) -> None:
        found = read("".join(f'"p-{n}"\n' for n in [*range(100), 0]).encode())
        assert found[0] == Row(1, "p-0")
        assert found[100] == Row(101, "p-0")

    @unhurried
    @given(LISTS, st.sampled_from(get_args(Format)), st.sampled_from([("patient_id",), COLUMNS]))
    def test_whatever_is_in_a_list_each_of_its_rows_is_one_result(
        self, data: bytes, format_: Format, columns: tuple[str, ...]
    ) -> None:
        assert len(read(data, format_, columns)) == len(lines_of(data))

    @unhurried
    @given(
        st.lists(
            st.tuples(st.from_regex(r"[A-Za-z0-9._~-]{1,9}", fullmatch=True), st.text(max_size=9)),
            max_size=150,
            unique_by=lambda each: each[0],
        )
    )
    def test_what_is_written_as_json_is_read_back(self, patients: list[tuple[str, str]]) -> None:
        data = "".join(json.dumps({"patient_id": each, "context": {"name": name}}) + "\n" for each, name in patients)
        expected = [Row(n, each, {"name": name}) for n, (each, name) in enumerate(patients, 1)]
        assert read(data.encode()) == expected


def test_each_refusal_has_a_sentence_of_its_own() -> None:
    assert set(SENTENCES) == set(get_args(Refusal))
    assert len(set(SENTENCES.values())) == len(SENTENCES)
