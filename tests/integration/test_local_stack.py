"""The local stack behaves as the AWS services do that it stands for."""

import base64
import contextlib
import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from tests.local import api, demo_data, stream
from tests.local.runtime import Feed, InvocationFailed, Runtime, failed_items
from tests.local.stack import LocalStack, start, summary
from tests.local.template import EventSource, Function, Route
from tests.local.tokens import Tokens

SCOPES = "practice/read practice/admin contact-info/write preferences/read preferences/write messages/send"


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    with start(demo=True, retry_seconds=0) as running:
        yield running


def call(
    stack: LocalStack,
    method: str,
    path: str,
    body: object = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
    given = {"content-type": "application/json", **(headers or {})}
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    with contextlib.closing(connection):
        connection.request(method, path, data, given)
        answer = connection.getresponse()
        text = answer.read()
    return answer.status, json.loads(text) if text else None


def staff(stack: LocalStack, practice_id: str = "demo") -> str:
    return stack.token("staff-7", [practice_id], SCOPES)


def trigger(stack: LocalStack, patient_id: str, occurrence_id: str, times: int = 1, **detail: object) -> None:
    event = {
        "version": 1,
        "practice_id": "demo",
        "patient_id": patient_id,
        "automation_id": "appointment-reminder",
        "occurrence_id": occurrence_id,
        "context": {"first_name": "Pat", "when": "Monday"},
    }
    put(stack, "AutomationTriggered", event | detail, times)


def put(stack: LocalStack, detail_type: str, detail: object, times: int = 1) -> None:
    entry = {
        "EventBusName": stack.resources["EventBus"],
        "Source": "patient-contact.automations",
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
    }
    answer = stack.client("events").put_events(Entries=[entry] * times)
    assert answer["FailedEntryCount"] == 0


def published(stack: LocalStack, detail_type: str, patient_id: str) -> list[dict[str, Any]]:
    return [
        event["detail"]
        for event in list(stack.events)
        if event["detail-type"] == detail_type and event["detail"].get("patient_id") == patient_id
    ]


def of_message(stack: LocalStack, detail_type: str, patient_id: str, message_id: str) -> list[dict[str, Any]]:
    return [each for each in published(stack, detail_type, patient_id) if each["message_id"] == message_id]


def decision(stack: LocalStack, patient_id: str, message_id: str) -> Any:
    path = f"/v1/practices/demo/patients/{patient_id}/decisions/{message_id}"
    status, body = call(stack, "GET", path, token=staff(stack))
    return body if status == 200 else None


def accepted_for(stack: LocalStack, patient_id: str) -> list[dict[str, Any]]:
    """What the simulator of AWS End User Messaging has accepted for a patient."""
    with urllib.request.urlopen(f"{stack.sms_url}/accepted") as answer:
        return [each for each in json.load(answer) if each["context"].get("patient_id") == patient_id]


def dead_letter(stack: LocalStack, occurrence_id: str) -> Any:
    """The dead letter of an occurrence, once there is one, as somebody outside would receive it."""
    sqs, url = stack.client("sqs"), stack.environment["AUTOMATIONS_DLQ_URL"]

    def found() -> Any:
        messages = sqs.receive_message(
            QueueUrl=url, MessageAttributeNames=["All"], VisibilityTimeout=0, MaxNumberOfMessages=10
        ).get("Messages", [])
        return next((message for message in messages if f'"{occurrence_id}"' in message["Body"]), None)

    return stack.wait_until(found)


class TestCallers:
    """A site that a developer visits reaches this machine through the browser, and gets nothing of the stack."""

    PATHS = pytest.mark.parametrize("of", ["api_url", "aws_url", "sms_url"])
    SITES = pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"host": "evil.example:3000"},
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
        ],
    )

    @PATHS
    @SITES
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_another_site_is_refused(self, stack: LocalStack, of: str, headers: dict[str, str], method: str) -> None:
        answer = self.answer(getattr(stack, of), method, headers)
        assert answer.status == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]

    def test_programs_and_the_page_are_not(self, stack: LocalStack) -> None:
        own = {"host": urlsplit(stack.api_url).netloc, "origin": stack.api_url}
        assert self.answer(stack.api_url, "GET", own).status == 200
        assert self.answer(stack.sms_url, "GET", {}, "/accepted").status == 200
        assert stack.client("dynamodb").list_tables()["TableNames"]

    @staticmethod
    def answer(url: str, method: str, headers: dict[str, str], path: str = "/") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        with contextlib.closing(connection):
            connection.request(method, path, b"{}" if method == "POST" else None, headers)
            answer = connection.getresponse()
            answer.read()
            return answer


