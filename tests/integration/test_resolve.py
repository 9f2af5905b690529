"""Sends whose outcome nobody knows: listed for staff, resolved by them or by a receipt, never sent again unasked."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from patient_contact import aws, sends, table
from tests.integration.sending import (
    BILLING,
    CLINIC,
    MAIN,
    PATIENT,
    ROUTED,
    UUID,
    VISIT,
    decision,
    published,
    put_patient,
    routed,
    send,
    states,
    to_send,
    wire,
)
from tests.integration.service import (
    CELL,
    CURSOR,
    REMINDER,
    TIME,
    UNKNOWN_DECISION,
    UNKNOWN_PRACTICE,
    Answer,
    Matching,
    Service,
    client_error,
    fault,
    invalid,
    problem,
    receipt,
    throttled,
    trigger,
)
from tests.local import sms

UNKNOWN = "north/decisions/unknown"
NOT_UNKNOWN = problem(
    409, "not-unknown", "Conflict", "The outcome of this message is not, or no longer, unknown: read the decision."
)
BUSY = problem(503, "busy", "Service Unavailable", "The table is busy. Nothing was lost: try again.")
BAD_CURSOR = invalid((["query", "cursor"], "cursor", "not a cursor that this list has given"))
KEY = table.decision_key("north", "p-1", VISIT)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
LOST = {"__type": "InternalServerException"}


@pytest.fixture
def clinic(north: Service) -> Service:
    """The practice `north` with sending on, and its patient `p-1`."""
    assert north.put("north", CLINIC).status == 200
    north.new_stream_records()
    return north


def lose(service: Service, *occurrences: str) -> None:
    """Send a message for each occurrence, one after the other, whose provider fails; none is accepted."""
    bodies = routed(service, *(trigger(occurrence_id=each) for each in occurrences))
    with wire(lambda *_: (500, LOST)):
        for body in bodies:
            assert send(service, body) == []
    service.new_stream_records()


def resolve(service: Service, outcome: str, message_id: str = VISIT, **more: Any) -> Answer:
    body: dict[str, Any] = {name: more.pop(name) for name in ("attempt", "note") if name in more}
    body["outcome"] = outcome
    return service.post(f"{PATIENT}/decisions/{message_id}/resolve", body, **more)


def listed(service: Service, query: str = "", path: str = UNKNOWN, **more: Any) -> list[str]:
    answer = service.get(f"{path}{query}", **more)
    assert answer.status == 200, answer
    return [item["message_id"].rpartition(":")[2] for item in answer.body["items"]]


def in_index(service: Service) -> list[str]:
    return [item["GSI1SK"]["S"] for item in service.items() if item.get("GSI1PK", {}).get("S") == sends.UNKNOWN_PK]


def receipt_of(service: Service, attempt: str, event_type: str = "TEXT_DELIVERED", **changes: Any) -> dict[str, Any]:
    """Give a receipt that names an attempt to send the visit's reminder."""
    context = {"practice_id": "north", "patient_id": "p-1", "message_id": VISIT, "attempt": attempt}
    return receipt(event_type, "provider-1", context=context, **changes)


