"""Lists of broadcasts, campaigns and dry runs: read as a stream and queued in chunks, from wherever that was left."""

import math
from datetime import datetime
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, bulk, bulks, clock, lists, log, settings
from patient_contact.bulk_list import BadList, Chunk, Cutter
from patient_contact.events import Refused
from patient_contact.queue import Batch
from patient_contact.triggers import BulkQueued, ToRoute, accept_bulk

SERVICE = "start_bulk"
# What is left of the invocation when no more is queued, in milliseconds: more than queueing what was cut takes.
RESERVE = 30_000
# SQS takes so many messages at once, and hides one for 15 minutes at most.
TOGETHER = 10
LONGEST_DELAY = 900
# A longer list is cut off, and not in silence.
MAX_ROWS = 5_000_000
# After so many chunks it is kept how far the list is cut.
KEEP_EVERY = 100

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.s3()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Queue the chunks of lists; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.bulks_dlq_url(), SERVICE, logger)
    for record in batch.records:
        with batch.handling(record):
            go_on(accept_bulk(record["body"]), record["body"], context)
    return batch.answer()


def go_on(wanted: BulkQueued, body: str, context: LambdaContext) -> None:
    """Go on with a list: wait for its time, or queue its chunks until it ends, is paused, or time is over."""
    ids = wanted.practice_id, wanted.bulk_id
    item = bulks.read(*ids)
    if item is None:
        raise Refused("unknown bulk")
    if not bulk.is_to_run(item, wanted.run) or item.get("read_run") == wanted.run:
        return
    if item["state"] == "failed":
        # A chunk has found the list gone before its end was reached here.
        queue_results(wanted)
        return
    wait = seconds_left(item)
    if wait > 0:
        again(body, min(LONGEST_DELAY, math.ceil(wait)))
        return
    if item["state"] in ("pending", "queued"):
        step = bulk.began(item, clock.iso(clock.now()))
        if not bulks.take(*ids, step, item):
            # Paused or cancelled at this moment, or begun by another delivery of the same.
            again(body, 1)
            return
        item = {**item, **step.set}
    try:
        is_over = queue_chunks(wanted, item, context)
    except (BadList, lists.ListGone) as unreadable:
        queue_results(wanted)
        bulks.take(*ids, bulk.failed(item, unreadable.reason), item)
        log.count("BulksFailed", SERVICE, "list unreadable")
        return
    if not is_over:
        again(body, 0)


def seconds_left(item: dict[str, Any]) -> float:
    """Give how long a bulk waits for its start."""
    starts_at = item.get("starts_at")
    return 0 if starts_at is None else (datetime.fromisoformat(starts_at) - clock.now()).total_seconds()


def queue_chunks(wanted: BulkQueued, item: dict[str, Any], context: LambdaContext) -> bool:
    """Queue the chunks of a list from where it was left; say whether that is all there is to do."""
    ids = wanted.practice_id, wanted.bulk_id
    cutter = Cutter(bulks.place_of(item["cursor"]))
    waiting: list[Chunk] = []
    queued = 0
    for piece in lists.pieces(bulks.listed(item), cutter.place.begin):
        for chunk in cutter.feed(piece):
            waiting.append(chunk)
            if len(waiting) < TOGETHER:
                continue
            send(wanted, waiting)
            waiting = []
            queued += TOGETHER
            is_late = context.get_remaining_time_in_millis() < RESERVE
            if is_late or queued % KEEP_EVERY == 0:
                # Paused, cancelled or failed meanwhile: what that asks for is seen when it is read again.
                if not bulks.take(*ids, bulk.went_on(item, cutter.place.as_data()), item) or is_late:
                    return False
                if cutter.place.first_row > MAX_ROWS:
                    raise BadList(f"the list has more than {MAX_ROWS:,} rows: those before are routed")
    send(wanted, [*waiting, *cutter.last()])
    place = cutter.place
    return bulks.take(*ids, bulk.was_read(item, place.as_data(), place.number, place.first_row - 1), item)


def queue_results(wanted: BulkQueued) -> None:
    """Queue the chunks that have their results, without the list: what was held back of them goes on."""
    if wanted.run == 1:
        return
    after: str | None = None
    while True:
        page = bulks.chunks(wanted.practice_id, wanted.bulk_id, after, 100)
        send(wanted, [bulks.chunk_of(item) for item in page.items])
        after = page.next
        if after is None:
            return


def send(wanted: BulkQueued, chunks: list[Chunk]) -> None:
    """Queue chunks."""
    for start in range(0, len(chunks), TOGETHER):
        entries: list[Any] = [
            {"Id": str(place), "MessageBody": ToRoute.of(wanted, chunk).model_dump_json()}
            for place, chunk in enumerate(chunks[start : start + TOGETHER])
        ]
        answer = aws.sqs().send_message_batch(QueueUrl=settings.chunks_queue_url(), Entries=entries)
        if answer.get("Failed"):
            raise NotQueued


class NotQueued(Exception):
    """The queue did not take all chunks; those that it took come again, and are passed by then."""


def again(body: str, delay: int) -> None:
    """Come back to a list later. What comes is the same message: how far the list is cut lies in the table."""
    aws.sqs().send_message(QueueUrl=settings.bulks_queue_url(), MessageBody=body, DelaySeconds=delay)
