"""Nothing that is emitted repeats what was submitted: no log line, metric or error answer."""

import base64
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from patient_contact import aws, log
from patient_contact.events import SEND_RECEIVES
from tests.integration import sending
from tests.integration.bulk import Work, leave_started, upload
from tests.integration.sending import CLINIC, leave_unknown, send, to_send, wire
from tests.integration.service import (
    BUCKET_BUSY,
    BULKS,
    BUSY,
    CSV_HEADER,
    EMAIL_SENDER,
    EVERY_ROUTE,
    FAILED,
    IMPORT,
    OF_THE_BUCKET,
    PRACTICE,
    WITH_BODY,
    Answer,
    Service,
    bus_event,
    client_error,
    fault,
    invalid,
    receipt,
    reply,
    throttled,
    time_of_event,
)
from tests.local import sms
from tests.local.stack import summary

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
KEY, UNRESOLVED = "zq-key", "zq-unresolved"
UNREAD, REPLY = "zq-unread", "zq-reply"
WORDS = "Please stop texting me, zqwords"
PROVIDER_ID = "zq-provider"
MARK = "zqmark"
# A patient who is in lists, in rows that fill no message.
OTHER = "zq-other-7731"
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
    "{review_id}": {"outcome": "not_a_request", "note": NOTE},
    "resolve": {"outcome": "sent", "note": NOTE},
    "broadcasts": {"name": NAME, "messages": {"text": {"body": BODY}}, "patient_ids": [PATIENT]},
    "campaigns": {
        "name": NAME,
        "messages": {"text": {"body": f"{BODY} $first_name"}},
        "list": {"key": "lists/north/zqlist.csv"},
    },
    "dry-run": {"messages": {"text": {"body": f"{BODY} $first_name"}}},
}
# Rows of a list that are refused for each of their parts, and whole; and one that is routed.
BAD_LINES = (
    b"",
    b"zq" * 33_000,
    b"zq\xff,Pat",
    f"{PATIENT},{NAME},zqmore".encode(),
    f'"{PATIENT},{NAME}'.encode(),
    b"zq patient,Pat",
    f",{NAME}".encode(),
    f"{OTHER},{NAME * 1_000}".encode(),
    f"zq-nobody,{NAME}".encode(),
    f"{PATIENT},{NAME}".encode(),
    f"{PATIENT},{NAME}".encode(),
)
BAD_JSON = (
    b"zq",
    b'{"zq": "zq"}',
    f'{{"patient_id": "{PATIENT}", "zq": 1}}'.encode(),
    b'{"patient_id": "zq#"}',
    f'{{"patient_id": "{PATIENT}", "context": "zq"}}'.encode(),
    f'{{"patient_id": "{PATIENT}", "context": {{"first_name": ["{NAME}"]}}}}'.encode(),
    f'{{"patient_id": "{PATIENT}", "context": {{"first_name": "\\ud800zq"}}}}'.encode(),
    f'{{"patient_id": "{OTHER}", "context": {{"zq": "{NAME}"}}}}'.encode(),
    f'"{OTHER}"'.encode(),
    f'{{"patient_id": "{PATIENT}", "context": {{"first_name": "{NAME}"}}}}'.encode(),
)
LISTED = {
    "zqlist.csv": b"\n".join((b"patient_id,first_name", *BAD_LINES)),
    "zqlist.jsonl": b"\n".join(BAD_JSON),
}
# Rows that are accepted, and rows that are refused for each of their cells, and whole.
GOOD_ROW = f"{CELL},main,opted_out,2025-11-20T17:02:11Z,zqsource"
BAD_ROWS = (
    "zqnumber,main,opted_out,2025-11-20T17:02:11Z,zqsource",
    f"{CELL}7,main,opted_out,2025-11-20T17:02:11Z,zqsource",
    f"{CELL},zqline,opted_out,2025-11-20T17:02:11Z,zqsource",
    f"{CELL},main,zqstatus,2025-11-20T17:02:11Z,zqsource",
    f"{CELL},main,opted_out,zqtime,zqsource",
    f"{CELL},main,opted_out,2925-11-20T17:02:11Z,zqsource",
    f"{CELL},main,opted_out,2025-11-20T17:02:11Z,{'zq' * 101}",
    f"{CELL},main,opted_out,zqsource",
    f"{CELL},main,opted_out,2025-11-20T17:02:11Z,zqsource,zqmore",
    f'=HYPERLINK("zq"),{CELL}',
)
PATIENT_PATH = "/v1/practices/{practice_id}/patients/{patient_id}"
GOOD_FILE = f"{CSV_HEADER}\n{GOOD_ROW}\n".encode()


FUNCTIONS = (
    "bulk",
    "consents",
    "look_up_number",
    "messages",
    "practices",
    "preferences",
    "publish_events",
    "record_receipt",
    "record_reply",
    "route_batch",
    "run_automation",
    "send_message",
    "start_bulk",
    "watch_due",
)


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
    for name in FUNCTIONS:
        assert logging.getLogger(name).handlers, name
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


@pytest.fixture(scope="module")
def clinic_as_put(once_deployed: Service) -> Any:
    """A clinic with a patient, and with one of all that waits."""
    service = once_deployed
    assert service.put("north", PRACTICE).status == 200
    assert service.put("north/automations/reminder", REMINDER).status == 200
    assert service.put(f"north/patients/{PATIENT}/contact-info", CONTACT_INFO).status == 200
    # One that waits to be read: about the other line, so that texts go on.
    unread = said(WORDS, UNREAD, at="2026-11-25T18:00:00.000Z", line="+15035559001")
    assert service.record_replies(unread) == []
    # One of which nobody knows whether it was sent.
    with sends_itself(service):
        leave_unknown(service, UNRESOLVED, patient_id=PATIENT)
        # Of lists of which a part is routed.
        leave_started(service, patient_id=PATIENT, mark=MARK)
    for name, data in LISTED.items():
        upload(service, data, name)
    snapshot = service.snapshot()
    service.forget()
    return snapshot


@pytest.fixture
def clinic(service: Service, clinic_as_put: Any) -> Service:
    service.restore(clinic_as_put)
    return service


@contextmanager
def sends_itself(service: Service) -> Iterator[None]:
    """Let the service send what the practice routes meanwhile, and confirm what patients say by keyword."""
    lines = [line | {"email_sender": EMAIL_SENDER, "self_managed_opt_outs": True} for line in CLINIC["lines"]]
    assert service.put("north", CLINIC | {"lines": lines}).status == 200
    yield
    assert service.put("north", PRACTICE).status == 200


def said(text: str | None = "STOP", message_id: str = REPLY, **more: Any) -> dict[str, Any]:
    """A reply with values that would be recognised."""
    return reply(text, message_id, **{"number": CELL, **more})


def reported(event_type: str = "TEXT_INVALID", **detail: Any) -> dict[str, Any]:
    """A receipt with values that would be recognised."""
    told = {"destinationPhoneNumber": CELL, "messageBody": BODY, "messageStatusDescription": "zqstatus", **detail}
    return receipt(event_type, PROVIDER_ID, **told)


