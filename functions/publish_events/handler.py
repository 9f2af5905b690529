"""The outbox: what was written to the table is announced on the bus, at least once and in order.

What became of the messages of a list is added to the list's counts on the way, once.
"""

from collections import defaultdict
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import announcements, aws, bulks, bus, clock, log

SERVICE = "publish_events"

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.events()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Publish a batch of stream records; answer with the first that failed, from which the stream goes on again."""
    now = clock.now()
    waiting: list[tuple[str, bus.Entry]] = []
    failed: list[str] = []
    outcomes: defaultdict[tuple[str, str, int], list[tuple[str, announcements.Outcome]]] = defaultdict(list)
    for record in event["Records"]:
        sequence = record["dynamodb"]["SequenceNumber"]
        try:
            waiting += [(sequence, entry) for entry in announcements.of_record(record, now)]
            if (outcome := announcements.outcome_of(record)) is not None:
                outcomes[outcome.chunk].append((sequence, outcome))
        except announcements.Stale:
            # Only ever republished: nobody should be texted on what was true weeks ago. It stays where it is kept.
            logger.warning("not announced", reason="stale")
            log.count("NotAnnounced", SERVICE, "stale")
            failed.append(sequence)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on from here
            # It and all after it come again; what came before it is published now.
            log.failure(logger, "record failed", error)
            failed.append(sequence)
            break
    refused = bus.publish([entry for _, entry in waiting])
    if refused is not None:
        logger.error("publishing failed", error_code=refused.code)
        failed.append(waiting[refused.place][0])
    for chunk, heard in outcomes.items():
        try:
            letters = [(each.row, each.letter) for _, each in heard]
            bulks.tally(*chunk, letters, max(each.expires_at for _, each in heard))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted when the records come again
            log.failure(logger, "counting failed", error)
            failed.append(heard[0][0])
    order = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
    return {"batchItemFailures": [{"itemIdentifier": min(failed, key=order.index)}] if failed else []}
