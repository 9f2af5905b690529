"""Evaluate: what would be sent, and nothing written."""

from typing import Any

import pytest

from tests.integration.service import (
    CELL,
    FACTS,
    LANDLINE,
    POLICY_OFF,
    PRACTICE,
    UNKNOWN_PATIENT,
    UNKNOWN_PRACTICE,
    Answer,
    Service,
    invalid,
    recorded,
    trigger,
)

EVALUATE = "north/routing/evaluate"
# What is recorded with a decision, and is no part of it.
BESIDE = recorded("suppressed").keys()
PATIENT = "north/patients/p-1"
AUTOMATION = {"class": "automation", "channels": ["text", "call", "email"]}
EMAIL_ONLY = {"class": "automation", "channels": ["email"]}
DO_NOT_CONTACT_OFF = {"rule": "R1", "channel": None, "phone": None, "fired": False, "reason": "DO_NOT_CONTACT_OFF"}
TEXTED: dict[str, Any] = {
    "outcome": "deliver",
    "channel": "text",
    "destination": CELL,
    "reason": "TEXT_ENABLED",
    "rule": "R2",
    "explanation": "Texted: +1 503-555-0101 can be texted on line main.",
    "steps": [
        DO_NOT_CONTACT_OFF,
        {"rule": "R2", "channel": "text", "phone": CELL, "fired": True, "reason": "TEXT_ENABLED"},
    ],
    "message": {"class": "automation", "channels": ["text", "call", "email"], "line": "main"},
    "policy": POLICY_OFF,
    "facts": FACTS,
}
CALLED = TEXTED | {
    "channel": "call",
    "destination": LANDLINE,
    "reason": "LANDLINE",
    "rule": "R3",
    "explanation": "Called: +1 503-555-0102 is a landline, which cannot be texted.",
    "steps": [
        DO_NOT_CONTACT_OFF,
        {"rule": "R2", "channel": "text", "phone": LANDLINE, "fired": False, "reason": "LANDLINE"},
        {"rule": "R3", "channel": "call", "phone": LANDLINE, "fired": True, "reason": "LANDLINE"},
    ],
}
SILENCED = TEXTED | {
    "outcome": "suppress",
    "channel": None,
    "destination": None,
    "reason": "DO_NOT_CONTACT",
    "rule": "R1",
    "explanation": "Nothing sent: Do Not Contact is on, which stops automations.",
    "steps": [{"rule": "R1", "channel": None, "phone": None, "fired": True, "reason": "DO_NOT_CONTACT"}],
}


def test_a_stored_patients_message_is_decided_and_nothing_written(north: Service) -> None:
    before = north.items()
    assert north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-1"}) == Answer(200, TEXTED, {})
    assert north.items() == before
    assert north.new_stream_records() == []


def test_facts_may_be_given_in_place_of_a_patient(north: Service) -> None:
    given = {
        "phones": [
            {"number": "503-555-0101", "line_type": "text_enabled"},
            {"number": LANDLINE, "line_type": "landline"},
        ],
        "emails": [{"address": "pat@EXAMPLE.org"}],
    }
    assert north.post(EVALUATE, {"message": AUTOMATION, "patient": given}) == Answer(200, TEXTED, {})


def test_no_facts_at_all_are_facts(north: Service) -> None:
    answer = north.post(EVALUATE, {"message": AUTOMATION, "patient": {}})
    assert answer.body["facts"] == FACTS | {"phones": [], "emails": []}
    assert (answer.body["outcome"], answer.body["rule"], answer.body["reason"]) == ("suppress", "R5", "NO_VALID_PHONE")


def test_consent_and_preferences_in_given_facts_count_however_numbers_are_written(north: Service) -> None:
    given = FACTS | {
        "preferred_contact": "(503) 555-0101",
        "sms_consent": [{"phone_number": "503 555 0101", "line": "main", "status": "under_review"}],
    }
    answer = north.post(EVALUATE, {"message": AUTOMATION, "patient": given})
    assert (answer.body["channel"], answer.body["reason"]) == ("call", "CONSENT_UNDER_REVIEW")
    assert answer.body["facts"] == FACTS | {
        "preferred_contact": CELL,
        "sms_consent": [{"phone_number": CELL, "line": "main", "status": "under_review"}],
    }


