"""Lists of broadcasts, campaigns and dry runs: read as a stream and queued in chunks, from wherever that was left."""

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, bulk, bulks, clock, lists, log, settings
from patient_contact.bulk_list import BadList, Chunk, Cutter
from patient_contact.events import Refused
from patient_contact.queue import Batch, NotYet
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
    if bulk.is_over(item):
        if not queue_begun(wanted, item, context):
            again(body, 0)
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
        is_done = queue_chunks(wanted, item, context)
    except (BadList, lists.ListGone) as unreadable:
        step = bulk.failed(item, unreadable.reason)
        bulks.take(*ids, step, item)
        log.count("BulksFailed", SERVICE, "list unreadable")
        is_done = queue_begun(wanted, {**item, **step.set}, context)
    if not is_done:
        again(body, 0)


def seconds_left(item: dict[str, Any]) -> float:
    """Give how long a bulk waits for its start."""
    starts_at = item.get("starts_at")
    return 0 if starts_at is None else (datetime.fromisoformat(starts_at) - clock.now()).total_seconds()


def queue_chunks(wanted: BulkQueued, item: dict[str, Any], context: LambdaContext) -> bool:
    """Queue the chunks of a list from where it was left; say whether that is all there is to do."""
    ids = wanted.practice_id, wanted.bulk_id
    listed = bulks.listed(item)
    cutter = Cutter(bulks.place_of(item["cursor"]))
    place = cutter.place
    waiting: list[Chunk] = []
    queued = 0
    left_out = None
    for chunk in pieces_and_chunks(listed, cutter):
        if chunk is not None and chunk.last_row > MAX_ROWS:
            left_out = f"the list has more than {MAX_ROWS:,} rows: those from row {chunk.first_row:,} on are left out"
            break
        if chunk is not None:
            waiting.append(chunk)
            place = cutter.place
            if len(waiting) < TOGETHER:
                continue
        is_late = context.get_remaining_time_in_millis() < RESERVE
        if chunk is None and not is_late:
            continue
        if not queued and not waiting:
            raise NotYet("a row is not read to its end in the time of an invocation")
        send(wanted, waiting)
        queued += len(waiting)
        waiting = []
        # Paused, cancelled or failed meanwhile: what that asks for is seen when it is read again.
        if (is_late or queued % KEEP_EVERY == 0) and (
            not bulks.take(*ids, bulk.went_on(item, place.as_data()), item) or is_late
        ):
            return False
    send(wanted, waiting)
    return bulks.take(*ids, bulk.was_read(item, place.as_data(), place.number, place.first_row - 1, left_out), item)


def pieces_and_chunks(listed: bulks.Listed, cutter: Cutter) -> Iterator[Chunk | None]:
    """Give the chunks of a list from where it was left, and None behind each piece, however long a row goes on."""
    for piece in lists.pieces(listed, cutter.place.begin):
        yield from cutter.feed(piece)
        yield None
    yield from cutter.last()


def queue_begun(wanted: BulkQueued, item: dict[str, Any], context: LambdaContext) -> bool:
    """Queue the chunks that were begun of a bulk that is over, without its list; say whether that were all.

    What was held back of them comes to its end. In the first run nothing was: what is under way has its messages.
    """
    ids = wanted.practice_id, wanted.bulk_id
    after = item.get("walked")
    is_all = wanted.run == 1
    while not is_all:
        page = bulks.chunks(*ids, after, KEEP_EVERY)
        send(wanted, [bulks.chunk_of(each) for each in page.items])
        after, is_all = page.next, page.next is None
        if after is not None and not bulks.take(*ids, bulk.walked(item, after), item):
            # It goes on in another run.
            return True
        if context.get_remaining_time_in_millis() < RESERVE:
            break
    return is_all


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
