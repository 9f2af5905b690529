"""Consent as CSV: what is read from other systems' files, what is refused and where, and what we write."""

import csv
import io
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact.consent_csv import MAX_ROWS, BadFile, Refusal, Row, read, written

# However slow the machine.
unhurried = settings(deadline=None, database=None)

NOW = datetime(2026, 11, 24, 18, 0, 0, tzinfo=UTC)
LINES = {"main", "billing"}
HEADER = "number,line,status,said_at,source"
CELL = "+15035550101"
SAID = datetime(2026, 11, 20, 17, 2, 11, tzinfo=UTC)
GOOD = f"{CELL},main,opted_out,2026-11-20T17:02:11Z,old system"
BAD_HEADER = (
    "the first line is a header with the columns number,line,status,said_at,source, each once, separated by commas"
)
NOT_A_NUMBER = "not a valid phone number"
NOT_A_TIME = "not a time in ISO 8601 with its offset, like 2026-11-20T17:02:11Z"


def row(csv_line: int = 2, **changed: object) -> Row:
    told = {
        "phone_number": CELL,
        "line": "main",
        "status": "opted_out",
        "said_at": SAID,
        "source": "old system",
        **changed,
    }
    return Row(csv_line, **told)  # type: ignore[arg-type]  # a row's parts, by name


