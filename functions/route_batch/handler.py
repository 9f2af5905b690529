"""Chunks of lists: each row's patient is decided for, once; what became of the rows is kept and counted, once."""

from collections import Counter
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, bulk, bulk_routing, bulks, lists, log, practices, settings, table
from patient_contact.bulk_list import BadRow, Chunk, Row
from patient_contact.bulk_routing import Job, Routed
from patient_contact.events import Refused
from patient_contact.queue import Batch, NotYet
from patient_contact.triggers import ToRoute, accept_chunk

SERVICE = "route_batch"
# What is left of the invocation when no more is begun, in milliseconds: more than a chunk takes.
RESERVE = 30_000

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.s3()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route a batch of chunks; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.chunks_dlq_url(), SERVICE, logger)
    for record in batch.records:
        with batch.handling(record):
            wanted = accept_chunk(record["body"])
            if context.get_remaining_time_in_millis() < RESERVE:
                raise NotYet("out of time")
            route(wanted)
    return batch.answer()


def route(wanted: ToRoute) -> None:
    """Route a chunk, unless that was done, or its bulk has been paused or cancelled, or goes on from its beginning."""
    ids = wanted.practice_id, wanted.bulk_id
    keys = [
        practices.key(wanted.practice_id),
        bulks.key(*ids),
        bulks.content_key(*ids),
        bulks.chunk_key(*ids, wanted.chunk.number),
    ]
    found = table.batch_get(keys)
    if found.unread:
        raise table.TableUnavailable("left unread")
    practice_item, item, kept, done = (found.items.get(key) for key in keys)
    if practice_item is None or item is None or kept is None:
        raise Refused("unknown bulk")
    # What has its result in the first run was never held back.
    if not bulk.is_to_run(item, wanted.run) or (done is not None and wanted.run == 1):
        return
    if done is None and item["state"] == "failed":
        return
    practice = practices.from_item(wanted.practice_id, practice_item)
    job = bulk_routing.job(item, kept, practice, settings.decision_retention_days())
    try:
        if done is not None:
            rows: list[Row | BadRow] = [*bulk_routing.rows_of(lists.get_results(done["results"]))]
        else:
            rows = lists.rows(bulks.listed(item), wanted.chunk)
    except lists.ListGone as gone:
        bulks.take(*ids, bulk.failed(item, gone.reason), item)
        log.count("BulksFailed", SERVICE, "list unreadable")
        return
    routed = [row for row in rows if isinstance(row, Row)]
    if item["state"] == "cancelled":
        if withdrawn := bulk_routing.withdraw(job, wanted.chunk, routed):
            log.count("Withdrawn", SERVICE, "CANCELLED", withdrawn)
    elif done is not None:
        bulk_routing.announce_again(job, wanted.chunk, routed)
    elif not practice.has_line(item["line"]):
        # Only of what is to be routed: what is routed already comes to its end without its line, too.
        raise Refused("unknown line")
    else:
        keep(job, wanted.chunk, bulk_routing.route(job, wanted.chunk, rows))


def keep(job: Job, chunk: Chunk, routed: list[Routed]) -> None:
    """Keep what became of the rows of a chunk, and count it."""
    ids = job.practice.practice_id, job.bulk_id
    results = [each.result for each in routed]
    new = Counter(each.result["reason"] for each in routed if each.is_new and each.result["outcome"] == "suppress")
    for reason, number in new.items():
        log.count("Suppressed", SERVICE, reason, number)
    key = lists.put_results(*ids, chunk.number, results)
    counts = bulk.counts(results, sum(each.is_handed_over for each in routed))
    bulks.record_chunk(*ids, chunk, key, counts, bulk_routing.per_outcome(results), job.retention_days)