def test_stored_consent_and_preferences_count(north: Service) -> None:
    consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
    assert north.put(f"{PATIENT}/sms-consent", consent).status == 200
    assert north.put(f"{PATIENT}/preferred-contact", {"phone_number": CELL}).status == 200
    answer = north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-1"})
    assert (answer.body["channel"], answer.body["destination"], answer.body["reason"]) == (
        "call",
        CELL,
        "SMS_OPTED_OUT",
    )
    assert answer.body["facts"] == FACTS | {"preferred_contact": CELL, "sms_consent": [consent]}


def test_the_practices_policy_counts_unless_another_is_given(north: Service) -> None:
    assert north.put("north", PRACTICE | {"policy": {"email_when_no_phone_channel": True}}).status == 200
    own = north.post(EVALUATE, {"message": EMAIL_ONLY, "patient_id": "p-1"})
    assert (own.body["outcome"], own.body["reason"]) == ("deliver", "NO_PHONE_CHANNEL")
    assert own.body["policy"] == POLICY_OFF | {"email_when_no_phone_channel": True}
    other = north.post(EVALUATE, {"message": EMAIL_ONLY, "patient_id": "p-1", "policy": {}})
    assert (other.body["outcome"], other.body["reason"]) == ("suppress", "PHONE_ON_FILE")
    assert other.body["policy"] == POLICY_OFF


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, TEXTED),
        ({"preferred_contact": "503-555-0102"}, CALLED | {"facts": FACTS | {"preferred_contact": LANDLINE}}),
        ({"preferred_contact": None}, TEXTED),
        ({"do_not_contact": True}, SILENCED | {"facts": FACTS | {"do_not_contact": True}}),
    ],
)
def test_changes_show_what_would_be(north: Service, changes: object, expected: object) -> None:
    answer = north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-1", "changes": changes})
    assert answer == Answer(200, expected, {})


def test_no_preferred_contact_in_changes_takes_the_stored_one_away_and_leaving_it_out_keeps_it(north: Service) -> None:
    assert north.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200
    assert north.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
    both = {"preferred_contact": None, "do_not_contact": False}
    assert north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-1", "changes": both}).body == TEXTED
    one = {"do_not_contact": False}
    kept = north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-1", "changes": one})
    assert kept.body == CALLED | {"facts": FACTS | {"preferred_contact": LANDLINE}}


def test_many_messages_are_answered_in_their_order(north: Service) -> None:
    messages = [AUTOMATION, {"class": "broadcast", "channels": ["email"]}, {"class": "manual", "channels": ["call"]}]
    answer = north.post(EVALUATE, {"messages": messages, "patient_id": "p-1"})
    decided = [(each["message"]["class"], each["outcome"], each["reason"]) for each in answer.body["decisions"]]
    assert (answer.status, list(answer.body)) == (200, ["decisions"])
    assert answer.body["decisions"][0] == TEXTED
    assert decided == [
        ("automation", "deliver", "TEXT_ENABLED"),
        ("broadcast", "suppress", "PHONE_ON_FILE"),
        ("manual", "deliver", "CHOSEN_BY_STAFF"),
    ]


def test_fifty_messages_are_accepted_and_fifty_one_refused(north: Service) -> None:
    answer = north.post(EVALUATE, {"messages": [AUTOMATION] * 50, "patient_id": "p-1"})
    assert answer == Answer(200, {"decisions": [TEXTED] * 50}, {})
    message = "List should have at most 50 items after validation, not 51"
    assert north.post(EVALUATE, {"messages": [AUTOMATION] * 51, "patient_id": "p-1"}) == invalid(
        (["body", "messages"], "too_long", message)
    )


