"""Republishing, against S3, CloudFormation and EventBridge in moto; the function runs behind an endpoint of our own."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from moto import mock_aws

from patient_contact import republish

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:publish:live"


@dataclass
class Lambda:
    """The Lambda service, as far as invoking goes: what was sent to which function, and what it answers next."""

    invoked: list[tuple[str, Any]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    raising: bool = False


@pytest.fixture
def service() -> Iterator[Lambda]:
    state = Lambda()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.invoked.append((self.path, event))
            numbers = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
            failed = [{"itemIdentifier": number} for number in numbers if number in state.failing]
            answer: object = {"errorMessage": "broken"} if state.raising else {"batchItemFailures": failed}
            body = json.dumps(answer).encode()
            self.send_response(200)
            if state.raising:
                self.send_header("X-Amz-Function-Error", "Unhandled")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{server.server_port}")
        boto3.client("s3").create_bucket(Bucket="failed-records")
        outputs = {"FailedRecordsBucketName": "failed-records", "PublishEventsFunctionArn": FUNCTION}
        template = {
            "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        boto3.client("cloudformation").create_stack(StackName="clinic", TemplateBody=json.dumps(template))
        yield state
    server.shutdown()
    server.server_close()


def keep(key: str, *numbers: str) -> dict[str, Any]:
    """Put an invocation that failed into the bucket, as Lambda does, and return its event."""
    event = {"Records": [{"eventName": "INSERT", "dynamodb": {"SequenceNumber": number}} for number in numbers]}
    invocation = {"version": "1.0", "requestContext": {}, "DDBStreamBatchInfo": {}, "payload": json.dumps(event)}
    boto3.client("s3").put_object(Bucket="failed-records", Key=f"aws/lambda/{key}", Body=json.dumps(invocation))
    return event


def kept() -> list[str]:
    return [each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket="failed-records").get("Contents", [])]


def test_what_was_kept_is_published_and_gone(service: Lambda, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = keep("a", "1", "2"), keep("b", "3")

    assert republish.main(["--stack", "clinic"]) == 0

    assert [event for _, event in service.invoked] == [first, second]
    assert all("publish" in path and "live" in path for path, _ in service.invoked)
    assert kept() == []
    assert capsys.readouterr().out.splitlines() == [
        "published 2 records: aws/lambda/a",
        "published 1 records: aws/lambda/b",
        "3 records published, 0 kept",
    ]


def test_what_fails_again_is_kept_and_the_rest_is_published(
    service: Lambda, capsys: pytest.CaptureFixture[str]
) -> None:
    keep("a", "1", "2")
    keep("b", "3")
    service.failing = {"2"}

    assert republish.main(["--stack", "clinic"]) == 1

    assert kept() == ["aws/lambda/a"]
    assert capsys.readouterr().out.splitlines()[-1] == "1 records published, 2 kept"


def test_a_function_that_raises_loses_nothing(service: Lambda) -> None:
    keep("a", "1")
    service.raising = True

    assert republish.main(["--stack", "clinic"]) == 1

    assert kept() == ["aws/lambda/a"]


def test_an_empty_bucket_is_nothing_to_do(service: Lambda) -> None:
    assert republish.main(["--stack", "clinic"]) == 0
    assert service.invoked == []
