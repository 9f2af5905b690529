"""Event source mappings of queues: receive, invoke, delete what succeeded, let SQS redeliver or redrive the rest."""

import time
from typing import Any

from tests.local.runtime import Feed

IDLE_SECONDS = 0.1


def poll(feed: Feed, sqs: Any) -> None:
    """Feed a function from its queue until told to stop."""
    url = sqs.get_queue_url(QueueName=feed.source.arn.rpartition(":")[2])["QueueUrl"]
    while not feed.stopping.is_set():
        messages = _receive(feed, sqs, url)
        if not messages:
            feed.stopping.wait(IDLE_SECONDS)
            continue
        records = [_record(message, feed.source.arn) for message in messages]
        failed = feed.failed(records, [record["messageId"] for record in records])
        for message in messages:
            handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
            if message["MessageId"] in failed:
                # In AWS it comes back when the queue's visibility time-out ends. How often it may come back, and then
                # the dead-letter queue, are the template's own.
                sqs.change_message_visibility(**handle, VisibilityTimeout=feed.retry_seconds)
            else:
                sqs.delete_message(**handle)


def _receive(feed: Feed, sqs: Any, url: str) -> list[dict[str, Any]]:
    """Collect a batch: what is there at once and, from the first message on, what comes within the batching window."""
    messages: list[dict[str, Any]] = []
    deadline = float("inf")
    while len(messages) < feed.source.batch_size and time.monotonic() < deadline and not feed.stopping.is_set():
        more = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=min(10, feed.source.batch_size - len(messages)),
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        if not messages:
            if not more:
                break
            deadline = time.monotonic() + feed.source.window_seconds
        elif not more:
            feed.stopping.wait(IDLE_SECONDS)
        messages += more
    return messages


def _record(message: dict[str, Any], arn: str) -> dict[str, Any]:
    """Render a message as Lambda passes it on; what EventBridge and SNS send has no message attributes."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": arn.split(":")[3],
    }
