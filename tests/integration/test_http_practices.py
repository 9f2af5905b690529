"""Practices, automations and the truth table, over HTTP."""

from typing import Any

import pytest

from patient_contact import aws
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    CURSOR,
    EMAIL_SENDER,
    MESSAGES,
    POLICY_OFF,
    PRACTICE,
    REMINDER,
    UNKNOWN_PRACTICE,
    Answer,
    Service,
    invalid,
    problem,
)

ANSWERED = {
    "practice_id": "north",
    **PRACTICE,
    "policy": POLICY_OFF,
    "sending": False,
    "broadcast_texts_per_day": 3_000,
}
LINES: Any = PRACTICE["lines"]
MAIN, BILLING = LINES
US_WARNING = {
    "code": "OPT_OUT_BLOCKS_CALLS_OFF",
    "message": "opt_out_blocks_calls is off: numbers that opted out of texts are still called by automations, "
    "broadcasts and campaigns. US rules treat STOP as revoking robocalls as well as robotexts.",
}
NO_EMAIL_SENDER = {
    "code": "NO_EMAIL_SENDER",
    "message": "sending is on, and emails on main fail: set the line's email_sender to an address that SES may send "
    "from.",
}
# All by which a line may send, beside its number.
SENDS_BY = {
    "origination_identity": "arn:aws:sms-voice:us-east-1:123456789012:phone-number/phone-0123456789abcdef",
    "configuration_set": "patients",
    "opt_out_list": "north_main",
    "email_sender": EMAIL_SENDER,
    "self_managed_opt_outs": True,
}
REMINDER_ANSWERED = {
    "automation_id": "reminder",
    "name": "Reminder",
    "line": None,
    "enabled": True,
    "messages": MESSAGES,
    "channels": ["text", "call", "email"],
}
UNKNOWN_AUTOMATION = problem(404, "unknown-automation", "Not Found", "There is no such automation.")
LINE_TAKEN = problem(409, "line-taken", "Conflict", "A line's number belongs to another practice.")
LINE_IN_USE = problem(
    409,
    "line-in-use",
    "Conflict",
    "A line with consent on record keeps its number; it, and a line that an automation names, must stay.",
)
UNKNOWN_LINE = invalid((["body", "line"], "unknown_line", "the practice has no such line"))


