"""Runs start_bulk and route_batch over a list of so many rows, AWS canned; prints CPU seconds and peak memory in KB."""

import io
import json
import resource
import sys
from threading import Lock
from time import monotonic, process_time
from typing import Any

from botocore.awsrequest import AWSResponse

from functions.route_batch.handler import handler as route_batch
from functions.start_bulk.handler import handler as start_bulk
from patient_contact import aws, bulks, table
from tests.benchmarks.recipients import canned, response
from tests.local.runtime import Context

ROW = "p-{:07}\n"
LENGTH = len(ROW.format(0))
HEADER = b"patient_id\n"
PRACTICE = {
    "name": "North",
    "time_zone": "America/Los_Angeles",
    "default_country": "US",
    "policy": {},
    "lines": [{"id": "main", "name": "Main", "phone_number": "+15035559000"}],
    "default_line": "main",
    "sending": True,
    "version": 1,
}


class Rows(io.RawIOBase):
    """The bytes of a list from one to another, made when they are read."""

    def __init__(self, begin: int, end: int) -> None:
        self._at, self._end = begin, end

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = None) -> bytes:
        end = self._end if size is None else min(self._end, self._at + size)
        first, last = (self._at - len(HEADER)) // LENGTH, -(-(end - len(HEADER)) // LENGTH)
        data = bytearray()
        # Some at a time: what makes the list is not to be the peak of who reads it.
        for begin in range(first, last, 1_000):
            data += "".join(ROW.format(row) for row in range(begin, min(last, begin + 1_000))).encode()
        skipped = self._at - len(HEADER) - first * LENGTH
        read = bytes(data[skipped : skipped + end - self._at])
        self._at = end
        return read


class Canned:
    """What AWS answers, and the chunks that were queued."""

    def __init__(self, rows: int) -> None:
        self.size = len(HEADER) + rows * LENGTH
        begin = {"begin": len(HEADER), "number": 0, "first_row": 1}
        self.bulk = {
            "kind": "campaign",
            "dry_run": False,
            "line": "main",
            "enabled": True,
            "state": "queued",
            "run": 1,
            "cursor": begin,
            "list": {
                "key": "lists/north/all.csv",
                "etag": '"1"',
                "size": self.size,
                "format": "csv",
                "begin": begin,
                "columns": ["patient_id"],
            },
        }
        self.claimed = 0
        self._lock = Lock()
        self.chunks: list[str] = []

    def table(self, request: Any, **_: object) -> AWSResponse:
        operation = request.headers["X-Amz-Target"]
        name: str = (operation.decode() if isinstance(operation, bytes) else operation).rpartition(".")[2]
        asked = json.loads(request.body)
        answer: dict[str, Any] = {}
        if name == "GetItem":
            answer = {"Item": table.encode_item(self._item(asked["Key"]))}
        elif name == "BatchGetItem":
            keys = asked["RequestItems"]["table"]["Keys"]
            if any(key["SK"]["S"] in ("BULK", "CONTENT") for key in keys):
                found = [self._item(key) for key in keys if not key["SK"]["S"].startswith("CHUNK#")]
                answer = {"Responses": {"table": [table.encode_item(each) for each in found]}}
            else:
                answer = canned(name, asked)
        elif name == "PutItem":
            with self._lock:
                self.claimed += asked["Item"]["SK"]["S"].startswith("DECISION#")
        return response(request.url, json.dumps(answer).encode())

    def _item(self, key: Any) -> dict[str, Any]:
        what: dict[str, dict[str, Any]] = {
            "BULK": self.bulk,
            "CONTENT": {"messages": {"text": {"body": "Flu shots are here."}}, "what_if": None},
            "PRACTICE": PRACTICE,
        }
        return {"PK": key["PK"]["S"], "SK": key["SK"]["S"], **what[key["SK"]["S"]]}

    def bucket(self, request: Any, **_: object) -> AWSResponse:
        if request.method == "PUT":
            return AWSResponse(request.url, 200, {"ETag": '"2"'}, io.BytesIO(b""))  # type: ignore[arg-type]
        asked: Any = request.headers["Range"]
        given: str = asked.decode() if isinstance(asked, bytes) else asked
        first, until = given.removeprefix("bytes=").split("-")
        end = int(until) + 1 if until else self.size
        headers: Any = {"ETag": '"1"', "Content-Length": str(end - int(first))}
        return AWSResponse(request.url, 206, headers, Rows(int(first), end))

    def queue(self, request: Any, **_: object) -> AWSResponse:
        entries = json.loads(request.body)["Entries"]
        self.chunks += [each["MessageBody"] for each in entries]
        # Routed at once, so that what waits does not count as memory of the functions.
        while self.chunks:
            route_batch({"Records": [record(self.chunks.pop())]}, context())  # type: ignore[arg-type]  # as Lambda's
        return response(request.url, json.dumps({"Successful": [{"Id": each["Id"]} for each in entries]}).encode())


def record(body: str) -> dict[str, Any]:
    """Give a record of a queue."""
    return {"messageId": "1", "body": body, "attributes": {"ApproximateReceiveCount": "1"}}


def context() -> Context:
    """Give a context with time enough."""
    return Context("function", 1024, "arn", "request", monotonic() + 1e6)


def main(rows: int) -> None:
    """Run, and print what was measured."""
    aws_is = Canned(rows)
    answers: list[tuple[Any, Any]] = [
        (aws.dynamodb(), aws_is.table),
        (aws.s3(), aws_is.bucket),
        (aws.sqs(), aws_is.queue),
    ]
    for client, answering in answers:
        client.meta.events.register_first("before-send", answering)
    pk, _ = bulks.key("north", "all")
    detail = {"practice_id": "north", "bulk_id": pk.rpartition("#")[2], "run": 1}
    body = json.dumps({"time": "2026-11-25T00:00:00Z", "detail-type": "BulkQueued", "detail": detail})
    out, sys.stdout = sys.stdout, io.StringIO()
    began = process_time()
    answer = start_bulk({"Records": [record(body)]}, context())  # type: ignore[arg-type]  # as Lambda's
    seconds = process_time() - began
    sys.stdout = out
    # Each row is claimed, and each chunk has its result: what did less would only look fast.
    if answer["batchItemFailures"] or aws_is.claimed != rows:
        raise AssertionError(f"{aws_is.claimed} of {rows} claimed, {answer}")
    sys.stdout.write(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
