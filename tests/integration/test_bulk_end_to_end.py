"""A campaign on the local stack: started, paused, stopped by some, and accounted for.

RECIPIENTS says how many patients it has (`make soak`: 1,000).
"""

import http.client
import json
import os
from collections import Counter
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from tests.integration.bulk import CAMPAIGN, csv_of, put_patients
from tests.local import demo_data
from tests.local.stack import LocalStack, start

PATIENTS = int(os.environ.get("RECIPIENTS", "200"))
# Who writes STOP while the campaign is under way.
STOPPING = range(PATIENTS - 5, PATIENTS)
SCOPE = "practice/admin preferences/read messages/send"
LINE = "+15035559000"


def number(patient: int) -> str:
    return f"+1503555{patient:04}"


def call(stack: LocalStack, method: str, path: str, body: object = None) -> Any:
    token = stack.token("staff-7", ["demo"], SCOPE)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", "idempotency-key": "flu-2026"}
    sent = None if body is None else json.dumps(body)
    return fetch(stack.api_url, method, f"/v1/practices/demo{path}", sent, headers)


def fetch(url: str, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Any:
    with closing(http.client.HTTPConnection(urlsplit(url).netloc)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        told = json.load(answer)
    assert answer.status < 300, told
    return told


def stop(stack: LocalStack, patient: int) -> None:
    """Send STOP from the patient's phone."""
    message = {
        "originationNumber": number(patient),
        "destinationNumber": LINE,
        "messageKeyword": "KEYWORD",
        "messageBody": "STOP",
        "inboundMessageId": f"stop-{patient}",
        "previousPublishedMessageId": "none",
    }
    stack.client("sns").publish(TopicArn=stack.resources["RepliesTopic"], Message=json.dumps(message))


def test_all_patients_are_texted_once_each_but_for_those_who_stopped_before() -> None:
    shown: list[str] = []
    with start(demo=False, show=lambda line, _: shown.append(line)) as stack:
        call(stack, "PUT", "", demo_data.PRACTICE | {"sending": True})
        put_patients(
            ((f"p-{n}", [{"number": number(n)}]) for n in range(PATIENTS)), stack.environment["TABLE_NAME"], "demo"
        )
        stack.client("s3").put_object(
            Bucket=stack.environment["LISTS_BUCKET"],
            Key="lists/demo/flu.csv",
            Body=csv_of(f"p-{n}" for n in range(PATIENTS)).encode(),
        )
        started = call(stack, "POST", "/campaigns", CAMPAIGN | {"list": {"key": "lists/demo/flu.csv"}})
        path = f"/campaigns/{started['id']}"

        stack.wait_until(lambda: call(stack, "GET", path)["done"] >= 100, timeout=300)
        assert call(stack, "POST", f"{path}/pause")["state"] == "paused"
        for patient in STOPPING:
            stop(stack, patient)
        opted_out = "/reports/opt-outs?limit=100"
        stack.wait_until(lambda: len(call(stack, "GET", opted_out)["items"]) == len(STOPPING), timeout=300)
        sent_before = {each["destination"] for each in accepted(stack)}
        assert call(stack, "POST", f"{path}/resume")["state"] in ("queued", "running")
        stack.wait_until(lambda: call(stack, "GET", path)["state"] == "completed", timeout=900)

        told = call(stack, "GET", path)
        times = Counter(each["destination"] for each in accepted(stack))
        late = [number(patient) for patient in STOPPING if number(patient) not in sent_before]
        assert late
        assert times == {number(n): 1 for n in range(PATIENTS) if number(n) not in late}
        assert told["total"] == told["done"] == PATIENTS
        assert told["routed"] + told["suppressed"] == PATIENTS
        assert told["sent"] == PATIENTS - len(late)
        assert told["withdrawn"] + told["by_reason"].get("SMS_OPTED_OUT", 0) == len(late)
        assert (told["refused"], told["failed"], told["unknown"]) == (0, 0, 0)
        stack.wait_until(lambda: "completed" in shown[-1])
        assert shown[-1].startswith(
            f"campaign {started['id'][:8]} [{'#' * 30}] 100%  {PATIENTS:,} of {PATIENTS:,}, completed"
        )


def accepted(stack: LocalStack) -> list[dict[str, Any]]:
    """Give what the simulator of AWS End User Messaging has accepted."""
    told: list[dict[str, Any]] = fetch(stack.sms_url, "GET", "/accepted")
    return told