class TestPractice:
    def test_a_practice_that_is_put_is_answered_with_all_its_defaults_and_warnings(self, service: Service) -> None:
        assert service.put("north", PRACTICE) == Answer(200, {**ANSWERED, "warnings": [US_WARNING]}, {})

    def test_a_practice_reads_as_it_was_put(self, north: Service) -> None:
        answer = north.get("north")
        assert answer == Answer(200, ANSWERED, {})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert service.get("north") == UNKNOWN_PRACTICE

    def test_a_practice_that_is_put_again_is_replaced(self, north: Service) -> None:
        changed = PRACTICE | {"name": "New", "policy": {"opt_out_blocks_calls": True}, "lines": [BILLING, MAIN]}
        expected = ANSWERED | changed | {"policy": POLICY_OFF | {"opt_out_blocks_calls": True}}
        assert north.put("north", changed) == Answer(200, {**expected, "warnings": []}, {})
        assert north.get("north") == Answer(200, expected, {})

    @pytest.mark.parametrize("texts", [0, 1, 1_000_000])
    def test_how_many_texts_broadcasts_may_take_in_a_day_reads_as_it_was_put(self, north: Service, texts: int) -> None:
        body = PRACTICE | {"broadcast_texts_per_day": texts}
        expected = ANSWERED | {"broadcast_texts_per_day": texts}
        assert north.put("north", body) == Answer(200, {**expected, "warnings": [US_WARNING]}, {})
        assert north.get("north") == Answer(200, expected, {})
        # Put without, it is as it is by default.
        assert north.put("north", PRACTICE).status == 200
        assert north.get("north") == Answer(200, ANSWERED, {})

    def test_a_practice_that_was_put_before_there_was_such_a_number_has_that_of_the_default(
        self, north: Service
    ) -> None:
        (item,) = (item for item in north.items() if item["SK"]["S"] == "PRACTICE")
        del item["broadcast_texts_per_day"]
        aws.dynamodb().put_item(TableName=north.environment["TABLE_NAME"], Item=item)
        assert north.get("north") == Answer(200, ANSWERED, {})

    def test_only_practices_in_the_us_are_warned_of_calls_to_those_who_opted_out(self, service: Service) -> None:
        canada = PRACTICE | {"time_zone": "America/Toronto", "default_country": "CA"}
        assert service.put("north", canada).body["warnings"] == []

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"name": ""}, (["body", "name"], "string_too_short", "String should have at least 1 character")),
            ({"name": " "}, (["body", "name"], "string_too_short", "String should have at least 1 character")),
            ({"name": "x" * 201}, (["body", "name"], "string_too_long", "String should have at most 200 characters")),
            (
                {"time_zone": "Mars/Olympus"},
                (
                    ["body", "time_zone"],
                    "value_error",
                    "not a time zone of the IANA database, like America/Los_Angeles",
                ),
            ),
            (
                {"time_zone": "../../etc/passwd"},
                (
                    ["body", "time_zone"],
                    "value_error",
                    "not a time zone of the IANA database, like America/Los_Angeles",
                ),
            ),
            (
                {"default_country": "us"},
                (["body", "default_country"], "string_pattern_mismatch", "String should match pattern '^[A-Z]{2}$'"),
            ),
            (
                {"default_country": "XX"},
                (["body", "default_country"], "value_error", "not a country code of ISO 3166, like US"),
            ),
            ({"sending": "on"}, (["body", "sending"], "bool_type", "Input should be a valid boolean")),
            (
                {"broadcast_texts_per_day": -1},
                (
                    ["body", "broadcast_texts_per_day"],
                    "greater_than_equal",
                    "Input should be greater than or equal to 0",
                ),
            ),
            (
                {"broadcast_texts_per_day": 1_000_001},
                (
                    ["body", "broadcast_texts_per_day"],
                    "less_than_equal",
                    "Input should be less than or equal to 1000000",
                ),
            ),
            (
                {"broadcast_texts_per_day": "3000"},
                (["body", "broadcast_texts_per_day"], "int_type", "Input should be a valid integer"),
            ),
            ({"default_line": "other"}, (["body"], "value_error", "default_line is not among the lines")),
            (
                {"lines": []},
                (["body", "lines"], "too_short", "List should have at least 1 item after validation, not 0"),
            ),
            (
                {"lines": [MAIN, MAIN]},
                (["body", "lines"], "value_error", "each line has its own id and its own number"),
            ),
            (
                {"lines": [MAIN, {**BILLING, "phone_number": MAIN["phone_number"]}]},
                (["body", "lines"], "value_error", "each line has its own id and its own number"),
            ),
            (
                {"lines": [{**MAIN, "phone_number": "503-555-9000"}]},
                (
                    ["body", "lines", 0, "phone_number"],
                    "value_error",
                    "a line's number is a valid phone number in E.164, like +15035550100",
                ),
            ),
            (
                {"lines": [{**MAIN, "id": "a#b"}]},
                (
                    ["body", "lines", 0, "id"],
                    "string_pattern_mismatch",
                    "String should match pattern '^[A-Za-z0-9._~-]{1,128}$'",
                ),
            ),
            (
                {"lines": [{**MAIN, "email_sender": "Clinic"}]},
                (["body", "lines", 0, "email_sender"], "value_error", "not an email address"),
            ),
            (
                {"lines": [{**MAIN, "opt_out_list": "a b"}]},
                (
                    ["body", "lines", 0, "opt_out_list"],
                    "string_pattern_mismatch",
                    "String should match pattern '^[A-Za-z0-9_:/-]{1,256}$'",
                ),
            ),
            ({"practice_id": "north"}, (["body", "practice_id"], "extra_forbidden", "Extra inputs are not permitted")),
            (
                {"policy": {"call_everyone": True}},
                (["body", "policy", "call_everyone"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
            (
                {"policy": {"text_other_number": "yes"}},
                (["body", "policy", "text_other_number"], "bool_type", "Input should be a valid boolean"),
            ),
        ],
    )
    def test_what_a_practice_cannot_be_is_refused_by_field(
        self, service: Service, change: dict[str, object], error: tuple[list[str | int], str, str]
    ) -> None:
        assert service.put("north", PRACTICE | change) == invalid(error)
        assert service.items() == []


class TestSending:
    def test_a_practice_that_sends_reads_as_it_was_put_with_all_that_its_lines_send_by(self, service: Service) -> None:
        lines = [MAIN | SENDS_BY, BILLING | {"email_sender": EMAIL_SENDER}]
        expected = ANSWERED | {"sending": True, "lines": lines}
        body = PRACTICE | {"sending": True, "lines": lines}
        assert service.put("north", body) == Answer(200, {**expected, "warnings": [US_WARNING]}, {})
        assert service.get("north") == Answer(200, expected, {})

    def test_what_a_line_leaves_out_is_not_kept_nor_answered(self, service: Service) -> None:
        nothing = dict.fromkeys(SENDS_BY) | {"self_managed_opt_outs": False, "review_words": []}
        assert service.put("north", PRACTICE | {"lines": [MAIN | nothing, BILLING]}).body["lines"] == LINES
        (kept,) = [item for item in service.items() if item["SK"]["S"] == "PRACTICE"]
        assert [line["M"].keys() for line in kept["lines"]["L"]] == [MAIN.keys(), BILLING.keys()]

    def test_what_a_line_had_and_is_put_without_is_gone(self, north: Service) -> None:
        assert north.put("north", PRACTICE | {"lines": [MAIN | SENDS_BY, BILLING]}).status == 200
        assert north.put("north", PRACTICE).body["lines"] == LINES
        assert north.get("north") == Answer(200, ANSWERED, {})

    def test_an_email_sender_is_kept_normalised(self, service: Service) -> None:
        body = PRACTICE | {"lines": [MAIN | {"email_sender": " clinic@EXAMPLE.org "}]}
        assert service.put("north", body).body["lines"] == [MAIN | {"email_sender": EMAIL_SENDER}]

    def test_sending_without_an_address_to_email_from_is_warned_of_by_line(self, service: Service) -> None:
        lines = [MAIN, BILLING | {"email_sender": EMAIL_SENDER}]
        answer = service.put("north", PRACTICE | {"sending": True, "lines": lines})
        assert (answer.status, answer.body["warnings"]) == (200, [US_WARNING, NO_EMAIL_SENDER])
        assert service.put("north", PRACTICE | {"lines": lines}).body["warnings"] == [US_WARNING]

    def test_a_line_may_change_how_it_sends_when_consent_is_recorded_on_it(self, north: Service) -> None:
        consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put("north/patients/p-1/sms-consent", consent).status == 200
        lines = [MAIN | SENDS_BY, BILLING]
        assert north.put("north", PRACTICE | {"sending": True, "lines": lines}).body["lines"] == lines

    @pytest.mark.parametrize(
        ("sending", "self_managed", "confirms"),
        [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
    )
    def test_a_lines_own_item_says_whether_replies_to_it_are_confirmed(
        self, north: Service, sending: bool, self_managed: bool, confirms: bool
    ) -> None:
        lines = [MAIN | {"self_managed_opt_outs": self_managed}]
        assert north.put("north", PRACTICE | {"sending": sending, "lines": lines}).status == 200
        (line,) = [item for item in north.items() if item["SK"]["S"] == "LINE"]
        assert line["confirms"] == {"BOOL": confirms}


class TestLines:
    def other(self, **line: str) -> dict[str, Any]:
        return PRACTICE | {"lines": [{"id": "main", "name": "Other", **line}]}

    def test_a_number_that_is_another_practices_line_is_refused_and_nothing_is_written(self, north: Service) -> None:
        before = north.items()
        body = self.other(phone_number=BILLING["phone_number"])
        assert north.put("south", body, practice_ids=["south"]) == LINE_TAKEN
        assert north.items() == before

    def test_a_number_that_its_practice_gave_up_is_free_for_another(self, north: Service) -> None:
        assert north.put("north", PRACTICE | {"lines": [MAIN]}).status == 200
        body = self.other(phone_number=BILLING["phone_number"])
        assert north.put("south", body, practice_ids=["south"]).status == 200

    def test_two_lines_may_swap_their_numbers_while_nobody_has_said_anything_about_them(self, north: Service) -> None:
        swapped = [
            {**MAIN, "phone_number": BILLING["phone_number"]},
            {**BILLING, "phone_number": MAIN["phone_number"]},
        ]
        assert north.put("north", PRACTICE | {"lines": swapped}).body["lines"] == swapped

    @pytest.mark.parametrize(
        "lines",
        [
            [BILLING | {"id": "main"}],
            [{**MAIN, "phone_number": "+15035559009"}, BILLING],
            [{**MAIN, "phone_number": BILLING["phone_number"]}, {**BILLING, "phone_number": MAIN["phone_number"]}],
            [BILLING],
        ],
        ids=["removed, its id for another number", "renumbered", "swapped", "removed"],
    )
    def test_a_line_with_recorded_consent_is_neither_removed_nor_renumbered(
        self, north: Service, lines: list[dict[str, str]]
    ) -> None:
        consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put("north/patients/p-1/sms-consent", consent).status == 200
        before = north.items()
        assert north.put("north", PRACTICE | {"lines": lines, "default_line": lines[0]["id"]}) == LINE_IN_USE
        assert north.items() == before

    def test_a_line_with_recorded_consent_may_be_renamed_and_others_removed(self, north: Service) -> None:
        consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert north.put("north/patients/p-1/sms-consent", consent).status == 200
        renamed = [{**MAIN, "name": "Front desk"}]
        assert north.put("north", PRACTICE | {"lines": renamed}).body["lines"] == renamed

    def test_a_line_that_an_automation_names_is_not_removed(self, north: Service) -> None:
        assert north.put("north/automations/balance", REMINDER | {"line": "billing"}).status == 200
        assert north.put("north", PRACTICE | {"lines": [MAIN]}) == LINE_IN_USE
        assert north.delete("north/automations/balance").status == 204
        assert north.put("north", PRACTICE | {"lines": [MAIN]}).status == 200


class TestAutomations:
    def test_an_automation_is_registered_with_its_channels(self, north: Service) -> None:
        answer = north.put("north/automations/reminder", REMINDER)
        assert answer == Answer(200, {**REMINDER_ANSWERED, "warnings": []}, {})
        assert north.get("north/automations/reminder") == Answer(200, REMINDER_ANSWERED, {})

    def test_an_automation_that_is_put_again_is_replaced(self, north: Service) -> None:
        recall = {"name": "Recall", "line": "billing", "enabled": False, "messages": {"text": MESSAGES["text"]}}
        expected = {"automation_id": "reminder", **recall, "channels": ["text"]}
        assert north.put("north/automations/reminder", recall).status == 200
        assert north.get("north/automations/reminder") == Answer(200, expected, {})

    def test_an_automation_that_is_deleted_is_gone(self, north: Service) -> None:
        assert north.delete("north/automations/reminder") == Answer(204, None, {})
        assert north.get("north/automations/reminder") == UNKNOWN_AUTOMATION
        assert north.delete("north/automations/reminder") == UNKNOWN_AUTOMATION

    def test_an_automation_of_an_unknown_practice_is_not_registered(self, service: Service) -> None:
        assert service.put("north/automations/reminder", REMINDER) == UNKNOWN_PRACTICE
        assert service.get("north/automations") == UNKNOWN_PRACTICE
        assert service.items() == []

    def test_automations_are_listed_by_id_in_pages(self, north: Service) -> None:
        for automation_id in ("recall", "balance"):
            assert north.put(f"north/automations/{automation_id}", REMINDER).status == 200
        whole = [REMINDER_ANSWERED | {"automation_id": name} for name in ("balance", "recall", "reminder")]
        assert north.get("north/automations") == Answer(200, {"items": whole, "next": None}, {})
        first = north.get("north/automations?limit=2")
        assert first == Answer(200, {"items": whole[:2], "next": CURSOR}, {})
        second = north.get(f"north/automations?limit=2&cursor={first.body['next']}")
        assert second == Answer(200, {"items": whole[2:], "next": None}, {})

    def test_a_call_only_automation_is_warned_of_whom_it_never_reaches(self, north: Service) -> None:
        answer = north.put("north/automations/balance", {"name": "Balance", "messages": {"call": MESSAGES["call"]}})
        assert answer.body["warnings"] == [
            {
                "code": "TEXT_ENABLED",
                "message": "Patients whose number is text-enabled get nothing from it (TEXT_ENABLED).",
            },
            {
                "code": "NO_VALID_PHONE",
                "message": "Patients who have an email address and no valid phone get nothing from it "
                "(NO_VALID_PHONE).",
            },
        ]

    def test_warnings_follow_the_practices_policy(self, north: Service) -> None:
        policy = {"call_when_text_not_included": True}
        assert north.put("north", PRACTICE | {"policy": policy}).status == 200
        answer = north.put("north/automations/balance", {"name": "Balance", "messages": {"call": MESSAGES["call"]}})
        assert [warning["code"] for warning in answer.body["warnings"]] == ["NO_VALID_PHONE"]

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (
                {"messages": {"text": {"body": "You owe $50"}}},
                (
                    ["body", "messages", "text", "body"],
                    "value_error",
                    "every $ begins a placeholder like $name or ${name}; write $$ for a dollar sign",
                ),
            ),
            (
                {"messages": {}},
                (["body", "messages"], "value_error", "at least one of text, call and email has content"),
            ),
            (
                {"messages": {"fax": {"body": "Hi"}}},
                (["body", "messages", "fax"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
            (
                {"messages": {"text": {"body": ""}}},
                (
                    ["body", "messages", "text", "body"],
                    "string_too_short",
                    "String should have at least 1 character",
                ),
            ),
            (
                {"messages": {"text": {"body": "x" * 1_601}}},
                (["body", "messages", "text", "body"], "value_error", "a text has at most 1600 characters"),
            ),
            (
                {"messages": {"call": {"body": "x" * 6_001}}},
                (["body", "messages", "call", "body"], "value_error", "a call has at most 6000 characters"),
            ),
            (
                {"messages": {"email": {"subject": "s", "body": "é" * 16_385}}},
                (["body", "messages", "email", "body"], "value_error", "an email body has at most 32768 bytes"),
            ),
            (
                {"messages": {"email": {"body": "Hi"}}},
                (["body", "messages", "email", "subject"], "missing", "Field required"),
            ),
            (
                {"messages": {"email": {"subject": "a\nBcc: b", "body": "Hi"}}},
                (["body", "messages", "email", "subject"], "value_error", "a subject is one line"),
            ),
            (
                {"messages": {"text": {"subject": "s", "body": "Hi"}}},
                (["body", "messages", "text", "subject"], "extra_forbidden", "Extra inputs are not permitted"),
            ),
            ({"line": "unknown"}, (["body", "line"], "unknown_line", "the practice has no such line")),
            ({"enabled": "no"}, (["body", "enabled"], "bool_type", "Input should be a valid boolean")),
            ({"name": None}, (["body", "name"], "string_type", "Input should be a valid string")),
        ],
    )
    def test_what_an_automation_cannot_be_is_refused_by_field(
        self, north: Service, change: dict[str, object], error: tuple[list[str | int], str, str]
    ) -> None:
        assert north.put("north/automations/recall", REMINDER | change) == invalid(error)
        assert north.get("north/automations/recall") == UNKNOWN_AUTOMATION

    def test_the_longest_bodies_are_accepted(self, north: Service) -> None:
        messages = {
            "text": {"body": "é" * 1_600},
            "call": {"body": "é" * 6_000},
            "email": {"subject": "é" * 250, "body": "é" * 16_384},
        }
        assert north.put("north/automations/long", {"name": "Long", "messages": messages}).status == 200
        assert north.get("north/automations/long").body["messages"] == messages

    def test_a_dollar_that_is_written_twice_is_one(self, north: Service) -> None:
        owed = {"name": "Balance", "messages": {"text": {"body": "You owe $$50, ${first_name}"}}}
        assert north.put("north/automations/balance", owed).status == 200


class TestTruthTable:
    DEFAULT = """\
| Patient has | Consent | T | C | E | T C | T E | C E | T C E |
|---|---|---|---|---|---|---|---|---|
| a text-enabled phone only | in | text | · | · | text | text | · | text |
|  | out | · | call | · | call | · | call | call |
| a text-enabled phone and an email address | in | text | · | · | text | text | · | text |
|  | out | · | call | · | call | · | call | call |
| a text-enabled phone, a landline and an email address | in | text | · | · | text | text | · | text |
|  | out | · | call | · | call | · | call | call |
| the same, landline preferred | any | · | call | · | call | · | call | call |
| a landline only | – | · | call | · | call | · | call | call |
| a landline and an email address | – | · | call | · | call | · | call | call |
| an email address only | – | · | · | email | · | email | email | email |
"""
    DEPARTED = """\
patient,consent,T,C,E,T C,T E,C E,T C E
a text-enabled phone only,in,text,call,,text,text,call,text
a text-enabled phone only,out,,call,,call,,call,call
a text-enabled phone and an email address,in,text,call,email,text,text,call,text
a text-enabled phone and an email address,out,,call,email,call,email,call,call
"a text-enabled phone, a landline and an email address",in,text,call,email,text,text,call,text
"a text-enabled phone, a landline and an email address",out,,call,email,call,email,call,call
"the same, landline preferred",any,,call,email,call,email,call,call
a landline only,–,,call,,call,,call,call
a landline and an email address,–,,call,email,call,email,call,call
an email address only,–,,,email,,email,email,email
"""
    FLAGS = "call_when_text_not_included=true&email_when_no_phone_channel=true"

    def test_it_reads_as_markdown_like_the_rules_page(self, north: Service) -> None:
        answer = north.get("north/routing/truth-table", headers={"accept": "text/markdown"})
        assert answer == Answer(200, self.DEFAULT, {})
        assert answer.headers["content-type"] == "text/markdown; charset=utf-8"

    def test_it_reads_as_csv_and_flags_in_the_query_change_it(self, north: Service) -> None:
        answer = north.get(f"north/routing/truth-table?{self.FLAGS}", headers={"accept": "text/csv"})
        assert answer == Answer(200, self.DEPARTED.replace("\n", "\r\n"), {})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"

    def test_it_is_json_otherwise_with_the_policy_and_each_cells_reason(self, north: Service) -> None:
        answer = north.get(f"north/routing/truth-table?{self.FLAGS}")
        assert answer.status == 200
        assert answer.body["policy"] == POLICY_OFF | {
            "call_when_text_not_included": True,
            "email_when_no_phone_channel": True,
        }
        assert [(row["patient"], row["consent"]) for row in answer.body["rows"]][:2] == [
            ("a text-enabled phone only", "in"),
            ("a text-enabled phone only", "out"),
        ]
        assert answer.body["rows"][0]["cells"] == [
            {"channels": "T", "channel": "text", "reason": "TEXT_ENABLED"},
            {"channels": "C", "channel": "call", "reason": "TEXT_NOT_INCLUDED"},
            {"channels": "E", "channel": None, "reason": "NO_VALID_EMAIL"},
            {"channels": "T C", "channel": "text", "reason": "TEXT_ENABLED"},
            {"channels": "T E", "channel": "text", "reason": "TEXT_ENABLED"},
            {"channels": "C E", "channel": "call", "reason": "TEXT_NOT_INCLUDED"},
            {"channels": "T C E", "channel": "text", "reason": "TEXT_ENABLED"},
        ]

    def test_it_is_of_the_practices_own_policy_but_for_the_flags_in_the_query(self, north: Service) -> None:
        own = {"call_when_text_not_included": True, "email_when_no_phone_channel": True}
        assert north.put("north", PRACTICE | {"policy": own}).status == 200
        csv = {"accept": "text/csv"}
        assert north.get("north/routing/truth-table", headers=csv).body == self.DEPARTED.replace("\n", "\r\n")
        off = self.FLAGS.replace("true", "false")
        markdown = north.get(f"north/routing/truth-table?{off}", headers={"accept": "text/markdown"})
        assert markdown.body == self.DEFAULT

    def test_a_flag_that_is_neither_true_nor_false_is_refused(self, north: Service) -> None:
        assert north.get("north/routing/truth-table?text_other_number=maybe") == invalid(
            (
                ["query", "text_other_number"],
                "bool_parsing",
                "Input should be a valid boolean, unable to interpret input",
            )
        )

    def test_an_unknown_practice_has_none(self, service: Service) -> None:
        assert service.get("north/routing/truth-table") == UNKNOWN_PRACTICE


def test_contact_info_survives_a_practice_that_is_put_again(north: Service) -> None:
    assert north.put("north", PRACTICE).status == 200
    assert north.get("north/patients/p-1").body["phones"][0]["number"] == CONTACT_INFO["phones"][0]["number"]
