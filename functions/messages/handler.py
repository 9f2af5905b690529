"""Manual messages: what staff write to one patient, routed and recorded; and sends whose outcome nobody knows."""

import hashlib
from typing import Annotated

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import (
    api,
    asked,
    aws,
    clock,
    decisions,
    facesheet,
    http,
    log,
    patients,
    received,
    sends,
    settings,
    table,
)
from patient_contact.content import Content
from patient_contact.http import PATH, Cursor, Limit, MessageId, PatientId, PracticeId, answers, needs
from patient_contact.routing import decide

IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", pattern=received.OCCURRENCE_PATTERN)]
SERVICE = "messages"

app = http.resolver()
logger = Logger(service=SERVICE)
aws.dynamodb()


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
def handler(event: http.Event, context: LambdaContext) -> http.Event:
    """Answer one request."""
    return http.serve(app, event, context, logger)


@app.post(
    f"{PATH}/patients/<patient_id>/messages",
    security=needs("messages/send"),
    responses=answers(api.RecordedDecision, 400, 404, 413, status=202)
    | {409: {"description": "Blocked: the decision says why", "content": {http.JSON: {"model": api.RecordedDecision}}}},
)
def post_message(
    practice_id: PracticeId, patient_id: PatientId, body: api.ManualMessageBody, idempotency_key: IdempotencyKey
) -> Response[api.RecordedDecision]:
    """Route a message that staff wrote; the same Idempotency-Key again gets the same answer and no second message."""
    message_id = f"manual:{idempotency_key}"
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    earlier = decisions.read(practice_id, patient_id, message_id)
    if earlier is not None:
        return _answer(practice_id, patient_id, earlier, digest)

    as_of = clock.now()
    practice = asked.practice(practice_id)
    patient = asked.patient(practice_id, patient_id)
    facts = facesheet.facts_of(patient, patients.read_numbers(practice_id, patient))
    asked_for = api.MessageBody.model_validate(
        {"class": "manual", "channels": [body.channel], "line": body.line, "phone_number": body.phone_number}
    )
    message = asked.message(asked_for, facts, practice, ("body",))
    content = Content({body.channel: body.body}, body.subject)
    sender = decisions.sender(practice)
    order = decisions.Order(practice_id, patient_id, message_id, content, sender, request=digest)
    decision = decide(facts, message, practice.policy)
    recorded, is_new = decisions.claim(order, decision, as_of, settings.decision_retention_days())
    if is_new and recorded.decision.outcome == "suppress":
        log.count("Suppressed", SERVICE, recorded.decision.reason)
    return _answer(practice_id, patient_id, recorded, digest)


@app.get(f"{PATH}/decisions/unknown", security=needs("preferences/read"), responses=answers(api.UnknownSendList, 404))
def list_unknown(practice_id: PracticeId, limit: Limit = 50, cursor: Cursor = None) -> Response[api.UnknownSendList]:
    """List the sends whose outcome is unknown, the oldest first: a provider may, or may not, have taken the message."""
    asked.practice(practice_id)
    found, after = sends.list_unknown(practice_id, limit, http.place(cursor, http.AFTER_UNKNOWN))
    http.note_patients(app, {each.patient_id for each in found})
    overdue = clock.iso(sends.overdue_before())
    items = [
        {
            **decisions.answer(each.recorded),
            "patient_id": each.patient_id,
            "since": each.since,
            "overdue": each.since < overdue,
        }
        for each in found
    ]
    return http.next_page(items, after)


@app.post(
    f"{PATH}/patients/<patient_id>/decisions/<message_id>/resolve",
    security=needs("preferences/write"),
    responses=answers(api.RecordedDecision, 400, 404, 409, 413),
)
def resolve(
    practice_id: PracticeId, patient_id: PatientId, message_id: MessageId, body: api.ResolveBody
) -> Response[api.RecordedDecision]:
    """Say what became of a message whose outcome is unknown: `sent`, or `not_sent`, which sends it again in time."""
    key = table.decision_key(practice_id, patient_id, message_id)
    try:
        resolved = sends.resolve(key, body.outcome, http.subject(app), body.note, body.attempt)
    except sends.UnknownDecision:
        raise http.Unknown("decision") from None
    except sends.NotUnknown:
        message = "The outcome of this message is not, or no longer, unknown: read the decision."
        raise http.Conflict("not-unknown", message) from None
    return http.answer(decisions.answer(resolved))


def _answer(
    practice_id: str, patient_id: str, recorded: decisions.Recorded, digest: str
) -> Response[api.RecordedDecision]:
    if recorded.request != digest:
        raise http.Invalid(("header", "idempotency-key"), "reused", "this key was used for another message")
    blocked = recorded.decision.outcome == "suppress"
    path = f"/v1/practices/{practice_id}/patients/{patient_id}/decisions/{recorded.message_id}"
    return http.answer(decisions.answer(recorded), 409 if blocked else 202, location=path)
