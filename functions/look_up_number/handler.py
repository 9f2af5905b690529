"""Numbers that were not looked up in time: asked again, until the carrier answers or the queue gives up."""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, clock, log, lookups, numbers, settings
from patient_contact.events import Refused
from patient_contact.inbound import LookupRequest, accept_lookup
from patient_contact.queue import Batch, NotYet
from patient_contact.verdict import Evidence

SERVICE = "look_up_number"
# What is left of the invocation when no more is begun, in milliseconds: more than a lookup and a contended write take.
RESERVE = 25_000

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.sqs()
aws.sms()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Look up a batch of numbers; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.lookups_dlq_url(), SERVICE, logger)
    for record in batch.records:
        with batch.handling(record):
            if context.get_remaining_time_in_millis() < RESERVE:
                raise NotYet("out of time")
            look_up(accept_lookup(record["body"]))
    return batch.answer()


def look_up(wanted: LookupRequest) -> None:
    """Look a number up, unless that has been done since it was asked for, and keep the result with it."""
    if not numbers.read(wanted.practice_id, wanted.phone_number).verdict.needs_lookup(clock.now()):
        return
    try:
        number_type = lookups.look_up(wanted.phone_number)
    except lookups.NotAnswered as failed:
        if failed.for_good:
            raise Refused(f"lookup refused: {failed.code}") from None
        raise NotYet(f"lookup failed: {failed.code}") from None
    found = Evidence("lookup", number_type, clock.iso(clock.now()))
    numbers.change_verdict(
        wanted.practice_id, wanted.phone_number, lambda verdict: verdict.after_lookup(number_type, found.at), found
    )
    log.count("Lookups", SERVICE, number_type)
