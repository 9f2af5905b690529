"""The truth tables that the engine computes are those that the rules give."""

from patient_contact.facts import Policy
from patient_contact.truth_table import Row, as_csv, markdown, truth_table
from tests.unit import cases

DEFAULT = cases.read("truth_table_default")
DEPARTURES = cases.read("truth_table_with_departures")

Cells = dict[tuple[str, str, str], str]


def _typed(columns: list[str], rows: list[dict[str, str]]) -> Cells:
    return {
        (row["patient"], row["consent"], channels): cell
        for row in rows
        for channels, cell in zip(columns, row["cells"], strict=True)
        if cell
    }


def _computed(rows: tuple[Row, ...]) -> Cells:
    return {(row.patient, row.consent, cell.channels): cell.channel or "·" for row in rows for cell in row.cells}


def test_the_default_table_is_the_one_of_the_rules() -> None:
    assert _computed(truth_table(Policy(**DEFAULT["policy"]))) == _typed(DEFAULT["channels"], DEFAULT["rows"])


def test_the_default_table_lists_its_shapes_and_channels_in_the_order_of_the_rules() -> None:
    rows = truth_table(Policy())

    assert [(row.patient, row.consent) for row in rows] == [(row["patient"], row["consent"]) for row in DEFAULT["rows"]]
    assert [[cell.channels for cell in row.cells] for row in rows] == [DEFAULT["channels"]] * len(rows)


def test_with_two_departures_on_exactly_the_cells_of_the_rules_change() -> None:
    default, departed = _computed(truth_table(Policy())), _computed(truth_table(Policy(**DEPARTURES["policy"])))

    changed = {cell: channel for cell, channel in departed.items() if default[cell] != channel}
    assert changed == _typed(DEPARTURES["channels"], DEPARTURES["changed"])


def test_sixteen_cells_change() -> None:
    assert len(_typed(DEPARTURES["channels"], DEPARTURES["changed"])) == 16


def test_a_cell_says_why() -> None:
    rows = {(row.patient, row.consent): row for row in truth_table(Policy())}

    assert {cell.channels: cell.reason for cell in rows["a text-enabled phone and an email address", "out"].cells} == {
        "T": "SMS_OPTED_OUT",
        "C": "SMS_OPTED_OUT",
        "E": "PHONE_ON_FILE",
        "T C": "SMS_OPTED_OUT",
        "T E": "SMS_OPTED_OUT",
        "C E": "SMS_OPTED_OUT",
        "T C E": "SMS_OPTED_OUT",
    }
    assert {cell.channels: cell.reason for cell in rows["an email address only", "–"].cells} == {
        "T": "NO_VALID_PHONE",
        "C": "NO_VALID_PHONE",
        "E": "NO_VALID_PHONE",
        "T C": "NO_VALID_PHONE",
        "T E": "NO_VALID_PHONE",
        "C E": "NO_VALID_PHONE",
        "T C E": "NO_VALID_PHONE",
    }


def test_a_row_that_consent_changes_under_a_policy_is_given_twice() -> None:
    rows = truth_table(Policy(opt_out_blocks_calls=True))

    landline = [(row.consent, [cell.channel for cell in row.cells]) for row in rows if row.patient == "a landline only"]
    assert landline == [
        ("in", [None, "call", None, "call", None, "call", "call"]),
        ("out", [None, None, None, None, None, None, None]),
    ]


def test_the_table_reads_as_markdown() -> None:
    assert markdown(truth_table(Policy())) == (
        "| Patient has | Consent | T | C | E | T C | T E | C E | T C E |\n"
        "|---|---|---|---|---|---|---|---|---|\n"
        "| a text-enabled phone only | in | text | · | · | text | text | · | text |\n"
        "|  | out | · | call | · | call | · | call | call |\n"
        "| a text-enabled phone and an email address | in | text | · | · | text | text | · | text |\n"
        "|  | out | · | call | · | call | · | call | call |\n"
        "| a text-enabled phone, a landline and an email address | in | text | · | · | text | text | · | text |\n"
        "|  | out | · | call | · | call | · | call | call |\n"
        "| the same, landline preferred | any | · | call | · | call | · | call | call |\n"
        "| a landline only | – | · | call | · | call | · | call | call |\n"
        "| a landline and an email address | – | · | call | · | call | · | call | call |\n"
        "| an email address only | – | · | · | email | · | email | email | email |\n"
    )


def test_the_table_reads_as_csv_with_every_row_named() -> None:
    assert as_csv(truth_table(Policy())).splitlines() == [
        "patient,consent,T,C,E,T C,T E,C E,T C E",
        "a text-enabled phone only,in,text,,,text,text,,text",
        "a text-enabled phone only,out,,call,,call,,call,call",
        "a text-enabled phone and an email address,in,text,,,text,text,,text",
        "a text-enabled phone and an email address,out,,call,,call,,call,call",
        '"a text-enabled phone, a landline and an email address",in,text,,,text,text,,text',
        '"a text-enabled phone, a landline and an email address",out,,call,,call,,call,call',
        '"the same, landline preferred",any,,call,,call,,call,call',
        "a landline only,–,,call,,call,,call,call",
        "a landline and an email address,–,,call,,call,,call,call",
        "an email address only,–,,,email,,email,email,email",
    ]
