"""The facesheet, and the facts that routing is given of the same patient."""

import pytest

from patient_contact.consent import NOTHING_SAID, OpenReview, Said
from patient_contact.facesheet import Line, Number, Patient, Practice, facesheet, facts_of
from patient_contact.facts import Consent, Email, Facts, LineType, Phone, Policy, Status
from patient_contact.verdict import Evidence, Verdict

MOBILE, LANDLINE, JUNK = "+15035550101", "+15035550102", "555 CALL ME"
OUT = NOTHING_SAID.after(Said("m-1", "opted_out", "keyword", "2026-11-20T17:02:10Z", "2026-11-20T17:02:11Z", own=True))
IN = NOTHING_SAID.after(Said("m-2", "opted_in", "keyword", "2026-11-21T09:00:00Z", "2026-11-21T09:00:01Z", own=True))
UNREAD = OpenReview("opted_out", "2026-11-22T09:00:00Z", "2026-11-22T09:00:01Z")
REVIEW = NOTHING_SAID.under_review("2026-12-08~m-3", UNREAD)
FAILED = Verdict(unreachable=(Evidence("receipt", "TEXT_UNREACHABLE", "2026-11-20T17:02:11Z", "provider-1"),))


def _patient(*phones: Phone, preferred_contact: str | None = None) -> Patient:
    return Patient(
        "north",
        "p-1001",
        7,
        phones,
        (Email("pat@example.org"), Email("none", "invalid")),
        preferred_contact,
        False,
        "2026-11-20T17:02:11Z",
        "staff-7",
    )


PAT = _patient(
    Phone(MOBILE, "text_enabled"), Phone(LANDLINE, "landline"), Phone(JUNK, status="invalid"), preferred_contact=MOBILE
)


def test_a_facesheet_says_all_that_staff_see() -> None:
    numbers = {MOBILE: Number(FAILED, {"main": OUT}), LANDLINE: Number(Verdict(line_type="text_enabled"))}

    assert facesheet(PAT, numbers, {MOBILE: 3, LANDLINE: "100+"}) == {
        "practice_id": "north",
        "patient_id": "p-1001",
        "version": 7,
        "phones": [
            {
                "number": MOBILE,
                "line_type": "text_enabled",
                "status": "valid",
                "suspect": True,
                "display": "TEXT",
                "shared_with": 3,
            },
            {
                "number": LANDLINE,
                "line_type": "landline",
                "status": "valid",
                "suspect": False,
                "display": "CALL",
                "shared_with": "100+",
            },
            {
                "number": JUNK,
                "line_type": "unknown",
                "status": "invalid",
                "suspect": False,
                "display": "CALL",
                "shared_with": 0,
            },
        ],
        "emails": [
            {"address": "pat@example.org", "status": "valid"},
            {"address": "none", "status": "invalid"},
        ],
        "preferred_contact": {"number": MOBILE, "display": "TEXT", "on_file": True},
        "do_not_contact": False,
        "sms_consent": {
            "status": "Opted Out of 1 numbers",
            "numbers": [
                {
                    "phone_number": MOBILE,
                    "line": "main",
                    "status": "opted_out",
                    "source": "keyword",
                    "recorded_at": "2026-11-20T17:02:11Z",
                }
            ],
        },
        "updated_at": "2026-11-20T17:02:11Z",
        "updated_by": "staff-7",
    }


def test_where_nothing_is_recorded_the_patient_is_opted_in() -> None:
    assert facesheet(PAT, {}, {})["sms_consent"] == {"status": "Opted In", "numbers": []}


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ({MOBILE: Number(consent={"main": IN})}, "Opted In"),
        ({MOBILE: Number(consent={"main": REVIEW})}, "Opted In"),
        ({MOBILE: Number(consent={"main": OUT, "billing": IN})}, "Opted Out of 1 numbers"),
        ({MOBILE: Number(consent={"main": OUT, "billing": OUT})}, "Opted Out of 2 numbers"),
        (
            {MOBILE: Number(consent={"main": OUT, "billing": OUT}), LANDLINE: Number(consent={"main": OUT})},
            "Opted Out of 3 numbers",
        ),
        ({"+15035550199": Number(consent={"main": OUT})}, "Opted In"),
    ],
)
def test_opted_out_pairs_of_phone_and_line_are_counted(numbers: dict[str, Number], status: str) -> None:
    consent = facesheet(PAT, numbers, {})["sms_consent"]

    assert isinstance(consent, dict)
    assert consent["status"] == status


def test_recorded_pairs_are_listed_by_phone_on_file_then_line() -> None:
    consent = facesheet(
        PAT, {LANDLINE: Number(consent={"main": OUT}), MOBILE: Number(consent={"main": IN, "billing": REVIEW})}, {}
    )["sms_consent"]

    assert isinstance(consent, dict)
    assert [(said["phone_number"], said["line"], said["status"]) for said in consent["numbers"]] == [
        (MOBILE, "billing", "under_review"),
        (MOBILE, "main", "opted_in"),
        (LANDLINE, "main", "opted_out"),
    ]