@pytest.mark.parametrize(
    ("phones", "consent", "preferred"),
    [
        ([{"number": CELL, "line_type": "text_enabled"}], False, None),
        ([{"number": CELL, "line_type": "text_enabled"}], True, CELL),
        ([{"number": "555 CALL ME"}, {"number": LANDLINE}], False, LANDLINE),
        ([{"number": CELL, "line_type": "landline", "status": "invalid"}], False, CELL),
        ([{"number": "junk"}], False, None),
        ([], False, None),
    ],
)
def test_a_recorded_decision_is_replayed_from_its_own_facts(
    north: Service, phones: list[dict[str, str]], consent: bool, preferred: str | None
) -> None:
    assert north.put(f"{PATIENT}/contact-info", {"phones": phones, "emails": [{"address": "junk"}]}).status == 200
    if consent:
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put(f"{PATIENT}/sms-consent", body).status == 200
    if preferred:
        assert north.put(f"{PATIENT}/preferred-contact", {"phone_number": preferred}).status == 200
    assert north.run_automations(trigger()) == []
    (kept,) = north.get(f"{PATIENT}/decisions").body["items"]
    replayed = north.post(EVALUATE, {"message": kept["message"], "patient": kept["facts"], "policy": kept["policy"]})
    assert replayed.status == 200
    assert kept == replayed.body | {name: kept[name] for name in BESIDE}


