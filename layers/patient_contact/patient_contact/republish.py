"""Puts stream records back that could not be published: `python -m patient_contact.republish --stack NAME`.

I/O. For operators, who may read the stack, read and delete in its bucket of failed records, and invoke its function.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

# One attempt, longer than the function's own time-out: its answer decides whether the records may go.
PATIENT = Config(read_timeout=70, retries={"total_max_attempts": 1})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One kept batch: its key, how many records are in it, and whether they are published and the object deleted."""

    key: str
    records: int
    published: bool


def republish(stack: str) -> Iterator[Attempt]:
    """Publish what the stack's bucket keeps, oldest first; what fails again stays for the next time."""
    described = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    bucket, function = outputs["FailedRecordsBucketName"], outputs["PublishEventsFunctionArn"]
    s3, functions = boto3.client("s3"), boto3.client("lambda", config=PATIENT)
    for key in _oldest_first(s3, bucket):
        invocation = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        # Lambda keeps the whole event as a text.
        payload = invocation["payload"]
        event = json.loads(payload) if isinstance(payload, str) else payload
        answer: dict[str, Any] = dict(functions.invoke(FunctionName=function, Payload=json.dumps(event).encode()))
        # With a FunctionError, the payload is the error and not a batch response.
        published = "FunctionError" not in answer and json.loads(answer["Payload"].read()) == {"batchItemFailures": []}
        if published:
            s3.delete_object(Bucket=bucket, Key=key)
        yield Attempt(key, len(event["Records"]), published)


def _oldest_first(s3: "S3Client", bucket: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="aws/lambda/")
    kept = [each for page in pages for each in page.get("Contents", [])]
    return [each["Key"] for each in sorted(kept, key=lambda each: (each["LastModified"], each["Key"]))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Republish, saying how each batch went; the exit status is 1 when some are still kept."""
    parser = argparse.ArgumentParser(description="Put stream records back that could not be published.")
    parser.add_argument("--stack", required=True, help="name of the CloudFormation stack")
    published = kept = 0
    for attempt in republish(parser.parse_args(arguments).stack):
        published += attempt.records * attempt.published
        kept += attempt.records * (not attempt.published)
        sys.stdout.write(f"{'published' if attempt.published else 'KEPT'} {attempt.records} records: {attempt.key}\n")
    sys.stdout.write(f"{published} records published, {kept} kept\n")
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
