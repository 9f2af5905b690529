"""What the API receives: what is accepted, and what is refused by its field, never with its value."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from patient_contact import api, received
from patient_contact.content import Content

SECRET = "+1 503-555-0147 SECRET"

LINE = {"id": "main", "name": "Main", "phone_number": "+15035559000"}
BILLING = {"id": "billing", "name": "Billing", "phone_number": "+15035559001"}
PRACTICE = {
    "name": "North Clinic",
    "time_zone": "America/Los_Angeles",
    "default_country": "US",
    "lines": [LINE],
    "default_line": "main",
}
# How a line sends, where that is not by its own number alone.
HOW_TO_SEND = {
    "origination_identity": "arn:aws:sms-voice:us-east-1:123456789012:phone-number/phone-0123456789abcdef",
    "configuration_set": "patients",
    "opt_out_list": "north_main",
    "email_sender": "clinic@example.org",
    "self_managed_opt_outs": True,
}
SENDS_BY = [name for name in HOW_TO_SEND if name != "self_managed_opt_outs"]
# The keywords that a line may leave to staff: never STOP, nor any other word that is all about texts.
REVIEW_WORDS = ["CANCEL", "END", "QUIT", "REMOVE", "YES"]
MESSAGES = {
    "text": {"body": "Hi $first_name"},
    "call": {"body": "Hello ${first_name}"},
    "email": {"subject": "Your visit, $first_name", "body": "$$50 are due"},
}
AUTOMATION = {"name": "Reminder", "line": "main", "messages": MESSAGES}
CONTACT_INFO = {
    "phones": [{"number": "503-555-0101", "line_type": "text_enabled"}],
    "emails": [{"address": "pat@example.org"}],
}
CONSENT = {"phone_number": "+15035550101", "line": "main", "status": "opted_out"}
MESSAGE = {"class": "automation", "channels": ["text", "call"], "line": "main"}
FACTS = {
    "phones": [{"number": "+15035550101", "line_type": "text_enabled", "status": "valid"}],
    "emails": [{"address": "pat@example.org", "status": "valid"}],
    "preferred_contact": "+15035550101",
    "do_not_contact": False,
    "sms_consent": [CONSENT],
}
EVALUATE = {"message": MESSAGE, "patient": FACTS}
TEXT = {"channel": "text", "line": "main", "body": "Your results are in.", "phone_number": "+15035550101"}
EMAIL = {"channel": "email", "body": "Your results are in.", "subject": "Results"}

LONGEST = "x" * 128


def _without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def _of_line(field: str, kind: str = "string_pattern_mismatch") -> tuple[tuple[str | int, ...], str]:
    return ("lines", 0, field), kind


def _errors(model: type[BaseModel], body: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Give place and type of each error, having seen that no message repeats a value."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(json.loads(json.dumps(body)))
    errors = refused.value.errors(include_url=False, include_context=False, include_input=False)
    assert "SECRET" not in str([error["msg"] for error in errors])
    return [(error["loc"], error["type"]) for error in errors]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (api.PracticeBody, PRACTICE),
        (api.PracticeBody, PRACTICE | {"lines": [LINE, BILLING], "policy": {"text_other_number": True}}),
        (api.PracticeBody, PRACTICE | {"sending": False, "name": "N" * 200}),
        (api.PracticeBody, PRACTICE | {"sending": True}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | HOW_TO_SEND]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | dict.fromkeys(SENDS_BY)]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | {"origination_identity": "+15035559000"}]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | {"origination_identity": "CLINIC"}]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | dict.fromkeys(SENDS_BY[:3], "n" * 256)]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | {"self_managed_opt_outs": False}]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | {"review_words": []}]}),
        (api.PracticeBody, PRACTICE | {"lines": [LINE | {"review_words": REVIEW_WORDS}, BILLING]}),
        (api.AutomationBody, AUTOMATION),
        (api.AutomationBody, {"name": "Recall", "enabled": False, "messages": {"text": {"body": "x" * 1_600}}}),
        (api.AutomationBody, {"name": "Recall", "messages": {"call": {"body": "x" * 6_000}}}),
        (api.AutomationBody, {"name": "Recall", "messages": {"email": {"subject": "s" * 250, "body": "x" * 32_768}}}),
        (api.ContactInfoBody, CONTACT_INFO),
        (api.ContactInfoBody, {"phones": [], "emails": []}),
        (api.ContactInfoBody, {"phones": [{"number": "555 CALL ME"}] * 20, "emails": [{"address": "none"}] * 20}),
        (api.PreferredContactBody, {"phone_number": "503-555-0101"}),
        (api.DoNotContactBody, {"enabled": True, "note": "asked by phone"}),
        (api.DoNotContactBody, {"enabled": False, "note": None}),
        (api.SmsConsentBody, CONSENT),
        (api.SmsConsentBody, CONSENT | {"note": "n" * 1_000}),
        (api.SmsConsentBody, CONSENT | {"status": "opted_in", "evidence": "signed_form"}),
        (api.SmsConsentBody, CONSENT | {"status": "opted_in", "evidence": "recorded_call", "note": "on tape"}),
        (api.SmsConsentBody, CONSENT | {"evidence": "portal"}),
        (api.SmsConsentBody, CONSENT | {"said_at": "2026-11-20T17:02:11Z"}),
        (api.SmsConsentBody, CONSENT | {"said_at": "2026-11-20T17:02:11.123456-08:00"}),
        (api.SmsConsentBody, CONSENT | {"said_at": None}),
        # Whether there must be evidence is for the service to say, in its own words.
        (api.SmsConsentBody, CONSENT | {"status": "opted_in", "evidence": None}),
        (api.NumberBody, {"phone_number": "503-555-0101"}),
        (api.ReviewBody, {"outcome": "opted_out"}),
        (api.ReviewBody, {"outcome": "not_a_request", "note": "n" * 1_000}),
        (api.ResolveBody, {"outcome": "sent"}),
        (api.ResolveBody, {"outcome": "not_sent", "attempt": "a" * 64, "note": "n" * 1_000}),
        (api.ResolveBody, {"outcome": "not_sent", "attempt": None, "note": None}),
        (api.SearchBody, {"phone_number": "503-555-0101"}),
        (api.SearchBody, {"patient_id": LONGEST}),
        (api.EvaluateBody, EVALUATE),
        (api.EvaluateBody, {"messages": [MESSAGE] * 50, "patient_id": "p-1001"}),
        (api.EvaluateBody, {"message": MESSAGE, "patient": {}, "policy": {}}),
        (api.EvaluateBody, {"message": MESSAGE, "patient_id": "p", "changes": {"preferred_contact": None}}),
        (api.EvaluateBody, {"message": {"class": "manual", "channels": ["call"], "phone_number": "1"}, "patient": {}}),
        (api.ManualMessageBody, TEXT),
        (api.ManualMessageBody, EMAIL),
        (api.ManualMessageBody, {"channel": "call", "body": "x" * 6_000}),
        (api.ManualMessageBody, {"channel": "text", "body": "It is $50."}),
    ],
)
def test_a_body_that_is_right_is_accepted(model: type[BaseModel], body: dict[str, Any]) -> None:
    assert model.model_validate(json.loads(json.dumps(body)))


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({"name": ""}, [(("name",), "string_too_short")]),
        ({"name": "   "}, [(("name",), "string_too_short")]),
        ({"name": SECRET * 10}, [(("name",), "string_too_long")]),
        ({"name": 7}, [(("name",), "string_type")]),
        ({"time_zone": SECRET}, [(("time_zone",), "value_error")]),
        ({"time_zone": "america/los_angeles"}, [(("time_zone",), "value_error")]),
        ({"time_zone": "../../etc/passwd"}, [(("time_zone",), "value_error")]),
        ({"default_country": SECRET}, [(("default_country",), "string_pattern_mismatch")]),
        ({"default_country": "us"}, [(("default_country",), "string_pattern_mismatch")]),
        ({"default_country": "XX"}, [(("default_country",), "value_error")]),
        ({"policy": {"text_other_numbers": True}}, [(("policy", "text_other_numbers"), "extra_forbidden")]),
        ({"policy": {"text_other_number": "yes"}}, [(("policy", "text_other_number"), "bool_type")]),
        ({"policy": {"text_other_number": 1}}, [(("policy", "text_other_number"), "bool_type")]),
        ({"policy": None}, [(("policy",), "model_type")]),
        ({"lines": []}, [(("lines",), "too_short")]),
        (
            {"lines": [LINE | {"id": f"l{n}", "phone_number": f"+150355590{n}"} for n in range(10, 31)]},
            [(("lines",), "too_long")],
        ),
        ({"lines": [LINE | {"id": "a#b"}]}, [(("lines", 0, "id"), "string_pattern_mismatch")]),
        ({"lines": [LINE | {"phone_number": SECRET}]}, [(("lines", 0, "phone_number"), "value_error")]),
        ({"lines": [LINE | {"phone_number": "503-555-9000"}]}, [(("lines", 0, "phone_number"), "value_error")]),
        ({"lines": [LINE | {"review_words": ["STOP"]}]}, [(("lines", 0, "review_words", 0), "literal_error")]),
        ({"lines": [LINE | {"review_words": ["YES", SECRET]}]}, [(("lines", 0, "review_words", 1), "literal_error")]),
        ({"lines": [LINE | {"review_words": ["yes"]}]}, [(("lines", 0, "review_words", 0), "literal_error")]),
        ({"lines": [LINE | {"review_words": "YES"}]}, [(("lines", 0, "review_words"), "list_type")]),
        ({"lines": [LINE | {"review_words": None}]}, [(("lines", 0, "review_words"), "list_type")]),
        ({"lines": [LINE | {"review_words": ["YES"] * 6}]}, [(("lines", 0, "review_words"), "too_long")]),
        ({"lines": [LINE, LINE | {"id": "other"}]}, [(("lines",), "value_error")]),
        ({"lines": [LINE, BILLING | {"id": "main"}]}, [(("lines",), "value_error")]),
        ({"default_line": "billing"}, [((), "value_error")]),
        ({"sending": "yes"}, [(("sending",), "bool_type")]),
        ({"sending": None}, [(("sending",), "bool_type")]),
        ({"lines": [LINE | {"origination_identity": ""}]}, [_of_line("origination_identity")]),
        ({"lines": [LINE | {"origination_identity": SECRET}]}, [_of_line("origination_identity")]),
        ({"lines": [LINE | {"configuration_set": "set 1"}]}, [_of_line("configuration_set")]),
        ({"lines": [LINE | {"configuration_set": "+15035559000"}]}, [_of_line("configuration_set")]),
        ({"lines": [LINE | {"opt_out_list": "n" * 257}]}, [_of_line("opt_out_list")]),
        ({"lines": [LINE | {"email_sender": SECRET}]}, [_of_line("email_sender", "value_error")]),
        ({"lines": [LINE | {"email_sender": "Clinic <c@example.org>"}]}, [_of_line("email_sender", "value_error")]),
        ({"lines": [LINE | {"email_sender": ""}]}, [_of_line("email_sender", "string_too_short")]),
        ({"lines": [LINE | {"self_managed_opt_outs": "no"}]}, [_of_line("self_managed_opt_outs", "bool_type")]),
        ({"lines": [LINE | {"self_managed_opt_outs": None}]}, [_of_line("self_managed_opt_outs", "bool_type")]),
        ({"lines": [LINE | {"sender": SECRET}]}, [_of_line("sender", "extra_forbidden")]),
        ({"practice_id": "south"}, [(("practice_id",), "extra_forbidden")]),
    ],
)
def test_a_practice_that_is_wrong_is_refused_by_its_field(changed: dict[str, Any], errors: list[Any]) -> None:
    assert _errors(api.PracticeBody, PRACTICE | changed) == errors


@pytest.mark.parametrize("missing", PRACTICE)
def test_a_practice_without_a_part_is_refused_by_its_field(missing: str) -> None:
    assert _errors(api.PracticeBody, _without(PRACTICE, missing)) == [((missing,), "missing")]


@pytest.mark.parametrize(
    ("messages", "errors"),
    [
        ({}, [((), "value_error")]),
        ({"text": None}, [((), "value_error")]),
        ({"letter": {"body": SECRET}}, [(("letter",), "extra_forbidden")]),
        ({"text": SECRET}, [(("text",), "model_type")]),
        ({"text": {}}, [(("text", "body"), "missing")]),
        ({"text": {"body": ""}}, [(("text", "body"), "string_too_short")]),
        ({"text": {"body": f"$50 {SECRET}"}}, [(("text", "body"), "value_error")]),
        ({"text": {"body": "x" * 1_601}}, [(("text", "body"), "value_error")]),
        ({"text": {"body": SECRET, "subject": SECRET}}, [(("text", "subject"), "extra_forbidden")]),
        ({"call": {"body": "x" * 6_001}}, [(("call", "body"), "value_error")]),
        ({"call": {"body": ["x"]}}, [(("call", "body"), "string_type")]),
        ({"email": {"body": SECRET}}, [(("email", "subject"), "missing")]),
        ({"email": {"subject": "", "body": SECRET}}, [(("email", "subject"), "string_too_short")]),
        ({"email": {"subject": "s" * 251, "body": SECRET}}, [(("email", "subject"), "string_too_long")]),
        ({"email": {"subject": f"a\r\n{SECRET}", "body": "b"}}, [(("email", "subject"), "value_error")]),
        ({"email": {"subject": "$", "body": SECRET}}, [(("email", "subject"), "value_error")]),
        ({"email": {"subject": "s", "body": "ü" * 16_385}}, [(("email", "body"), "value_error")]),
        ({"text": {"body": "\ud800"}}, [(("text", "body"), "string_unicode")]),
    ],
)
def test_content_that_is_wrong_is_refused_by_its_field(messages: dict[str, Any], errors: list[Any]) -> None:
    found = _errors(api.AutomationBody, AUTOMATION | {"messages": messages})

    assert found == [(("messages", *loc), kind) for loc, kind in errors]


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({"name": None}, [(("name",), "string_type")]),
        ({"line": "a b"}, [(("line",), "string_pattern_mismatch")]),
        ({"enabled": "true"}, [(("enabled",), "bool_type")]),
        ({"channels": ["text"]}, [(("channels",), "extra_forbidden")]),
    ],
)
def test_an_automation_that_is_wrong_is_refused_by_its_field(changed: dict[str, Any], errors: list[Any]) -> None:
    assert _errors(api.AutomationBody, AUTOMATION | changed) == errors


def test_the_content_of_an_automation_is_that_of_its_channels() -> None:
    assert api.AutomationBody.model_validate(AUTOMATION).messages.content() == Content(
        {"text": "Hi $first_name", "call": "Hello ${first_name}", "email": "$$50 are due"}, "Your visit, $first_name"
    )
    assert received.Messages.model_validate({"call": {"body": "c"}}).content() == Content({"call": "c"})


@pytest.mark.parametrize(
    ("model", "body", "errors"),
    [
        (api.ContactInfoBody, {"phones": []}, [(("emails",), "missing")]),
        (api.ContactInfoBody, {"emails": []}, [(("phones",), "missing")]),
        (api.ContactInfoBody, [], [((), "model_type")]),
        (api.ContactInfoBody, CONTACT_INFO | {"phones": SECRET}, [(("phones",), "list_type")]),
        (api.ContactInfoBody, CONTACT_INFO | {"phones": [SECRET]}, [(("phones", 0), "model_type")]),
        (api.ContactInfoBody, CONTACT_INFO | {"phones": [{"number": "1"}] * 21}, [(("phones",), "too_long")]),
        (api.ContactInfoBody, CONTACT_INFO | {"emails": [{"address": "a"}] * 21}, [(("emails",), "too_long")]),
        (api.ContactInfoBody, CONTACT_INFO | {"phones": [{}]}, [(("phones", 0, "number"), "missing")]),
        (api.ContactInfoBody, CONTACT_INFO | {"phones": [{"number": 1}]}, [(("phones", 0, "number"), "string_type")]),
        (
            api.ContactInfoBody,
            CONTACT_INFO | {"phones": [{"number": ""}]},
            [(("phones", 0, "number"), "string_too_short")],
        ),
        (
            api.ContactInfoBody,
            CONTACT_INFO | {"phones": [{"number": "1"}, {"number": "2", "line_type": SECRET}]},
            [(("phones", 1, "line_type"), "literal_error")],
        ),
        (
            api.ContactInfoBody,
            CONTACT_INFO | {"emails": [{"address": SECRET, "status": "bounced"}]},
            [(("emails", 0, "status"), "literal_error")],
        ),
        (
            api.ContactInfoBody,
            CONTACT_INFO | {"emails": [{"address": "a" * 321}]},
            [(("emails", 0, "address"), "string_too_long")],
        ),
        (
            api.ContactInfoBody,
            CONTACT_INFO | {"preferred_contact": SECRET},
            [(("preferred_contact",), "extra_forbidden")],
        ),
        (api.PreferredContactBody, {"phone_number": "SECRET@example.org"}, [(("phone_number",), "value_error")]),
        (api.PreferredContactBody, {"phone_number": ""}, [(("phone_number",), "string_too_short")]),
        (api.PreferredContactBody, {"phone_number": None}, [(("phone_number",), "string_type")]),
        (
            api.PreferredContactBody,
            {"email": "SECRET@example.org"},
            [(("phone_number",), "missing"), (("email",), "extra_forbidden")],
        ),
        (api.DoNotContactBody, {"enabled": "SECRET"}, [(("enabled",), "bool_type")]),
        (api.DoNotContactBody, {"enabled": 1}, [(("enabled",), "bool_type")]),
        (api.DoNotContactBody, {"enabled": True, "note": "n" * 1_001}, [(("note",), "string_too_long")]),
        (api.SmsConsentBody, CONSENT | {"status": "under_review"}, [(("status",), "literal_error")]),
        (api.SmsConsentBody, CONSENT | {"status": "SECRET"}, [(("status",), "literal_error")]),
        (api.SmsConsentBody, CONSENT | {"evidence": SECRET}, [(("evidence",), "literal_error")]),
        (api.SmsConsentBody, CONSENT | {"evidence": True}, [(("evidence",), "literal_error")]),
        (api.SmsConsentBody, CONSENT | {"note": "n" * 1_001}, [(("note",), "string_too_long")]),
        (api.SmsConsentBody, CONSENT | {"actor": "SECRET"}, [(("actor",), "extra_forbidden")]),
        (api.SmsConsentBody, CONSENT | {"recorded_at": "SECRET"}, [(("recorded_at",), "extra_forbidden")]),
        (api.SmsConsentBody, CONSENT | {"said_at": "SECRET"}, [(("said_at",), "value_error")]),
        (api.SmsConsentBody, CONSENT | {"said_at": "2026-11-20"}, [(("said_at",), "value_error")]),
        (api.SmsConsentBody, CONSENT | {"said_at": "2026-11-20T17:02:11"}, [(("said_at",), "value_error")]),
        (api.SmsConsentBody, CONSENT | {"said_at": "9999-11-20T17:02:11Z"}, [(("said_at",), "value_error")]),
        (api.SmsConsentBody, CONSENT | {"said_at": 1_795_453_200}, [(("said_at",), "value_error")]),
        (api.SmsConsentBody, CONSENT | {"source": "keyword"}, [(("source",), "extra_forbidden")]),
        (api.SmsConsentBody, CONSENT | {"line": "main line"}, [(("line",), "string_pattern_mismatch")]),
        (api.SmsConsentBody, _without(CONSENT, "line"), [(("line",), "missing")]),
        (api.NumberBody, {}, [(("phone_number",), "missing")]),
        (api.NumberBody, {"phone_number": ""}, [(("phone_number",), "string_too_short")]),
        (api.NumberBody, {"phone_number": SECRET * 4}, [(("phone_number",), "string_too_long")]),
        (api.NumberBody, {"phone_number": 5035550101}, [(("phone_number",), "string_type")]),
        (api.NumberBody, {"phone_number": "1", "line": SECRET}, [(("line",), "extra_forbidden")]),
        (api.ReviewBody, {}, [(("outcome",), "missing")]),
        (api.ReviewBody, {"outcome": "opted_in"}, [(("outcome",), "literal_error")]),
        (api.ReviewBody, {"outcome": "answered"}, [(("outcome",), "literal_error")]),
        (api.ReviewBody, {"outcome": SECRET}, [(("outcome",), "literal_error")]),
        (api.ReviewBody, {"outcome": "opted_out", "note": "n" * 1_001}, [(("note",), "string_too_long")]),
        (api.ReviewBody, {"outcome": "opted_out", "closed_by": SECRET}, [(("closed_by",), "extra_forbidden")]),
        (api.ResolveBody, {}, [(("outcome",), "missing")]),
        (api.ResolveBody, {"outcome": "unknown"}, [(("outcome",), "literal_error")]),
        (api.ResolveBody, {"outcome": SECRET}, [(("outcome",), "literal_error")]),
        (api.ResolveBody, {"outcome": "sent", "attempt": SECRET * 3}, [(("attempt",), "string_too_long")]),
        (api.ResolveBody, {"outcome": "sent", "attempt": 1}, [(("attempt",), "string_type")]),
        (api.ResolveBody, {"outcome": "sent", "note": "n" * 1_001}, [(("note",), "string_too_long")]),
        (api.ResolveBody, {"outcome": "sent", "by": SECRET}, [(("by",), "extra_forbidden")]),
        (api.SearchBody, {}, [((), "value_error")]),
        (api.SearchBody, {"phone_number": SECRET, "patient_id": "p"}, [((), "value_error")]),
        (api.SearchBody, {"patient_id": "p#1"}, [(("patient_id",), "string_pattern_mismatch")]),
        (api.SearchBody, {"patient_id": LONGEST + "x"}, [(("patient_id",), "string_pattern_mismatch")]),
        (api.SearchBody, {"name": SECRET}, [(("name",), "extra_forbidden")]),
    ],
)
def test_what_is_said_of_a_patient_and_is_wrong_is_refused_by_its_field(
    model: type[BaseModel], body: object, errors: list[Any]
) -> None:
    assert _errors(model, body) == errors


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({"class": "newsletter"}, [(("class",), "literal_error")]),
        ({"class": None}, [(("class",), "literal_error")]),
        ({"message_class": "automation"}, [(("message_class",), "extra_forbidden")]),
        ({"channels": []}, [(("channels",), "too_short")]),
        ({"channels": ["fax"]}, [(("channels", 0), "literal_error")]),
        ({"channels": ["text", "text"]}, [(("channels",), "value_error")]),
        ({"channels": "text"}, [(("channels",), "list_type")]),
        ({"class": "manual"}, [((), "value_error")]),
        ({"phone_number": SECRET}, [((), "value_error")]),
        ({"class": "broadcast", "phone_number": SECRET}, [((), "value_error")]),
        ({"class": "manual", "channels": ["email"], "phone_number": SECRET}, [((), "value_error")]),
        ({"line": ""}, [(("line",), "string_pattern_mismatch")]),
    ],
)
def test_a_message_to_evaluate_that_is_wrong_is_refused_by_its_field(
    changed: dict[str, Any], errors: list[Any]
) -> None:
    body = {"message": MESSAGE | changed, "patient": FACTS}

    assert _errors(api.EvaluateBody, body) == [(("message", *loc), kind) for loc, kind in errors]


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({"preferred_contact": "SECRET@example.org"}, [(("preferred_contact",), "value_error")]),
        ({"do_not_contact": None}, [(("do_not_contact",), "bool_type")]),
        ({"sms_consent": [CONSENT, CONSENT | {"status": "opted_in"}]}, [(("sms_consent",), "value_error")]),
        ({"sms_consent": [CONSENT | {"status": "STOP"}]}, [(("sms_consent", 0, "status"), "literal_error")]),
        ({"phones": [{"number": "1"}] * 21}, [(("phones",), "too_long")]),
        ({"phones": [{"number": "1", "line_type": None}]}, [(("phones", 0, "line_type"), "literal_error")]),
        ({"phones": [{"number": "1", "display": "TEXT"}]}, [(("phones", 0, "display"), "extra_forbidden")]),
    ],
)
def test_facts_to_evaluate_that_are_wrong_are_refused_by_their_field(
    changed: dict[str, Any], errors: list[Any]
) -> None:
    body = {"message": MESSAGE, "patient": FACTS | changed}

    assert _errors(api.EvaluateBody, body) == [(("patient", *loc), kind) for loc, kind in errors]


@pytest.mark.parametrize(
    "body",
    [
        {"patient": FACTS},
        {"message": MESSAGE, "messages": [MESSAGE], "patient": FACTS},
        {"message": MESSAGE},
        {"message": MESSAGE, "patient": FACTS, "patient_id": "p-1001"},
        {"message": MESSAGE, "patient": FACTS, "changes": {"do_not_contact": True}},
    ],
)
def test_an_evaluation_that_asks_two_things_or_none_is_refused_whole(body: dict[str, Any]) -> None:
    assert _errors(api.EvaluateBody, body) == [((), "value_error")]


@pytest.mark.parametrize(("count", "kind"), [(0, "too_short"), (51, "too_long")])
def test_an_evaluation_has_1_to_50_messages(count: int, kind: str) -> None:
    assert _errors(api.EvaluateBody, {"messages": [MESSAGE] * count, "patient": {}}) == [(("messages",), kind)]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (_without(TEXT, "body"), [(("body",), "missing")]),
        (_without(TEXT, "channel"), [(("channel",), "missing")]),
        (TEXT | {"channel": "fax"}, [(("channel",), "literal_error")]),
        (TEXT | {"body": ""}, [(("body",), "string_too_short")]),
        (TEXT | {"body": "x" * 1_601}, [((), "value_error")]),
        ({"channel": "call", "body": "x" * 6_001}, [((), "value_error")]),
        (EMAIL | {"body": "ü" * 16_385}, [((), "value_error")]),
        (TEXT | {"subject": SECRET}, [((), "value_error")]),
        (_without(EMAIL, "subject"), [((), "value_error")]),
        (EMAIL | {"subject": f"a\n{SECRET}"}, [(("subject",), "value_error")]),
        (EMAIL | {"phone_number": SECRET}, [((), "value_error")]),
        (TEXT | {"class": "manual"}, [(("class",), "extra_forbidden")]),
    ],
)
def test_a_manual_message_that_is_wrong_is_refused_by_its_field(body: dict[str, Any], errors: list[Any]) -> None:
    assert _errors(api.ManualMessageBody, body) == errors


def test_an_email_address_as_preferred_contact_is_refused_in_these_words() -> None:
    with pytest.raises(ValidationError) as refused:
        api.PreferredContactBody.model_validate({"phone_number": "pat@example.org"})

    assert refused.value.errors()[0]["msg"] == "Value error, Email is not supported as a preferred contact."


@pytest.mark.parametrize("id_", ["a#b", "a/b", "a b", "ä", "", "a\n", "a:b", "x" * 129, "x" * 200])
def test_an_id_that_could_corrupt_a_key_is_refused(id_: str) -> None:
    assert _errors(api.SearchBody, {"patient_id": id_}) == [(("patient_id",), "string_pattern_mismatch")]
