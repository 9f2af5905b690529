"""What a recipient of a campaign costs: from a page of BatchGetItem to its decision, and whole lists of growing size.

AWS is canned: each call gets its answer in this process, so that what is measured is our own work, and botocore's.
"""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import linear_regression
from time import perf_counter
from typing import Any, Literal

import boto3
import orjson
from botocore.awsrequest import AWSResponse
from pydantic import BaseModel

from patient_contact import aws, patients, table
from patient_contact.facesheet import facts_of
from patient_contact.facts import Consent, Email, Facts, Message, Phone, Policy
from patient_contact.routing import decide
from tests.benchmarks.measure import Contestant, Row, Target, compare, verdict

PAGE = 100
TURNS = 30
SIZES = (1_000, 10_000, 100_000, 1_000_000)
TABLE, BUCKET = "table", "lists"
OURS = "recipient: from BatchGetItem's page to the decision"
RESOURCE = "recipient: boto3.resource, and pydantic for each item"
REQUEST = "  of that, the two requests (answers empty)"
PARSED = "  of that, requests and botocore's answers"
FACTS = "  of that, requests, answers and facts"
ORJSON = "  orjson.loads of the same bytes"
TARGETS: dict[str, Target] = {RESOURCE: ("≥", 1.4)}
EXPONENT: Target = ("≤", 0.07)
MEMORY: Target = ("≤", 1.1)
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "TABLE_NAME": TABLE,
    "LISTS_BUCKET": BUCKET,
    "BULKS_QUEUE_URL": "http://127.0.0.1:9/bulks",
    "BULKS_DLQ_URL": "http://127.0.0.1:9/dead",
    "CHUNKS_QUEUE_URL": "http://127.0.0.1:9/chunks",
    "CHUNKS_DLQ_URL": "http://127.0.0.1:9/dead",
    "DECISION_RETENTION_DAYS": "400",
    "POWERTOOLS_METRICS_DISABLED": "true",
    "LOG_LEVEL": "CRITICAL",
}
MESSAGE = Message("campaign", frozenset({"text"}), "main")

Answer = Callable[[str, dict[str, Any]], dict[str, Any]]


def measured() -> list[Row]:
    """Measure a page of recipients in turns, then whole lists, each in a process of its own."""
    os.environ.update(ENVIRONMENT)
    return [*_page(), *_lists()]


# --- a page -------------------------------------------------------------------------------------------------------


def patient_item(patient_id: str) -> dict[str, Any]:
    """Give a patient as the table has them: a cell phone that opted out of another line, a landline, an address."""
    return {
        "PK": table.patient_pk("north", patient_id),
        "SK": "PATIENT",
        "phones": [
            {"number": number_of(patient_id), "line_type": "text_enabled", "status": "valid"},
            {"number": "+15035550199", "line_type": "landline", "status": "valid"},
        ],
        "emails": [{"address": f"{patient_id}@example.org", "status": "valid"}],
        "preferred_contact": None,
        "do_not_contact": False,
        "version": 3,
        "updated_at": "2026-11-20T17:02:11.000000Z",
        "updated_by": "registration",
    }


def number_of(patient_id: str) -> str:
    """Give the patient's cell phone."""
    return f"+1503{int(patient_id[2:]):07}"


def number_item(pk: str) -> dict[str, Any]:
    """Give what the table knows of a number."""
    return {"PK": pk, "SK": "NUMBER"}