def file(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def line(
    number: str = CELL, of: str = "main", status: str = "opted_out", at: str = SAID.isoformat(), source: str = ""
) -> str:
    """A line of a file, its cells quoted where they must be."""
    out = io.StringIO()
    csv.writer(out).writerow([number, of, status, at, source])
    return out.getvalue().removesuffix("\r\n")


def parsed(text: str, country: str = "US") -> tuple[list[Row], list[Refusal]]:
    return read(text, LINES, country, NOW)


def places(rows: list[Row], refused: list[Refusal]) -> list[int]:
    """Where all of them begin."""
    return sorted([each.csv_line for each in rows] + [each.csv_line for each in refused])


def refusal(text: str) -> Refusal:
    rows, (refused,) = parsed(file(text))
    assert rows == []
    return refused


def bad_file(text: str) -> str:
    with pytest.raises(BadFile) as bad:
        parsed(text)
    assert str(bad.value) == bad.value.reason
    return bad.value.reason


class TestHeader:
    def test_a_file_is_read_row_by_row(self) -> None:
        text = file(GOOD, "503-555-0102,billing,opted_in,2026-11-21T09:00:00-08:00,portal")
        second = row(
            3,
            phone_number="+15035550102",
            line="billing",
            status="opted_in",
            said_at=datetime(2026, 11, 21, 17, tzinfo=UTC),
            source="portal",
        )
        assert parsed(text) == ([row(), second], [])

    @pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
    def test_its_columns_come_in_any_order(self, order: tuple[int, ...]) -> None:
        header, cells = HEADER.split(","), GOOD.split(",")
        text = file(",".join(cells[n] for n in order), header=",".join(header[n] for n in order))
        assert parsed(text) == ([row()], [])

    @pytest.mark.parametrize(
        "header",
        [
            "NUMBER,LINE,STATUS,SAID_AT,SOURCE",
            "Number, Line , Status,\tSaid_At, Source",
            '"number","line","status","said_at","source"',
            "\ufeffnumber,line,status,said_at,source",
            '\ufeff"number",line,status,said_at,source',
        ],
        ids=["capitals", "blanks", "quotes", "byte order mark", "byte order mark before a quote"],
    )
    def test_they_are_named_in_any_case_among_blanks_and_in_quotes(self, header: str) -> None:
        assert parsed(file(GOOD, header=header)) == ([row()], [])

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
    @pytest.mark.parametrize("last", [True, False], ids=["ended", "not ended"])
    def test_lines_end_as_they_do_on_any_machine(self, end: str, last: bool) -> None:
        text = end.join([HEADER, GOOD, GOOD]) + end * last
        assert parsed(text) == ([row(2), row(3)], [])

    def test_a_file_may_have_no_rows(self) -> None:
        assert parsed(HEADER) == parsed(file()) == ([], [])

    @pytest.mark.parametrize(
        "header",
        [
            GOOD,
            "number,line,status,said_at",
            "number,line,status,said_at,source,note",
            "number,line,status,said_at,source,",
            "number,number,line,status,said_at,source",
            "number,line,status,said_at,said_at",
            "number,line,status,saidat,source",
            "phone,line,status,said_at,source",
            "number;line;status;said_at;source",
            "number\tline\tstatus\tsaid_at\tsource",
            "n\x00umber,line,status,said_at,source",
            "\ufeff\ufeffnumber,line,status,said_at,source",
            "'number','line','status','said_at','source'",
            "<!doctype html>",
            "{}",
        ],
    )
    def test_a_file_without_these_columns_is_refused_and_says_which_they_are(self, header: str) -> None:
        assert bad_file(file(GOOD, header=header)) == BAD_HEADER
        assert bad_file(header) == BAD_HEADER

    @pytest.mark.parametrize("text", ["", "\n", "\ufeff", " \r\n \n"])
    def test_a_file_with_nothing_in_it_is_said_to_be_empty(self, text: str) -> None:
        assert bad_file(text) == "the file is empty"

    def test_a_file_without_line_ends_is_said_to_have_lost_them(self) -> None:
        assert bad_file(HEADER + GOOD).startswith("the file is one line: its line ends were lost on the way")

    def test_a_blank_line_is_no_header(self) -> None:
        assert bad_file("\n" + file(GOOD)) == BAD_HEADER


class TestLines:
    def test_blank_lines_and_rows_of_nothing_are_skipped_and_counted_as_lines(self) -> None:
        text = file("", GOOD, "   ", ",,,,", " , ,\t, ,", GOOD, "", "")
        assert parsed(text) == ([row(3), row(7)], [])

    def test_a_row_is_where_it_begins_also_after_cells_of_several_lines(self) -> None:
        of_two_lines = line(source="old\nsystem")
        of_three_lines = line(number="ask\nher\nson")
        rows, refused = parsed(file(GOOD, of_two_lines, GOOD, of_three_lines, "", GOOD, "junk,main"))
        assert [each.csv_line for each in rows] == [2, 5, 10]
        assert refused == [
            Refusal(3, "source", "at most 200 printable characters"),
            Refusal(6, "number", NOT_A_NUMBER),
            Refusal(11, None, "a row has 5 cells"),
        ]

    def test_a_header_of_several_lines_counts_too(self) -> None:
        rows, _ = parsed(file(GOOD, header='number,line,status,said_at,"\nsource"'))
        assert [each.csv_line for each in rows] == [3]

    def test_what_ends_no_line_in_csv_ends_none_here(self) -> None:
        rows, refused = parsed(file(line(source="a\u2028b"), line(source="a\x0bb"), line(source="a\x85b"), GOOD))
        assert [each.csv_line for each in rows] == [5]
        assert [each.csv_line for each in refused] == [2, 3, 4]

    @pytest.mark.parametrize(
        "cells", [GOOD.rpartition(",")[0], f"{GOOD},", f"{GOOD},more", CELL, "junk", '""', GOOD.replace(",", ";")]
    )
    def test_a_row_with_more_or_fewer_cells_is_refused_and_the_others_are_kept(self, cells: str) -> None:
        rows, refused = parsed(file(GOOD, cells, GOOD))
        assert rows == [row(2), row(4)]
        assert refused == ([] if cells == '""' else [Refusal(3, None, "a row has 5 cells")])

    @pytest.mark.parametrize(
        ("text", "at"),
        [
            (file(GOOD, f'{CELL},main,"opted_out,2026-11-20T17:02:11Z,old'), 3),
            (file(f'"{CELL},main', GOOD, GOOD), 4),
            (file(GOOD, f'"{CELL}"x,main,opted_out,2026-11-20T17:02:11Z,old', GOOD), 3),
            ('"number,line', 1),
            (file(GOOD, GOOD, header='"number,line,status,said_at,source'), 3),
        ],
        ids=["in the last line", "in the first row", "closed too early", "in a header", "in a header with rows"],
    )
    def test_a_quote_that_is_left_open_is_named_by_its_line(self, text: str, at: int) -> None:
        assert bad_file(text) == f"line {at} is not CSV: a quote is not closed or not doubled, or a cell is too long"

    @pytest.mark.parametrize("length", [131_073, 1_000_000])
    def test_a_huge_cell_is_named_by_its_line(self, length: int) -> None:
        text = file(GOOD, line(source="x" * length))
        assert bad_file(text) == "line 3 is not CSV: a quote is not closed or not doubled, or a cell is too long"

    @pytest.mark.parametrize("column", range(5))
    def test_a_large_cell_is_refused_and_the_other_rows_are_kept(self, column: int) -> None:
        cells = GOOD.split(",")
        cells[column] += "x" * 100_000
        rows, refused = parsed(file(GOOD, ",".join(cells), GOOD))
        assert rows == [row(2), row(4)]
        assert [(each.csv_line, each.column) for each in refused] == [(3, HEADER.split(",")[column])]

    def test_5_000_rows_are_read(self) -> None:
        rows, refused = parsed(file(*[GOOD, "junk"] * 2_500))
        assert MAX_ROWS == 5_000
        assert (len(rows), len(refused)) == (2_500, 2_500)

    def test_blank_ones_are_not_counted(self) -> None:
        rows, _ = parsed(file(*[GOOD, ""] * 5_000))
        assert len(rows) == 5_000

    @pytest.mark.parametrize("last", [GOOD, "junk"])
    def test_5_001_rows_are_refused(self, last: str) -> None:
        assert bad_file(file(*[GOOD] * 5_000, last)) == "a file has at most 5000 rows beside its header"


class TestNumber:
    @pytest.mark.parametrize(
        "number",
        [
            "503-555-0101",
            "(503) 555-0101",
            " 503.555.0101 ",
            "1 503 555 0101",
            "5035550101",
            "+1 503 555 0101",
            f"'{CELL}",
        ],
    )
    def test_it_is_read_as_dialled_in_the_country(self, number: str) -> None:
        assert parsed(file(line(number, source="old system"))) == ([row()], [])

    def test_another_country_dials_otherwise(self) -> None:
        rows, _ = parsed(file(line("020 7946 0958")), country="GB")
        assert [each.phone_number for each in rows] == ["+442079460958"]

    @pytest.mark.parametrize(
        "number",
        [
            "",
            " ",
            "'",
            "555 CALL ME",
            "503-555-010",
            "020 7946 0958",
            "911",
            "n/a",
            "=1+1",
            '=HYPERLINK("https://example.org")',
            "=cmd|' /C calc'!A0",
            "@SUM(A1:A9)",
            "-2",
            "5.04E+10",
            "1" * 200,
            "\x00",
            "5035550\x000101x",
            "\ud800",
        ],
    )
    def test_what_is_no_number_is_refused(self, number: str) -> None:
        assert refusal(line(number)) == Refusal(2, "number", NOT_A_NUMBER)


class TestLineAndStatus:
    @pytest.mark.parametrize("of", ["main", "billing", " main ", "'main"])
    def test_a_line_is_one_of_the_practices(self, of: str) -> None:
        rows, _ = parsed(file(line(of=of)))
        assert [each.line for each in rows] == [of.strip().removeprefix("'")]

    @pytest.mark.parametrize("of", ["", "Main", "MAIN", "other", "main,billing", "+15035559000", "=main", "ma\x00in"])
    def test_any_other_line_is_refused(self, of: str) -> None:
        assert refusal(line(of=of)) == Refusal(2, "line", "the practice has no such line")

    @pytest.mark.parametrize("status", ["opted_out", "OPTED_OUT", "Opted_Out", " opted_out", "'opted_out"])
    def test_a_status_is_read_in_any_case(self, status: str) -> None:
        rows, _ = parsed(file(line(status=status)))
        assert [each.status for each in rows] == ["opted_out"]

    def test_an_opt_in_is_read_too(self) -> None:
        rows, _ = parsed(file(line(status="Opted_In")))
        assert [each.status for each in rows] == ["opted_in"]

    @pytest.mark.parametrize(
        "status", ["", "out", "opted out", "optedout", "opted_outt", "under_review", "STOP", "true", "=opted_out"]
    )
    def test_any_other_status_is_refused(self, status: str) -> None:
        assert refusal(line(status=status)) == Refusal(2, "status", "is opted_out or opted_in")


class TestSaidAt:
    @pytest.mark.parametrize(
        ("at", "said_at"),
        [
            ("2026-11-20T17:02:11Z", SAID),
            ("2026-11-20T17:02:11+00:00", SAID),
            ("2026-11-20T09:02:11-08:00", SAID),
            ("2026-11-21T02:02:11+09:00", SAID),
            ("2026-11-20 17:02:11Z", SAID),
            ("2026-11-20T17:02:11.000000Z", SAID),
            (" 2026-11-20T17:02:11Z ", SAID),
            ("'2026-11-20T17:02:11Z", SAID),
            ("20261120T170211Z", SAID),
            ("2026-11-20T17:02:11.123456Z", SAID + timedelta(microseconds=123_456)),
            ("2026-11-20T17:02Z", SAID - timedelta(seconds=11)),
            ("1971-01-01T00:00:00Z", datetime(1971, 1, 1, tzinfo=UTC)),
            ("2026-11-24T18:00:00Z", NOW),
            ("2026-11-24T10:00:00-08:00", NOW),
        ],
    )
    def test_it_is_a_moment_up_to_now_and_read_in_utc(self, at: str, said_at: datetime) -> None:
        rows, refused = parsed(file(line(at=at)))
        assert refused == []
        assert [each.said_at for each in rows] == [said_at]
        assert rows[0].said_at.tzinfo is UTC

    @pytest.mark.parametrize(
        "at",
        [
            "",
            "yesterday",
            "2026-11-20",
            "2026-11-20T17:02:11",
            "2026-11-20 17:02",
            "11/20/2026 5:02 PM",
            "20.11.2026",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-11-20T25:00:00Z",
            "2026-11-20T17:02:11 PST",
            "1763658131",
            "46346.7",
            "0001-01-01T00:00:00+14:00",
            "1970-12-31T23:59:59Z",
            "9999-12-31T23:59:59-14:00",
            "=NOW()",
            "\x00",
        ],
    )
    def test_what_is_no_moment_of_our_days_is_refused(self, at: str) -> None:
        assert refusal(line(at=at)) == Refusal(2, "said_at", NOT_A_TIME)

    @pytest.mark.parametrize(
        "at",
        ["2026-11-24T18:00:00.000001Z", "2026-11-24T10:00:01-08:00", "2026-11-25T00:00:00Z", "9998-01-01T00:00:00Z"],
    )
    def test_the_future_is_refused(self, at: str) -> None:
        assert refusal(line(at=at)) == Refusal(2, "said_at", "lies in the future")


class TestSource:
    @pytest.mark.parametrize(
        "source", ["", "keyword", "KEYWORD", "é ☎ 短信", "x" * 200, '"quoted"', "a,b", "1+1", "it's"]
    )
    def test_it_is_kept_as_it_came(self, source: str) -> None:
        rows, _ = parsed(file(line(source=source)))
        assert [each.source for each in rows] == [source]

    @pytest.mark.parametrize(("source", "kept"), [(" old ", "old"), ("'=1+1", "=1+1"), ("=1+1", "=1+1"), ("'", "")])
    def test_blanks_around_it_and_the_apostrophe_before_it_are_not(self, source: str, kept: str) -> None:
        rows, _ = parsed(file(line(source=source)))
        assert [each.source for each in rows] == [kept]

    @pytest.mark.parametrize(
        "source", ["x" * 201, "a\nb", "a\rb", "a\tb", "a\x00b", "a\x1bb", "a\u2028b", "a\u202eb", "a\u200bb", "\ud800"]
    )
    def test_one_that_is_too_long_or_cannot_be_printed_is_refused(self, source: str) -> None:
        assert refusal(line(source=source)) == Refusal(2, "source", "at most 200 printable characters")


class TestRefusals:
    def test_each_bad_row_is_named_and_every_good_one_kept(self) -> None:
        text = file(
            GOOD,
            line("junk"),
            line(of="other"),
            GOOD,
            line(status="out"),
            line(at="soon"),
            line(at="2027-01-01T00:00:00Z"),
            line(source="x" * 201),
            "too,few",
            GOOD,
        )
        assert parsed(text) == (
            [row(2), row(5), row(11)],
            [
                Refusal(3, "number", NOT_A_NUMBER),
                Refusal(4, "line", "the practice has no such line"),
                Refusal(6, "status", "is opted_out or opted_in"),
                Refusal(7, "said_at", NOT_A_TIME),
                Refusal(8, "said_at", "lies in the future"),
                Refusal(9, "source", "at most 200 printable characters"),
                Refusal(10, None, "a row has 5 cells"),
            ],
        )

    def test_a_row_that_is_wrong_in_every_way_is_named_by_its_first_column(self) -> None:
        text = file("soon,x,junk,other,out", header="said_at,source,number,line,status")
        assert parsed(text) == ([], [Refusal(2, "number", NOT_A_NUMBER)])

    def test_no_value_is_ever_repeated(self) -> None:
        secret = "Pat 555-0101"
        text = file(
            f"{secret},main,opted_out,{SAID.isoformat()},",
            line(of=secret),
            line(status=secret),
            line(at=secret),
            line(source=f"{secret}\n{secret}"),
            f"{secret},{secret}",
        )
        _, refused = parsed(text)
        assert len(refused) == 6
        assert "Pat" not in str(refused)
        assert "Pat" not in bad_file(secret)
        assert "Pat" not in bad_file(file(f'"{secret}'))

    @unhurried
    @given(st.text(max_size=200), st.sampled_from(["", HEADER + "\n", HEADER + "\n" + GOOD + "\n"]))
    def test_any_file_is_read_or_refused(self, text: str, before: str) -> None:
        try:
            rows, refused = parsed(before + text)
        except BadFile:
            return
        assert all(at >= 2 for at in places(rows, refused))

    @unhurried
    @given(
        st.lists(
            st.sampled_from([GOOD, "junk", "", ",,,,", line(source="a\nb"), line(number="a\r\nb"), line(at="\n\n\n")])
        )
    )
    def test_every_row_that_is_not_blank_is_read_or_refused_and_named_by_the_line_on_which_it_begins(
        self, given_rows: list[str]
    ) -> None:
        rows, refused = parsed(file(*given_rows))
        begins = list(itertools.accumulate((len(each.splitlines()) or 1 for each in given_rows), initial=2))
        expected = [at for at, each in zip(begins, given_rows, strict=False) if each not in ("", ",,,,")]
        assert places(rows, refused) == expected
        assert [each.csv_line for each in rows] == [
            at for at, each in zip(begins, given_rows, strict=False) if each == GOOD
        ]


FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
cells = st.text(max_size=12) | st.builds(
    "{}{}".format, st.sampled_from([*FORMULAS, "'", '"', "\n"]), st.text(max_size=8)
)


def reread(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


class TestWritten:
    def test_a_header_and_rows_are_lines_as_rfc_4180_ends_them(self) -> None:
        rows: list[list[object]] = [["2026-11-20T17:02:11Z", "main", None, 7], ["a,b", 'say "hi"', "two\nlines", ""]]
        assert written(["when", "line", "actor", "count"], rows) == (
            'when,line,actor,count\r\n2026-11-20T17:02:11Z,main,,7\r\n"a,b","say ""hi""","two\nlines",\r\n'
        )

    def test_no_rows_are_a_header_alone(self) -> None:
        assert written(["phone_number", "line"], []) == "phone_number,line\r\n"

    @pytest.mark.parametrize(
        "cell",
        [
            CELL,
            "=1+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "=cmd|' /C calc'!A0",
            '=HYPERLINK("https://example.org?x="&A1,"click")',
            '"=1+1',
            "a,=1+1",
            'x",=1+1,"',
            "x\n=1+1",
        ],
    )
    def test_no_cell_starts_a_formula_even_one_that_ends_its_quotes(self, cell: str) -> None:
        (_, (read_back, beside)) = reread(written(["a", "b"], [[cell, "beside"]]))
        assert beside == "beside"
        assert read_back == (f"'{cell}" if cell.startswith(FORMULAS) else cell)
        assert not read_back.startswith(FORMULAS)

    @unhurried
    @given(st.lists(st.lists(cells, min_size=3, max_size=3), max_size=4))
    def test_what_is_written_reads_back_with_an_apostrophe_before_what_would_be_a_formula(
        self, rows: list[list[str]]
    ) -> None:
        header, *read_back = reread(written(["a", "b", "c"], rows))
        assert header == ["a", "b", "c"]
        assert read_back == [[f"'{cell}" if cell.startswith(FORMULAS) else cell for cell in row] for row in rows]

    @unhurried
    @given(st.lists(st.lists(cells, min_size=1, max_size=4), min_size=1))
    def test_no_cell_of_any_text_begins_a_formula(self, rows: list[list[str]]) -> None:
        for row in reread(written(["a"], rows)):
            assert not any(cell.startswith(FORMULAS) for cell in row)

    def test_what_we_write_can_be_imported(self) -> None:
        text = written(HEADER.split(","), [[CELL, "main", "opted_out", "2026-11-20T17:02:11Z", "=old"]])
        assert parsed(text) == ([row(source="=old")], [])
