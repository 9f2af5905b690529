"""Manual messages over HTTP, and the decisions that are kept of all messages."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from patient_contact import aws, decisions, facesheet, patients, practices
from patient_contact.content import Content
from patient_contact.facts import Message
from patient_contact.routing import decide
from tests.integration import sending
from tests.integration.sending import CLINIC, to_send
from tests.integration.service import (
    CELL,
    CONTEXT,
    CURSOR,
    FACTS,
    LANDLINE,
    MANUAL_TEXT,
    MESSAGES,
    POLICY_OFF,
    TIME,
    UNKNOWN_DECISION,
    UNKNOWN_PATIENT,
    UNKNOWN_PRACTICE,
    Answer,
    Matching,
    Service,
    client_error,
    fault,
    invalid,
    recorded,
    trigger,
)

PATIENT = "north/patients/p-1"
TEXTED: dict[str, Any] = {
    "outcome": "deliver",
    "channel": "text",
    "destination": CELL,
    "reason": "CHOSEN_BY_STAFF",
    "rule": "M",
    "explanation": "Texted: staff chose this channel, and nothing on file speaks against it.",
    "steps": [{"rule": "M", "channel": "text", "phone": CELL, "fired": True, "reason": "CHOSEN_BY_STAFF"}],
    "message": {"class": "manual", "channels": ["text"], "line": "main"},
    "policy": POLICY_OFF,
    "facts": FACTS,
    **recorded("handed_over"),
}
BLOCKED = TEXTED | {
    "outcome": "suppress",
    "channel": None,
    "destination": None,
    "reason": "LANDLINE",
    "explanation": "Nothing sent: +1 503-555-0102 is a landline, which cannot be texted.",
    "steps": [{"rule": "M", "channel": "text", "phone": LANDLINE, "fired": False, "reason": "LANDLINE"}],
    "message": {"class": "manual", "channels": ["text"], "line": "main", "phone_number": LANDLINE},
    **recorded("suppressed"),
}
ROUTED = TEXTED | recorded("routed", sender="service", send_before=TIME)
REUSED = invalid((["header", "idempotency-key"], "reused", "this key was used for another message"))


def send(service: Service, body: object = MANUAL_TEXT, key: str | None = "key-1", path: str = PATIENT) -> Answer:
    headers = {} if key is None else {"idempotency-key": key}
    return service.post(f"{path}/messages", body, headers=headers)


class TestManualMessage:
    def test_a_message_that_is_routed_answers_202_with_its_decision_and_where_it_is_kept(self, north: Service) -> None:
        answer = send(north)
        assert answer == Answer(202, TEXTED, {})
        assert answer.headers["location"] == f"/v1/practices/{PATIENT}/decisions/manual:key-1"
        assert north.get(f"{PATIENT}/decisions/manual:key-1") == Answer(200, TEXTED, {})

    def test_a_message_that_is_blocked_answers_409_with_its_decision_and_becomes_no_call(self, north: Service) -> None:
        assert send(north, MANUAL_TEXT | {"phone_number": LANDLINE}) == Answer(409, BLOCKED, {})
        assert north.get(f"{PATIENT}/decisions/manual:key-1") == Answer(200, BLOCKED, {})

    @pytest.mark.parametrize(
        ("body", "channel", "destination"),
        [
            (MANUAL_TEXT, "text", CELL),
            ({"channel": "text", "body": "Hi", "phone_number": "503-555-0101", "line": "billing"}, "text", CELL),
            ({"channel": "call", "body": "Hi"}, "call", CELL),
            ({"channel": "call", "body": "Hi", "phone_number": LANDLINE}, "call", LANDLINE),
            ({"channel": "email", "subject": "Hi", "body": "Hi"}, "email", "pat@example.org"),
        ],
    )
    def test_staff_choose_the_channel_and_may_choose_the_phone(
        self, north: Service, body: object, channel: str, destination: str
    ) -> None:
        answer = send(north, body)
        assert (answer.status, answer.body["channel"], answer.body["destination"]) == (202, channel, destination)

    def test_it_goes_to_the_preferred_contact_and_do_not_contact_does_not_stop_it(self, north: Service) -> None:
        assert north.put(f"{PATIENT}/preferred-contact", {"phone_number": LANDLINE}).status == 200
        assert north.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        answer = send(north, {"channel": "call", "body": "Hi"})
        assert (answer.status, answer.body["destination"]) == (202, LANDLINE)

    def test_its_text_is_no_template(self, north: Service) -> None:
        assert send(north, {"channel": "text", "body": "You owe $50, $name"}).status == 202
        assert north.publish(north.new_stream_records()) == []
        assert '"messages": {"text": {"body": "You owe $50, $name"}}' in north.events[-1]["Detail"]

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert send(service) == UNKNOWN_PRACTICE

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({"channel": "fax"}, (["body", "channel"], "literal_error", "Input should be 'text', 'call' or 'email'")),
            (
                {"channel": ["text", "call"]},
                (["body", "channel"], "literal_error", "Input should be 'text', 'call' or 'email'"),
            ),
            ({"body": ""}, (["body", "body"], "string_too_short", "String should have at least 1 character")),
            ({"body": 7}, (["body", "body"], "string_type", "Input should be a valid string")),
            ({"body": "x" * 1_601}, (["body"], "value_error", "a text has at most 1600 characters")),
            (
                {"channel": "call", "body": "x" * 6_001},
                (["body"], "value_error", "a call has at most 6000 characters"),
            ),
            (
                {"channel": "email", "subject": "s", "body": "é" * 16_385},
                (["body"], "value_error", "an email body has at most 32768 bytes"),
            ),
            (
                {"channel": "email", "subject": "é" * 251},
                (["body", "subject"], "string_too_long", "String should have at most 250 characters"),
            ),
            (
                {"channel": "email", "subject": "a\r\nBcc: b"},
                (["body", "subject"], "value_error", "a subject is one line"),
            ),
            ({"channel": "email"}, (["body"], "value_error", "an email has a subject, a text or call has none")),
            ({"subject": "s"}, (["body"], "value_error", "an email has a subject, a text or call has none")),
            (
                {"channel": "email", "subject": "s", "phone_number": CELL},
                (["body"], "value_error", "phone_number is for a text or call"),
            ),
            ({"line": "unknown"}, (["body", "line"], "unknown_line", "the practice has no such line")),
            (
                {"phone_number": "+15035550199"},
                (["body", "phone_number"], "not_on_file", "this phone is not on the patient's file"),
            ),
            ({"class": "manual"}, (["body", "class"], "extra_forbidden", "Extra inputs are not permitted")),
        ],
    )
    def test_what_a_message_cannot_be_is_refused_by_field(
        self, north: Service, body: dict[str, object], error: tuple[list[str | int], str, str]
    ) -> None:
        before = north.items()
        assert send(north, MANUAL_TEXT | body) == invalid(error)
        assert north.items() == before


class TestMessageThatTheServiceSends:
    """What the answer says of it until it is sent; what becomes of it then is for test_send_message."""

    def test_it_is_routed_and_waits_a_day_at_most(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        answer = send(north)
        assert answer == Answer(202, ROUTED, {})
        assert north.get(f"{PATIENT}/decisions/manual:key-1") == Answer(200, ROUTED, {})
        waits = [datetime.fromisoformat(answer.body[name]) for name in ("decided_at", "send_before")]
        assert waits[1] - waits[0] == timedelta(hours=24)

    def test_one_that_is_blocked_never_waits_to_be_sent(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        blocked = BLOCKED | recorded("suppressed", sender="service", send_before=TIME)
        assert send(north, MANUAL_TEXT | {"phone_number": LANDLINE}) == Answer(409, blocked, {})
        assert to_send(north) == []

    def test_once_sent_the_same_key_gets_the_same_decision_with_where_it_stands_now(self, north: Service) -> None:
        assert north.put("north", CLINIC).status == 200
        assert send(north).status == 202
        assert sending.send(north, *to_send(north)) == []
        (accepted,) = north.carriers.so_far()
        attempt = accepted["context"]["attempt"]
        sent = ROUTED | {
            "state": "sent",
            "attempt": attempt,
            "provider_message_id": accepted["message_id"],
            "life": [
                {"state": "routed", "at": TIME},
                {"state": "sending", "at": TIME, "attempt": attempt, "channel": "text"},
                {"state": "sent", "at": TIME, "provider_message_id": accepted["message_id"]},
            ],
        }
        assert send(north) == Answer(202, sent, {})
        assert north.get(f"{PATIENT}/decisions") == Answer(200, {"items": [sent], "next": None}, {})
        assert sending.send(north, *to_send(north)) == []
        assert len(north.carriers.so_far()) == 1

    def test_what_was_routed_before_the_service_sent_stays_the_practices_own(self, north: Service) -> None:
        assert send(north) == Answer(202, TEXTED, {})
        assert north.put("north", CLINIC).status == 200
        assert send(north) == Answer(202, TEXTED, {})
        assert to_send(north) == []


class TestIdempotencyKey:
    @pytest.mark.parametrize(
        ("body", "answer"),
        [(MANUAL_TEXT, Answer(202, TEXTED, {})), (MANUAL_TEXT | {"phone_number": LANDLINE}, Answer(409, BLOCKED, {}))],
        ids=["routed", "blocked"],
    )
    def test_the_same_key_again_gets_the_same_answer_and_no_second_message(
        self, north: Service, body: object, answer: Answer
    ) -> None:
        first = send(north, body)
        assert first == answer
        assert north.put(f"{PATIENT}/contact-info", {"phones": [], "emails": []}).status == 200
        before = north.items()
        again = send(north, body)
        assert (again.status, again.body) == (first.status, first.body)
        assert north.items() == before

    def test_the_same_key_with_another_message_is_refused_and_the_first_stands(self, north: Service) -> None:
        first = send(north)
        before = north.items()
        assert send(north, MANUAL_TEXT | {"body": "Something else"}) == REUSED
        assert send(north, MANUAL_TEXT | {"line": "billing"}) == REUSED
        assert north.items() == before
        assert north.get(f"{PATIENT}/decisions/manual:key-1").body == first.body

    def test_the_order_of_fields_and_spaces_make_no_other_message(self, north: Service) -> None:
        assert send(north, b'{"channel": "text", "body": "Hi"}').status == 202
        assert send(north, b'{"body":"Hi","channel":"text"}').status == 202
        assert len(north.get(f"{PATIENT}/decisions").body["items"]) == 1

    def test_another_key_is_another_message_and_so_is_another_patient(self, north: Service) -> None:
        other = "north/patients/p-2"
        assert north.put(f"{other}/contact-info", {"phones": [], "emails": []}).status == 200
        assert send(north).status == 202
        assert send(north, key="key-2").status == 202
        assert send(north, path=other).status == 409
        assert len(north.get(f"{PATIENT}/decisions").body["items"]) == 2

    def test_a_request_without_a_key_is_refused(self, north: Service) -> None:
        assert send(north, key=None) == invalid((["header", "idempotency-key"], "missing", "Field required"))

    @pytest.mark.parametrize("key", ["", "a b", "a#b", "a/b", "x" * 129, "k,k"])
    def test_a_key_that_is_none_is_refused(self, north: Service, key: str) -> None:
        pattern = "String should match pattern '^[A-Za-z0-9._~:-]{1,128}$'"
        assert send(north, key=key) == invalid((["header", "idempotency-key"], "string_pattern_mismatch", pattern))

    def test_a_key_of_128_characters_with_colons_is_accepted(self, north: Service) -> None:
        key = "a:" * 64
        assert send(north, key=key).status == 202
        assert north.get(f"{PATIENT}/decisions/manual:{key}").body["message_id"] == f"manual:{key}"

    def test_ten_at_once_make_one_claim_and_all_hear_of_the_same_decision(self, north: Service) -> None:
        practice, patient = practices.read("north"), patients.read("north", "p-1")
        assert practice
        assert patient
        facts = facesheet.facts_of(patient, patients.read_numbers("north", patient))
        message = Message("manual", frozenset({"text"}), "main")
        order = decisions.Order("north", "p-1", "manual:key-1", Content({"text": "Hi"}), "practice", request="digest")
        times = [datetime.now(UTC) + timedelta(seconds=n) for n in range(10)]
        with ThreadPoolExecutor(10) as threads:
            claims = list(
                threads.map(
                    lambda now: decisions.claim(order, decide(facts, message, practice.policy), now, 400),
                    times,
                )
            )
        assert sum(is_new for _, is_new in claims) == 1
        assert len({recorded.decided_at for recorded, _ in claims}) == 1
        records = [record["eventName"] for record in north.new_stream_records()]
        assert records == ["INSERT"]


class TestDecisions:
    def test_those_of_automations_are_listed_with_those_of_staff_newest_first(self, north: Service) -> None:
        assert north.run_automations(trigger(occurrence_id="visit:1")) == []
        assert send(north).status == 202
        automated = TEXTED | {
            "reason": "TEXT_ENABLED",
            "rule": "R2",
            "explanation": "Texted: +1 503-555-0101 can be texted on line main.",
            "steps": [
                {"rule": "R1", "channel": None, "phone": None, "fired": False, "reason": "DO_NOT_CONTACT_OFF"},
                {"rule": "R2", "channel": "text", "phone": CELL, "fired": True, "reason": "TEXT_ENABLED"},
            ],
            "message": {"class": "automation", "channels": ["text", "call", "email"], "line": "main"},
            "message_id": "automation:reminder:visit:1",
        }
        assert north.get(f"{PATIENT}/decisions") == Answer(200, {"items": [TEXTED, automated], "next": None}, {})
        kept = north.get(f"{PATIENT}/decisions/automation:reminder:visit:1")
        assert kept == Answer(200, automated, {})

    def test_a_patient_without_decisions_has_an_empty_list(self, north: Service) -> None:
        assert north.get(f"{PATIENT}/decisions") == Answer(200, {"items": [], "next": None}, {})

    def test_an_unknown_decision_is_not_found(self, north: Service) -> None:
        assert north.get(f"{PATIENT}/decisions/manual:key-1") == UNKNOWN_DECISION
        assert north.get("north/patients/p-2/decisions/manual:key-1") in (UNKNOWN_DECISION, UNKNOWN_PATIENT)

    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    def test_pages_give_each_once_even_of_the_same_moment_and_among_changes(self, north: Service, limit: int) -> None:
        # A batch is decided at one moment: these share their time.
        assert north.run_automations(*(trigger(occurrence_id=f"visit-{n}") for n in range(4))) == []
        for enabled in (True, False):
            assert north.put(f"{PATIENT}/do-not-contact", {"enabled": enabled}).status == 200
        for n in range(3):
            assert send(north, key=f"key-{n}").status == 202
        found: list[str] = []
        cursor = ""
        while True:
            page = north.get(f"{PATIENT}/decisions?limit={limit}{cursor}")
            assert page == Answer(200, {"items": page.body["items"], "next": page.body["next"] and CURSOR}, {})
            found += [item["message_id"] for item in page.body["items"]]
            if page.body["next"] is None:
                break
            assert len(page.body["items"]) == limit
            cursor = f"&cursor={page.body['next']}"
        assert found[:3] == ["manual:key-2", "manual:key-1", "manual:key-0"]
        assert sorted(found[3:]) == [f"automation:reminder:visit-{n}" for n in range(4)]

    def test_content_is_no_part_of_the_answer(self, north: Service) -> None:
        context = CONTEXT | {"first_name": Matching.__name__}
        assert north.run_automations(trigger(context=context)) == []
        answer = north.get(f"{PATIENT}/decisions")
        assert Matching.__name__ not in str(answer.body)
        assert MESSAGES.keys() == set(answer.body["items"][0]["message"]["channels"])


class TestContentIsThatOfTheDecision:
    """Content over 1 KB is kept before its message is claimed: what goes out is what was claimed with it."""

    @staticmethod
    def announced(north: Service) -> tuple[str, Any]:
        assert north.publish(north.new_stream_records()) == []
        (routed,) = (json.loads(event["Detail"]) for event in north.events if event["DetailType"] == "MessageRouted")
        return routed["channel"], routed["messages"]

    def test_a_corrected_text_after_a_failure_between_the_two_writes_is_the_one_that_goes_out(
        self, north: Service
    ) -> None:
        first = {"channel": "text", "body": "a" * 1_500}
        corrected = {"channel": "call", "body": "b" * 1_500}
        headers = {"idempotency-key": "once"}

        def claim_fails(request: dict[str, Any]) -> Any:
            return client_error("ThrottlingException") if request["Item"]["SK"]["S"].startswith("DECISION#") else None

        with fault(aws.dynamodb(), "PutItem", claim_fails):
            assert north.post("north/patients/p-1/messages", first, headers=headers).status == 503
        assert north.post("north/patients/p-1/messages", corrected, headers=headers).status == 202
        assert self.announced(north) == ("call", {"call": {"body": "b" * 1_500}})

    def test_of_two_at_once_the_one_that_was_accepted_goes_out(self, north: Service) -> None:
        practice, patient = practices.read("north"), patients.read("north", "p-1")
        assert practice
        assert patient
        facts = facesheet.facts_of(patient, patients.read_numbers("north", patient))
        decision = decide(facts, Message("manual", frozenset({"text"}), "main"), practice.policy)
        content = Content({"text": "b" * 1_500})
        winner = decisions.Order("north", "p-1", "manual:once", content, "practice", request="the other")
        won: list[bool] = []

        def overtaken(request: dict[str, Any]) -> None:
            if request["Item"]["SK"]["S"].startswith("DECISION#") and not won:
                won.append(False)
                won[0] = decisions.claim(winner, decision, datetime.now(UTC), 400)[1]

        loser = {"channel": "text", "body": "a" * 1_500}
        with fault(aws.dynamodb(), "PutItem", overtaken):
            refused = north.post("north/patients/p-1/messages", loser, headers={"idempotency-key": "once"})
        assert (won, refused.status) == ([True], 422)
        assert self.announced(north) == ("text", {"text": {"body": "b" * 1_500}})