def overdue(service: Service, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """The values of the metric of unknown outcomes that one run of watch_due sends."""
    capsys.readouterr()
    assert service.runtime.invoke("WatchDueFunction", {"detail-type": "Scheduled Event"}) is None
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (metric,) = (line for line in lines if "DecisionsUnknown" in line)
    values: list[float] = metric["DecisionsUnknown"]
    return values


class TestList:
    def test_nothing_is_unknown_at_first(self, clinic: Service) -> None:
        assert clinic.get(UNKNOWN) == Answer(200, {"items": [], "next": None}, {})

    def test_an_outcome_that_is_not_known_is_listed_with_its_whole_decision(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        since = decision(clinic)["life"][-1]["at"]
        assert clinic.get(UNKNOWN).body == {
            "items": [
                {
                    **ROUTED,
                    "patient_id": "p-1",
                    "state": "unknown",
                    "since": since,
                    "overdue": False,
                    "attempt": UUID,
                    "code": "InternalServerException",
                    "life": [
                        {"state": "routed", "at": TIME},
                        {"state": "sending", "at": TIME, "attempt": UUID, "channel": "text"},
                        {"state": "unknown", "at": since, "code": "InternalServerException"},
                    ],
                }
            ],
            "next": None,
        }

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
    def test_it_comes_in_pages_the_oldest_first(self, clinic: Service, limit: int) -> None:
        lose(clinic, *(f"visit-{n}" for n in range(5)))
        pages: list[list[str]] = []
        cursor = ""
        while True:
            answer = clinic.get(f"{UNKNOWN}?limit={limit}{cursor}")
            pages.append([item["message_id"].rpartition(":")[2] for item in answer.body["items"]])
            if answer.body["next"] is None:
                break
            assert answer.body["next"] == CURSOR
            cursor = f"&cursor={answer.body['next']}"
        visits = [f"visit-{n}" for n in range(5)]
        assert pages == [visits[start : start + limit] for start in range(0, 5, limit)]

    def test_those_of_another_practice_are_not_seen(self, clinic: Service) -> None:
        """Whatever order their ids have."""
        others = ("nor", "north-2", "north.2", "northern", "south")
        for n, other in enumerate(others):
            more = {"practice_ids": [other]}
            lines = [{**MAIN, "phone_number": f"+1503555950{n}"}]
            assert clinic.put(other, CLINIC | {"lines": lines}, **more).status == 200
            assert clinic.put(f"{other}/automations/reminder", REMINDER, **more).status == 200
            file = {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []}
            assert clinic.put(f"{other}/patients/p-1/contact-info", file, **more).status == 200
            with wire(lambda *_: (500, LOST)):
                assert send(clinic, *routed(clinic, trigger(occurrence_id=other, practice_id=other))) == []
        lose(clinic, "visit-1", "visit-2")
        assert listed(clinic) == ["visit-1", "visit-2"]
        for other in others:
            assert listed(clinic, path=f"{other}/decisions/unknown", practice_ids=[other]) == [other]

    def test_the_last_page_says_that_it_is_the_last_though_others_practices_have_more(self, clinic: Service) -> None:
        lines = [{**MAIN, "phone_number": "+15035559500"}]
        more = {"practice_ids": ["south"]}
        assert clinic.put("south", CLINIC | {"lines": lines}, **more).status == 200
        assert clinic.put("south/automations/reminder", REMINDER, **more).status == 200
        file = {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []}
        assert clinic.put("south/patients/p-1/contact-info", file, **more).status == 200
        with wire(lambda *_: (500, LOST)):
            assert send(clinic, *routed(clinic, trigger(practice_id="south"))) == []
        lose(clinic, "visit-1", "visit-2")
        assert clinic.get(f"{UNKNOWN}?limit=2").body["next"] is None

    def test_one_is_overdue_after_a_quarter_of_an_hour(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            lose(clinic, "visit-1")
            clock.shift(timedelta(minutes=15))
            assert [each["overdue"] for each in clinic.get(UNKNOWN).body["items"]] == [False]
            clock.shift(timedelta(microseconds=1))
            assert [each["overdue"] for each in clinic.get(UNKNOWN).body["items"]] == [True]

    @pytest.mark.parametrize("cursor", ["x", "bm90aGluZw", "_"])
    def test_a_cursor_that_it_has_not_given_is_refused(self, clinic: Service, cursor: str) -> None:
        assert clinic.get(f"{UNKNOWN}?cursor={cursor}") == BAD_CURSOR

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert service.get(UNKNOWN) == UNKNOWN_PRACTICE

    @pytest.mark.usefixtures("time_flies")
    def test_a_table_that_leaves_them_unread_is_busy(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        with throttled("BatchGetItem"):
            assert clinic.get(UNKNOWN) == BUSY

    def test_one_whose_outcome_is_known_since_the_index_was_read_is_left_out(self, clinic: Service) -> None:
        """The index follows the table, if shortly after it."""
        lose(clinic, "visit-1", "visit-2")

        def resolved_meanwhile(asked: dict[str, Any]) -> None:
            sends.resolve(KEY, "sent", "staff-7", None, None)

        with fault(aws.dynamodb(), "BatchGetItem", resolved_meanwhile):
            assert listed(clinic) == ["visit-2"]


class TestResolve:
    def test_staff_who_know_that_it_was_sent_end_it(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        unknown = decision(clinic)
        answer = resolve(clinic, "sent", note="Pat has it")
        expected = {
            **unknown,
            "state": "sent",
            "life": [*unknown["life"], {"state": "sent", "at": TIME, "by": "staff-7", "note": "Pat has it"}],
        }
        assert answer == Answer(200, expected, {})
        assert decision(clinic) == expected
        assert (listed(clinic), in_index(clinic)) == ([], [])
        last = expected["life"][-1]["at"]
        assert published(clinic) == [
            (
                "MessageSent",
                {
                    "version": 1,
                    "event_id": Matching(r"\S+"),
                    "practice_id": "north",
                    "patient_id": "p-1",
                    "message_id": VISIT,
                    "message_class": "automation",
                    "line": "main",
                    "outcome": "deliver",
                    "state": "sent",
                    "channel": "text",
                    "attempt": unknown["attempt"],
                    "provider_message_id": None,
                    "code": None,
                    "reason": None,
                    "at": last,
                },
            )
        ]

    def test_staff_who_know_that_it_was_not_sent_have_it_sent_again(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        unknown = decision(clinic)
        answer = resolve(clinic, "not_sent")
        expected = {
            **unknown,
            "state": "routed",
            "life": [*unknown["life"], {"state": "routed", "at": TIME, "by": "staff-7"}],
        }
        assert answer == Answer(200, expected, {})
        assert (listed(clinic), in_index(clinic)) == ([], [])
        ((kind, detail),) = published(clinic)
        assert kind == "MessageRouted"
        assert detail == {
            "version": 1,
            "event_id": Matching(r"\S+"),
            "practice_id": "north",
            "patient_id": "p-1",
            "message_id": VISIT,
            "message_class": "automation",
            "line": "main",
            "outcome": "deliver",
            "reason": "TEXT_ENABLED",
            "rule": "R2",
            "decided_at": unknown["decided_at"],
            "sender": "service",
            "channel": "text",
            "destination": CELL,
            "messages": {
                "text": {"body": "Hi Pat, see you on Monday."},
                "call": {"body": "Hello Pat, your appointment is on Monday."},
                "email": {"subject": "Your appointment", "body": "Hello Pat, see you on Monday."},
            },
            "send_before": unknown["send_before"],
        }

    def test_what_is_sent_again_is_accepted_once_by_another_attempt(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        first = decision(clinic)["attempt"]
        assert resolve(clinic, "not_sent").status == 200
        (body,) = to_send(clinic)
        for _ in range(3):
            assert send(clinic, body) == []
        (message,) = clinic.carriers.accepted
        sent = decision(clinic)
        assert sent["attempt"] == message["context"]["attempt"] != first
        told = [(each["state"], each.get("attempt")) for each in sent["life"]]
        assert told == [
            ("routed", None),
            ("sending", first),
            ("unknown", None),
            ("routed", None),
            ("sending", sent["attempt"]),
            ("sent", None),
        ]

    def test_what_is_sent_again_is_decided_again(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        assert resolve(clinic, "not_sent").status == 200
        assert clinic.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
        assert send(clinic, *to_send(clinic)) == []
        assert (decision(clinic)["state"], decision(clinic)["withdrawn"]) == ("withdrawn", "DO_NOT_CONTACT")

    def test_what_is_to_be_sent_again_too_late_is_withdrawn(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            lose(clinic, "visit-1")
            clock.shift(timedelta(days=1))
            assert resolve(clinic, "not_sent").status == 200
            assert send(clinic, *to_send(clinic)) == []
        assert (decision(clinic)["state"], decision(clinic)["withdrawn"]) == ("withdrawn", "EXPIRED")

    def test_it_may_be_unknown_again_and_is_listed_as_of_then(self, clinic: Service) -> None:
        with time_machine.travel(NOON, tick=False) as clock:
            lose(clinic, "visit-1")
            assert resolve(clinic, "not_sent").status == 200
            clock.shift(timedelta(minutes=20))
            with wire(lambda *_: (500, LOST)):
                assert send(clinic, *to_send(clinic)) == []
            (one,) = clinic.get(UNKNOWN).body["items"]
        assert (one["since"], one["overdue"]) == ("2026-11-25T12:20:00.000000Z", False)
        assert len(in_index(clinic)) == 1

    @pytest.mark.parametrize("outcome", ["sent", "not_sent"])
    def test_the_same_again_gets_the_same_answer_and_changes_nothing(self, clinic: Service, outcome: str) -> None:
        lose(clinic, "visit-1")
        attempt = decision(clinic)["attempt"]
        first = resolve(clinic, outcome, attempt=attempt)
        assert first.status == 200
        before = clinic.items()
        clinic.new_stream_records()
        assert resolve(clinic, outcome, attempt=attempt) == first
        assert resolve(clinic, outcome) == first
        assert clinic.items() == before
        assert published(clinic) == []

    @pytest.mark.parametrize(("outcome", "other"), [("sent", "not_sent"), ("not_sent", "sent")])
    def test_the_other_outcome_afterwards_is_a_conflict(self, clinic: Service, outcome: str, other: str) -> None:
        lose(clinic, "visit-1")
        assert resolve(clinic, outcome).status == 200
        before = clinic.items()
        assert resolve(clinic, other) == NOT_UNKNOWN
        assert clinic.items() == before

    @pytest.mark.parametrize("outcome", ["sent", "not_sent"])
    def test_somebody_elses_same_outcome_afterwards_is_a_conflict(self, clinic: Service, outcome: str) -> None:
        lose(clinic, "visit-1")
        assert resolve(clinic, outcome).status == 200
        assert resolve(clinic, outcome, sub="staff-8") == NOT_UNKNOWN

    def test_not_sent_again_after_it_was_sent_again_is_a_conflict(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        assert resolve(clinic, "not_sent").status == 200
        assert send(clinic, *to_send(clinic)) == []
        assert resolve(clinic, "not_sent") == NOT_UNKNOWN
        assert decision(clinic)["state"] == "sent"

    @pytest.mark.parametrize("outcome", ["sent", "not_sent"])
    def test_another_attempt_than_staff_looked_at_is_a_conflict(self, clinic: Service, outcome: str) -> None:
        lose(clinic, "visit-1")
        before = clinic.items()
        assert resolve(clinic, outcome, attempt="00000000-0000-4000-8000-000000000000") == NOT_UNKNOWN
        assert clinic.items() == before

    def test_the_first_attempt_is_another_than_the_one_that_is_unknown_now(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        first = decision(clinic)["attempt"]
        assert resolve(clinic, "not_sent", attempt=first).status == 200
        with wire(lambda *_: (500, LOST)):
            assert send(clinic, *to_send(clinic)) == []
        assert resolve(clinic, "not_sent", attempt=first) == NOT_UNKNOWN
        assert resolve(clinic, "sent", attempt=decision(clinic)["attempt"]).status == 200

    @pytest.mark.parametrize("outcome", ["sent", "not_sent"])
    @pytest.mark.parametrize("state", ["handed_over", "suppressed", "routed", "sending", "sent", "failed", "withdrawn"])
    def test_what_is_not_unknown_is_a_conflict(self, clinic: Service, state: str, outcome: str) -> None:
        bring_to(clinic, state)
        before = clinic.items()
        assert resolve(clinic, outcome) == NOT_UNKNOWN
        assert clinic.items() == before

    @pytest.mark.parametrize(
        "path", [f"{PATIENT}/decisions/automation:reminder:no", f"north/patients/p/decisions/{VISIT}"]
    )
    def test_a_decision_that_was_never_taken_is_not_found(self, clinic: Service, path: str) -> None:
        lose(clinic, "visit-1")
        assert clinic.post(f"{path}/resolve", {"outcome": "sent"}) == UNKNOWN_DECISION

    def test_one_of_another_practice_is_not_found(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        path = f"south/patients/p-1/decisions/{VISIT}/resolve"
        assert clinic.post(path, {"outcome": "not_sent"}, practice_ids=["south"]) == UNKNOWN_DECISION
        assert decision(clinic)["state"] == "unknown"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"outcome": "perhaps"}, "outcome"),
            ({"outcome": None}, "outcome"),
            ({"attempt": "x" * 65}, "attempt"),
            ({"attempt": 7}, "attempt"),
            ({"note": 7}, "note"),
            ({"by": "me"}, "by"),
        ],
    )
    def test_what_is_no_outcome_is_refused_by_field(self, clinic: Service, changes: dict[str, Any], field: str) -> None:
        lose(clinic, "visit-1")
        answer = clinic.post(f"{PATIENT}/decisions/{VISIT}/resolve", {"outcome": "sent", **changes})
        assert (answer.status, [error["loc"] for error in answer.body["errors"]]) == (422, [["body", field]])
        assert decision(clinic)["state"] == "unknown"

    def test_who_comes_second_of_two_gets_a_conflict(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        others: list[str] = []

        def before_me(asked: dict[str, Any]) -> None:
            if not others:
                others.append("staff-8")
                sends.resolve(KEY, "sent", "staff-8", None, None)

        with fault(aws.dynamodb(), "UpdateItem", before_me):
            assert resolve(clinic, "not_sent") == NOT_UNKNOWN
        assert decision(clinic)["life"][-1] == {"state": "sent", "at": TIME, "by": "staff-8"}

    @pytest.mark.parametrize("outcome", ["sent", "not_sent"])
    def test_the_sdk_that_sends_the_write_again_meets_its_own(self, clinic: Service, outcome: str) -> None:
        lose(clinic, "visit-1")
        times: list[int] = []

        def answer_is_lost(attempts: int, operation: Any, **_: object) -> int | None:
            if operation.name != "UpdateItem" or times:
                return None
            times.append(attempts)
            return 0

        client: Any = aws.dynamodb()
        hooks = client.meta.events
        hooks.register_first("needs-retry.dynamodb", answer_is_lost)
        try:
            answer = resolve(clinic, outcome)
        finally:
            hooks.unregister("needs-retry.dynamodb", answer_is_lost)
        assert times == [1]
        assert answer == Answer(200, decision(clinic), {})

    def test_a_table_that_is_busy_is_said_to_be(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        with fault(aws.dynamodb(), "UpdateItem", lambda _: client_error("ThrottlingException")):
            assert resolve(clinic, "sent") == BUSY
        assert decision(clinic)["state"] == "unknown"


def bring_to(service: Service, state: str) -> None:
    """Bring the reminder of the visit to a state."""
    if state == "handed_over":
        assert service.put("north", CLINIC | {"sending": False}).status == 200
    if state == "suppressed":
        assert service.put(f"{PATIENT}/do-not-contact", {"enabled": True}).status == 200
    bodies = routed(service)
    if state == "withdrawn":
        assert service.put("north", CLINIC | {"sending": False}).status == 200
    if state == "failed":
        with wire(lambda *_: (400, {"__type": "AccessDeniedException"})):
            assert send(service, *bodies) == []
    elif state == "sending":
        with throttled_settling():
            assert send(service, *bodies) == [0]
    elif state in ("sent", "withdrawn"):
        assert send(service, *bodies) == []
    assert decision(service)["state"] == state


def throttled_settling() -> Any:
    """The table takes the claim, and nothing after it."""
    calls: list[object] = []

    def answer(asked: dict[str, Any]) -> Any:
        calls.append(asked)
        return client_error("ThrottlingException") if len(calls) > 1 else None

    return fault(aws.dynamodb(), "UpdateItem", answer)


class TestReceipts:
    """What a provider reports of an attempt says that it was accepted."""

    @pytest.mark.parametrize("state", ["sending", "unknown"])
    def test_a_receipt_of_the_attempt_says_that_it_was_sent(self, clinic: Service, state: str) -> None:
        if state == "sending":
            bring_to(clinic, "sending")
        else:
            lose(clinic, "visit-1")
        clinic.new_stream_records()
        before = decision(clinic)
        assert clinic.record_receipts(receipt_of(clinic, before["attempt"])) == []
        left = {name: value for name, value in before.items() if name not in ("life", "state")}
        assert decision(clinic) == {
            **left,
            "state": "sent",
            "provider_message_id": "provider-1",
            "delivery": {"status": "delivered", "code": "TEXT_DELIVERED", "at": "2025-11-24T16:00:00.000000Z"},
            "life": [
                *before["life"],
                {"state": "sent", "at": TIME, "provider_message_id": "provider-1", "by": "receipt"},
            ],
        }
        assert (listed(clinic), in_index(clinic)) == ([], [])
        assert [(kind, detail["provider_message_id"]) for kind, detail in published(clinic)] == [
            ("MessageSent", "provider-1")
        ]

    @pytest.mark.parametrize("event_type", ["TEXT_BLOCKED", "TEXT_UNREACHABLE", "TEXT_PENDING", "TEXT_NEW_ONE"])
    def test_what_was_not_delivered_was_accepted_all_the_same(self, clinic: Service, event_type: str) -> None:
        lose(clinic, "visit-1")
        assert clinic.record_receipts(receipt_of(clinic, decision(clinic)["attempt"], event_type)) == []
        assert decision(clinic)["state"] == "sent"

    def test_one_that_comes_again_changes_nothing(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        told = receipt_of(clinic, decision(clinic)["attempt"])
        assert clinic.record_receipts(told) == []
        before = decision(clinic)
        assert clinic.record_receipts(told, told) == []
        assert decision(clinic) == before

    def test_one_that_comes_before_the_answer_stands_and_the_answer_adds_nothing(self, clinic: Service) -> None:
        bodies = routed(clinic)

        def at_once(operation: str, asked: dict[str, Any]) -> None:
            assert clinic.record_receipts(receipt_of(clinic, asked["Context"]["attempt"])) == []

        with wire(at_once):
            assert send(clinic, *bodies) == []
        sent = decision(clinic)
        assert (sent["state"], sent["provider_message_id"]) == ("sent", "provider-1")
        assert states(clinic) == ["routed", "sending", "sent"]
        assert sent["delivery"]["status"] == "delivered"

    @pytest.mark.parametrize("answer", [500, 400])
    def test_one_that_comes_before_a_failure_stands(self, clinic: Service, answer: int) -> None:
        """Even before a refusal: the provider has said both, and has it."""
        bodies = routed(clinic)

        def at_once(operation: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            assert clinic.record_receipts(receipt_of(clinic, asked["Context"]["attempt"])) == []
            return answer, {"__type": "InternalServerException" if answer == 500 else "AccessDeniedException"}

        with wire(at_once):
            assert send(clinic, *bodies) == []
        assert decision(clinic)["state"] == "sent"
        assert in_index(clinic) == []

    def test_the_receipt_of_a_lost_answer_comes_by_itself(self, clinic: Service) -> None:
        put_patient(clinic, sms.ANSWER_IS_LOST_RECEIPT_COMES)
        assert send(clinic, *routed(clinic)) == []
        assert decision(clinic)["state"] == "unknown"
        (message,) = clinic.carriers.accepted
        sent, delivered = sms.receipts(message)
        for detail, status in ((delivered, "delivered"), (sent, "delivered")):
            told = receipt(detail["eventType"], detail["messageId"], at=detail["eventTimestamp"])
            told["detail"] = detail
            assert clinic.record_receipts(told) == []
            assert (decision(clinic)["state"], decision(clinic)["delivery"]["status"]) == ("sent", status)
        assert decision(clinic)["provider_message_id"] == message["message_id"]

    def test_one_of_an_attempt_that_is_not_the_messages_says_nothing(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        before = decision(clinic)
        assert clinic.record_receipts(receipt_of(clinic, "another"), receipt_of(clinic, "")) == []
        assert decision(clinic) == before

    def test_a_late_one_withdraws_what_staff_had_sent_again_and_nobody_has_claimed(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        first = decision(clinic)["attempt"]
        assert resolve(clinic, "not_sent").status == 200
        (body,) = to_send(clinic)
        assert clinic.record_receipts(receipt_of(clinic, first)) == []
        withdrawn = decision(clinic)
        assert (withdrawn["state"], withdrawn["withdrawn"]) == ("withdrawn", "ALREADY_SENT")
        assert withdrawn["life"][-1] == {
            "state": "withdrawn",
            "at": TIME,
            "reason": "ALREADY_SENT",
            "provider_message_id": "provider-1",
            "by": "receipt",
        }
        assert [each["state"] for each in withdrawn["life"]] == ["routed", "sending", "unknown", "routed", "withdrawn"]
        told = [(kind, detail["reason"]) for kind, detail in published(clinic)]
        assert told == [("MessageWithdrawn", "ALREADY_SENT")]
        assert send(clinic, body) == []
        assert clinic.carriers.accepted == []

    def test_a_late_one_leaves_alone_what_has_been_sent_again(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        first = decision(clinic)["attempt"]
        assert resolve(clinic, "not_sent").status == 200
        assert send(clinic, *to_send(clinic)) == []
        before = decision(clinic)
        assert clinic.record_receipts(receipt_of(clinic, first)) == []
        assert decision(clinic) == before
        assert len(clinic.carriers.accepted) == 1

    def test_a_late_one_that_meets_the_claim_leaves_it(self, clinic: Service) -> None:
        """Between its read and its write somebody has claimed the message again."""
        lose(clinic, "visit-1")
        first = decision(clinic)["attempt"]
        assert resolve(clinic, "not_sent").status == 200
        bodies = to_send(clinic)

        def claimed_meanwhile(asked: dict[str, Any]) -> None:
            if ":withdrawn" in asked["ExpressionAttributeValues"] and not clinic.carriers.accepted:
                assert send(clinic, *bodies) == []

        with fault(aws.dynamodb(), "UpdateItem", claimed_meanwhile):
            assert clinic.record_receipts(receipt_of(clinic, first)) == []
        assert decision(clinic)["state"] == "sent"
        assert len(clinic.carriers.accepted) == 1

    def test_one_after_staff_have_said_that_it_was_sent_adds_its_delivery(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        assert resolve(clinic, "sent").status == 200
        before = decision(clinic)
        assert clinic.record_receipts(receipt_of(clinic, before["attempt"])) == []
        delivery = {"status": "delivered", "code": "TEXT_DELIVERED", "at": "2025-11-24T16:00:00.000000Z"}
        assert decision(clinic) == {**before, "delivery": delivery}

    def test_a_delivery_only_moves_up_whatever_order_receipts_come_in(self, clinic: Service) -> None:
        assert send(clinic, *routed(clinic)) == []
        attempt = decision(clinic)["attempt"]
        seen = []
        for n, event_type in enumerate(
            ["TEXT_SENT", "TEXT_PENDING", "TEXT_UNREACHABLE", "TEXT_DELIVERED", "TEXT_SENT"]
        ):
            assert clinic.record_receipts(receipt_of(clinic, attempt, event_type, at=1_764_000_000_000 + n)) == []
            seen.append(decision(clinic)["delivery"]["code"])
        assert seen == ["TEXT_SENT", "TEXT_SENT", "TEXT_UNREACHABLE", "TEXT_DELIVERED", "TEXT_DELIVERED"]
        assert decision(clinic)["state"] == "sent"

    def test_one_of_a_message_that_was_never_decided_says_nothing(self, clinic: Service) -> None:
        before = clinic.items()
        assert clinic.record_receipts(receipt_of(clinic, "a-1", "TEXT_SENT")) == []
        assert clinic.items() == before

    @pytest.mark.usefixtures("time_flies")
    def test_one_that_meets_others_writes_for_too_long_comes_again(self, clinic: Service) -> None:
        lose(clinic, "visit-1")
        told = receipt_of(clinic, decision(clinic)["attempt"])
        gone = client_error("ConditionalCheckFailedException")
        item = next(item for item in clinic.items() if item["SK"]["S"] == f"DECISION#{VISIT}")
        with fault(aws.dynamodb(), "UpdateItem", lambda _: (gone[0], {**gone[1], "Item": item})):
            assert clinic.record_receipts(told) == [0]
        assert decision(clinic)["state"] == "unknown"
        assert clinic.record_receipts(told) == []
        assert decision(clinic)["state"] == "sent"


class TestAlarm:
    def test_nothing_unknown_is_said_to_be_none(self, clinic: Service, capsys: pytest.CaptureFixture[str]) -> None:
        assert overdue(clinic, capsys) == [0.0]

    def test_those_of_all_practices_count_after_a_quarter_of_an_hour_until_they_are_resolved(
        self, clinic: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = {"practice_ids": ["south"]}
        lines = [{**BILLING, "phone_number": "+15035559500"}]
        south = CLINIC | {"lines": lines, "default_line": "billing"}
        with time_machine.travel(NOON, tick=False) as clock:
            assert clinic.put("south", south, **more).status == 200
            assert clinic.put("south/automations/reminder", REMINDER, **more).status == 200
            file = {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []}
            assert clinic.put("south/patients/p-1/contact-info", file, **more).status == 200
            with wire(lambda *_: (500, LOST)):
                assert send(clinic, *routed(clinic, trigger(practice_id="south"))) == []
            lose(clinic, "visit-1", "visit-2")
            clock.shift(timedelta(minutes=5))
            lose(clinic, "visit-3")
            clock.shift(timedelta(minutes=10))
            assert overdue(clinic, capsys) == [0.0]
            clock.shift(timedelta(microseconds=1))
            assert overdue(clinic, capsys) == [3.0]
            assert resolve(clinic, "sent").status == 200
            assert overdue(clinic, capsys) == [2.0]
            clock.shift(timedelta(minutes=5))
            assert overdue(clinic, capsys) == [3.0]