class TestRoutes:
    def test_an_unknown_path_is_not_found_as_at_api_gateway(self, stack: LocalStack) -> None:
        assert call(stack, "GET", "/nowhere", token=staff(stack)) == (404, {"message": "Not Found"})

    def test_a_trailing_slash_is_another_path(self, stack: LocalStack) -> None:
        assert call(stack, "GET", "/v1/practices/demo/", token=staff(stack)) == (404, {"message": "Not Found"})

    def test_a_method_without_a_route_is_not_found(self, stack: LocalStack) -> None:
        assert call(stack, "PATCH", "/v1/practices/demo", token=staff(stack)) == (404, {"message": "Not Found"})

    def test_an_encoded_slash_makes_another_path(self, stack: LocalStack) -> None:
        path = "/v1/practices/demo/patients/a%2Fb"
        assert call(stack, "GET", path, token=staff(stack)) == (404, {"message": "Not Found"})

    def test_a_path_parameter_is_decoded(self, stack: LocalStack) -> None:
        status, facesheet = call(stack, "GET", "/v1/practices/demo/patients/p%2Dtext", token=staff(stack))
        assert (status, facesheet["patient_id"]) == (200, "p-text")

    def test_a_body_over_ten_megabytes_never_reaches_a_function(self, stack: LocalStack) -> None:
        connection = http.client.HTTPConnection(urlsplit(stack.api_url).netloc)
        connection.putrequest("PUT", "/v1/practices/demo")
        connection.putheader("content-length", str(10 * 1024 * 1024 + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)) == (413, {"message": "Request Entity Too Large"})
        connection.close()

    def test_what_is_no_http_is_answered_and_the_connection_closed(self, stack: LocalStack) -> None:
        with socket.create_connection(("127.0.0.1", urlsplit(stack.api_url).port or 0), timeout=5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert b'{"message": "Bad Request"}' in connection.makefile("rb").read()


class TestAuthorizer:
    PATH = "/v1/practices/demo/patients/p-text"

    def test_no_token_is_unauthorized(self, stack: LocalStack) -> None:
        assert call(stack, "GET", self.PATH) == (401, {"message": "Unauthorized"})

    @pytest.mark.parametrize("token", ["", "junk", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
    def test_what_is_no_token_is_unauthorized(self, stack: LocalStack, token: str) -> None:
        assert call(stack, "GET", self.PATH, token=token) == (401, {"message": "Unauthorized"})

    def test_an_expired_token_is_unauthorized(self, stack: LocalStack) -> None:
        token = stack.tokens.issue("staff-7", ["demo"], SCOPES, lifetime=-1)
        assert call(stack, "GET", self.PATH, token=token) == (401, {"message": "Unauthorized"})

    @pytest.mark.parametrize("claim", [{"iss": "https://other.example"}, {"aud": "other"}])
    def test_a_token_of_another_issuer_or_for_another_audience_is_unauthorized(
        self, stack: LocalStack, claim: dict[str, str]
    ) -> None:
        token = stack.tokens.sign(stack.tokens.claims(staff(stack)) | claim)
        assert call(stack, "GET", self.PATH, token=token) == (401, {"message": "Unauthorized"})

    def test_a_token_signed_with_another_key_is_unauthorized(self, stack: LocalStack) -> None:
        claims = stack.tokens.claims(staff(stack))
        token = Tokens("any", ["any"]).sign(claims)
        assert call(stack, "GET", self.PATH, token=token) == (401, {"message": "Unauthorized"})

    def test_a_token_without_the_scope_of_the_route_is_forbidden(self, stack: LocalStack) -> None:
        token = stack.token("staff-7", ["demo"], "practice/read preferences/write")
        assert call(stack, "GET", self.PATH, token=token) == (403, {"message": "Forbidden"})

    def test_a_list_of_practices_in_the_token_is_accepted(self, stack: LocalStack) -> None:
        token = stack.tokens.sign(stack.tokens.claims(staff(stack)) | {"practice_ids": ["demo", "other"]})
        assert call(stack, "GET", self.PATH, token=token)[0] == 200


class TestTokens:
    def test_anybody_gets_the_token_they_ask_for(self, stack: LocalStack) -> None:
        wish = {"sub": "me", "practice_ids": ["demo"], "scope": "preferences/read"}
        status, answer = call(stack, "POST", "/local/token", wish)
        assert status == 200
        assert call(stack, "GET", TestAuthorizer.PATH, token=answer["access_token"])[0] == 200

    @pytest.mark.parametrize("wish", [None, [], {}, {"sub": "me"}, {"sub": 1, "practice_ids": "demo", "scope": None}])
    def test_a_wish_that_is_not_understood_is_refused(self, stack: LocalStack, wish: object) -> None:
        assert call(stack, "POST", "/local/token", wish)[0] == 400


class TestEvents:
    """Requests as functions see them, in payload format 2.0."""

    def event(self, target: str = "/v1/practices/demo", body: bytes = b"", **headers: str) -> dict[str, Any]:
        message = Message()
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        route = Route("PUT", "/v1/practices/{practice_id}", "PracticesFunction", ["practice/admin"])
        request = api.Request("PUT", target, message, body)
        return api.event(request, route, {"practice_id": "demo"}, {"practice_ids": ["a", "b"], "exp": 1, "sub": "me"})

    def test_json_arrives_as_text(self) -> None:
        event = self.event(body=b'{"name": "\xc3\xa9"}', content_type="application/json; charset=utf-8")
        assert (event["body"], event["isBase64Encoded"]) == ('{"name": "é"}', False)

    @pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", ""])
    def test_what_is_no_text_arrives_in_base64(self, content_type: str) -> None:
        event = self.event(body=b"{}", content_type=content_type)
        assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"{}").decode(), True)

    def test_bytes_that_are_no_utf_8_arrive_in_base64_whatever_they_claim(self) -> None:
        event = self.event(body=b"\xff", content_type="application/json")
        assert (event["body"], event["isBase64Encoded"]) == ("/w==", True)

    def test_a_request_without_a_body_has_none(self) -> None:
        assert "body" not in self.event()

    def test_names_of_headers_are_lower_case_and_repeated_ones_joined(self) -> None:
        headers = self.event(X_Tag="a", x_tag="b", Cookie="c=1; d=2")["headers"]
        assert headers == {"x-tag": "a,b"}

    def test_cookies_are_apart(self) -> None:
        assert self.event(Cookie="c=1; d=2")["cookies"] == ["c=1", "d=2"]

    def test_the_path_is_decoded_and_cut_at_a_decoded_question_mark(self) -> None:
        event = self.event("/v1/practices/d%C3%A9mo%3Fx?limit=1&limit=2&q=a%20b")
        assert event["rawPath"] == "/v1/practices/démo"
        assert event["rawQueryString"] == "limit=1&limit=2&q=a%20b"
        assert event["queryStringParameters"] == {"limit": "1,2", "q": "a b"}

    def test_claims_are_text_and_lists_are_in_brackets(self) -> None:
        authorizer = self.event()["requestContext"]["authorizer"]["jwt"]
        assert authorizer == {
            "claims": {"practice_ids": "[a b]", "exp": "1", "sub": "me"},
            "scopes": ["practice/admin"],
        }


class TestDemoData:
    def test_six_patients_and_three_automations_are_there(self, stack: LocalStack) -> None:
        for patient_id in demo_data.PATIENTS:
            path = f"/v1/practices/demo/patients/{patient_id}"
            assert call(stack, "GET", path, token=staff(stack))[0] == 200
        status, automations = call(stack, "GET", "/v1/practices/demo/automations", token=staff(stack))
        assert status == 200
        assert [each["automation_id"] for each in automations["items"]] == [
            "appointment-reminder",
            "balance-due",
            "recall",
        ]


class TestAutomations:
    VISIT = "automation:appointment-reminder:visit-1"

    def test_a_triggered_automation_is_decided_announced_and_sent(self, stack: LocalStack) -> None:
        trigger(stack, "p-text-email", "visit-1")
        (routed,) = stack.wait_until(lambda: published(stack, "MessageRouted", "p-text-email"))
        assert (routed["message_id"], routed["sender"], routed["channel"]) == (self.VISIT, "service", "text")
        (sent,) = stack.wait_until(lambda: published(stack, "MessageSent", "p-text-email"))
        recorded = decision(stack, "p-text-email", self.VISIT)
        assert (recorded["outcome"], recorded["channel"], recorded["state"]) == ("deliver", "text", "sent")
        (accepted,) = accepted_for(stack, "p-text-email")
        assert accepted["context"]["message_id"] == sent["message_id"] == self.VISIT
        assert accepted["message_id"] == sent["provider_message_id"] == recorded["provider_message_id"]
        assert accepted["context"]["attempt"] == sent["attempt"] == recorded["attempt"]

    def test_receipts_come_back_over_the_accounts_own_bus_and_say_how_far_it_came(self, stack: LocalStack) -> None:
        trigger(stack, "p-text-landline-email", "visit-1")

        def delivery() -> Any:
            recorded = decision(stack, "p-text-landline-email", self.VISIT)
            return recorded and recorded.get("delivery", {}).get("status") == "delivered" and recorded["delivery"]

        assert stack.wait_until(delivery)["code"] == "TEXT_DELIVERED"

    def test_an_email_is_sent_and_a_call_is(self, stack: LocalStack) -> None:
        for patient_id, channel in (("p-landline-email", "call"), ("p-email", "email")):
            trigger(stack, patient_id, "visit-6")
            message_id = "automation:appointment-reminder:visit-6"
            sent = stack.wait_until(partial(of_message, stack, "MessageSent", patient_id, message_id))
            assert [each["channel"] for each in sent] == [channel]
        assert [each["channel"] for each in accepted_for(stack, "p-landline-email")] == ["call"]

    def test_a_suppressed_message_is_announced_too(self, stack: LocalStack) -> None:
        trigger(stack, "p-landline", "recall-1", automation_id="recall")
        (suppressed,) = stack.wait_until(lambda: published(stack, "MessageSuppressed", "p-landline"))
        assert suppressed["message_id"] == "automation:recall:recall-1"

    def test_ten_events_for_one_occurrence_make_one_decision(self, stack: LocalStack) -> None:
        trigger(stack, "p-text", "visit-2", times=10)
        trigger(stack, "p-email", "visit-2")
        stack.wait_until(lambda: published(stack, "MessageRouted", "p-email"))
        stack.wait_until(lambda: waiting(stack) == 0)
        assert len(published(stack, "MessageRouted", "p-text")) == 1
        status, listed = call(stack, "GET", "/v1/practices/demo/patients/p-text/decisions", token=staff(stack))
        assert (status, len(listed["items"])) == (200, 1)

    def test_an_event_that_is_not_understood_is_dead_lettered_with_its_reason(self, stack: LocalStack) -> None:
        trigger(stack, "p-landline-email", "visit-3", version=2)
        letter = dead_letter(stack, "visit-3")
        assert letter["MessageAttributes"]["reason"]["StringValue"]

    def test_an_event_for_an_unknown_patient_is_retried_and_then_dead_lettered(self, stack: LocalStack) -> None:
        trigger(stack, "p-nobody", "visit-4")
        letter = dead_letter(stack, "visit-4")
        assert letter["MessageAttributes"]["reason"]["StringValue"]

    def test_an_event_that_comes_before_its_patient_is_handled_once_the_patient_is_there(
        self, stack: LocalStack
    ) -> None:
        trigger(stack, "p-late", "visit-5")
        stack.wait_until(lambda: waiting(stack) == 1)
        body = {"phones": [{"number": "+15035550199", "line_type": "text_enabled"}], "emails": []}
        path = "/v1/practices/demo/patients/p-late/contact-info"
        assert call(stack, "PUT", path, body, token=staff(stack))[0] == 200
        stack.wait_until(lambda: published(stack, "MessageRouted", "p-late"))

    def test_a_changed_preference_is_announced(self, stack: LocalStack) -> None:
        path = "/v1/practices/demo/patients/p-landline/do-not-contact"
        assert call(stack, "PUT", path, {"enabled": True}, token=staff(stack))[0] == 200
        stack.wait_until(
            lambda: [each for each in published(stack, "PreferencesChanged", "p-landline") if each["version"] == 1]
        )


def waiting(stack: LocalStack) -> int:
    """How many messages the queue of automations holds, in flight or not."""
    attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    queue = stack.describe()["resources"]["AutomationsQueue"]
    counts = stack.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=attributes)["Attributes"]
    return sum(int(count) for count in counts.values())


