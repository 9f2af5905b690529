"""What goes into the table comes out of it, and keys say whose they are."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact import table

scalars = st.none() | st.booleans() | st.integers(-(10**37), 10**37) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
ids = st.from_regex(r"[A-Za-z0-9._~-]{1,128}", fullmatch=True)


@settings(max_examples=500, deadline=None, database=None)
@given(values)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert table.decode(table.encode(value)) == value


@pytest.mark.parametrize("value", [True, False, 0, 1, None, ""])
def test_a_value_comes_back_of_the_same_type(value: object) -> None:
    assert type(table.decode(table.encode(value))) is type(value)


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        ("a", {"S": "a"}),
        (True, {"BOOL": True}),
        (7, {"N": "7"}),
        (None, {"NULL": True}),
        (("a", 1), {"L": [{"S": "a"}, {"N": "1"}]}),
        ({"a": [False]}, {"M": {"a": {"L": [{"BOOL": False}]}}}),
    ],
)
def test_a_value_is_written_as_dynamodb_has_it(value: object, attribute: dict[str, Any]) -> None:
    assert table.encode(value) == attribute


def test_an_item_comes_back_as_it_was() -> None:
    item = {"PK": "PRACTICE#north", "version": 1, "lines": [{"id": "main"}], "note": None}

    assert table.decode_item(table.encode_item(item)) == item


@pytest.mark.parametrize("value", [1.5, b"bytes", {"a"}, object()])
def test_a_value_that_would_not_come_back_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        table.encode([value])


def test_an_attribute_of_a_type_that_is_never_written_is_refused() -> None:
    with pytest.raises(TypeError, match="SS"):
        table.decode({"SS": ["a"]})


@settings(deadline=None, database=None)
@given(ids, ids)
def test_a_key_gives_back_whose_it_is(practice_id: str, other_id: str) -> None:
    assert table.ids_of(table.practice_pk(practice_id)) == [practice_id]
    assert table.ids_of(table.patient_pk(practice_id, other_id)) == [practice_id, other_id]
    assert table.ids_of(table.number_pk(practice_id, "+15035550101")) == [practice_id, "+15035550101"]


@pytest.mark.parametrize(
    ("key", "written"),
    [
        (table.practice_pk("north"), "PRACTICE#north"),
        (table.patient_pk("north", "p-1001"), "PRACTICE#north#PATIENT#p-1001"),
        (table.number_pk("north", "+15035550101"), "PRACTICE#north#NUMBER#+15035550101"),
        (table.line_key("+15035559000"), ("LINE#+15035559000", "LINE")),
    ],
)
def test_a_key_is_written_as_the_functions_are_allowed_to_read_it(key: object, written: object) -> None:
    assert key == written
