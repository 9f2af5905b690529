"""What a practice is told of what it has set."""

import pytest

from patient_contact.advice import Advice, of_channels, of_practice
from patient_contact.facesheet import Line, Practice
from patient_contact.facts import CHANNELS, Channel, Policy

MOBILES = "Patients whose number is text-enabled get nothing from it"
OPTED_OUT = "Patients who opted their text-enabled number out of texts get nothing from it"
LANDLINES = "Patients whose number is a landline get nothing from it"
UNKNOWN = "Patients whose number's line type is unknown get nothing from it"
NO_PHONE = "Patients who have an email address and no valid phone get nothing from it"
CALLS_OPTED_OUT = Advice(
    "OPT_OUT_BLOCKS_CALLS_OFF",
    "opt_out_blocks_calls is off: numbers that opted out of texts are still called by automations, broadcasts "
    "and campaigns. US rules treat STOP as revoking robocalls as well as robotexts.",
)

# A policy that nobody is warned of.
BLOCKS = Policy(opt_out_blocks_calls=True)
MAIN = Line("main", "Main", "+15035559000")
BILLING = Line("billing", "Billing", "+15035559001")
EMAILS = Line("emails", "Emails", "+15035559002", email_sender="clinic@example.org")


@pytest.mark.parametrize(
    ("channels", "policy", "warnings"),
    [
        (
            {"text"},
            Policy(),
            [
                Advice("SMS_OPTED_OUT", f"{OPTED_OUT} (SMS_OPTED_OUT)."),
                Advice("LANDLINE", f"{LANDLINES} (LANDLINE)."),
                Advice("LINE_TYPE_UNKNOWN", f"{UNKNOWN} (LINE_TYPE_UNKNOWN)."),
                Advice("NO_VALID_PHONE", f"{NO_PHONE} (NO_VALID_PHONE)."),
            ],
        ),
        (
            {"call"},
            Policy(),
            [
                Advice("TEXT_ENABLED", f"{MOBILES} (TEXT_ENABLED)."),
                Advice("NO_VALID_PHONE", f"{NO_PHONE} (NO_VALID_PHONE)."),
            ],
        ),
        (
            {"email"},
            Policy(),
            [
                Advice("TEXT_ENABLED", f"{MOBILES} (PHONE_ON_FILE)."),
                Advice("SMS_OPTED_OUT", f"{OPTED_OUT} (PHONE_ON_FILE)."),
                Advice("LANDLINE", f"{LANDLINES} (PHONE_ON_FILE)."),
                Advice("LINE_TYPE_UNKNOWN", f"{UNKNOWN} (PHONE_ON_FILE)."),
            ],
        ),
        ({"text", "call"}, Policy(), [Advice("NO_VALID_PHONE", f"{NO_PHONE} (NO_VALID_PHONE).")]),
        (
            {"text", "email"},
            Policy(),
            [
                Advice("SMS_OPTED_OUT", f"{OPTED_OUT} (SMS_OPTED_OUT)."),
                Advice("LANDLINE", f"{LANDLINES} (LANDLINE)."),
                Advice("LINE_TYPE_UNKNOWN", f"{UNKNOWN} (LINE_TYPE_UNKNOWN)."),
            ],
        ),
        ({"call", "email"}, Policy(), [Advice("TEXT_ENABLED", f"{MOBILES} (TEXT_ENABLED).")]),
        (set(CHANNELS), Policy(), []),
        (
            {"call"},
            Policy(call_when_text_not_included=True),
            [Advice("NO_VALID_PHONE", f"{NO_PHONE} (NO_VALID_PHONE).")],
        ),
        ({"email"}, Policy(email_when_no_phone_channel=True), []),
        (
            set(CHANNELS),
            Policy(opt_out_blocks_calls=True),
            [Advice("SMS_OPTED_OUT", f"{OPTED_OUT} (SMS_OPTED_OUT).")],
        ),
    ],
)
def test_an_automation_is_warned_of_everyone_whom_its_channels_never_reach(
    channels: set[Channel], policy: Policy, warnings: list[Advice]
) -> None:
    assert of_channels(frozenset(channels), policy) == tuple(warnings)


def _practice(
    country: str = "US", policy: Policy = BLOCKS, lines: tuple[Line, ...] = (MAIN,), **sends: bool
) -> Practice:
    sending = sends.get("sending", False)
    return Practice("north", "North Clinic", "America/Los_Angeles", country, policy, lines, "main", sending, 1)


def test_a_practice_in_the_us_that_calls_opted_out_numbers_is_warned() -> None:
    assert of_practice(_practice("US", Policy())) == (CALLS_OPTED_OUT,)


@pytest.mark.parametrize(("country", "policy"), [("US", BLOCKS), ("GB", Policy()), ("CA", Policy())])
def test_no_other_practice_is_warned(country: str, policy: Policy) -> None:
    assert of_practice(_practice(country, policy)) == ()


@pytest.mark.parametrize(
    ("lines", "named"),
    [((MAIN,), "main"), ((MAIN, BILLING), "main, billing"), ((BILLING, EMAILS), "billing"), ((EMAILS, MAIN), "main")],
)
def test_a_practice_that_sends_is_warned_of_each_line_without_an_address_to_email_from(
    lines: tuple[Line, ...], named: str
) -> None:
    assert of_practice(_practice(lines=lines, sending=True)) == (
        Advice(
            "NO_EMAIL_SENDER",
            f"sending is on, and emails on {named} fail: set the line's email_sender to an address that SES may send "
            "from.",
        ),
    )


def test_one_whose_lines_all_have_one_is_not_warned() -> None:
    assert of_practice(_practice(lines=(EMAILS,), sending=True)) == ()


def test_one_that_does_not_send_needs_none() -> None:
    assert of_practice(_practice(sending=False)) == ()


def test_a_practice_is_warned_of_both() -> None:
    warnings = of_practice(_practice("US", Policy(), sending=True))

    assert [warned.code for warned in warnings] == ["OPT_OUT_BLOCKS_CALLS_OFF", "NO_EMAIL_SENDER"]
