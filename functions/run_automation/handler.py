"""Automations: each triggered occurrence becomes one decision for its patient."""

from datetime import datetime
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, clock, content, decisions, log, patients, practices, settings
from patient_contact.events import Refused
from patient_contact.facesheet import Practice, facts_of
from patient_contact.facts import Message
from patient_contact.patients import Found
from patient_contact.queue import Batch, NotYet, Record
from patient_contact.routing import automation_disabled, decide
from patient_contact.table import TableUnavailable
from patient_contact.triggers import AutomationTriggered, accept_trigger

SERVICE = "run_automation"
# What is left of the invocation when no more is begun, in milliseconds: more than slow reads and a claim take.
RESERVE = 20_000

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.sqs()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Decide a batch of triggered automations; answer with the records that go back to the queue."""
    batch = Batch(event["Records"], settings.automations_dlq_url(), SERVICE, logger)
    triggers: list[tuple[Record, AutomationTriggered]] = []
    for record in batch.records:
        with batch.handling(record):
            triggers.append((record, accept_trigger(record["body"], clock.now())))

    # Read once per invocation, and never kept beyond it.
    read_practice, read_automation = cache(practices.read), cache(practices.read_automation)
    gathered: patients.Gathering | None = None
    with batch.handling(*(record for record, _ in triggers)):
        gathered = patients.gather(trigger.patient for _, trigger in triggers)

    for place, (record, trigger) in enumerate(triggers if gathered else []):
        with batch.handling(record):
            if context.get_remaining_time_in_millis() < RESERVE:
                raise NotYet("out of time")
            practice = read_practice(trigger.practice_id)
            if practice is None:
                raise Refused("unknown practice")
            automation = read_automation(trigger.practice_id, trigger.automation_id)
            if automation is None:
                raise Refused("unknown automation")
            if gathered is None or not gathered.is_fresh():
                gathered = patients.gather(later.patient for _, later in triggers[place:])
            run(trigger, practice, automation, gathered.people[trigger.patient], gathered.as_of)
    return batch.answer()


def run(
    trigger: AutomationTriggered,
    practice: Practice,
    automation: practices.Automation,
    person: Found,
    as_of: datetime,
) -> None:
    """Decide one occurrence, and claim its message; a repeat finds the first decision and changes nothing."""
    line = automation.line or practice.default_line
    if not practice.has_line(line):
        raise Refused("unknown line")
    messages = trigger.messages.content() if trigger.messages else automation.content
    if automation.enabled:
        messages = content.fill(messages, trigger.context)
    if person is None:
        raise NotYet("unknown patient")
    if isinstance(person, TableUnavailable):
        raise person
    facts = facts_of(person.patient, person.numbers)

    message = Message("automation", messages.channels, line)
    decision = (decide if automation.enabled else automation_disabled)(facts, message, practice.policy)
    order = decisions.Order(
        trigger.practice_id,
        trigger.patient_id,
        trigger.message_id,
        messages,
        decisions.sender(practice),
        trigger.send_before,
    )
    recorded, is_new = decisions.claim(order, decision, as_of, settings.decision_retention_days())
    if is_new and recorded.decision.outcome == "suppress":
        log.count("Suppressed", SERVICE, recorded.decision.reason)
