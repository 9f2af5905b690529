"""What a practice is told of what it has set."""

import pytest

from patient_contact.advice import Advice, of_channels, of_practice
from patient_contact.facts import CHANNELS, Channel, Policy

MOBILES = "Patients whose number is text-enabled get nothing from it"
OPTED_OUT = "Patients who opted their text-enabled number out of texts get nothing from it"
LANDLINES = "Patients whose number is a landline get nothing from it"
UNKNOWN = "Patients whose number's line type is unknown get nothing from it"
NO_PHONE = "Patients who have an email address and no valid phone get nothing from it"


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


def test_a_practice_in_the_us_that_calls_opted_out_numbers_is_warned() -> None:
    assert of_practice("US", Policy()) == (
        Advice(
            "OPT_OUT_BLOCKS_CALLS_OFF",
            "opt_out_blocks_calls is off: numbers that opted out of texts are still called by automations, broadcasts "
            "and campaigns. US rules treat STOP as revoking robocalls as well as robotexts.",
        ),
    )


@pytest.mark.parametrize(
    ("country", "policy"), [("US", Policy(opt_out_blocks_calls=True)), ("GB", Policy()), ("CA", Policy())]
)
def test_no_other_practice_is_warned(country: str, policy: Policy) -> None:
    assert of_practice(country, policy) == ()
