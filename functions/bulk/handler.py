"""Broadcasts and campaigns: one message to many patients, tried beforehand, steered meanwhile, and accounted for."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Header, Query
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import (
    api,
    asked,
    aws,
    bulk,
    bulks,
    clock,
    consent_csv,
    decisions,
    http,
    lists,
    practices,
    received,
    recipients,
    settings,
)
from patient_contact.bulk import Kind
from patient_contact.bulk_list import BadList
from patient_contact.content import Content
from patient_contact.facesheet import Practice
from patient_contact.http import PATH, AutomationId, BulkId, Cursor, PracticeId, answers, needs

IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", pattern=received.OCCURRENCE_PATTERN)]
DryRun = Annotated[bool, Query(description="say who would get what, and send nothing")]
Outcome = Annotated[recipients.Which | None, Query(description="of these rows only")]
# A list is downloaded page by page: 1,000 rows are about 300 KB.
Rows = Annotated[int, Query(ge=1, le=1_000)]
SEND = "messages/send"
BROADCASTS, CAMPAIGNS = (f"/v1/practices/{{practice_id}}/{each}" for each in ("broadcasts", "campaigns"))

RECIPIENTS = answers(api.RecipientList, 404)
RECIPIENTS[200]["content"][http.CSV] = {"schema": {"type": "string"}}
RECIPIENTS[200]["headers"] = {
    "Link": {"description": "of CSV: the next page, relative to the request (RFC 8288)", "schema": {"type": "string"}}
}

app = http.resolver()
logger = Logger(service="bulk")
aws.dynamodb()
aws.s3()


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
def handler(event: http.Event, context: LambdaContext) -> http.Event:
    """Answer one request."""
    dry_run = "/v1/practices/{practice_id}/automations/{automation_id}/dry-run"
    return http.serve(app, event, context, logger, long_routes=[f"POST {BROADCASTS}", f"POST {dry_run}"])


def busy(error: lists.BucketUnavailable) -> Response[Any]:
    """Answer that the bucket is busy."""
    raise http.TryAgain("The bucket of lists is busy. Nothing was lost: try again.") from error


app.exception_handler(lists.BucketUnavailable)(busy)


@app.post(f"{PATH}/broadcasts", security=needs(SEND), responses=answers(api.BulkAnswer, 400, 404, 409, 413, status=202))
def start_broadcast(
    practice_id: PracticeId, body: api.BroadcastBody, idempotency_key: IdempotencyKey, dry_run: DryRun = False
) -> Response[api.BulkAnswer]:
    """Send a message to up to 3,000 patients whom staff have chosen; the same Idempotency-Key starts it once."""
    start = _Start(practice_id, "broadcasts", idempotency_key, body, is_dry_run=dry_run)
    if (earlier := start.earlier()) is not None:
        return earlier
    content = _without_placeholders(body.messages.content())
    listed = lists.written(practice_id, start.bulk_id, body.patient_ids)
    texts = len(set(body.patient_ids)) if "text" in content.channels and not dry_run else 0
    return start.answer("broadcast", body, content, listed, texts=texts)


@app.post(f"{PATH}/campaigns", security=needs(SEND), responses=answers(api.BulkAnswer, 400, 404, 409, 413, status=202))
def start_campaign(
    practice_id: PracticeId, body: api.CampaignBody, idempotency_key: IdempotencyKey, dry_run: DryRun = False
) -> Response[api.BulkAnswer]:
    """Send a message to the patients of an uploaded list; the same Idempotency-Key starts it once."""
    start = _Start(practice_id, "campaigns", idempotency_key, body, is_dry_run=dry_run)
    if (earlier := start.earlier()) is not None:
        return earlier
    return start.answer("campaign", body, body.messages.content(), _uploaded(practice_id, body.list))


@app.post(
    f"{PATH}/automations/<automation_id>/dry-run",
    security=needs(SEND),
    responses=answers(api.BulkAnswer, 400, 404, 409, 413, status=202),
)
def try_automation(
    practice_id: PracticeId,
    automation_id: AutomationId,
    body: api.AutomationDryRunBody,
    idempotency_key: IdempotencyKey,
) -> Response[api.BulkAnswer]:
    """Say who would get what if an automation was triggered for the patients of a list, and what would change."""
    start = _Start(practice_id, f"automations/{automation_id}/dry-run", idempotency_key, body, is_dry_run=True)
    if (earlier := start.earlier()) is not None:
        return earlier
    automation = practices.read_automation(practice_id, automation_id)
    if automation is None:
        raise http.Unknown("automation")
    if body.list is not None:
        listed = _uploaded(practice_id, body.list)
    else:
        listed = lists.written(practice_id, start.bulk_id, body.patient_ids or [])
    return start.order(
        "automation",
        automation.name,
        automation.line or start.practice.default_line,
        automation.content,
        listed,
        is_enabled=automation.enabled,
        what_if=_what_if(body),
    )


def _without_placeholders(content: Content) -> Content:
    if content.placeholders():
        message = "nothing fills placeholders here: what differs from patient to patient is a campaign's context"
        raise http.Invalid(("body", "messages"), "placeholder", message)
    return content


def _uploaded(practice_id: str, body: api.UploadedList) -> bulks.Listed:
    try:
        return lists.uploaded(practice_id, body.key)
    except BadList as bad:
        raise http.Invalid(("body", "list", "key"), "list", bad.reason) from None


def _what_if(body: api.WhatIfBody) -> bulks.WhatIf | None:
    policy = None if body.policy is None else asked.policy(body.policy)
    content = None if body.messages is None else body.messages.content()
    return None if policy is None and content is None else bulks.WhatIf(policy, content)


class _Start:
    """A request that starts a bulk, once for its Idempotency-Key."""

    def __init__(self, practice_id: str, path: str, key: str, body: received.Received, *, is_dry_run: bool) -> None:
        self.practice: Practice = asked.practice(practice_id)
        self.is_dry_run = is_dry_run
        self.bulk_id = bulks.id_of(practice_id, path, key)
        self._request = hashlib.sha256(f"{is_dry_run} {body.model_dump_json()}".encode()).hexdigest()

    def earlier(self) -> Response[api.BulkAnswer] | None:
        """Give the answer of the request that has started it before, None when this is the first."""
        item = bulks.read(self.practice.practice_id, self.bulk_id)
        return None if item is None else self._once(lambda: bulks.same(item, self._request))

    def answer(
        self, kind: Kind, body: api.BulkBody, content: Content, listed: bulks.Listed, texts: int = 0
    ) -> Response[api.BulkAnswer]:
        """Start a broadcast or campaign, or its dry run."""
        now = clock.now()
        if body.send_before is not None and body.send_before <= max(body.starts_at or now, now):
            raise http.Invalid(("body", "send_before"), "time", "lies before the start")
        if body.starts_at is not None and body.starts_at > now + bulks.LONGEST_WAIT:
            raise http.Invalid(("body", "starts_at"), "time", "lies more than 60 days ahead")
        line = asked.line(self.practice, body.line, ("body", "line"))
        times = {} if self.is_dry_run else {"starts_at": body.starts_at, "send_before": body.send_before}
        return self.order(kind, body.name, line, content, listed, texts=texts, **times)

    def order(
        self, kind: Kind, name: str, line: str, content: Content, listed: bulks.Listed, **more: Any
    ) -> Response[api.BulkAnswer]:
        """Start it."""
        order = bulks.Order(
            self.practice.practice_id,
            self.bulk_id,
            kind,
            name,
            line,
            content,
            listed,
            http.subject(app),
            self._request,
            self.is_dry_run,
            **more,
        )
        return self._once(lambda: bulks.start(order, self.practice, settings.decision_retention_days()))

    def _once(self, start: Callable[[], bulks.Item]) -> Response[api.BulkAnswer]:
        try:
            item = start()
        except bulks.Reused:
            raise http.Invalid(
                ("header", "idempotency-key"), "reused", "this key was used to start something else"
            ) from None
        except bulks.QuotaExceeded as exceeded:
            message = (
                f"Of the day's texts by broadcasts {exceeded.left} are left: choose fewer patients, or another day."
            )
            raise http.Conflict("quota-exceeded", message) from None
        return _answer(self.practice, item, 202)


def _answer(practice: Practice, item: bulks.Item, status: int = 200) -> Response[api.BulkAnswer]:
    told = bulks.answer(item, clock.now(), None if item["dry_run"] else decisions.sender(practice))
    path = "dry-runs" if item["dry_run"] else f"{item['kind']}s"
    location = f"/v1/practices/{practice.practice_id}/{path}/{told['id']}" if status == 202 else None
    return http.answer(told, status, location=location)


# --- each kind at its own path --------------------------------------------------------------------------------------

ONE = answers(api.BulkAnswer, 404)
STEERED = answers(api.BulkAnswer, 400, 404, 409, 413)
TRIED = answers(api.BulkAnswer, 400, 404, 409, 413, status=202)


@app.get(f"{PATH}/broadcasts/<bulk_id>", security=needs(SEND), responses=ONE)
@app.get(f"{PATH}/campaigns/<bulk_id>", security=needs(SEND), responses=ONE)
@app.get(f"{PATH}/dry-runs/<bulk_id>", security=needs(SEND), responses=ONE)
def read(practice_id: PracticeId, bulk_id: BulkId) -> Response[api.BulkAnswer]:
    """Say how far it has come: state, exact counts, rate and estimated end."""
    practice = asked.practice(practice_id)
    return _answer(practice, _found(practice_id, bulk_id))


@app.post(f"{PATH}/broadcasts/<bulk_id>/pause", security=needs(SEND), responses=STEERED)
@app.post(f"{PATH}/campaigns/<bulk_id>/pause", security=needs(SEND), responses=STEERED)
def pause(practice_id: PracticeId, bulk_id: BulkId) -> Response[api.BulkAnswer]:
    """Route nobody else until it is resumed; what is routed waits, unless it is being sent."""
    return _steer(practice_id, bulk_id, "pause")


@app.post(f"{PATH}/broadcasts/<bulk_id>/resume", security=needs(SEND), responses=STEERED)
@app.post(f"{PATH}/campaigns/<bulk_id>/resume", security=needs(SEND), responses=STEERED)
def resume(practice_id: PracticeId, bulk_id: BulkId) -> Response[api.BulkAnswer]:
    """Go on: who has not been routed is, and what waited is sent; nobody gets a second message."""
    return _steer(practice_id, bulk_id, "resume")


@app.post(f"{PATH}/broadcasts/<bulk_id>/cancel", security=needs(SEND), responses=STEERED)
@app.post(f"{PATH}/campaigns/<bulk_id>/cancel", security=needs(SEND), responses=STEERED)
@app.post(f"{PATH}/dry-runs/<bulk_id>/cancel", security=needs(SEND), responses=STEERED)
def cancel(practice_id: PracticeId, bulk_id: BulkId) -> Response[api.BulkAnswer]:
    """End it: nobody else is routed, and what is routed and not yet being sent is withdrawn."""
    return _steer(practice_id, bulk_id, "cancel")


@app.post(f"{PATH}/broadcasts/<bulk_id>/dry-run", security=needs(SEND), responses=TRIED)
@app.post(f"{PATH}/campaigns/<bulk_id>/dry-run", security=needs(SEND), responses=TRIED)
def try_again(
    practice_id: PracticeId, bulk_id: BulkId, body: api.WhatIfBody, idempotency_key: IdempotencyKey
) -> Response[api.BulkAnswer]:
    """Say who would get what of it, and, with another policy or other messages, what would change; nothing is sent."""
    start = _Start(practice_id, f"{_kind()}s/{bulk_id}/dry-run", idempotency_key, body, is_dry_run=True)
    if (earlier := start.earlier()) is not None:
        return earlier
    item = _found(practice_id, bulk_id)
    if body.messages is not None and item["kind"] == "broadcast":
        _without_placeholders(body.messages.content())
    content = bulks.read_content(practice_id, bulk_id)
    return start.order(item["kind"], item["name"], item["line"], content, bulks.listed(item), what_if=_what_if(body))


@app.get(f"{PATH}/broadcasts/<bulk_id>/recipients", security=needs(SEND), responses=RECIPIENTS)
@app.get(f"{PATH}/campaigns/<bulk_id>/recipients", security=needs(SEND), responses=RECIPIENTS)
@app.get(f"{PATH}/dry-runs/<bulk_id>/recipients", security=needs(SEND), responses=RECIPIENTS)
def list_recipients(
    practice_id: PracticeId, bulk_id: BulkId, outcome: Outcome = None, limit: Rows = 100, cursor: Cursor = None
) -> Response[Any]:
    """List what became of its rows, in the list's order: JSON or `text/csv`, as accepted."""
    return _recipients(practice_id, bulk_id, outcome, limit, cursor)