def test_a_manual_message_to_a_chosen_phone_is_replayed_too(north: Service) -> None:
    body = {"channel": "text", "body": "Hi", "phone_number": LANDLINE}
    kept = north.post(f"{PATIENT}/messages", body, headers={"idempotency-key": "k"}).body
    replayed = north.post(EVALUATE, {"message": kept["message"], "patient": kept["facts"]})
    assert kept == replayed.body | {name: kept[name] for name in BESIDE}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, (["body"], "value_error", "give message or messages, and only one of them")),
        (
            {"message": AUTOMATION, "messages": [AUTOMATION]},
            (["body"], "value_error", "give message or messages, and only one of them"),
        ),
        ({"message": AUTOMATION}, (["body"], "value_error", "give patient_id or patient, and only one of them")),
        (
            {"message": AUTOMATION, "patient_id": "p-1", "patient": {}},
            (["body"], "value_error", "give patient_id or patient, and only one of them"),
        ),
        (
            {"message": AUTOMATION, "patient": {}, "changes": {}},
            (["body"], "value_error", "changes are for a stored patient; put them into patient"),
        ),
        (
            {"messages": [], "patient_id": "p-1"},
            (["body", "messages"], "too_short", "List should have at least 1 item after validation, not 0"),
        ),
        (
            {"message": {"class": "automation", "channels": []}, "patient_id": "p-1"},
            (
                ["body", "message", "channels"],
                "too_short",
                "List should have at least 1 item after validation, not 0",
            ),
        ),
        (
            {"message": {"class": "automation", "channels": ["fax"]}, "patient_id": "p-1"},
            (["body", "message", "channels", 0], "literal_error", "Input should be 'text', 'call' or 'email'"),
        ),
        (
            {"message": {"class": "automation", "channels": ["text", "text"]}, "patient_id": "p-1"},
            (["body", "message", "channels"], "value_error", "each channel is named once"),
        ),
        (
            {"message": {"class": "newsletter", "channels": ["text"]}, "patient_id": "p-1"},
            (
                ["body", "message", "class"],
                "literal_error",
                "Input should be 'automation', 'broadcast', 'campaign' or 'manual'",
            ),
        ),
        (
            {"message": {"class": "manual", "channels": ["text", "call"]}, "patient_id": "p-1"},
            (["body", "message"], "value_error", "a manual message has exactly one channel"),
        ),
        (
            {"message": AUTOMATION | {"phone_number": CELL}, "patient_id": "p-1"},
            (["body", "message"], "value_error", "phone_number is for a manual text or call"),
        ),
        (
            {"message": {"class": "manual", "channels": ["email"], "phone_number": CELL}, "patient_id": "p-1"},
            (["body", "message"], "value_error", "phone_number is for a manual text or call"),
        ),
        (
            {"message": AUTOMATION | {"line": "unknown"}, "patient_id": "p-1"},
            (["body", "message", "line"], "unknown_line", "the practice has no such line"),
        ),
        (
            {"messages": [AUTOMATION, AUTOMATION | {"line": "unknown"}], "patient_id": "p-1"},
            (["body", "messages", 1, "line"], "unknown_line", "the practice has no such line"),
        ),
        (
            {
                "message": {"class": "manual", "channels": ["text"], "phone_number": "+15035550199"},
                "patient_id": "p-1",
            },
            (["body", "message", "phone_number"], "not_on_file", "this phone is not on the patient's file"),
        ),
        (
            {"message": AUTOMATION, "patient_id": "p-1", "changes": {"preferred_contact": "+15035550199"}},
            (["body", "changes", "preferred_contact"], "not_on_file", "this phone is not on the patient's file"),
        ),
        (
            {"message": AUTOMATION, "patient_id": "p-1", "changes": {"preferred_contact": "pat@example.org"}},
            (["body", "changes", "preferred_contact"], "value_error", "Email is not supported as a preferred contact."),
        ),
        (
            {"message": AUTOMATION, "patient_id": "p-1", "changes": {"phones": []}},
            (["body", "changes", "phones"], "extra_forbidden", "Extra inputs are not permitted"),
        ),
        (
            {"message": AUTOMATION, "patient": {"preferred_contact": "pat@example.org"}},
            (["body", "patient", "preferred_contact"], "value_error", "Email is not supported as a preferred contact."),
        ),
        (
            {"message": AUTOMATION, "patient": {"phones": [{"number": CELL}] * 21}},
            (["body", "patient", "phones"], "too_long", "List should have at most 20 items after validation, not 21"),
        ),
        (
            {
                "message": AUTOMATION,
                "patient": {
                    "sms_consent": [
                        {"phone_number": CELL, "line": "main", "status": "opted_in"},
                        {"phone_number": "503-555-0101", "line": "main", "status": "opted_out"},
                    ]
                },
            },
            (["body", "patient", "sms_consent"], "duplicate", "each phone number and line has one consent"),
        ),
        (
            {"message": AUTOMATION, "patient_id": "p 1"},
            (
                ["body", "patient_id"],
                "string_pattern_mismatch",
                "String should match pattern '^[A-Za-z0-9._~-]{1,128}$'",
            ),
        ),
        (
            {"message": AUTOMATION, "patient_id": "p-1", "policy": {"opt_out_blocks_calls": 1}},
            (["body", "policy", "opt_out_blocks_calls"], "bool_type", "Input should be a valid boolean"),
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_field(
    north: Service, body: object, error: tuple[list[str | int], str, str]
) -> None:
    assert north.post(EVALUATE, body) == invalid(error)


def test_an_unknown_patient_or_practice_is_not_found(north: Service) -> None:
    assert north.post(EVALUATE, {"message": AUTOMATION, "patient_id": "p-2"}) == UNKNOWN_PATIENT
    south = north.post("south/routing/evaluate", {"message": AUTOMATION, "patient": {}}, practice_ids=["south"])
    assert south == UNKNOWN_PRACTICE


def test_an_answer_that_lambda_could_not_return_is_refused_with_what_to_do(north: Service) -> None:
    phones = [{"number": f"+150355501{n:02}", "line_type": "text_enabled"} for n in range(20)]
    consents = [
        {"phone_number": phone["number"], "line": f"line-{n:03}-{'x' * 100}", "status": "opted_in"}
        for phone in phones
        for n in range(20)
    ]
    message = {"class": "broadcast", "channels": ["text"]}
    emails = [{"address": f"{n:02}" + "é" * 318} for n in range(20)]
    body = {"messages": [message] * 50, "patient": {"phones": phones, "emails": emails, "sms_consent": consents}}
    answer = north.post("north/routing/evaluate", body)
    assert (answer.status, answer.body["type"]) == (413, "urn:patient-contact:problem:answer-too-large")
    fewer = {"messages": [message] * 2, "patient": {"phones": phones, "sms_consent": consents}}
    assert north.post("north/routing/evaluate", fewer).status == 200