def canned(operation: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Answer a read of patients and numbers."""
    found = []
    for key in asked["RequestItems"][TABLE]["Keys"]:
        pk = key["PK"]["S"]
        is_patient = key["SK"]["S"] == "PATIENT"
        found.append(table.encode_item(patient_item(pk.split("#")[3]) if is_patient else number_item(pk)))
    return {"Responses": {TABLE: found}, "UnprocessedKeys": {}}


def _page() -> list[Row]:
    ids = [("north", f"p-{n}") for n in range(PAGE)]
    answers: dict[bytes, bytes] = {}

    def kept(request: Any) -> bytes:
        # The answers are made once, before anything is measured.
        if request.body not in answers:
            answers[request.body] = json.dumps(canned("BatchGetItem", json.loads(request.body))).encode()
        return answers[request.body]

    def ours() -> None:
        gathering = patients.gather(ids)
        for person in gathering.people.values():
            if isinstance(person, patients.Gathered):
                decide(facts_of(person.patient, person.numbers), MESSAGE, Policy())

    def with_facts() -> None:
        for person in patients.gather(ids).people.values():
            if isinstance(person, patients.Gathered):
                facts_of(person.patient, person.numbers)

    keys = [{"PK": {"S": table.patient_pk(*each)}, "SK": {"S": "PATIENT"}} for each in ids]
    numbers = [
        {"PK": {"S": table.number_pk("north", number)}, "SK": {"S": "NUMBER"}}
        for number in dict.fromkeys(each for _, patient in ids for each in (number_of(patient), "+15035550199"))
    ]
    pages: list[Any] = [keys, numbers[:PAGE], numbers[PAGE:]]
    resource = boto3.resource("dynamodb")

    def read(ask: Any) -> None:
        for page in pages:
            ask(RequestItems={TABLE: {"Keys": page, "ConsistentRead": True}})

    def by_resource() -> None:
        decide_by_models(resource, ids)

    def parse_again() -> None:
        for answer in answers.values():
            orjson.loads(answer)

    def empty(request: Any) -> bytes:
        return b'{"Responses": {}, "UnprocessedKeys": {}}'

    def timed(work: Callable[[], None], answer: Callable[[Any], bytes] = kept) -> Contestant:
        def contestant() -> float:
            with answering(aws.dynamodb(), answer), answering(resource.meta.client, answer):
                began = perf_counter()
                work()
                return (perf_counter() - began) / PAGE

        return contestant

    client = aws.dynamodb()
    timed(ours)()
    contestants = {
        OURS: timed(ours),
        RESOURCE: timed(by_resource),
        REQUEST: timed(lambda: read(client.batch_get_item), empty),
        PARSED: timed(lambda: read(client.batch_get_item)),
        FACTS: timed(with_facts),
        ORJSON: timed(parse_again),
    }
    return compare(contestants, TARGETS, "µs", TURNS)


@contextmanager
def answering(client: Any, answer: Callable[[Any], bytes]) -> Iterator[None]:
    """Answer the requests of a client in this process."""

    def before_send(request: Any, **_: object) -> AWSResponse:
        return response(request.url, answer(request))

    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register_first(f"before-send.{service}", before_send)
    try:
        yield
    finally:
        client.meta.events.unregister(f"before-send.{service}", before_send)


def response(url: str, content: bytes) -> AWSResponse:
    """Give an answer of JSON."""
    headers = {"content-type": "application/x-amz-json-1.0"}
    answered: Any = AWSResponse(url, 200, headers, io.BytesIO())  # type: ignore[arg-type]  # never read
    answered._content = content  # noqa: SLF001 - the only way to give it a body without a socket
    return answered  # type: ignore[no-any-return]  # it is what its name says


# What most would write: the resource's own types, and a model for each item.


class PhoneModel(BaseModel):
    """A phone on file."""

    number: str
    line_type: Literal["text_enabled", "landline", "unknown"]
    status: Literal["valid", "invalid"]


class EmailModel(BaseModel):
    """An address on file."""

    address: str
    status: Literal["valid", "invalid"]


class ConsentModel(BaseModel):
    """What is recorded on a line."""

    line: str
    status: Literal["opted_in", "opted_out", "under_review"]


class NumberModel(BaseModel):
    """What is known of a number."""

    PK: str
    consents: list[ConsentModel] = []


class PatientModel(BaseModel):
    """A patient."""

    PK: str
    phones: list[PhoneModel]
    emails: list[EmailModel]
    preferred_contact: str | None
    do_not_contact: bool
    version: int
    updated_at: str
    updated_by: str


def decide_by_models(resource: Any, ids: list[tuple[str, str]]) -> None:
    """Read, model and decide as most would write it."""

    def read(keys: list[dict[str, str]]) -> list[dict[str, Any]]:
        found = []
        for start in range(0, len(keys), PAGE):
            request = {TABLE: {"Keys": keys[start : start + PAGE], "ConsistentRead": True}}
            found += resource.batch_get_item(RequestItems=request)["Responses"][TABLE]
        return found

    people = [PatientModel(**item) for item in read([{"PK": table.patient_pk(*each), "SK": "PATIENT"} for each in ids])]
    on_file = dict.fromkeys(phone.number for person in people for phone in person.phones)
    of_number = read([{"PK": table.number_pk("north", number), "SK": "NUMBER"} for number in on_file])
    known = {model.PK.split("#")[3]: model for model in (NumberModel(**item) for item in of_number)}
    for person in people:
        consents = tuple(
            Consent(phone.number, each.line, each.status)
            for phone in person.phones
            for each in known[phone.number].consents
        )
        facts = Facts(
            tuple(Phone(phone.number, phone.line_type, phone.status) for phone in person.phones),
            tuple(Email(email.address, email.status) for email in person.emails),
            person.preferred_contact,
            person.do_not_contact,
            consents,
        )
        decide(facts, MESSAGE, Policy())


# --- whole lists --------------------------------------------------------------------------------------------------


def _lists() -> list[Row]:
    rows: list[Row] = []
    seconds: dict[int, float] = {}
    memory: dict[int, float] = {}
    for size in SIZES:
        sys.stderr.write(f"measuring a list of {size:,}{' (ten minutes or more)' if size == SIZES[-1] else ''}\n")
        told = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.whole_list", str(size)],
            env=os.environ | ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        )
        seconds[size], memory[size] = json.loads(told.stdout.splitlines()[-1])
        each = 1e6 * seconds[size] / size
        rows.append((f"list of {size:,}: read, cut, routed and claimed", f"{each:.1f} µs a recipient", "", ""))
    slope, _ = linear_regression([math.log(size) for size in SIZES], [math.log(seconds[size]) for size in SIZES])
    grown = memory[SIZES[-1]] / memory[10_000]
    rows.append(("  time grows with its size to the power of", f"{slope:.3f}", "", verdict(abs(slope - 1), EXPONENT)))
    rows.append(("  peak memory at 1,000,000 to that at 10,000", f"{grown:.3f}", "", verdict(grown, MEMORY)))
    return rows