@app.get(f"{PATH}/broadcasts/<bulk_id>/unreachable", security=needs(SEND), responses=RECIPIENTS)
@app.get(f"{PATH}/campaigns/<bulk_id>/unreachable", security=needs(SEND), responses=RECIPIENTS)
@app.get(f"{PATH}/dry-runs/<bulk_id>/unreachable", security=needs(SEND), responses=RECIPIENTS)
def list_unreachable(
    practice_id: PracticeId, bulk_id: BulkId, limit: Rows = 100, cursor: Cursor = None
) -> Response[Any]:
    """List who gets nothing, why, and the one change that would help: JSON or `text/csv`, as accepted."""
    return _recipients(practice_id, bulk_id, "unreachable", limit, cursor)


def _kind() -> str:
    """Give what the path of the request is about: `broadcast`, `campaign` or `dry-run`."""
    return str(app.current_event["routeKey"]).split("/")[4].removesuffix("s")


def _found(practice_id: str, bulk_id: str) -> bulks.Item:
    """Give a broadcast, campaign or dry run, each at its own path; raise Unknown when there is none."""
    item = bulks.read(practice_id, bulk_id)
    if item is None or ("dry-run" if item["dry_run"] else item["kind"]) != _kind():
        raise http.Unknown(_kind())
    return item