def body_of(key: str) -> Any:
    """A body for a route with values that would be recognised; None for a route that takes none."""
    if key == IMPORT:
        return GOOD_FILE
    if EVERY_ROUTE[key] is None:
        return None
    body = BODIES.get(key.rpartition("/")[2], PRACTICE)
    return {**body, "patient_ids": [PATIENT]} if key.endswith("{automation_id}/dry-run") else body


def request(service: Service, key: str, body: Any, **more: Any) -> Answer:
    headers = {"idempotency-key": KEY, **more.pop("headers", {})}
    ids = {"patient_id": PATIENT, "message_id": f"manual:{UNRESOLVED}", "review_id": f"2026-12-10~{UNREAD}"} | more
    return service.request(key, body, headers=headers, **ids)


def close_review(service: Service) -> None:
    """Read the reply that waits, so that it is due on no day on which this runs."""
    assert service.post(f"north/consent-reviews/2026-12-10~{UNREAD}", {"outcome": "not_a_request"}).status == 200


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
        for key in EVERY_ROUTE:
            if not key.startswith("DELETE"):
                assert request(clinic, key, body_of(key)).status < 500, key
        assert emitted.tells() == []
        audits = [line for line in emitted.lines if line.get("message") == "audit"]
        assert len(audits) == sum(not key.startswith("DELETE") for key in EVERY_ROUTE)
        hashed = log.keyed_hash("north", PATIENT)
        # Who is in a list may be no patient.
        strangers = {log.keyed_hash("north", each) for each in (f"nobody-{MARK}", *map(str, range(100)))}
        for audit in audits:
            assert audit["sub"] == "staff-7"
            assert audit["practice_id"] == "north"
            assert audit["route"] in EVERY_ROUTE
            patients = set(audit["patients"])
            assert patients <= ({hashed} | (strangers if "{bulk_id}" in audit["route"] else set()))
            assert hashed in patients or not audit["route"].endswith(("/{patient_id}", "/recipients"))
            assert patients == {hashed} or "{patient_id}" not in audit["route"]

    @pytest.mark.usefixtures("clinic")
    def test_the_hash_tells_practices_and_patients_apart(self) -> None:
        ids = [("north", PATIENT), ("south", PATIENT), ("north", "p-1")]
        assert len({log.keyed_hash(*each) for each in ids}) == 3

    def test_whom_a_search_found_is_logged_by_hash(self, clinic: Service, emitted: Emitted) -> None:
        assert clinic.post("north/patients/search", {"phone_number": CELL}).body["items"] == [{"patient_id": PATIENT}]
        (audit,) = (line for line in emitted.lines if line.get("message") == "audit")
        assert audit["patients"] == [log.keyed_hash("north", PATIENT)]

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "numbers/search", {"phone_number": CELL}),
            ("GET", "consent-reviews", None),
            ("GET", "decisions/unknown", None),
        ],
    )
    def test_whose_consent_or_message_was_read_is_logged_by_hash(
        self, clinic: Service, emitted: Emitted, method: str, path: str, body: object
    ) -> None:
        answer = clinic.call(method, f"north/{path}", body)
        assert PATIENT in json.dumps(answer.body)
        (audit,) = (line for line in emitted.lines if line.get("message") == "audit")
        assert audit["patients"] == [log.keyed_hash("north", PATIENT)]

    @pytest.mark.parametrize("key", WITH_BODY)
    def test_what_is_refused_is_neither_logged_nor_answered(self, clinic: Service, emitted: Emitted, key: str) -> None:
        body = body_of(key)
        answers = [
            request(clinic, key, spoiled(body)),
            request(clinic, key, {**body, UNKNOWN_FIELD: "zq"}),
            request(clinic, key, dict.fromkeys(body, "zq")),
            request(clinic, key, json.dumps(body).encode()[:-1]),
            request(clinic, key, json.dumps([body]).encode()),
            request(clinic, key, json.dumps(body).encode() + b"\xff"),
            request(clinic, key, json.dumps(body).encode() + b" " * 1024 * 1024),
            request(clinic, key, body, practice_ids=["south"]),
            request(clinic, key, body, practice_id="zq north", practice_ids=["north"]),
        ]
        if "{patient_id}" in key:
            answers.append(request(clinic, key, body, patient_id="zq#patient"))
        # Neither header means anything to what staff say of a message.
        if "{patient_id}" in key and not key.endswith("/resolve"):
            answers.append(request(clinic, key, body, headers={"if-match": '"zq"', "idempotency-key": "zq key"}))
        if any(f"/{path}" in key for path in (*BULKS, "{automation_id}/dry-run")):
            answers.append(request(clinic, key, body, headers={"idempotency-key": "zq key"}))
            answers.append(request(clinic, key, body, query="?dry_run=zq"))
        if "{bulk_id}" in key:
            answers.append(request(clinic, key, body, bulk_id="zq#bulk"))
            answers.append(request(clinic, key, body, bulk_id="zq-bulk"))
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

    @pytest.mark.parametrize("row", BAD_ROWS)
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_row_that_cannot_be_imported_is_told_by_its_place_alone(
        self, clinic: Service, emitted: Emitted, row: str, dry_run: bool
    ) -> None:
        answer = clinic.import_csv(f"{CSV_HEADER}\n{row}\n", dry_run=dry_run)
        assert (answer.status, answer.body["rows"], len(answer.body["refused"])) == (200, 1, 1)
        assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (f"zqheader,line,status,said_at,source\n{GOOD_ROW}", 422),
            (GOOD_ROW, 422),
            (f'{CSV_HEADER}\n{GOOD_ROW}\n"zq never closed', 422),
            (f"{CSV_HEADER}\n{GOOD_ROW}\n" + "zq" * 70_000, 422),
            (f"{CSV_HEADER}\n" + f"{GOOD_ROW}\n" * 5_001, 422),
            (f"{CSV_HEADER}\n{GOOD_ROW}\n".encode() + b"\xffzq", 400),
            (f"{CSV_HEADER}\n{GOOD_ROW}\n".encode("utf-16"), 400),
            (f"{CSV_HEADER}\n" + f"{GOOD_ROW}\n" * 20_000, 413),
        ],
    )
    def test_a_file_that_cannot_be_is_not_repeated(
        self, clinic: Service, emitted: Emitted, data: str | bytes, status: int
    ) -> None:
        answer = clinic.import_csv(data)
        assert answer.status == status
        assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    def test_a_file_for_another_practice_is_not_repeated(self, clinic: Service, emitted: Emitted) -> None:
        for more in ({"practice_ids": ["south"]}, {"practice_id": "zq north", "practice_ids": ["north"]}):
            answer = request(clinic, IMPORT, GOOD_FILE, **more)
            assert answer.status == 403
            assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    def test_no_cursor_holds_a_number_since_it_is_in_urls(self, clinic: Service) -> None:
        staff = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        for line in ("main", "billing"):
            assert clinic.put(f"north/patients/{PATIENT}/sms-consent", staff | {"line": line}).status == 200
        rows = [GOOD_ROW.replace("0147", f"01{n}").replace("zqsource", "keyword") for n in range(50, 53)]
        assert clinic.import_csv("\n".join((CSV_HEADER, GOOD_ROW, *rows))).status == 200
        unread = said(WORDS, f"{REPLY}-2", at="2026-11-25T18:00:01.000Z", line="+15035559001")
        assert clinic.record_replies(said(), unread) == []
        with sends_itself(clinic):
            call = {"channel": "call", "body": BODY}
            assert request(clinic, f"POST {PATIENT_PATH}/messages", call).status == 202
            with wire(lambda *_: (500, {"__type": "InternalServerException"})):
                assert send(clinic, *to_send(clinic)) == []
        held: list[str] = []
        for path, body in (
            ("numbers/search", {"phone_number": CELL}),
            ("reports/opt-outs", None),
            ("consent-reviews", None),
            ("decisions/unknown", None),
            (f"campaigns/{BULKS['campaigns']}/recipients", None),
            ("patients/search", {"phone_number": CELL}),
        ):
            cursor, pages = "", 0
            while True:
                query = f"north/{path}?limit=1{cursor}"
                page = (clinic.get(query) if body is None else clinic.post(query, body)).body
                pages += 1
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
                held.append(base64.urlsafe_b64decode(page["next"] + "==").decode())
            assert pages > 1 or path == "patients/search", path
        assert len(held) > 9
        # The id of a reply is its own, and opaque; dates and times are of no patient.
        assert not any("503555" in place for place in held), held
        assert "000000 1" in held

    def test_a_page_of_the_report_as_csv_is_told_by_a_link_without_a_number(self, clinic: Service) -> None:
        rows = [GOOD_ROW.replace("0147", f"01{n}") for n in range(50, 53)]
        assert clinic.import_csv("\n".join((CSV_HEADER, *rows))).status == 200
        answer = clinic.get("north/reports/opt-outs?line=main&limit=1", headers={"accept": "text/csv"})
        (cursor,) = re.findall(r"cursor=([A-Za-z0-9_-]+)", answer.headers["link"])
        assert "503555" not in base64.urlsafe_b64decode(cursor + "==").decode()

    @pytest.mark.parametrize("key", EVERY_ROUTE)
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

    @pytest.mark.parametrize(("operation", "key"), OF_THE_BUCKET)
    def test_nor_are_those_of_the_bucket(self, clinic: Service, emitted: Emitted, operation: str, key: str) -> None:
        response, parsed = client_error("AccountProblem", 403)
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"

        def raise_with_words(_: object) -> None:
            raise RuntimeError(f"{PATIENT} {CELL} {BODY}")

        for answer in (lambda _: (response, parsed), raise_with_words):
            with fault(aws.s3(), operation, answer):
                assert request(clinic, key, body_of(key)) == FAILED
        failures = [line for line in emitted.lines if line.get("message") == "request failed"]
        assert [line["error_type"] for line in failures] == ["ClientError", "RuntimeError"]
        assert all(line["frames"] for line in failures)
        parsed["Error"]["Code"] = "SlowDown"
        with fault(aws.s3(), operation, lambda _: (response, parsed)):
            assert request(clinic, key, body_of(key)) == BUCKET_BUSY
        assert emitted.tells() == []

    def test_a_busy_table_is_logged_without_what_was_asked_of_it(self, clinic: Service, emitted: Emitted) -> None:
        with throttled("TransactWriteItems"):
            assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]) == BUSY
            assert clinic.put(f"north/patients/{PATIENT}/sms-consent", BODIES["sms-consent"]) == BUSY
            assert clinic.post(f"north/consent-reviews/2026-12-10~{UNREAD}", BODIES["{review_id}"]) == BUSY
            assert clinic.import_csv(GOOD_FILE) == BUSY
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("key", "operation"),
        [
            ("PUT /v1/practices/{practice_id}/patients/{patient_id}/sms-consent", "TransactWriteItems"),
            ("PUT /v1/practices/{practice_id}/patients/{patient_id}/contact-info", "BatchGetItem"),
            ("GET /v1/practices/{practice_id}/patients/{patient_id}", "Query"),
            ("POST /v1/practices/{practice_id}/numbers/search", "Query"),
            ("POST /v1/practices/{practice_id}/numbers/search", "BatchGetItem"),
            ("GET /v1/practices/{practice_id}/consent-reviews", "Query"),
            ("GET /v1/practices/{practice_id}/consent-reviews", "BatchGetItem"),
            ("GET /v1/practices/{practice_id}/reports/opt-outs", "Query"),
            ("POST /v1/practices/{practice_id}/consent-reviews/{review_id}", "TransactWriteItems"),
            ("GET /v1/practices/{practice_id}/decisions/unknown", "Query"),
            ("GET /v1/practices/{practice_id}/decisions/unknown", "BatchGetItem"),
            (f"POST {PATIENT_PATH}/decisions/{{message_id}}/resolve", "UpdateItem"),
            (IMPORT, "BatchGetItem"),
            (IMPORT, "TransactWriteItems"),
            ("POST /v1/practices/{practice_id}/broadcasts", "TransactWriteItems"),
            ("POST /v1/practices/{practice_id}/campaigns", "TransactWriteItems"),
            ("POST /v1/practices/{practice_id}/automations/{automation_id}/dry-run", "TransactWriteItems"),
            ("POST /v1/practices/{practice_id}/campaigns/{bulk_id}/dry-run", "TransactWriteItems"),
            ("POST /v1/practices/{practice_id}/campaigns/{bulk_id}/cancel", "TransactWriteItems"),
            ("GET /v1/practices/{practice_id}/campaigns/{bulk_id}/recipients", "Query"),
        ],
    )
    def test_nor_of_what_fails_half_way(self, clinic: Service, emitted: Emitted, key: str, operation: str) -> None:
        # What was recorded on the line before, so that it is the write itself that fails.
        assert clinic.record_replies(said(message_id=f"{REPLY}-2", number="+15035550149")) == []
        response, parsed = client_error("ValidationException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"
        with fault(aws.dynamodb(), operation, lambda _: (response, parsed)):
            assert request(clinic, key, body_of(key)) == FAILED
        failures = [line for line in emitted.lines if line.get("message") == "request failed"]
        assert [line["error_type"] for line in failures] == ["ClientError"]
        assert emitted.tells() == []

    @pytest.mark.parametrize("failure", ["refused", "broken", "queue"])
    def test_a_lookup_that_fails_is_logged_without_the_number(
        self, clinic: Service, emitted: Emitted, failure: str
    ) -> None:
        response, parsed = client_error("ThrottlingException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"

        def broken(_: object) -> None:
            raise RuntimeError(f"{PATIENT} {CELL} {BODY}")

        body = {"phones": [{"number": CELL}], "emails": []}
        with fault(aws.sms(), "CarrierLookup", broken if failure == "broken" else lambda _: (response, parsed)):
            if failure == "queue":
                with fault(aws.sqs(), "SendMessageBatch", lambda _: (response, parsed)):
                    answer = clinic.put(f"north/patients/{PATIENT}/contact-info", body)
            else:
                answer = clinic.put(f"north/patients/{PATIENT}/contact-info", body)
        assert answer.status == {"refused": 200, "broken": 500, "queue": 503}[failure]
        assert answer.status == 200 or not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []


class TestEvents:
    GOOD: tuple[dict[str, object], ...] = (
        {},
        {"messages": {"text": {"body": f"{BODY} $first_name"}}},
        {"messages": {"email": {"subject": SUBJECT, "body": BODY}}},
        {"context": {"first_name": NAME * 100}},
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
            assert clinic.record_replies("zq", said(line="+15035550147")) == [0, 1]
            assert clinic.record_receipts("zq") == [0]
            assert clinic.run("LookUpNumberFunction", "zq") == [0]
        assert clinic.run_automations(event()) == []
        records = clinic.new_stream_records()
        with fault(aws.events(), "PutEvents", lambda _: (response, parsed)):
            assert len(clinic.publish(records)) == 1
        del records[-1]["dynamodb"]["NewImage"]["outcome"]
        assert len(clinic.publish(records)) == 1
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "body",
        [
            said(),
            said("START"),
            said(WORDS),
            said("zq nonsense"),
            said("HELP"),
            said(None),
            said("zq" * 800),
            said("zq 👍 \ud83d"),
        ],
    )
    def test_what_patients_say_is_not_logged(self, clinic: Service, emitted: Emitted, body: dict[str, Any]) -> None:
        body = {**body, "MessageId": "zq-sns"}
        assert clinic.record_replies(body, body) == []
        assert clinic.publish(clinic.new_stream_records()) == []
        assert clinic.dead_letters("REPLIES") == []
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "body",
        [
            said(line=CELL),
            said(line="zq" * 20),
            said(number="zqnumber"),
            said(number=f"{CELL} zq"),
            said(message_id="zq#reply"),
            said(message_id="zq" * 100),
            said(messageBody=[WORDS]),
            said(messageBody={"zq": WORDS}),
            said("zq" * 10_001),
            {**said(), "Message": "zq not JSON"},
            {**said(), "Message": json.dumps(["zq"])},
            {**said(), "Timestamp": "zq"},
            {**said(), "Timestamp": 5035550147},
            "zq not JSON",
            json.dumps("zq"),
        ],
    )
    @pytest.mark.parametrize("receives", [1, 5])
    def test_a_reply_that_is_none_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, body: object, receives: int
    ) -> None:
        assert clinic.record_replies(body, receives=receives) == []
        ((reason, _),) = clinic.dead_letters("REPLIES")
        assert not any(value in reason for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "event_type", ["TEXT_INVALID", "TEXT_UNREACHABLE", "TEXT_DELIVERED", "TEXT_SENT", "ZQ_NEW"]
    )
    def test_what_carriers_report_is_not_logged(self, clinic: Service, emitted: Emitted, event_type: str) -> None:
        about = {"practice_id": "north", "patient_id": PATIENT, "message_id": "automation:reminder:zq"}
        for context in (None, about, {"zq": CELL}):
            assert clinic.record_receipts(reported(event_type, context=context)) == []
        assert clinic.publish(clinic.new_stream_records()) == []
        assert clinic.dead_letters("RECEIPTS") == []
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "body",
        [
            reported("zq type"),
            reported(eventTimestamp="zq"),
            reported(messageId="zq" * 200),
            reported(destinationPhoneNumber="zqnumber"),
            reported(originationPhoneNumber="zq" * 40),
            bus_event(["zq"], **{"detail-type": "zq"}),
            bus_event({"zq": CELL}, **{"detail-type": "Text Message Delivery Status Updated"}),
            "zq not JSON",
            json.dumps("zq"),
        ],
    )
    @pytest.mark.parametrize("receives", [1, 5])
    def test_a_receipt_that_is_none_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, body: object, receives: int
    ) -> None:
        assert clinic.record_receipts(body, receives=receives) == []
        ((reason, _),) = clinic.dead_letters("RECEIPTS")
        assert not any(value in reason for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize("number", [CELL, sms.INVALID, sms.LANDLINE, sms.OTHER])
    def test_what_is_looked_up_is_not_logged(self, clinic: Service, emitted: Emitted, number: str) -> None:
        assert clinic.run("LookUpNumberFunction", {"practice_id": "north", "phone_number": number}) == []
        assert clinic.publish(clinic.new_stream_records()) == []
        assert emitted.tells() == []
        assert number not in emitted.text

    @pytest.mark.parametrize(
        "body",
        [
            "zq not JSON",
            {"practice_id": "zq north", "phone_number": CELL},
            {"practice_id": "north", "phone_number": "zqnumber"},
            {"practice_id": "north", "phone_number": CELL, UNKNOWN_FIELD: "zq"},
            {"zq": "zq"},
        ],
    )
    @pytest.mark.parametrize("receives", [1, 5])
    def test_a_number_to_look_up_that_is_none_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, body: object, receives: int
    ) -> None:
        assert clinic.run("LookUpNumberFunction", body, receives=receives) == []
        ((reason, _),) = clinic.dead_letters("LOOKUPS")
        assert not any(value in reason for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("function", "queue", "body", "operation"),
        [
            ("RecordReplyFunction", "REPLIES", said(), "BatchGetItem"),
            ("RecordReplyFunction", "REPLIES", said(), "TransactWriteItems"),
            ("RecordReplyFunction", "REPLIES", said(WORDS), "GetItem"),
            ("RecordReplyFunction", "REPLIES", said(WORDS), "TransactWriteItems"),
            ("RecordReceiptFunction", "RECEIPTS", reported(), "BatchGetItem"),
            ("RecordReceiptFunction", "RECEIPTS", reported(), "GetItem"),
            ("RecordReceiptFunction", "RECEIPTS", reported(), "TransactWriteItems"),
            ("LookUpNumberFunction", "LOOKUPS", {"practice_id": "north", "phone_number": CELL}, "GetItem"),
            ("LookUpNumberFunction", "LOOKUPS", {"practice_id": "north", "phone_number": CELL}, "TransactWriteItems"),
        ],
    )
    @pytest.mark.parametrize("failure", ["ClientError", "RuntimeError"])
    def test_what_fails_of_a_reply_a_receipt_or_a_lookup_is_logged_without_its_words(
        self,
        clinic: Service,
        emitted: Emitted,
        function: str,
        queue: str,
        body: dict[str, Any],
        operation: str,
        failure: str,
    ) -> None:
        response, parsed = client_error("ValidationException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {WORDS}"

        def answer(_: object) -> Any:
            if failure == "RuntimeError":
                raise RuntimeError(f"{PATIENT} {CELL} {WORDS}")
            return response, parsed

        with fault(aws.dynamodb(), operation, answer):
            assert clinic.run(function, body) == [0]
            assert clinic.run(function, body, receives=5) == []
        assert [reason for reason, _ in clinic.dead_letters(queue)] == [f"gave up: {failure}"]
        failures = [line for line in emitted.lines if line.get("message") == "record failed"]
        assert [line["error_type"] for line in failures] == [failure] * 2
        assert all(line["frames"] for line in failures)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("code", "reasons"),
        [
            ("ThrottlingException", ["gave up: lookup failed: ThrottlingException"]),
            ("ValidationException", ["lookup refused: ValidationException"] * 2),
        ],
    )
    def test_why_a_carrier_does_not_answer_is_said_without_the_number(
        self, clinic: Service, emitted: Emitted, code: str, reasons: list[str]
    ) -> None:
        response, parsed = client_error(code)
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL}"
        body = {"practice_id": "north", "phone_number": CELL}
        with fault(aws.sms(), "CarrierLookup", lambda _: (response, parsed)):
            clinic.run("LookUpNumberFunction", body)
            assert clinic.run("LookUpNumberFunction", body, receives=5) == []
        assert [reason for reason, _ in clinic.dead_letters("LOOKUPS")] == reasons
        assert emitted.tells() == []

    def test_what_is_due_is_counted_and_not_told(self, clinic: Service, emitted: Emitted) -> None:
        close_review(clinic)
        assert clinic.record_replies(said(WORDS, at="2020-11-25T18:00:00.000Z")) == []
        clinic.runtime.invoke("WatchDueFunction", {})
        (metric,) = (line for line in emitted.lines if "ConsentReviewsOverdue" in line)
        assert any("DecisionsUnknown" in line for line in emitted.lines)
        assert metric["ConsentReviewsOverdue"] == [1.0]
        assert emitted.tells() == []

    def test_metrics_say_the_service_and_the_reason_and_nothing_else(self, clinic: Service, emitted: Emitted) -> None:
        close_review(clinic)
        assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]).status == 200
        assert clinic.run_automations(event(), event(context={}), event(patient_id="zq-unknown"), receives=5) == []
        assert clinic.record_replies(said(), said(), said(line=CELL), said("zq", f"{REPLY}-2")) == []
        assert clinic.record_receipts(reported(), reported("ZQ_NEW"), reported(originationPhoneNumber=CELL)) == []
        lookup = {"practice_id": "north", "phone_number": "+15035550148"}
        assert clinic.run("LookUpNumberFunction", lookup, lookup, "zq") == []
        clinic.runtime.invoke("WatchDueFunction", {})
        metrics = [line for line in emitted.lines if "_aws" in line]
        told = [{name: value for name, value in line.items() if name != "_aws"} for line in metrics]
        for line in metrics:
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert directive["Namespace"] == "PatientContact"
            by_reason = line["service"] != "watch_due"
            assert directive["Dimensions"] == [["service", "reason"] if by_reason else ["service"]]
        assert sorted(told, key=str) == sorted(
            [
                {"service": "record_reply", "reason": "opt_out", "Replies": [1.0]},
                {"service": "record_reply", "reason": "other", "Replies": [1.0]},
                {"service": "record_reply", "reason": "unknown line", "DeadLettered": [1.0]},
                {"service": "record_receipt", "reason": "TEXT_INVALID", "Receipts": [1.0]},
                {"service": "record_receipt", "reason": "other", "Receipts": [1.0]},
                {"service": "record_receipt", "reason": "not ours", "Receipts": [1.0]},
                {"service": "look_up_number", "reason": "MOBILE", "Lookups": [1.0]},
                {"service": "look_up_number", "reason": "invalid lookup", "DeadLettered": [1.0]},
                {"service": "watch_due", "ConsentReviewsOverdue": [0.0]},
                {"service": "watch_due", "DecisionsUnknown": [0.0]},
                {"service": "run_automation", "reason": "DO_NOT_CONTACT", "Suppressed": [1.0]},
                {"service": "run_automation", "reason": "missing placeholder", "DeadLettered": [1.0]},
                {"service": "run_automation", "reason": "gave up", "DeadLettered": [1.0]},
            ],
            key=str,
        )


