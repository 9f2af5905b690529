"""Patients at the facesheet: contact info, preferences, consent, history, and what would be sent and why."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import (
    api,
    asked,
    aws,
    clock,
    consents,
    decision_data,
    decisions,
    facesheet,
    http,
    lookups,
    numbers,
    patients,
    practices,
)
from patient_contact.contact_info import e164, emails_on_file, phones_on_file
from patient_contact.facesheet import Patient
from patient_contact.facts import is_number
from patient_contact.http import PATH, Cursor, IfMatch, Limit, MessageId, PatientId, PracticeId, answers, needs
from patient_contact.patients import Actor, UnknownPatient
from patient_contact.routing import decide

PATIENT = f"{PATH}/patients/<patient_id>"

app = http.resolver()
logger = Logger(service="preferences")
aws.dynamodb()


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
def handler(event: http.Event, context: LambdaContext) -> http.Event:
    """Answer one request."""
    return http.serve(app, event, context, logger)


@app.put(
    f"{PATIENT}/contact-info",
    security=needs("contact-info/write"),
    responses=answers(api.Facesheet, 400, 404, 412, 413),
)
def put_contact_info(
    practice_id: PracticeId, patient_id: PatientId, body: api.ContactInfoBody, if_match: IfMatch = None
) -> Response[api.Facesheet]:
    """Replace the phones and emails on file, and nothing else; phones without a line type are looked up."""
    practice = asked.practice(practice_id)
    phones = phones_on_file(((p.number, p.line_type, p.status) for p in body.phones), practice.default_country)
    emails = emails_on_file((email.address, email.status) for email in body.emails)

    def edit(patient: Patient | None) -> Patient:
        if patient is not None and (patient.phones, patient.emails) == (phones, emails):
            return patient
        return replace(patient or patients.new_patient(practice_id, patient_id), phones=phones, emails=emails)

    patient = patients.change(practice_id, patient_id, "contact_info", edit, Actor(http.subject(app), if_match))
    try:
        lookups.registered(patient)
    except lookups.QueueUnavailable:
        message = (
            "The contact info is on file, its phones are yet to be looked up: read the facesheet and send it again."
        )
        raise http.TryAgain(message) from None
    return _facesheet(patient)


@app.get(PATIENT, security=needs("preferences/read"), responses=answers(api.Facesheet, 404))
def read_facesheet(practice_id: PracticeId, patient_id: PatientId) -> Response[api.Facesheet]:
    """Give the facesheet."""
    return _facesheet(asked.patient(practice_id, patient_id))


@app.put(
    f"{PATIENT}/preferred-contact",
    security=needs("preferences/write"),
    responses=answers(api.Facesheet, 400, 404, 412, 413),
)
def put_preferred_contact(
    practice_id: PracticeId, patient_id: PatientId, body: api.PreferredContactBody, if_match: IfMatch = None
) -> Response[api.Facesheet]:
    """Choose the phone on file that staff prefer; never an email address."""
    practice = asked.practice(practice_id)

    def edit(patient: Patient | None) -> Patient:
        known = asked.known(patient)
        number = asked.phone_on_file(known.phones, body.phone_number, practice, ("body", "phone_number"))
        return replace(known, preferred_contact=number)

    return _change(practice_id, patient_id, "preferred_contact", edit, if_match)


@app.delete(
    f"{PATIENT}/preferred-contact", security=needs("preferences/write"), responses=answers(api.Facesheet, 404, 412)
)
def delete_preferred_contact(
    practice_id: PracticeId, patient_id: PatientId, if_match: IfMatch = None
) -> Response[api.Facesheet]:
    """Prefer no phone."""
    return _change(
        practice_id,
        patient_id,
        "preferred_contact",
        lambda patient: replace(asked.known(patient), preferred_contact=None),
        if_match,
    )


@app.put(
    f"{PATIENT}/do-not-contact",
    security=needs("preferences/write"),
    responses=answers(api.Facesheet, 400, 404, 412, 413),
)
def put_do_not_contact(
    practice_id: PracticeId, patient_id: PatientId, body: api.DoNotContactBody, if_match: IfMatch = None
) -> Response[api.Facesheet]:
    """Stop or allow automations; broadcasts, campaigns and manual messages ignore it."""
    return _change(
        practice_id,
        patient_id,
        "do_not_contact",
        lambda patient: replace(asked.known(patient), do_not_contact=body.enabled),
        if_match,
        body.note,
    )


@app.put(
    f"{PATIENT}/sms-consent",
    security=needs("preferences/write"),
    responses=answers(api.Facesheet, 400, 404, 409, 412, 413),
)
def put_sms_consent(
    practice_id: PracticeId, patient_id: PatientId, body: api.SmsConsentBody, if_match: IfMatch = None
) -> Response[api.Facesheet]:
    """Record that the patient opted out of texts from a line, or with evidence in, for all who share the phone."""
    practice = asked.practice(practice_id)
    patient = asked.patient(practice_id, patient_id)
    asked.line(practice, body.line, ("body", "line"))
    on_file = asked.phone_on_file(patient.phones, body.phone_number, practice, ("body", "phone_number"))
    # What was no number when it came may be one by now, and then consent belongs to it as a number.
    number = on_file if is_number(on_file) else e164(on_file, practice.default_country)
    if number is None:
        raise http.Invalid(
            ("body", "phone_number"), "not_a_number", "the phone on file is no number, and gets no texts"
        )
    patients.expect_version(patient, if_match)
    check, said_at = asked.may_opt_in(body), asked.said_at(body, clock.now())
    of, actor = consents.NumberLine(practice_id, number, body.line), http.subject(app)
    if said_at is None:
        said = consents.by_staff(body.status, actor)
    else:
        said = consents.by_staff_at(of, body.status, body.evidence, said_at, actor)
        # What the patient has said since would refuse it, and it would change nothing.
        if consents.is_recorded(of, said):
            return _facesheet(patient)
    practices.expect_consent(practice, body.line)
    also = [] if if_match is None else [patients.unchanged(patient)]
    with suppress(consents.Repeated):
        consents.record(of, said, also, check, evidence=body.evidence, note=body.note)
    return _facesheet(patient)


@app.get(f"{PATIENT}/changes", security=needs("preferences/read"), responses=answers(api.ChangeList, 404))
def list_changes(
    practice_id: PracticeId, patient_id: PatientId, limit: Limit = 50, cursor: Cursor = None
) -> Response[api.ChangeList]:
    """List who changed what, newest first."""
    after = http.place(cursor, http.AFTER_VERSION)
    items, after = patients.list_changes(practice_id, patient_id, limit, after)
    if not items and cursor is None:
        raise UnknownPatient
    return http.next_page(items, after)


@app.get(f"{PATIENT}/decisions", security=needs("preferences/read"), responses=answers(api.RecordedDecisionList, 404))
def list_decisions(
    practice_id: PracticeId, patient_id: PatientId, limit: Limit = 50, cursor: Cursor = None
) -> Response[api.RecordedDecisionList]:
    """List what was decided for the patient and why, newest first."""
    after = http.place(cursor, http.AFTER_DECISION)
    items, after = decisions.list_newest(practice_id, patient_id, limit, after)
    if not items:
        asked.patient(practice_id, patient_id)
    return http.next_page([decisions.answer(item) for item in items], after)


@app.get(
    f"{PATIENT}/decisions/<message_id>",
    security=needs("preferences/read"),
    responses=answers(api.RecordedDecision, 404),
)
def read_decision(
    practice_id: PracticeId, patient_id: PatientId, message_id: MessageId
) -> Response[api.RecordedDecision]:
    """Give the decision taken for one message."""
    recorded = decisions.read(practice_id, patient_id, message_id)
    if recorded is None:
        raise http.Unknown("decision")
    return http.answer(decisions.answer(recorded))


@app.post(
    f"{PATH}/patients/search", security=needs("preferences/read"), responses=answers(api.FoundList, 400, 404, 413)
)
def search_patients(
    practice_id: PracticeId, body: api.SearchBody, limit: Limit = 50, cursor: Cursor = None
) -> Response[api.FoundList]:
    """Find the patients who have a phone number on file, or the one with an id; numbers stay out of URLs."""
    practice = asked.practice(practice_id)
    after = http.place(cursor, http.AFTER_ID)
    if body.patient_id is not None:
        http.note_patients(app, [body.patient_id])
        found, after = [body.patient_id] if patients.read(practice_id, body.patient_id) else [], None
    else:
        number = asked.number(body.phone_number or "", practice, ("body", "phone_number"))
        found, after = numbers.sharing(practice_id, number, limit, after)
        http.note_patients(app, found)
    return http.next_page([{"patient_id": id_} for id_ in found], after)


@app.post(
    f"{PATH}/routing/evaluate",
    security=needs("preferences/read"),
    responses=answers(api.DecisionAnswer | api.DecisionList, 400, 404, 413),
    # Of fifty messages to one patient the answers are much alike: a twentieth of their bytes.
    compress=True,
)
def evaluate(practice_id: PracticeId, body: api.EvaluateBody) -> Response[api.DecisionAnswer | api.DecisionList]:
    """Decide and write nothing: for a stored patient or given facts, under the practice's policy or another."""
    practice = asked.practice(practice_id)
    policy = asked.policy(body.policy) if body.policy else practice.policy
    if body.patient is not None:
        facts = asked.facts(body.patient, practice)
    else:
        http.note_patients(app, [body.patient_id or ""])
        patient = asked.patient(practice_id, body.patient_id or "")
        stored = facesheet.facts_of(patient, patients.read_numbers(practice_id, patient))
        facts = asked.changed(stored, body.changes, practice)
    messages = body.messages or [message for message in [body.message] if message]
    loc = [("body", "message")] if body.messages is None else [("body", "messages", n) for n in range(len(messages))]
    routed = [
        decision_data.answer(decide(facts, asked.message(message, facts, practice, at), policy))
        for message, at in zip(messages, loc, strict=True)
    ]
    return http.answer(routed[0] if body.messages is None else {"decisions": routed})


def _change(
    practice_id: str,
    patient_id: str,
    what: patients.What,
    edit: Callable[[Patient | None], Patient],
    if_match: str | None,
    note: str | None = None,
) -> Response[Any]:
    return _facesheet(patients.change(practice_id, patient_id, what, edit, Actor(http.subject(app), if_match), note))


def _facesheet(patient: Patient) -> Response[Any]:
    known = patients.read_numbers(patient.practice_id, patient)
    shared_with = {number: numbers.shared_with(patient, number) for number in patients.numbers_on_file(patient)}
    return http.answer(facesheet.facesheet(patient, known, shared_with), etag=patients.etag(patient))
