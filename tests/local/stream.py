"""The event source mapping of the table's stream: in order, with bisecting, retries and an on-failure destination."""

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from moto.dynamodb.models import dynamodb_backends

from tests.local.aws import TABLE_LOCK
from tests.local.runtime import ACCOUNT, Feed

SHARD = "shardId-00000000000000000000-local"


class Stream:
    """The changes of one table that have not been processed yet, oldest first."""

    def __init__(self, arn: str) -> None:
        self.arn = arn
        _, _, _, self._region, _, resource = arn.split(":", 5)
        self._table = resource.split("/")[1]

    def first(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return the oldest records as Lambda passes them on, and how many entries of moto's they stand for."""
        with TABLE_LOCK:
            entries = [entry.to_json() for entry in self._shard().items[:limit]]
            records = json.loads(json.dumps(entries, default=_plain))
        return [record | {"eventSourceARN": self.arn} for record in records if _happens_in_aws(record)], len(entries)

    def forget(self, count: int) -> None:
        """Drop the oldest entries; moto would copy them with every transaction."""
        with TABLE_LOCK:
            shard = self._shard()
            del shard.items[:count]
            shard.starting_sequence_number += count

    def _shard(self) -> Any:
        # Looked up each time: a cancelled transaction puts a copy in the place of the table, shard and all. A shard
        # iterator would go on with the old one, and see what never happened.
        return dynamodb_backends[ACCOUNT][self._region].get_table(self._table).stream_shard


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)


def _happens_in_aws(record: dict[str, Any]) -> bool:
    """Tell changes from moto's extras: the bare key before an upserted item, and a put of what is there already."""
    change = record["dynamodb"]
    if record["eventName"] == "INSERT":
        return bool(change["NewImage"] != change["Keys"])
    return bool(change.get("OldImage") != change.get("NewImage"))


def poll(feed: Feed, s3: Any) -> None:
    """Feed a function from the table's stream until told to stop."""
    stream, batch_size = Stream(feed.source.arn), feed.source.batch_size
    while not feed.stopping.is_set():
        feed.written.clear()
        records, entries = stream.first(batch_size)
        if not entries:
            feed.written.wait(1)
            continue
        if feed.source.window_seconds and entries < batch_size:
            feed.stopping.wait(feed.source.window_seconds)
            records, entries = stream.first(batch_size)
        if _deliver(records, feed, s3):
            stream.forget(entries)


def _deliver(records: list[dict[str, Any]], feed: Feed, s3: Any) -> bool:
    """Process the records, or keep those that cannot be processed; False if told to stop before that."""
    waiting = [(records, 0)]
    while waiting and not feed.stopping.is_set():
        batch, retries = waiting.pop()
        identifiers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        failed = feed.failed(batch, identifiers) if batch else set()
        done = next((number for number, each in enumerate(identifiers) if each in failed), len(batch))
        rest, half = batch[done:], (len(batch) - done) // 2
        if not rest:
            continue
        # Neither progress nor bisecting counts as a retry, as in Lambda; both leave less, so this comes to an end.
        if done:
            waiting.append((rest, retries))
        elif half and feed.source.bisect:
            waiting += [(rest[half:], retries), (rest[:half], retries)]
        elif retries < feed.source.retries or feed.source.retries < 0:
            waiting.append((rest, retries + 1))
            feed.stopping.wait(feed.retry_seconds)
        elif feed.source.on_failure:
            _keep(rest, retries + 1, feed, s3)
    return not waiting


def _keep(records: list[dict[str, Any]], invocations: int, feed: Feed, s3: Any) -> None:
    """Write what Lambda writes to an S3 destination: the failed invocation, and in its `payload` the records whole."""
    now = datetime.now(UTC)
    invocation = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": feed.runtime.arn(feed.source.function),
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": invocations,
        },
        "version": "1.0",
        "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "DDBStreamBatchInfo": {
            "shardId": SHARD,
            "startSequenceNumber": records[0]["dynamodb"]["SequenceNumber"],
            "endSequenceNumber": records[-1]["dynamodb"]["SequenceNumber"],
            "batchSize": len(records),
            "streamArn": feed.source.arn,
        },
        "payload": json.dumps({"Records": records}),
    }
    key = f"aws/lambda/{feed.source.function}/{SHARD}/{now:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}"
    bucket = str(feed.source.on_failure).rpartition(":")[2]
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(invocation).encode())
