"""Sending: what was routed is decided again at the last moment, claimed, and sent at most once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import aws, clock, life, log, outgoing, providers, sends, settings
from patient_contact.events import SEND_BATCH, SEND_RECEIVES
from patient_contact.outgoing import Outgoing
from patient_contact.patients import Gathering
from patient_contact.queue import Batch, NotYet, Record
from patient_contact.triggers import ToSend, accept_to_send

SERVICE = "send_message"
# What must be left of the invocation when a provider is called, in milliseconds: more than a call can take.
RESERVE = 13_000
# How often one message is decided again in one invocation, after refusals that change what is known of its number.
MAX_ROUNDS = 3

logger = Logger(service=SERVICE)
aws.dynamodb()
aws.sqs()
aws.sms_sender()
aws.email()


@logger.inject_lambda_context(log_event=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Send a batch of messages at the same time; answer with the records that go back to the queue."""
    # Connections from before the environment was frozen may be dead, and a message lost on one would be `unknown`.
    aws.sms_sender().close()
    aws.email().close()
    batch = Batch(event["Records"], settings.sends_dlq_url(), SERVICE, logger, SEND_RECEIVES)
    wanted: list[tuple[Record, ToSend]] = []
    for record in batch.records:
        with batch.handling(record):
            wanted.append((record, accept_to_send(record["body"])))

    gathering = gather_together([each for _, each in wanted])

    def work(record: Record, each: ToSend) -> None:
        with batch.handling(record):
            send(each, gathering or outgoing.gather([each]), context)

    with ThreadPoolExecutor(SEND_BATCH) as threads:
        for done in [threads.submit(work, *each) for each in wanted]:
            done.result()
    return batch.answer()


def gather_together(wanted: list[ToSend]) -> Gathering | None:
    """Read what decides about all messages at once; None when that fails, and each must be read, and fail, alone."""
    try:
        return outgoing.gather(wanted)
    except Exception as error:  # noqa: BLE001 - whatever it is, it may be about one message alone
        log.failure(logger, "gathering together failed", error)
        return None


def send(wanted: ToSend, gathering: Gathering, context: LambdaContext) -> None:
    """Send one message, if it still should be and nobody else does; raise NotYet when it may be later."""
    for _ in range(MAX_ROUNDS):
        try:
            result = attempt(outgoing.find(wanted, gathering), gathering, context)
        except sends.Taken:
            raise NotYet("taken by another delivery") from None
        log.count("Sends", SERVICE, result)
        if result != "decided again":
            return
        # What the provider said of the number is recorded by now, and must be read.
        gathering = outgoing.gather([wanted])
    raise NotYet("refused again and again")


def attempt(message: Outgoing, gathering: Gathering, context: LambdaContext) -> str:
    """Take a message as far as it goes now, and say how that is counted."""
    key, item = message.key, message.item
    if item["state"] == "sending" and sends.is_over(item):
        sends.settle(key, sends.now_unknown(key, item, "NO_OUTCOME"))
        return "unknown"
    if item["state"] == "sending":
        raise NotYet("being sent")
    if item["state"] != "routed":
        return "done before"
    if message.is_held:
        # Its list is paused, perhaps for longer than a queue keeps messages: when that goes on, it is announced again.
        return "held"
    if message.why_not is not None:
        sends.take(key, life.withdrawn(item, now(), message.why_not), **message.decided)
        log.count("Withdrawn", SERVICE, message.why_not)
        return "withdrawn"
    if not may_call(gathering, context):
        raise NotYet("out of time")
    return call(message, sends.claim(key, item, message.decided), gathering, context)


def call(message: Outgoing, claimed: dict[str, Any], gathering: Gathering, context: LambdaContext) -> str:
    """Call the provider of a message that is claimed, once, and record what it says."""
    key = message.key
    envelope = message.envelope(claimed)
    # The claim may have taken its time.
    if not may_call(gathering, context) or envelope.seconds_left <= 0:
        sends.settle(key, life.released(claimed, now(), None))
        raise NotYet("out of time")
    match providers.send(envelope):
        case providers.Accepted(provider_message_id):
            sends.settle(key, life.sent(claimed, now(), provider_message_id))
            return "sent"
        case providers.NoAnswer(code):
            sends.settle(key, sends.now_unknown(key, claimed, code))
            return "unknown"
        case providers.Refused(code, "try_again"):
            sends.settle(key, life.released(claimed, now(), code))
            raise NotYet(f"refused for now: {code}")
        case providers.Refused() as refusal:
            # First what it says of the number: an opt-out must not be lost.
            try:
                is_otherwise = message.learn(refusal, claimed)
            except Exception:
                # Not kept now; refused again, it may be.
                sends.settle(key, life.released(claimed, now(), refusal.code))
                raise
            if is_otherwise:
                sends.settle(key, life.released(claimed, now(), refusal.code))
                return "decided again"
            sends.settle(key, life.failed(claimed, now(), refusal.code))
            return "failed"


def may_call(gathering: Gathering, context: LambdaContext) -> bool:
    """Say whether a provider may be called: on facts that are fresh, and within this invocation."""
    return gathering.is_fresh() and context.get_remaining_time_in_millis() >= RESERVE


def now() -> str:
    """Give the time, as it is kept."""
    return clock.iso(clock.now())