# What each number makes of a text to it, by what becomes of the message.
MAGIC = {
    "+15035550148": ["sent"],
    sms.OPTED_OUT_AT_CARRIER: ["sent"],
    sms.NOT_A_NUMBER: ["sent"],
    sms.SEND_THROTTLES_TWICE: ["routed"],
    sms.ANSWER_IS_LOST: ["unknown"],
    sms.ANSWERS_500: ["unknown"],
    sms.ANSWER_IS_LOST_RECEIPT_COMES: ["unknown"],
    sms.UNREACHABLE: ["sent"],
}


class TestSending:
    """What is sent, and what becomes of it, is in no log line, metric or printed event."""

    @pytest.fixture(autouse=True)
    def sends(self, clinic: Service) -> Iterator[None]:
        with sends_itself(clinic):
            yield

    def state(self, clinic: Service, patient_id: str, message_id: str = f"automation:reminder:{OCCURRENCE}") -> str:
        return str(sending.decision(clinic, message_id, patient_id)["state"])

    def put(self, clinic: Service, patient_id: str, number: str) -> None:
        phones = [{"number": number, "line_type": "text_enabled"}]
        body = {"phones": phones, "emails": [{"address": ADDRESS}]}
        assert clinic.put(f"north/patients/{patient_id}/contact-info", body).status == 200

    def receipts_come(self, clinic: Service) -> None:
        """Each message that was accepted has its receipts, with all that carriers tell."""
        for message in clinic.carriers.so_far():
            about = {"context": message["context"], "destinationPhoneNumber": message["destination"]}
            for event_type in ("TEXT_SENT", "TEXT_UNREACHABLE", "TEXT_DELIVERED"):
                assert clinic.record_receipts(reported(event_type, **about)) == []

    def printed(self, clinic: Service) -> list[str]:
        """Each event as the local stack prints it; a message's id is the practice's own, and is printed."""
        lines = []
        for event in clinic.events:
            detail = json.loads(event["Detail"])
            line = summary(event["Source"], event["DetailType"], detail)
            assert json.loads(line).keys() <= {"source", "detail-type", "practice", "message_id", "outcome"}
            lines.append(line.replace(json.dumps(detail.get("message_id")), ""))
        return lines

    def test_no_send_is_told_whatever_becomes_of_it(self, clinic: Service, emitted: Emitted) -> None:
        for n, number in enumerate(MAGIC):
            self.put(clinic, f"zq-{n}", number)
        bodies = sending.routed(clinic, *(event(patient_id=f"zq-{n}") for n in range(len(MAGIC))))
        send(clinic, *bodies)
        assert [[self.state(clinic, f"zq-{n}")] for n in range(len(MAGIC))] == list(MAGIC.values())
        # What was refused as a text is an email by now; and what was throttled is sent in the end.
        assert len(clinic.emails()) == 1
        for _ in range(2):
            send(clinic, *bodies)
        self.receipts_come(clinic)
        for n, number in enumerate(MAGIC):
            if self.state(clinic, f"zq-{n}") == "unknown":
                path = f"north/patients/zq-{n}/decisions/automation:reminder:{OCCURRENCE}/resolve"
                resolution = "sent" if number == sms.ANSWERS_500 else "not_sent"
                assert clinic.post(path, {"outcome": resolution, "note": NOTE}).status == 200
        send(clinic, *to_send(clinic))
        assert emitted.tells() == []
        assert not any(number[1:] in emitted.text for number in MAGIC)

    @pytest.mark.parametrize("channel", ["text", "call", "email"])
    def test_a_whole_life_is_told_by_ids_alone(self, clinic: Service, emitted: Emitted, channel: str) -> None:
        clinic.events.clear()
        body = {"channel": channel, "body": BODY} | ({"subject": SUBJECT} if channel == "email" else {})
        answer = request(clinic, f"POST {PATIENT_PATH}/messages", body)
        assert answer.status == 202

        def lost(*_: object) -> None:
            raise ReadTimeoutError(endpoint_url=f"https://zq.example/{CELL}")

        with wire(lost):
            assert clinic.run("SendMessageFunction", *self.to_send(clinic)) == []
        assert self.state(clinic, PATIENT, f"manual:{KEY}") == "unknown"
        path = f"north/patients/{PATIENT}/decisions/manual:{KEY}/resolve"
        assert clinic.post(path, {"outcome": "not_sent", "note": NOTE}).status == 200
        assert clinic.run("SendMessageFunction", *self.to_send(clinic)) == []
        assert self.state(clinic, PATIENT, f"manual:{KEY}") == "sent"
        self.receipts_come(clinic)
        assert clinic.publish(clinic.new_stream_records()) == []
        assert {"MessageRouted", "MessageSent"} <= {each["DetailType"] for each in clinic.events}
        assert not any(value in line for line in self.printed(clinic) for value in VALUES)
        assert emitted.tells() == []

    def to_send(self, clinic: Service) -> list[dict[str, Any]]:
        """Announce what is new, and keep what was announced before."""
        before = list(clinic.events)
        bodies = [json.loads(body) for body in to_send(clinic)]
        clinic.events[:0] = before
        return bodies

    def test_what_is_withdrawn_or_fails_is_told_by_its_reason(self, clinic: Service, emitted: Emitted) -> None:
        clinic.events.clear()
        for n in range(3):
            assert clinic.run_automations(event(occurrence_id=f"zq-{n}")) == []
        bodies = self.to_send(clinic)
        refusal = {"__type": "ServiceQuotaExceededException", "Message": f"{CELL} {BODY}", "Reason": "ZQ_REASON"}
        with wire(lambda *_: (400, refusal)):
            assert clinic.run("SendMessageFunction", bodies[0]) == []
        assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]).status == 200
        assert clinic.run("SendMessageFunction", bodies[1]) == []
        assert clinic.put("north", PRACTICE).status == 200
        assert clinic.run("SendMessageFunction", bodies[2]) == []
        states = [self.state(clinic, PATIENT, f"automation:reminder:zq-{n}") for n in range(3)]
        assert states == ["failed", "withdrawn", "withdrawn"]
        assert clinic.publish(clinic.new_stream_records()) == []
        assert {"MessageFailed", "MessageWithdrawn"} <= {each["DetailType"] for each in clinic.events}
        assert not any(value in line for line in self.printed(clinic) for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize("text", ["STOP", "START", "HELP"])
    def test_the_confirmation_of_a_reply_is_not_told(self, clinic: Service, emitted: Emitted, text: str) -> None:
        clinic.events.clear()
        assert clinic.record_replies(said(text, at=sending.now())) == []
        assert clinic.run("SendMessageFunction", *self.to_send(clinic)) == []
        (confirmation,) = clinic.carriers.so_far()
        assert confirmation["destination"] == CELL
        assert PATIENT not in json.dumps(confirmation["context"])
        assert CELL not in json.dumps(confirmation["context"])
        self.receipts_come(clinic)
        assert clinic.publish(clinic.new_stream_records()) == []
        assert not any(value in line for line in self.printed(clinic) for value in VALUES)
        assert emitted.tells() == []

    def test_what_a_provider_gets_beside_the_message_names_it_by_ids(self, clinic: Service) -> None:
        send(clinic, *sending.routed(clinic, event()))
        (accepted,) = clinic.carriers.so_far()
        assert accepted["context"] == {
            "practice_id": "north",
            "patient_id": PATIENT,
            "message_id": f"automation:reminder:{OCCURRENCE}",
            "attempt": sending.UUID,
        }

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"patient_id": "zq#"}, "invalid detail: patient_id"),
            ({"patient_id": None}, "invalid detail: all of it"),
            ({"phone_number": CELL}, "invalid detail: all of it"),
            ({"patient_id": None, "phone_number": "zqnumber"}, "invalid detail: phone_number"),
            ({"message_id": f"zq {BODY}"}, "invalid detail: message_id"),
            ({"message_id": "manual:zq-none"}, "unknown message"),
            ({"practice_id": "zq-unknown"}, "unknown practice"),
        ],
    )
    @pytest.mark.parametrize("receives", [1, SEND_RECEIVES])
    def test_what_is_no_message_is_refused_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, change: dict[str, object], reason: str, receives: int
    ) -> None:
        (body,) = (json.loads(each) for each in sending.routed(clinic, event()))
        body["detail"] |= change
        assert clinic.run("SendMessageFunction", body, "zq not JSON", receives=receives) == []
        reasons = [told for told, _ in clinic.dead_letters("SENDS")]
        assert reasons == [reason, "invalid event: not JSON"] or reasons == ["invalid event: not JSON", reason]
        assert emitted.tells() == []

    @pytest.mark.parametrize("failure", ["ClientError", "RuntimeError"])
    @pytest.mark.parametrize("operation", ["BatchGetItem", "UpdateItem", "TransactWriteItems", "SendTextMessage"])
    def test_what_fails_is_logged_with_its_place_and_none_of_its_words(
        self, clinic: Service, emitted: Emitted, operation: str, failure: str
    ) -> None:
        self.put(clinic, PATIENT, sms.OPTED_OUT_AT_CARRIER)
        bodies = sending.routed(clinic, event())
        response, parsed = client_error("AccessDeniedException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"

        def answer(_: object) -> Any:
            if failure == "RuntimeError":
                raise RuntimeError(f"{PATIENT} {CELL} {BODY}")
            return response, parsed

        client: Any = aws.sms_sender() if operation == "SendTextMessage" else aws.dynamodb()
        with fault(client, operation, answer):
            failed = send(clinic, *bodies)
        # A refusal by the provider is an answer, and no failure of ours.
        failures = [line for line in emitted.lines if line.get("message") == "record failed"]
        refused = (operation, failure) == ("SendTextMessage", "ClientError")
        assert failed == ([] if refused else [0])
        assert [line["error_type"] for line in failures] == ([] if refused else [failure])
        assert all(line["frames"] for line in failures)
        assert emitted.tells() == []
        assert sms.OPTED_OUT_AT_CARRIER[1:] not in emitted.text

    def test_metrics_say_the_service_and_the_reason_and_nothing_else(self, clinic: Service, emitted: Emitted) -> None:
        for n, number in enumerate(MAGIC):
            self.put(clinic, f"zq-{n}", number)
        bodies = sending.routed(clinic, *(event(patient_id=f"zq-{n}") for n in range(len(MAGIC))))
        send(clinic, *bodies)
        send(clinic, bodies[0])
        assert clinic.run_automations(event()) == []
        assert clinic.put(f"north/patients/{PATIENT}/do-not-contact", BODIES["do-not-contact"]).status == 200
        send(clinic, *to_send(clinic), "zq")
        metrics = [line for line in emitted.lines if "_aws" in line and line["service"] == "send_message"]
        for line in metrics:
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert (directive["Namespace"], directive["Dimensions"]) == ("PatientContact", [["service", "reason"]])
        told = Counter((*(line.keys() - {"_aws", "service", "reason"}), line["reason"]) for line in metrics)
        assert told == {
            ("Sends", "sent"): 4,
            ("Sends", "unknown"): 3,
            ("Sends", "decided again"): 2,
            ("Sends", "done before"): 1,
            ("Sends", "withdrawn"): 1,
            ("Withdrawn", "DO_NOT_CONTACT"): 1,
            ("DeadLettered", "invalid event"): 1,
        }


class TestLists:
    """Whoever is in a list, and whatever became of its rows, is in no log line, metric, event, queue or name."""

    CAMPAIGN = f"north/campaigns/{BULKS['campaigns']}"

    def start(self, clinic: Service, path: str, body: object, key: str = KEY) -> str:
        answer = clinic.post(f"north/{path}", body, headers={"idempotency-key": key})
        assert answer.status == 202, answer
        return answer.headers["location"].removeprefix("/v1/practices/")

    def over(self, name: str) -> dict[str, Any]:
        return {**BODIES["campaigns"], "list": {"key": f"lists/north/{name}"}}

    def chunk(self, clinic: Service) -> str:
        """Start a broadcast, cut its list, and give its chunk."""
        self.start(clinic, "broadcasts", BODIES["broadcasts"])
        (event,) = Work(clinic).queued()
        assert clinic.run("StartBulkFunction", event) == []
        (chunk,) = Work(clinic).chunks()
        return chunk

    @pytest.mark.parametrize("name", LISTED)
    @pytest.mark.parametrize("is_sent", [False, True])
    @pytest.mark.parametrize("is_tried", [False, True])
    def test_a_whole_list_is_told_by_ids_of_its_own_alone(
        self, clinic: Service, emitted: Emitted, name: str, is_sent: bool, is_tried: bool
    ) -> None:
        work = Work(clinic)
        assert clinic.put(f"north/patients/{OTHER}/contact-info", CONTACT_INFO).status == 200
        if is_sent:
            assert clinic.put("north", CLINIC).status == 200
        path = self.start(clinic, f"campaigns?dry_run={json.dumps(is_tried)}", self.over(name))
        chunks = work.route()
        assert not any(value in chunk for chunk in chunks for value in VALUES)
        if is_sent:
            work.send()
        told = clinic.get(path).body
        assert (told["state"], told["done"], told["routed"]) == ("completed", told["total"], 1)
        for part in ("recipients", "recipients?outcome=refused", "unreachable"):
            for accept in ("application/json", "text/csv"):
                answer = clinic.get(f"{path}/{part}", headers={"accept": accept})
                assert answer.status == 200
                assert not any(value in json.dumps(dict(answer.headers)) for value in VALUES)
        refused = clinic.get(f"{path}/recipients?outcome=refused").body["items"]
        assert len(refused) == told["refused"]
        assert {each["reason"] for each in refused} == {
            "zqlist.csv": {
                "EMPTY_ROW",
                "ROW_TOO_LONG",
                "NOT_UTF8",
                "NOT_CSV",
                "NO_PATIENT_ID",
                "TOO_LONG_WHEN_FILLED",
                "UNKNOWN_PATIENT",
                "DUPLICATE",
            },
            "zqlist.jsonl": {"NOT_JSON", "NO_PATIENT_ID", "BAD_CONTEXT", "MISSING_PLACEHOLDER"},
        }[name]
        for each in refused:
            # Of a row that is none, no more is told than its number, and its patient where that could be read.
            assert each.pop("patient_id") in (PATIENT, OTHER, "zq-nobody", None)
            assert not any(value in json.dumps(each) for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize("actions", [["pause", "resume"], ["pause", "cancel"], ["cancel"]])
    def test_nor_is_one_that_is_steered(self, clinic: Service, emitted: Emitted, actions: list[str]) -> None:
        work = Work(clinic)
        for action in actions:
            assert clinic.post(f"{self.CAMPAIGN}/{action}").status == 200
            work.route()
        for event in work.publish():
            assert event["detail-type"] in ("MessageRouted", "MessageWithdrawn")
        assert emitted.tells() == []

    def test_what_is_announced_of_a_list_names_it_by_ids(self, clinic: Service) -> None:
        work = Work(clinic)
        path = self.start(clinic, "campaigns", self.over("zqlist.csv"))
        events = [event["detail"] for event in work.queued()]
        assert events == [
            {"version": 1, "event_id": events[0]["event_id"], "practice_id": "north", "run": 1, "bulk_id": path[-36:]}
        ]

    def test_no_object_has_a_name_that_says_whom_it_is_about(self, clinic: Service) -> None:
        self.start(clinic, "broadcasts", BODIES["broadcasts"])
        Work(clinic).route()
        # What the practice calls its own lists is its own.
        names = [name for name in clinic.objects() if not name.startswith("lists/")]
        assert {name.partition("/")[0] for name in names} == {"broadcasts", "results"}
        assert not any(value in name for name in names for value in VALUES)

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("zqlist.txt", b"zq"),
            ("zqempty.csv", b""),
            ("zqheader.csv", b"zqheader,zq\nzq,zq\n"),
            ("zqtwice.csv", b"patient_id,zq,zq\nzq,zq,zq\n"),
            ("zqquote.csv", b'patient_id,"zq\nzq,zq\n'),
            ("zqnorows.csv", b"patient_id,zq\n"),
            ("zqlong.csv", b"zq" * 40_000),
            ("zq16.csv", f"patient_id\n{PATIENT}".encode("utf-16")),
            ("zqlatin.csv", f"patient_id,zq\xe9\n{PATIENT},{NAME}".encode("latin-1")),
            ("zqnone.csv", None),
            ("../south/zqlist.csv", None),
        ],
    )
    def test_a_list_that_cannot_be_read_is_refused_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, name: str, data: bytes | None
    ) -> None:
        if data is not None:
            upload(clinic, data, name)
        for path, body in (
            ("campaigns", self.over(name)),
            ("campaigns?dry_run=true", self.over(name)),
            ("automations/reminder/dry-run", {"list": self.over(name)["list"]}),
        ):
            answer = clinic.post(f"north/{path}", body, headers={"idempotency-key": KEY})
            assert answer == invalid((["body", "list", "key"], "list", answer.body["detail"]))
            assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize("key", ["lists/south/zqlist.csv", "zqlist.csv", "zq" * 512, "lists/north", "\ud800zq"])
    def test_a_list_that_lies_elsewhere_is_refused_without_its_key(
        self, clinic: Service, emitted: Emitted, key: str
    ) -> None:
        answer = clinic.post(
            "north/campaigns", {**self.over(""), "list": {"key": key}}, headers={"idempotency-key": KEY}
        )
        assert answer.status == 422
        assert not any(value in json.dumps(answer.body) for value in VALUES)
        assert emitted.tells() == []

    def test_a_list_that_is_gone_is_said_to_be_without_its_name(self, clinic: Service, emitted: Emitted) -> None:
        path = self.start(clinic, "campaigns", self.over("zqlist.csv"))
        upload(clinic, b"patient_id\nzq\n", "zqlist.csv")
        assert Work(clinic).route() == []
        told = clinic.get(path).body
        assert (told["state"], told["failure"]) == ("failed", "the list has been replaced since it was started")
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        "body",
        [
            "zq not JSON",
            json.dumps("zq"),
            bus_event(["zq"], **{"detail-type": "BulkQueued"}),
            bus_event({"zq": CELL}, **{"detail-type": "BulkQueued"}),
            bus_event({"practice_id": "north", "bulk_id": "zq#", "run": 1}, **{"detail-type": "BulkQueued"}),
            bus_event({"practice_id": "zq-unknown", "bulk_id": "zq", "run": 1}, **{"detail-type": "BulkQueued"}),
            bus_event({"practice_id": "north", "bulk_id": "zq", "run": "zq"}, **{"detail-type": "BulkQueued"}),
            {"version": 1, "practice_id": "north", "bulk_id": "zq", "run": 1, "rows": {"zq": CELL}},
            {"version": 1, "practice_id": "north", "bulk_id": "zq", "run": 1, "rows": "zq", UNKNOWN_FIELD: "zq"},
            {
                "version": 1,
                "practice_id": "north",
                "bulk_id": "zq-none",
                "run": 1,
                "rows": {"number": 0, "begin": 0, "end": 1, "first_row": 1, "rows": 1, "too_long": False},
            },
        ],
    )
    @pytest.mark.parametrize(("function", "queue"), [("StartBulkFunction", "BULKS"), ("RouteBatchFunction", "CHUNKS")])
    @pytest.mark.parametrize("receives", [1, 5])
    def test_what_is_no_list_or_chunk_is_logged_with_a_reason_that_repeats_nothing(
        self, clinic: Service, emitted: Emitted, function: str, queue: str, body: object, receives: int
    ) -> None:
        assert clinic.run(function, body, receives=receives) == []
        ((reason, _),) = clinic.dead_letters(queue)
        assert not any(value in reason for value in VALUES)
        assert emitted.tells() == []

    @pytest.mark.parametrize(
        ("function", "client", "operation", "failure"),
        [
            (*called, failure)
            for called in (
                ("StartBulkFunction", "s3", "GetObject"),
                ("StartBulkFunction", "dynamodb", "GetItem"),
                ("StartBulkFunction", "dynamodb", "TransactWriteItems"),
                ("StartBulkFunction", "sqs", "SendMessageBatch"),
                ("RouteBatchFunction", "s3", "GetObject"),
                ("RouteBatchFunction", "s3", "PutObject"),
                ("RouteBatchFunction", "dynamodb", "BatchGetItem"),
                ("RouteBatchFunction", "dynamodb", "PutItem"),
                ("RouteBatchFunction", "dynamodb", "TransactWriteItems"),
            )
            for failure in ("ClientError", "RuntimeError", *(["BucketUnavailable"] if called[1] == "s3" else []))
        ],
    )
    def test_what_fails_of_a_list_is_logged_with_its_place_and_none_of_its_words(
        self, clinic: Service, emitted: Emitted, function: str, client: str, operation: str, failure: str
    ) -> None:
        response, parsed = client_error("SlowDown" if failure == "BucketUnavailable" else "AccountProblem", 403)
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"

        def answer(_: object) -> Any:
            if failure == "RuntimeError":
                raise RuntimeError(f"{PATIENT} {CELL} {BODY}")
            return response, parsed

        queue, body = "CHUNKS", ""
        if function == "RouteBatchFunction":
            body = self.chunk(clinic)
        else:
            queue = "BULKS"
            self.start(clinic, "broadcasts", BODIES["broadcasts"])
            (event,) = Work(clinic).queued()
            body = json.dumps(event)
        with fault({"s3": aws.s3, "dynamodb": aws.dynamodb, "sqs": aws.sqs}[client](), operation, answer):
            assert clinic.run(function, body) == [0]
            assert clinic.run(function, body, receives=5) == []
        assert [reason for reason, _ in clinic.dead_letters(queue)] == [f"gave up: {failure}"]
        failures = [line for line in emitted.lines if line.get("message") == "record failed"]
        assert [line["error_type"] for line in failures] == [failure] * 2
        assert all(line["frames"] for line in failures)
        assert emitted.tells() == []

    @pytest.mark.parametrize("operation", ["GetItem", "TransactWriteItems"])
    def test_what_cannot_be_counted_is_logged_without_its_words(
        self, clinic: Service, emitted: Emitted, operation: str
    ) -> None:
        assert clinic.put("north", CLINIC).status == 200
        self.start(clinic, "broadcasts", BODIES["broadcasts"])
        Work(clinic).route()
        assert send(clinic, *to_send(clinic)) == []
        response, parsed = client_error("AccessDeniedException")
        parsed["Error"]["Message"] = f"cannot take {PATIENT} {CELL} {BODY}"
        records = clinic.new_stream_records()
        with fault(aws.dynamodb(), operation, lambda _: (response, parsed)):
            assert len(clinic.publish(records)) == 1
        (failed,) = (line for line in emitted.lines if line.get("message") == "counting failed")
        assert failed["error_type"] == "ClientError"
        assert emitted.tells() == []

    def test_metrics_say_the_service_and_the_reason_and_nothing_else(self, clinic: Service, emitted: Emitted) -> None:
        work = Work(clinic)
        assert clinic.post(f"{self.CAMPAIGN}/cancel").status == 200
        work.route()
        stop = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert clinic.put(f"north/patients/{PATIENT}/sms-consent", stop).status == 200
        self.start(clinic, "broadcasts", BODIES["broadcasts"])
        work.route()
        self.start(clinic, "campaigns", self.over("zqlist.csv"))
        upload(clinic, b"patient_id\nzq\n", "zqlist.csv")
        work.route()
        assert clinic.run("StartBulkFunction", "zq") == clinic.run("RouteBatchFunction", "zq") == []
        metrics = [line for line in emitted.lines if "_aws" in line]
        for line in metrics:
            (directive,) = line["_aws"]["CloudWatchMetrics"]
            assert (directive["Namespace"], directive["Dimensions"]) == ("PatientContact", [["service", "reason"]])
        told = [{name: value for name, value in line.items() if name != "_aws"} for line in metrics]
        assert told == [
            {"service": "route_batch", "reason": "CANCELLED", "Withdrawn": [1.0]},
            {"service": "route_batch", "reason": "SMS_OPTED_OUT", "Suppressed": [1.0]},
            {"service": "start_bulk", "reason": "list unreadable", "BulksFailed": [1.0]},
            {"service": "start_bulk", "reason": "invalid event", "DeadLettered": [1.0]},
            {"service": "route_batch", "reason": "invalid chunk", "DeadLettered": [1.0]},
        ]
