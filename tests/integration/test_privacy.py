"""Nothing that is emitted repeats what was submitted: no log line, metric or error answer."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from patient_contact import aws, log
from tests.integration.service import (
    ACCEPTED,
    BUSY,
    FAILED,
    PRACTICE,
    Answer,
    Service,
    bus_event,
    client_error,
    fault,
    throttled,
    time_of_event,
)

# Each value is unique, so that wherever it turns up it is known where it came from.
PATIENT = "zq-patient-7731"
CELL = "+15035550147"
JUNK_PHONE = "zqjunkphone"
NAME = "Zqfirstname"
BODY = "zqbodytext"
NOTE = "zqnote"
ADDRESS = "zqaddress@example.org"
SUBJECT = "zqsubject"
OCCURRENCE = "zq-occurrence"
KEY = "zq-key"
UNKNOWN_FIELD = "zqfield"
VALUES = ("zq", "5035550147", "503-555-0147", "555-0147", "(503) 555")

CONTACT_INFO = {
    "phones": [{"number": "(503) 555-0147", "line_type": "text_enabled"}, {"number": JUNK_PHONE}],
    "emails": [{"address": ADDRESS}],
}
REMINDER = {
    "name": "Reminder",
    "messages": {
        "text": {"body": f"{BODY} $first_name"},
        "call": {"body": f"{BODY} $first_name"},
        "email": {"subject": SUBJECT, "body": BODY},
    },
}
TEXT = {"channel": "text", "body": BODY}
BODIES: dict[str, Any] = {
    "contact-info": CONTACT_INFO,
    "preferred-contact": {"phone_number": CELL},
    "do-not-contact": {"enabled": True, "note": NOTE},
    "sms-consent": {"phone_number": CELL, "line": "main", "status": "opted_out", "note": NOTE},
    "search": {"phone_number": CELL},
    "evaluate": {
        "message": {"class": "manual", "channels": ["text"], "phone_number": CELL},
        "patient": {"phones": [{"number": CELL}], "emails": [{"address": ADDRESS}], "preferred_contact": CELL},
    },
    "messages": TEXT,
    "{automation_id}": REMINDER,
}


class Emitted:
    """All that the functions wrote, of whatever kind."""

    def __init__(self, capture: pytest.CaptureFixture[str], logged: io.StringIO) -> None:
        self._capture = capture
        self._logged = logged
        self._text = ""

    @property
    def text(self) -> str:
        """Everything so far, and everything after it next time."""
        captured = self._capture.readouterr()
        self._text += captured.out + captured.err
        return self._text + self._logged.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Everything that is JSON."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def tells(self) -> list[str]:
        """Whatever of the submitted values is in it."""
        return [line for line in self.text.splitlines() if any(value in line for value in VALUES)]


@pytest.fixture
def emitted(capsys: pytest.CaptureFixture[str]) -> Iterator[Emitted]:
    """What loggers write (ours keep the stream that they were made with), what is printed, what libraries log."""
    logged = io.StringIO()
    changed: list[tuple[Any, Any]] = []
    for name in ("practices", "preferences", "messages", "run_automation", "publish_events"):
        for handler in logging.getLogger(name).handlers:
            assert isinstance(handler, logging.StreamHandler)
            changed.append((handler, handler.setStream(logged)))
    # In Lambda, the root logger writes what libraries have to say from INFO on.
    root, libraries = logging.getLogger(), logging.StreamHandler(logged)
    level = root.level
    root.addHandler(libraries)
    root.setLevel(logging.INFO)
    yield Emitted(capsys, logged)
    root.removeHandler(libraries)
    root.setLevel(level)
    for handler, stream in changed:
        handler.setStream(stream)


@pytest.fixture
def clinic(service: Service) -> Service:
    assert service.put("north", PRACTICE).status == 200
    assert service.put("north/automations/reminder", REMINDER).status == 200
    assert service.put(f"north/patients/{PATIENT}/contact-info", CONTACT_INFO).status == 200
    return service


def body_of(key: str) -> Any:
    """A body for a route with values that would be recognised; None for a route that takes none."""
    return None if ACCEPTED[key] is None else BODIES.get(key.rpartition("/")[2], PRACTICE)


def request(service: Service, key: str, body: Any, **more: Any) -> Answer:
    headers = {"idempotency-key": KEY, **more.pop("headers", {})}
    ids = {"patient_id": PATIENT, "message_id": f"manual:{KEY}"} | more
    return service.request(key, body, headers=headers, **ids)


def event(**detail: object) -> dict[str, Any]:
    return bus_event(
        {
            "version": 1,
            "practice_id": "north",
            "patient_id": PATIENT,
            "automation_id": "reminder",
            "occurrence_id": OCCURRENCE,
            "context": {"first_name": NAME},
            **detail,
        }
    )


def spoiled(value: Any) -> Any:
    """A body with each value of another type: lists of what was there, unknown fields everywhere."""
    if isinstance(value, dict):
        return {name: spoiled(each) for name, each in value.items()} | {UNKNOWN_FIELD + "x": "zq"}
    if isinstance(value, list):
        return [spoiled(each) for each in value]
    return [value, "zq"]


def without_names(answer: Answer) -> str:
    """An error answer without the names of unknown fields, which it is about."""
    body = json.loads(json.dumps(answer.body))
    for error in body.get("errors", []):
        error["loc"] = [part for part in error["loc"] if not str(part).startswith(UNKNOWN_FIELD)]
    return json.dumps(body)


class TestRequests:
    def test_what_is_accepted_is_logged_by_hash_alone(self, clinic: Service, emitted: Emitted) -> None:
        for key in ACCEPTED:
            if not key.startswith("DELETE"):
                assert request(clinic, key, body_of(key)).status < 500, key
        assert emitted.tells() == []
        audits = [line for line in emitted.lines if line.get("message") == "audit"]
        assert len(audits) == sum(not key.startswith("DELETE") for key in ACCEPTED)
        hashed = log.keyed_hash("north", PATIENT)
        for audit in audits:
            assert audit["sub"] == "staff-7"
            assert audit["practice_id"] == "north"
            assert audit["route"] in ACCEPTED
            assert audit["patients"] in ([hashed], [])
            assert audit["patients"] == [hashed] or "{patient_id}" not in audit["route"]

    @pytest.mark.usefixtures("clinic")
    def test_the_hash_tells_practices_and_patients_apart(self) -> None:
        ids = [("north", PATIENT), ("south", PATIENT), ("north", "p-1")]
        assert len({log.keyed_hash(*each) for each in ids}) == 3

    def test_whom_a_search_found_is_logged_by_hash(self, clinic: Service, emitted: Emitted) -> None:
        assert clinic.post("north/patients/search", {"phone_number": CELL}).body["items"] == [{"patient_id": PATIENT}]
        (audit,) = (line for line in emitted.lines if line.get("message") == "audit")
        assert audit["patients"] == [log.keyed_hash("north", PATIENT)]

    @pytest.mark.parametrize("key", [key for key, body in ACCEPTED.items() if body is not None])
    def test_what_is_refused_is_neither_logged_nor_answered(self, clinic: Service, emitted: Emitted, key: str) -> None:
        body = body_of(key)
        answers = [
            request(clinic, key, spoiled(body)),
            request(clinic, key, {**body, UNKNOWN_FIELD: "zq"}),
            request(clinic, key, dict.fromkeys(body, "zq")),
            request(clinic, key, json.dumps(body).encode()[:-1]),
            request(clinic, key, json.dumps([body]).encode()),
            request(clinic, key, json.dumps(body).encode() + b"\xff"),
            request(clinic, key, json.dumps(body).encode() + b" " * 256 * 1024),
            request(clinic, key, body, practice_ids=["south"]),
            request(clinic, key, body, practice_id="zq north", practice_ids=["north"]),
        ]
        if "{patient_id}" in key:
            answers.append(request(clinic, key, body, patient_id="zq#patient"))
            answers.append(request(clinic, key, body, headers={"if-match": '"zq"', "idempotency-key": "zq key"}))
        for answer in answers:
            assert answer.status in (400, 403, 404, 412, 413, 422)
            assert not any(value in without_names(answer) for value in VALUES), answer
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("preferred-contact", {"phone_number": ADDRESS}),
            ("preferred-contact", {"phone_number": "+15035550148 zq"}),
            ("sms-consent", {"phone_number": JUNK_PHONE, "line": "main", "status": "opted_out"}),
            ("sms-consent", {"phone_number": CELL, "line": "zq", "status": "opted_out"}),
            ("do-not-contact", {"enabled": True, "note": "zq" * 501}),
            ("contact-info", {"phones": [{"number": "zq" * 33}], "emails": [{"address": "zq" * 161}]}),
            ("contact-info", {"phones": [{"number": CELL, "line_type": "zq"}], "emails": []}),
        ],
    )
    def test_a_value_that_cannot_be_is_not_repeated(
        self, clinic: Service, emitted: Emitted, path: str, body: object
    ) -> None:
        answer = clinic.put(f"north/patients/{PATIENT}/{path}", body)
        assert answer.status == 422
        assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize("query", ["limit=zq", "cursor=zq", "limit=5&cursor=%00zq", "text_other_number=zq"])
    def test_a_query_that_cannot_be_is_not_repeated(self, clinic: Service, emitted: Emitted, query: str) -> None:
        path = "routing/truth-table" if "other" in query else f"patients/{PATIENT}/changes"
        answer = clinic.get(f"north/{path}?{query}")
        assert answer.status == 422
        assert "zq" not in json.dumps(answer.body)
        assert emitted.tells() == []

    @pytest.mark.parametrize("key", ACCEPTED)
    def test_what_fails_is_logged_with_its_place_and_none_of_its_words(
        self, clinic: Service, emitted: Emitted, key: str
    ) -> None:
        response, parsed = client_error("ValidationException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"

        def raise_with_words(_: object) -> None:
            raise RuntimeError(f"{PATIENT} {CELL} {BODY}")

        for answer in (lambda _: (response, parsed), raise_with_words):
            with fault(aws.dynamodb(), "", answer):
                assert request(clinic, key, body_of(key)) == FAILED
        failures = [line for line in emitted.lines if line.get("message") == "request failed"]
        assert [line["error_type"] for line in failures] == ["ClientError", "RuntimeError"]
        assert all(line["frames"] for line in failures)
        assert emitted.tells() == []

    def test_a_busy_table_is_logged_without_what_was_asked_of_it(self, clinic: Service, emitted: Emitted) -> None:
        with throttled("TransactWriteItems"):
            assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]) == BUSY
        assert emitted.tells() == []


class TestEvents:
    GOOD: tuple[dict[str, object], ...] = (
        {},
        {"messages": {"text": {"body": f"{BODY} $first_name"}}},
        {"messages": {"email": {"subject": SUBJECT, "body": BODY}}},
        {"context": {"first_name": NAME * 200}},
    )
    BAD: tuple[dict[str, object], ...] = (
        {"version": "zq"},
        {"context": {"other": NAME}},
        {"context": {"first_name": [NAME]}},
        {"context": {"first_name": NAME * 1_000}},
        {"patient_id": "zq-unknown"},
        {"patient_id": "zq#"},
        {"practice_id": "zq-unknown"},
        {"automation_id": "zq-unknown"},
        {"messages": {"text": {"body": "$zq$"}}},
        {"messages": {"zq": {"body": BODY}}},
        {UNKNOWN_FIELD: BODY},
        {"send_before": "zq"},
    )

    @pytest.mark.parametrize("detail", GOOD)
    def test_what_is_decided_and_announced_is_not_logged(
        self, clinic: Service, emitted: Emitted, detail: dict[str, object]
    ) -> None:
        assert clinic.run_automations(event(**detail)) == []
        assert clinic.publish(clinic.new_stream_records()) == []
        assert clinic.events
        assert emitted.tells() == []

    @pytest.mark.parametrize("detail", BAD)
    @pytest.mark.parametrize("receives", [1, 5])
    def test_what_is_refused_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, detail: dict[str, object], receives: int
    ) -> None:
        body = event()
        body["detail"] |= detail
        failed = clinic.run_automations(body, receives=receives)
        reasons = [reason for reason, _ in clinic.dead_letters()]
        assert len(failed) + len(reasons) == 1
        assert not any(value in reason for reason in reasons for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "body",
        [
            "zq not JSON",
            json.dumps("zq"),
            event() | {"detail-type": "zq"},
            event() | {"time": "zq"},
            event() | {"time": time_of_event(days=-15)},
            bus_event("zq"),
            bus_event(["zq"]),
        ],
    )
    def test_an_envelope_that_is_none_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, body: object
    ) -> None:
        assert clinic.run_automations(body) == []
        ((reason, _),) = clinic.dead_letters()
        assert not any(value in reason for value in VALUES)
        assert emitted.tells() == []

    def test_the_name_of_a_missing_placeholder_is_said_since_it_is_the_templates(
        self, clinic: Service, emitted: Emitted
    ) -> None:
        assert clinic.run_automations(event(context={})) == []
        assert [reason for reason, _ in clinic.dead_letters()] == ["missing placeholder: first_name"]
        assert emitted.tells() == []

    @pytest.mark.parametrize("operation", ["BatchGetItem", "GetItem", "PutItem"])
    def test_what_fails_is_logged_with_its_place_and_none_of_its_words(
        self, clinic: Service, emitted: Emitted, operation: str
    ) -> None:
        response, parsed = client_error("ValidationException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"
        with fault(aws.dynamodb(), operation, lambda _: (response, parsed)):
            assert clinic.run_automations(event()) == [0]
            assert clinic.run_automations(event(), receives=5) == []
        assert [reason for reason, _ in clinic.dead_letters()] == ["gave up: ClientError"]
        assert emitted.tells() == []

    def test_what_cannot_be_published_or_dead_lettered_is_not_logged_either(
        self, clinic: Service, emitted: Emitted
    ) -> None:
        response, parsed = client_error("ValidationException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"
        with fault(aws.sqs(), "SendMessage", lambda _: (response, parsed)):
            assert clinic.run_automations("zq") == [0]
        assert clinic.run_automations(event()) == []
        records = clinic.new_stream_records()
        with fault(aws.events(), "PutEvents", lambda _: (response, parsed)):
            assert len(clinic.publish(records)) == 1
        del records[-1]["dynamodb"]["NewImage"]["outcome"]
        assert len(clinic.publish(records)) == 1
        assert emitted.tells() == []

    def test_metrics_say_the_service_and_the_reason_and_nothing_else(self, clinic: Service, emitted: Emitted) -> None:
        assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]).status == 200
        assert clinic.run_automations(event(), event(context={}), event(patient_id="zq-unknown"), receives=5) == []
        metrics = [line for line in emitted.lines if "_aws" in line]
        told = [{name: value for name, value in line.items() if name != "_aws"} for line in metrics]
        for line in metrics:
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "PatientContact"
            assert directive["Dimensions"] == [["service", "reason"]]
        assert sorted(told, key=str) == sorted(
            [
                {"service": "run_automation", "reason": "DO_NOT_CONTACT", "Suppressed": [1.0]},
                {"service": "run_automation", "reason": "missing placeholder", "DeadLettered": [1.0]},
                {"service": "run_automation", "reason": "gave up", "DeadLettered": [1.0]},
            ],
            key=str,
        )