class TestAws:
    def test_outsiders_see_the_same_table(self, stack: LocalStack) -> None:
        items = stack.client("dynamodb").scan(TableName=stack.environment["TABLE_NAME"])["Items"]
        assert {"PK": {"S": "PRACTICE#demo"}, "SK": {"S": "PRACTICE"}}.items() <= next(
            item for item in items if item["SK"]["S"] == "PRACTICE"
        ).items()

    def test_the_table_forgets_what_has_expired(self, stack: LocalStack) -> None:
        answer = stack.client("dynamodb").describe_time_to_live(TableName=stack.environment["TABLE_NAME"])
        assert answer["TimeToLiveDescription"] == {"AttributeName": "expires_at", "TimeToLiveStatus": "ENABLED"}

    def test_a_cancelled_transaction_undoes_nobody_elses_writes(self, stack: LocalStack) -> None:
        dynamodb, table = boto3.client("dynamodb"), stack.environment["TABLE_NAME"]

        def key(name: str) -> dict[str, Any]:
            return {"TableName": table, "Key": {"PK": {"S": "TEST"}, "SK": {"S": name}}}

        def cancel(times: int) -> None:
            put_new = {"Put": {"TableName": table, "Item": key("never")["Key"]}}
            check = {"ConditionCheck": {**key("absent"), "ConditionExpression": "attribute_exists(PK)"}}
            operations: Any = [put_new, check]
            for _ in range(times):
                with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
                    dynamodb.transact_write_items(TransactItems=operations)

        def count(name: str, times: int) -> None:
            one = {":one": {"N": "1"}}
            for _ in range(times):
                dynamodb.update_item(**key(name), UpdateExpression="ADD n :one", ExpressionAttributeValues=one)

        # Updates of what is there: a new key would make moto's copying crash instead of losing it.
        names = [f"counter-{number}" for number in range(4)]
        for name in names:
            count(name, 1)
        with ThreadPoolExecutor(5) as threads:
            work = [threads.submit(cancel, 40), *(threads.submit(count, name, 120) for name in names)]
            for each in work:
                each.result()
        items = [dynamodb.get_item(**key(name), ConsistentRead=True)["Item"] for name in names]
        assert [item["n"]["N"] for item in items] == ["121"] * 4
        assert "Item" not in dynamodb.get_item(**key("never"), ConsistentRead=True)

    def test_a_rule_passes_an_event_on_as_it_was_put(self, stack: LocalStack) -> None:
        sqs, events, bus = stack.client("sqs"), stack.client("events"), stack.resources["EventBus"]
        url = sqs.create_queue(QueueName="listening")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name="listening", EventBusName=bus, EventPattern='{"source": ["somebody"]}')
        events.put_targets(Rule="listening", EventBusName=bus, Targets=[{"Id": "1", "Arn": arn}])
        detail = {"text": 'an "<id>" at <time>, é'}
        entry = {"EventBusName": bus, "Source": "somebody", "DetailType": "<source>", "Detail": json.dumps(detail)}
        events.put_events(Entries=[entry])
        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        event = json.loads(message["Body"])
        assert (event["account"], event["detail-type"], event["detail"]) == ("123456789012", "<source>", detail)

    def test_a_client_in_this_process_reaches_the_stack_and_never_aws(self, stack: LocalStack) -> None:
        assert stack.environment["TABLE_NAME"] in boto3.client("dynamodb").list_tables()["TableNames"]


