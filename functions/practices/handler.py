"""Practices, their automations, and the truth table of their policy."""

from dataclasses import asdict
from typing import Annotated, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import advice, api, asked, aws, http, practices, truth_table
from patient_contact.facesheet import Line, Practice
from patient_contact.facts import CHANNELS, Policy
from patient_contact.http import PATH, AutomationId, Cursor, Limit, PracticeId, answers, needs

TABLE_ANSWERS = answers(api.TruthTable, 404)
TABLE_ANSWERS[200]["content"] |= {
    "text/markdown": {"schema": {"type": "string"}},
    "text/csv": {"schema": {"type": "string"}},
}

app = http.resolver()
logger = Logger(service="practices")
aws.dynamodb()


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=False)
def handler(event: http.Event, context: LambdaContext) -> http.Event:
    """Answer one request."""
    return http.serve(app, event, context, logger)


@app.get(PATH, security=needs("practice/read"), responses=answers(api.PracticeAnswer, 404))
def read_practice(practice_id: PracticeId) -> Response[api.PracticeAnswer]:
    """Give the practice: its policy, lines and defaults."""
    return http.answer(_practice_answer(asked.practice(practice_id)))


@app.put(PATH, security=needs("practice/admin"), responses=answers(api.PracticePutAnswer, 400, 409, 413))
def put_practice(practice_id: PracticeId, body: api.PracticeBody) -> Response[api.PracticePutAnswer]:
    """Create or replace the practice; `warnings` say what its policy risks."""
    policy = asked.policy(body.policy)
    lines = tuple(
        Line(**{**line.model_dump(), "review_words": tuple(sorted(set(line.review_words)))}) for line in body.lines
    )
    practice = practices.put(
        Practice(
            practice_id,
            body.name,
            body.time_zone,
            body.default_country,
            policy,
            lines,
            body.default_line,
            body.sending,
            0,
            body.broadcast_texts_per_day,
        )
    )
    warnings = [asdict(warned) for warned in advice.of_practice(practice)]
    return http.answer({**_practice_answer(practice), "warnings": warnings})


@app.get(f"{PATH}/automations", security=needs("practice/read"), responses=answers(api.AutomationList, 404))
def list_automations(practice_id: PracticeId, limit: Limit = 50, cursor: Cursor = None) -> Response[api.AutomationList]:
    """List the automations in the order of their ids."""
    asked.practice(practice_id)
    after = http.place(cursor, http.AFTER_ID)
    items, after = practices.list_automations(practice_id, limit, after)
    return http.next_page([_automation_answer(item) for item in items], after)


@app.get(
    f"{PATH}/automations/<automation_id>", security=needs("practice/read"), responses=answers(api.AutomationAnswer, 404)
)
def read_automation(practice_id: PracticeId, automation_id: AutomationId) -> Response[api.AutomationAnswer]:
    """Give an automation."""
    automation = practices.read_automation(practice_id, automation_id)
    if automation is None:
        raise http.Unknown("automation")
    return http.answer(_automation_answer(automation))


@app.put(
    f"{PATH}/automations/<automation_id>",
    security=needs("practice/admin"),
    responses=answers(api.AutomationPutAnswer, 400, 404, 409, 413),
)
def put_automation(
    practice_id: PracticeId, automation_id: AutomationId, body: api.AutomationBody
) -> Response[api.AutomationPutAnswer]:
    """Register or replace an automation; `warnings` say whom its channels never reach under the practice's policy."""
    practice = asked.practice(practice_id)
    asked.line(practice, body.line, ("body", "line"))
    automation = practices.Automation(automation_id, body.name, body.line, body.enabled, body.messages.content())
    practices.put_automation(practice_id, automation)
    warnings = [asdict(warned) for warned in advice.of_channels(automation.content.channels, practice.policy)]
    return http.answer({**_automation_answer(automation), "warnings": warnings})


@app.delete(
    f"{PATH}/automations/<automation_id>", security=needs("practice/admin"), responses=answers(None, 404, status=204)
)
def delete_automation(practice_id: PracticeId, automation_id: AutomationId) -> Response[None]:
    """Delete an automation; its decisions stay."""
    if not practices.delete_automation(practice_id, automation_id):
        raise http.Unknown("automation")
    return http.answer(None, 204)


@app.get(f"{PATH}/routing/truth-table", security=needs("practice/read"), responses=TABLE_ANSWERS)
def read_truth_table(
    practice_id: PracticeId,
    call_when_text_not_included: Annotated[bool | None, Query()] = None,
    email_when_no_phone_channel: Annotated[bool | None, Query()] = None,
    text_other_number: Annotated[bool | None, Query()] = None,
    opt_out_blocks_calls: Annotated[bool | None, Query()] = None,
) -> Response[Any]:
    """Give the truth table of the practice's policy, flags replaced as asked: JSON, `text/markdown` or `text/csv`."""
    replaced = {
        "call_when_text_not_included": call_when_text_not_included,
        "email_when_no_phone_channel": email_when_no_phone_channel,
        "text_other_number": text_other_number,
        "opt_out_blocks_calls": opt_out_blocks_calls,
    }
    own = asdict(asked.practice(practice_id).policy)
    policy = Policy(**{flag: own[flag] if value is None else value for flag, value in replaced.items()})
    rows = truth_table.truth_table(policy)
    accept = app.current_event.headers.get("accept", "")
    for content_type, render in (("text/markdown", truth_table.markdown), ("text/csv", truth_table.as_csv)):
        if content_type in accept:
            return Response(200, f"{content_type}; charset=utf-8", render(rows), {"Cache-Control": "no-store"})
    return http.answer({"policy": asdict(policy), "rows": [asdict(row) for row in rows]})


def _practice_answer(practice: Practice) -> dict[str, Any]:
    answer = asdict(practice)
    del answer["version"]
    return answer


def _automation_answer(automation: practices.Automation) -> dict[str, Any]:
    return {
        "automation_id": automation.automation_id,
        "name": automation.name,
        "line": automation.line,
        "enabled": automation.enabled,
        "messages": automation.content.as_messages(),
        "channels": [channel for channel in CHANNELS if channel in automation.content.channels],
    }