def _steer(practice_id: str, bulk_id: str, action: bulk.Action) -> Response[api.BulkAnswer]:
    practice = asked.practice(practice_id)
    _found(practice_id, bulk_id)
    try:
        item = bulks.change(practice_id, bulk_id, action)
    except bulk.NotNow as refused:
        raise http.Conflict("not-now", f"It is {refused.state}: {TOO_LATE[action]}.") from None
    if item is None:
        raise http.Unknown(_kind())
    return _answer(practice, item)


TOO_LATE: dict[bulk.Action, str] = {
    "pause": "there is nothing to pause",
    "resume": "it cannot go on",
    "cancel": "there is nothing to cancel",
}


def _recipients(
    practice_id: str, bulk_id: str, which: recipients.Which | None, limit: int, cursor: str | None
) -> Response[Any]:
    asked.practice(practice_id)
    _found(practice_id, bulk_id)
    place = http.place(cursor, http.AFTER_ROW)
    try:
        items, after = recipients.page(practice_id, bulk_id, which, limit, place)
    except lists.ListGone:
        raise http.Unknown("result") from None
    http.note_patients(app, {each["patient_id"] for each in items if each["patient_id"] is not None})
    if http.CSV in app.current_event.headers.get("accept", ""):
        return http.csv_answer(consent_csv.written(recipients.COLUMNS, recipients.as_rows(items)), app, after)
    return http.next_page(items, after)
