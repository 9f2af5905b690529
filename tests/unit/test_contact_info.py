"""Contact info, junk included, made into what is on file."""

import phonenumbers
import pytest

from patient_contact.contact_info import e164, emails_on_file, is_country, phones_on_file
from patient_contact.facts import Email, LineType, Phone, Status, is_number

MOBILE = "+15035550101"


@pytest.mark.parametrize(
    ("written", "country", "number"),
    [
        ("503-555-0101", "US", MOBILE),
        ("(503) 555-0101", "US", MOBILE),
        ("  503.555.0101 ", "US", MOBILE),
        ("1 503 555 0101", "US", MOBILE),
        (MOBILE, "US", MOBILE),
        (MOBILE, "GB", MOBILE),
        ("020 7946 0958", "GB", "+442079460958"),
        ("020 7946 0958", "US", None),
        ("+44 20 7946 0958", "US", "+442079460958"),
        ("555 CALL ME", "US", None),
        ("503-555-010", "US", None),
        ("+1503555010", "US", None),
        ("911", "US", None),
        ("pat@example.org", "US", None),
        ("", "US", None),
    ],
)
def test_a_number_is_read_as_dialled_in_its_country(written: str, country: str, number: str | None) -> None:
    assert e164(written, country) == number


@pytest.mark.parametrize(("code", "known"), [("US", True), ("GB", True), ("ZZ", False), ("us", False), ("", False)])
def test_a_country_is_one_whose_numbers_can_be_read(code: str, known: bool) -> None:
    assert is_country(code) is known


def test_a_number_that_came_alone_is_of_unknown_line_type_and_valid() -> None:
    assert phones_on_file([("503-555-0101", None, None)], "US") == (Phone(MOBILE, "unknown", "valid"),)


def test_junk_is_kept_as_it_came_and_invalid() -> None:
    given: list[tuple[str, LineType | None, Status | None]] = [
        ("555 CALL ME", None, None),
        ("none", "landline", "valid"),
    ]

    assert phones_on_file(given, "US") == (
        Phone("555 CALL ME", "unknown", "invalid"),
        Phone("none", "landline", "invalid"),
    )


def test_junk_that_differs_is_not_merged_and_junk_that_does_not_is() -> None:
    given: list[tuple[str, LineType | None, Status | None]] = [
        ("n/a", None, None),
        ("N/A", None, None),
        ("n/a", None, None),
    ]

    assert [phone.number for phone in phones_on_file(given, "US")] == ["n/a", "N/A"]


def test_a_number_that_registration_knows_to_be_invalid_stays_so() -> None:
    assert phones_on_file([(MOBILE, "text_enabled", "invalid")], "US") == (Phone(MOBILE, "text_enabled", "invalid"),)


def test_numbers_written_differently_are_one_at_the_first_position() -> None:
    given: list[tuple[str, LineType | None, Status | None]] = [
        ("503-555-0101", None, None),
        ("503-555-0102", "landline", None),
        ("(503) 555-0101", "text_enabled", None),
    ]

    assert phones_on_file(given, "US") == (Phone(MOBILE, "text_enabled"), Phone("+15035550102", "landline"))


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, "landline", "landline"),
        ("landline", None, "landline"),
        ("unknown", "text_enabled", "text_enabled"),
        ("text_enabled", "unknown", "text_enabled"),
        ("text_enabled", "landline", "landline"),
        ("landline", "text_enabled", "text_enabled"),
        (None, None, "unknown"),
    ],
)
def test_a_given_line_type_beats_unknown_and_a_later_one_an_earlier(
    first: LineType | None, second: LineType | None, merged: LineType
) -> None:
    assert phones_on_file([(MOBILE, first, None), (MOBILE, second, None)], "US") == (Phone(MOBILE, merged),)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("invalid", None, "invalid"),
        (None, "invalid", "invalid"),
        ("invalid", "valid", "valid"),
        ("valid", "invalid", "invalid"),
        (None, None, "valid"),
    ],
)
def test_a_given_status_beats_none_and_a_later_one_an_earlier(
    first: Status | None, second: Status | None, merged: Status
) -> None:
    assert phones_on_file([(MOBILE, None, first), (MOBILE, None, second)], "US") == (Phone(MOBILE, "unknown", merged),)
    assert emails_on_file([("pat@example.org", first), ("pat@example.org", second)]) == (
        Email("pat@example.org", merged),
    )


def test_addresses_that_differ_in_the_case_of_their_domain_are_one_at_the_first_position() -> None:
    given: list[tuple[str, Status | None]] = [
        ("pat@Example.ORG", None),
        ("kim@example.org", None),
        ("pat@example.org", "invalid"),
    ]

    assert emails_on_file(given) == (Email("pat@example.org", "invalid"), Email("kim@example.org"))


def test_addresses_that_differ_in_the_case_of_their_name_are_two() -> None:
    assert emails_on_file([("Pat@example.org", None), ("pat@example.org", None)]) == (
        Email("Pat@example.org"),
        Email("pat@example.org"),
    )


@pytest.mark.parametrize(
    "junk",
    ["none", "pat@", "@example.org", "pat@localhost", "Pat <pat@example.org>", "pat@example.org, kim@example.org"],
)
def test_an_address_that_is_none_is_kept_as_it_came_and_invalid(junk: str) -> None:
    assert emails_on_file([(junk, "valid"), (junk, None)]) == (Email(junk, "invalid"),)


def test_nothing_given_is_nothing_on_file() -> None:
    assert phones_on_file([], "US") == ()
    assert emails_on_file([]) == ()


def test_blanks_around_an_address_do_not_cost_the_patient_their_email() -> None:
    assert emails_on_file([(" pat@example.org ", None)]) == (Email("pat@example.org"),)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_what_is_normalised_is_known_as_a_number_again_in_every_country(region: str) -> None:
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    example = example or phonenumbers.example_number(region)
    assert example is not None
    number = e164(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164), "US")
    assert number is not None
    assert is_number(number)


@pytest.mark.parametrize("junk", ["555 CALL ME", "ask her son", "+1 503 555 0101", "+", "", "15035550101", "+٥٠٣"])
def test_what_came_in_place_of_a_number_is_known_as_none(junk: str) -> None:
    assert not is_number(junk)
