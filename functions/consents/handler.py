"""SMS consent of phone numbers: history, replies to be read, the report of opt-outs, and consent from other systems."""

from dataclasses import asdict
from typing import Annotated, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import (
    api,
    asked,
    aws,
    clock,
    consent_csv,
    http,
    imports,
    numbers,
    practices,
    received,
    reports,
    reviews,
)
from patient_contact.http import PATH, Cursor, Limit, PracticeId, ReviewId, answers, needs

IMPORT = "/v1/practices/{practice_id}/imports/consent"
# What is left of the invocation when no more rows are begun, in milliseconds.
RESERVE = 8_000

SINCE = "said at or after: ISO 8601, a moment with its offset or a day in the practice's time zone"

CLOSED = {
    "answered": "the patient has said by a keyword what they want",
    "opted_out": "as an opt-out",
    "not_a_request": "as no request",
}

OPT_OUT_ANSWERS = answers(api.OptOutList, 404)
OPT_OUT_ANSWERS[200]["content"][http.CSV] = {"schema": {"type": "string"}}
OPT_OUT_ANSWERS[200]["headers"] = {
    "Link": {"description": "of CSV: the next page, relative to the request (RFC 8288)", "schema": {"type": "string"}}
}

app = http.resolver()
logger = Logger(service="consents")
aws.dynamodb()


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
def handler(event: http.Event, context: LambdaContext) -> http.Event:
    """Answer one request."""
    return http.serve(app, event, context, logger, csv_routes=[f"POST {IMPORT}"])


@app.post(
    f"{PATH}/numbers/search", security=needs("preferences/read"), responses=answers(api.NumberAnswer, 400, 404, 413)
)
def search_number(
    practice_id: PracticeId, body: api.NumberBody, limit: Limit = 50, cursor: Cursor = None
) -> Response[api.NumberAnswer]:
    """Find all that is known of a phone number: status, line type, consent with its history, and who shares it."""
    practice = asked.practice(practice_id)
    number = asked.number(body.phone_number, practice, ("body", "phone_number"))
    place = http.place(cursor, http.AFTER_SAID)
    known = numbers.read(practice_id, number)
    patients, more = numbers.sharing(practice_id, number, reviews.MAX_PATIENTS)
    http.note_patients(app, patients)
    changes, _ = numbers.history(practice_id, number, "STATUS#", 50)
    history, after = numbers.history(practice_id, number, numbers.CONSENT, limit, place)
    return http.answer(
        {
            "phone_number": number,
            **numbers.answer(known),
            "patients": patients,
            "more_patients": more is not None,
            "changes": changes,
            "history": history,
            "next": http.cursor_to(after),
        }
    )


@app.get(f"{PATH}/reports/opt-outs", security=needs("preferences/read"), responses=OPT_OUT_ANSWERS)
def report_opt_outs(
    practice_id: PracticeId,
    line: Annotated[str | None, Query(pattern=received.ID_PATTERN, description="of this line; else of all")] = None,
    since: Annotated[str | None, Query(max_length=40, description=SINCE)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response[Any]:
    """List the numbers that are opted out, of a line or of all, and since when: JSON or `text/csv`, as accepted."""
    practice = asked.practice(practice_id)
    lines = [asked.line(practice, line, ("query", "line"))] if line else [own.id for own in practice.lines]
    begin = asked.time(since, practice, ("query", "since")) if since else None
    place = http.place(cursor, http.AFTER_OPT_OUT)
    if place is not None and place.partition(" ")[0] not in lines:
        raise http.bad_cursor()
    items, after = reports.opt_outs(practice_id, lines, begin, limit, place)
    if http.CSV in app.current_event.headers.get("accept", ""):
        text = consent_csv.written(reports.COLUMNS, ([item[name] for name in reports.COLUMNS] for item in items))
        return http.csv_answer(text, app, after)
    return http.next_page(items, after)


@app.get(f"{PATH}/consent-reviews", security=needs("preferences/read"), responses=answers(api.ReviewList, 404))
def list_reviews(practice_id: PracticeId, limit: Limit = 50, cursor: Cursor = None) -> Response[api.ReviewList]:
    """List the replies that staff must read, since they may be opt-outs, the first due first."""
    asked.practice(practice_id)
    items, after = reviews.list_open(practice_id, limit, http.place(cursor, http.AFTER_REVIEW))
    http.note_patients(app, {patient_id for item in items for patient_id in item["patients"]})
    return http.next_page(items, after)


@app.post(
    f"{PATH}/consent-reviews/<review_id>",
    security=needs("preferences/write"),
    responses=answers(api.ClosedReview, 400, 404, 409, 413),
)
def close_review(practice_id: PracticeId, review_id: ReviewId, body: api.ReviewBody) -> Response[api.ClosedReview]:
    """Close a review: as an opt-out, from when it was said (from now, if staff opted in since), or as no request."""
    try:
        closed = reviews.close(practice_id, review_id, body.outcome, http.subject(app), body.note)
    except reviews.UnknownReview:
        raise http.Unknown("review") from None
    except reviews.Closed as before:
        raise http.Conflict("review-closed", f"The review was closed before: {CLOSED[before.outcome]}.") from None
    patients, _ = numbers.sharing(practice_id, closed["phone_number"], reviews.MAX_PATIENTS)
    http.note_patients(app, patients)
    return http.answer(closed)


@app.post(
    f"{PATH}/imports/consent", security=needs("practice/admin"), responses=answers(api.ImportAnswer, 400, 404, 413)
)
def import_consent(practice_id: PracticeId, dry_run: Annotated[bool, Query()] = False) -> Response[api.ImportAnswer]:
    """Record opt-outs from a CSV file (number,line,status,said_at,source); `dry_run=true` says what would change."""
    practice = asked.practice(practice_id)
    lines = {line.id for line in practice.lines}
    try:
        rows, refused = consent_csv.read(http.csv_body(app), lines, practice.default_country, clock.now())
    except consent_csv.BadFile as bad:
        raise http.Invalid(("body",), "csv", bad.reason) from None
    told, wanted, items = imports.plan(practice_id, http.subject(app), rows)
    if not dry_run:
        for line in {change.of.line for change in wanted}:
            practices.expect_consent(practice, line)
        try:
            imports.apply(wanted, items, lambda: app.lambda_context.get_remaining_time_in_millis() > RESERVE)
        except imports.OutOfTime:
            message = "The file is recorded in part: send it again, what is recorded is not recorded twice."
            raise http.TryAgain(message) from None
    counted = {"dry_run": dry_run, "rows": len(rows) + len(refused)}
    return http.answer({**counted, **told, "refused": [asdict(each) for each in refused]})