def refuse_poison(event: dict[str, Any], context: object) -> None:
    """A function that fails on any batch with a poisoned record."""
    seen.append([record["dynamodb"]["Keys"]["SK"]["S"] for record in event["Records"]])
    if "poison" in seen[-1]:
        raise ValueError


def report_poison(event: dict[str, Any], context: object) -> dict[str, Any]:
    """A function that handles records up to a poisoned one and reports that."""
    seen.append([record["dynamodb"]["Keys"]["SK"]["S"] for record in event["Records"]])
    poisoned = [each["dynamodb"] for each in event["Records"] if each["dynamodb"]["Keys"]["SK"]["S"] == "poison"]
    return {"batchItemFailures": [{"itemIdentifier": each["SequenceNumber"]} for each in poisoned]}


def outlast(event: object, context: Any) -> int:
    """A function that uses up its time."""
    while left := context.get_remaining_time_in_millis():
        threading.Event().wait(left / 1000)
    return 0


seen: list[list[str]] = []


class TestStream:
    """Records of the table's stream, as Lambda passes them to a function that fails."""

    NAMES = ("a", "b", "poison", "c")

    def deliver(self, stack: LocalStack, handler: str) -> list[tuple[str, Any]]:
        """Put four items into a table, process its stream to the end, and return what was kept in the bucket."""
        seen.clear()
        dynamodb, s3, bucket = stack.client("dynamodb"), stack.client("s3"), stack.resources["FailedRecordsBucket"]
        keys = [("PK", "HASH"), ("SK", "RANGE")]
        table = dynamodb.create_table(
            TableName=f"stream-{handler}",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]
        for name in self.NAMES:
            item = {"PK": {"S": "x"}, "SK": {"S": name}, "value": {"B": b"\xff"}}
            dynamodb.put_item(TableName=table["TableName"], Item=item)
        source = EventSource(handler, table["LatestStreamArn"], 100, 0, True, True, 2, f"arn:aws:s3:::{bucket}")
        runtime = Runtime([Function(handler, f"{__name__}.{handler}", 5, 128, {})], stack.region)
        stopping, written = threading.Event(), threading.Event()
        thread = threading.Thread(target=stream.poll, args=(Feed(source, runtime, 0, stopping, written), s3))
        thread.start()
        stack.wait_until(lambda: stream.Stream(source.arn).first(100) == ([], 0))
        stopping.set()
        written.set()
        thread.join()
        dynamodb.delete_table(TableName=table["TableName"])
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"aws/lambda/{handler}/").get("Contents", [])
        objects = [(each["Key"], s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()) for each in listed]
        return [(key, json.loads(text)) for key, text in objects]

    def test_a_failing_batch_is_bisected_and_what_still_fails_is_kept_whole(self, stack: LocalStack) -> None:
        ((key, invocation),) = self.deliver(stack, "refuse_poison")
        assert seen == [[*self.NAMES], ["a", "b"], ["poison", "c"], ["poison"], ["poison"], ["poison"], ["c"]]
        assert key.startswith("aws/lambda/refuse_poison/shardId-")
        assert invocation["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert invocation["DDBStreamBatchInfo"]["batchSize"] == 1
        (record,) = json.loads(invocation["payload"])["Records"]
        assert record["dynamodb"]["NewImage"] == {"PK": {"S": "x"}, "SK": {"S": "poison"}, "value": {"B": "/w=="}}

    def test_records_before_a_reported_one_are_done(self, stack: LocalStack) -> None:
        kept = self.deliver(stack, "report_poison")
        assert seen == [[*self.NAMES], ["poison", "c"], ["poison"], ["poison"], ["poison"], ["c"]]
        assert len(kept) == 1


class TestRuntime:
    def test_a_function_that_outlasts_its_time_out_has_failed(self) -> None:
        runtime = Runtime([Function("Slow", f"{__name__}.outlast", 0, 128, {})], "us-east-1")
        with pytest.raises(InvocationFailed):
            runtime.invoke("Slow", {})

    @pytest.mark.parametrize(
        ("answer", "failed"),
        [
            (None, set()),
            ({}, set()),
            ({"batchItemFailures": []}, set()),
            ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
            ({"batchItemFailures": [{"itemIdentifier": "x"}]}, {"a", "b"}),
            ({"batchItemFailures": [{}]}, {"a", "b"}),
        ],
    )
    def test_items_fail_as_reported_and_a_report_that_makes_no_sense_fails_all(
        self, answer: object, failed: set[str]
    ) -> None:
        assert failed_items(answer, ["a", "b"]) == failed


class TestAnnouncements:
    def test_a_printed_event_says_nothing_of_the_patient(self) -> None:
        detail = {
            "practice_id": "demo",
            "patient_id": "p-1",
            "message_id": "manual:k",
            "outcome": "deliver",
            "body": "Hi",
        }
        assert json.loads(summary("patient-contact.routing", "MessageRouted", detail)) == {
            "source": "patient-contact.routing",
            "detail-type": "MessageRouted",
            "practice": "demo",
            "message_id": "manual:k",
            "outcome": "deliver",
        }

    @pytest.mark.parametrize("detail", [[], "text", {"practice_id": "Jane Doe, 5 Elm Street"}, {"message_id": {}}])
    def test_what_is_no_id_is_not_printed(self, detail: object) -> None:
        assert json.loads(summary("s", "d", detail)) == {"source": "s", "detail-type": "d"}