def test_a_pair_that_is_under_review_says_since_when_and_one_on_which_nothing_was_said_is_not_listed() -> None:
    consents = {"billing": REVIEW, "main": REVIEW.reviewed("2026-12-08~m-3")}

    assert facesheet(PAT, {MOBILE: Number(consent=consents)}, {})["sms_consent"] == {
        "status": "Opted In",
        "numbers": [
            {
                "phone_number": MOBILE,
                "line": "billing",
                "status": "under_review",
                "source": "keyword",
                "recorded_at": "2026-11-22T09:00:01Z",
            }
        ],
    }


@pytest.mark.parametrize(
    ("sent", "verdict", "suspect"),
    [
        ("valid", Verdict(), False),
        ("valid", FAILED, True),
        ("valid", Verdict("invalid", unreachable=FAILED.unreachable), False),
        ("invalid", FAILED, False),
    ],
)
def test_a_valid_phone_that_was_not_reached_lately_is_suspect_and_routed_all_the_same(
    sent: Status, verdict: Verdict, suspect: bool
) -> None:
    patient, numbers = _patient(Phone(MOBILE, "text_enabled", sent)), {MOBILE: Number(verdict)}
    status: Status = "valid" if "invalid" not in (sent, verdict.status) else "invalid"

    assert facesheet(patient, numbers, {})["phones"] == [
        {
            "number": MOBILE,
            "line_type": "text_enabled",
            "status": status,
            "suspect": suspect,
            "display": "TEXT",
            "shared_with": 0,
        }
    ]
    assert facts_of(patient, numbers).phones == (Phone(MOBILE, "text_enabled", status),)


@pytest.mark.parametrize(
    ("preferred", "shown"),
    [
        (None, None),
        (MOBILE, {"number": MOBILE, "display": "TEXT", "on_file": True}),
        (LANDLINE, {"number": LANDLINE, "display": "CALL", "on_file": True}),
        (JUNK, {"number": JUNK, "display": "CALL", "on_file": True}),
        ("+15035550199", {"number": "+15035550199", "display": "CALL", "on_file": False}),
    ],
)
def test_a_preferred_contact_is_shown_dormant_when_it_has_left_the_file(
    preferred: str | None, shown: dict[str, object] | None
) -> None:
    patient = _patient(*PAT.phones, preferred_contact=preferred)

    assert facesheet(patient, {}, {})["preferred_contact"] == shown


@pytest.mark.parametrize(
    ("sent", "known", "on_facesheet"),
    [
        ("unknown", "text_enabled", "text_enabled"),
        ("unknown", "unknown", "unknown"),
        ("landline", "text_enabled", "landline"),
        ("text_enabled", "landline", "text_enabled"),
    ],
)
def test_a_line_type_that_registration_sent_beats_the_one_looked_up(
    sent: LineType, known: LineType, on_facesheet: LineType
) -> None:
    facts = facts_of(_patient(Phone(MOBILE, sent)), {MOBILE: Number(Verdict(line_type=known))})

    assert facts.phones == (Phone(MOBILE, on_facesheet),)


@pytest.mark.parametrize(
    ("sent", "known", "stands"),
    [
        ("valid", "valid", "valid"),
        ("invalid", "valid", "invalid"),
        ("valid", "invalid", "invalid"),
        ("invalid", "invalid", "invalid"),
    ],
)
def test_a_number_that_either_side_knows_to_be_invalid_is_invalid(sent: Status, known: Status, stands: Status) -> None:
    facts = facts_of(_patient(Phone(MOBILE, status=sent)), {MOBILE: Number(Verdict(status=known))})

    assert facts.phones == (Phone(MOBILE, status=stands),)


def test_routing_is_given_what_the_facesheet_shows() -> None:
    numbers = {
        MOBILE: Number(consent={"main": OUT, "billing": IN}),
        LANDLINE: Number(consent={"main": REVIEW, "billing": NOTHING_SAID}),
        "+15035550199": Number(consent={"main": OUT}),
    }

    assert facts_of(PAT, numbers) == Facts(
        phones=PAT.phones,
        emails=PAT.emails,
        preferred_contact=MOBILE,
        do_not_contact=False,
        sms_consent=(
            Consent(MOBILE, "billing", "opted_in"),
            Consent(MOBILE, "main", "opted_out"),
            Consent(LANDLINE, "main", "under_review"),
        ),
    )


def test_a_practice_has_its_own_lines_and_no_other() -> None:
    main = Line("main", "Main", "+15035559000")
    practice = Practice("north", "North", "America/Los_Angeles", "US", Policy(), (main,), "main", False, 1)

    assert practice.has_line("main")
    assert not practice.has_line("Main")
