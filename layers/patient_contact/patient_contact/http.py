"""What all HTTP functions share: the practice check, bodies, cursors, problem documents, audit lines.

I/O. A handler module makes its `app` here, declares its routes, and serves events through `serve`.
"""

import base64
import binascii
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError, ResponseValidationError
from aws_lambda_powertools.event_handler.openapi.params import Header, Path, Query
from aws_lambda_powertools.utilities.typing import LambdaContext

from patient_contact import api, log, patients, received
from patient_contact.practices import LineInUse, LineMoved, LineTaken
from patient_contact.table import Contended, TableUnavailable

MAX_BODY = 256 * 1024
# Imports and lists: a file of 5,000 rows, or 3,000 patient ids, are under 1 MB.
MAX_LONG_BODY = 1024 * 1024
# Lambda answers 6 MB at most, in UTF-8, of which a character of ours (JSON escapes the rest) takes one byte.
MAX_ANSWER = 5_000_000

PATH = "/v1/practices/<practice_id>"
PROBLEM_JSON = "application/problem+json"
JSON = "application/json"
CSV = "text/csv"

PracticeId = Annotated[str, Path(pattern=received.ID_PATTERN)]
PatientId = Annotated[str, Path(pattern=received.ID_PATTERN)]
BulkId = Annotated[str, Path(pattern=received.ID_PATTERN)]
AutomationId = Annotated[str, Path(pattern=received.ID_PATTERN)]
MessageId = Annotated[str, Path(pattern=received.MESSAGE_ID_PATTERN)]
ReviewId = Annotated[str, Path(pattern=received.REVIEW_ID_PATTERN)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=2_000)]

# Not the standard library's phrases, which differ from version to version.
TITLES = {
    200: "OK",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

PATH_IDS = {
    "practice_id": re.compile(received.ID_PATTERN),
    "patient_id": re.compile(received.ID_PATTERN),
    "automation_id": re.compile(received.ID_PATTERN),
    "bulk_id": re.compile(received.ID_PATTERN),
    "message_id": re.compile(received.MESSAGE_ID_PATTERN),
    "review_id": re.compile(received.REVIEW_ID_PATTERN),
}

# A place in a list: after an id or a change's version; after a time and, at that time, a decision's message id, an
# attempt, or what was said on a line; on a line, after an opt-out. Never with a phone number: cursors are in URLs.
AFTER_ID = re.compile(received.ID_PATTERN)
AFTER_REVIEW = re.compile(received.REVIEW_ID_PATTERN)
AFTER_VERSION = re.compile(r"[0-9]{10}")
AFTER_DECISION = re.compile(r"[0-9T:.Z-]{27} [A-Za-z0-9._~:-]{1,400}")
AFTER_SAID = re.compile(r"[0-9T:.Z-]{27} [A-Za-z0-9._~-]{1,128}#[0-9T:.Z-]{27}#[A-Za-z0-9._~-]{0,140}")
AFTER_UNKNOWN = re.compile(r"[0-9T:.Z-]{27}#[0-9a-f-]{36}")
AFTER_ROW = re.compile(r"[0-9]{6,9} [0-9]{1,3}")
AFTER_OPT_OUT = re.compile(r"[A-Za-z0-9._~-]{1,128} ([0-9T:.Z-]{27}#[A-Za-z0-9._~-]{0,140})?")

Event = dict[str, Any]


class Unknown(Exception):
    """There is no such practice, patient, automation or decision; `what` names the kind."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Invalid(Exception):
    """A field is well-formed and yet cannot be accepted; `message` says why, never with the value."""

    def __init__(self, loc: tuple[str | int, ...], kind: str, message: str) -> None:
        super().__init__(message)
        self.error = {"loc": list(loc), "type": kind, "msg": message}


class Malformed(Exception):
    """The body is not JSON (or, where that is asked for, CSV) in UTF-8, or not base64 where it should be."""


class Conflict(Exception):
    """What is stored does not allow it; `slug` and the message say why, never with a value."""

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug


class TryAgain(Exception):
    """It could not be done, or not all of it, now; the message says what is to be sent again."""


def resolver() -> APIGatewayHttpResolver:
    """Make a function's app: requests and answers are validated against the handlers' types."""
    app = APIGatewayHttpResolver(enable_validation=True, response_validation_error_http_code=500)
    app.use([_refuse_unknown_parameters])
    app.exception_handler(RequestValidationError)(_refuse_fields)
    app.exception_handler(ResponseValidationError)(_fail)
    return app


def _refuse_unknown_parameters(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Response[Any]:
    """Refuse a query with a parameter that its route does not know: a misspelt `dry_run` would not be one."""
    known = {parameter.alias for parameter in app.context["_route"].dependant.query_params}
    for name in app.current_event.query_string_parameters or {}:
        if name not in known:
            raise Invalid(("query", name), "extra_forbidden", "there is no such parameter here")
    return next_middleware(app)


def answers(model: Any, *statuses: int, status: int = 200) -> dict[int, Any]:
    """Document what a route answers: its model, and its problem documents beside those that every route may answer."""
    return {
        status: {"description": TITLES[status], "content": {} if model is None else {JSON: {"model": model}}},
        **{
            refused: {"description": TITLES[refused], "content": {PROBLEM_JSON: {"model": api.Problem}}}
            for refused in sorted({403, 422, 500, 503, *statuses})
        },
    }


def needs(scope: str) -> list[dict[str, list[str]]]:
    """Document the scope that API Gateway demands for a route."""
    return [{"jwt": [scope]}]


def serve(
    app: APIGatewayHttpResolver,
    event: Event,
    context: LambdaContext,
    logger: Logger,
    csv_routes: Collection[str] = (),
    long_routes: Collection[str] = (),
) -> Event:
    """Answer one request: check its size, practice and ids, read its body, run its route, and log the audit line.

    `csv_routes` are the keys of routes that take CSV, which they read by `csv_body`; all others take JSON. They and
    `long_routes` take up to 1 MB.
    """
    takes_csv = event.get("routeKey") in csv_routes
    is_long = takes_csv or event.get("routeKey") in long_routes
    max_body = MAX_LONG_BODY if is_long else MAX_BODY
    claims = event.get("requestContext", {}).get("authorizer", {}).get("jwt", {}).get("claims", {})
    parameters = event.get("pathParameters") or {}
    practice_id = parameters.get("practice_id", "")
    is_own = practice_id in practices_of(claims)
    patient_ids = [parameters["patient_id"]] if "patient_id" in parameters else []
    app.context["patient_ids"] = patient_ids
    try:
        if _body_bytes(event) > max_body:
            answer = problem(413, "too-large", f"A body has at most {max_body // 1024} KB.")
        elif not is_own:
            answer = problem(403, "other-practice", "The token is not for this practice.")
        elif claims.get("token_use", "access") != "access":
            # Cognito's tokens of identity name the same client; other issuers' lack the scopes.
            answer = problem(403, "no-access-token", "The token says who somebody is, not what they may do.")
        elif not claims.get("sub"):
            answer = problem(403, "nobody", "The token does not say in `sub` who is asking.")
        else:
            _check_ids(parameters)
            answer = app.resolve(_with_text(event) if takes_csv else _with_json(event), context)
            if len(answer.get("body") or "") > MAX_ANSWER:
                answer = problem(413, "answer-too-large", "The answer would be too large: ask for less at once.")
    except Exception as error:  # noqa: BLE001 - whatever it is becomes an answer
        answer = _problem_of(error)
        if answer["statusCode"] >= 500:
            log.failure(logger, "request failed", error)
    log.audit(
        logger,
        sub=claims.get("sub", ""),
        # Refused for another practice, what stands in its place may be anything, and is hashed as patients are.
        practice_id=practice_id if is_own else log.keyed_hash(practice_id),
        route=event.get("routeKey", ""),
        status=answer["statusCode"],
        patients=[log.keyed_hash(practice_id, patient_id) for patient_id in patient_ids],
    )
    return answer


def note_patients(app: APIGatewayHttpResolver, patient_ids: Iterable[str]) -> None:
    """Name the patients that an answer is about and its path does not say, for the audit line."""
    app.context["patient_ids"].extend(patient_ids)


def practices_of(claims: Mapping[str, Any]) -> set[str]:
    """Read the practices that a token is for; a list claim arrives from API Gateway as `[a b]`."""
    members = str(claims.get("practice_ids", "")).removeprefix("[").removesuffix("]").split(" ")
    return {member for member in members if PATH_IDS["practice_id"].fullmatch(member)}


def subject(app: APIGatewayHttpResolver) -> str:
    """Give the token's `sub`: who is asking."""
    return str(app.current_event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"])


def csv_body(app: APIGatewayHttpResolver) -> str:
    """Give the CSV that was sent."""
    return app.current_event.body or ""


def csv_answer(text: str, app: APIGatewayHttpResolver, place: str | None) -> Response[Any]:
    """Answer a page of a list as CSV; the address of the next page is in the `Link` header (RFC 8288)."""
    headers: dict[str, Any] = {"Cache-Control": "no-store"}
    if place is not None:
        asked = {**(app.current_event.query_string_parameters or {}), "cursor": cursor_to(place)}
        headers["Link"] = f'<?{urlencode(asked)}>; rel="next"'
    return Response(status_code=200, content_type=f"{CSV}; charset=utf-8", body=text, headers=headers)


def answer(body: object, status: int = 200, *, etag: str | None = None, location: str | None = None) -> Response[Any]:
    """Answer JSON, with the entity tag that a write may be made conditional on."""
    headers: dict[str, Any] = {"Cache-Control": "no-store"}
    if etag is not None:
        headers["ETag"] = etag
    if location is not None:
        headers["Location"] = location
    return Response(status_code=status, content_type=JSON, body=body, headers=headers)


def next_page(items: Iterable[object], place: str | None) -> Response[Any]:
    """Answer a page of a list, with an opaque cursor to go on from `place`. What list it is stays in the path."""
    return answer({"items": list(items), "next": cursor_to(place)})


def cursor_to(place: str | None) -> str | None:
    """Give an opaque cursor to go on from a place; None at the end of a list."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def place(cursor_text: str | None, shape: re.Pattern[str]) -> str | None:
    """Read a cursor back as a place of this shape; raise Invalid for one that this list did not give."""
    if cursor_text is None:
        return None
    try:
        padded = cursor_text + "=" * (-len(cursor_text) % 4)
        position = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        position = ""
    if not shape.fullmatch(position):
        raise bad_cursor()
    return position


def bad_cursor() -> Invalid:
    """Give the error for a cursor that this list did not give."""
    return Invalid(("query", "cursor"), "cursor", "not a cursor that this list has given")


def problem(
    status: int, slug: str, detail: str, *, errors: list[dict[str, Any]] | None = None, retry_after: int | None = None
) -> Event:
    """Give a problem document (RFC 9457) as a Lambda answer."""
    body: dict[str, Any] = {
        "type": f"urn:patient-contact:problem:{slug}",
        "title": TITLES[status],
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    headers = {"Content-Type": PROBLEM_JSON, "Cache-Control": "no-store"}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return {
        "statusCode": status,
        "headers": headers,
        "body": json.dumps(body),
        "isBase64Encoded": False,
        "cookies": [],
    }


def _problem_of(error: Exception) -> Event:
    """The one place where errors become statuses."""
    match error:
        case Malformed():
            return problem(400, "malformed", str(error))
        case Invalid():
            return problem(422, "invalid", str(error), errors=[error.error])
        case Conflict():
            return problem(409, error.slug, str(error))
        case TryAgain():
            return problem(503, "try-again", str(error), retry_after=1)
        case Unknown():
            return problem(404, f"unknown-{error.what}", f"There is no such {error.what}.")
        case patients.UnknownPatient():
            return problem(404, "unknown-patient", "There is no such patient.")
        case patients.StaleVersion():
            return problem(412, "stale-version", "The patient has changed since: read the facesheet again.")
        case LineTaken():
            return problem(409, "line-taken", "A line's number belongs to another practice.")
        case LineInUse():
            return problem(
                409,
                "line-in-use",
                "A line with consent on record keeps its number; it, and a line that an automation names, must stay.",
            )
        case LineMoved():
            return problem(409, "line-moved", "The practice's lines have changed meanwhile: read the practice again.")
        case TableUnavailable() | Contended():
            return problem(503, "busy", "The table is busy. Nothing was lost: try again.", retry_after=1)
    return problem(500, "error", "Something failed on our side. It is logged, without your data.")


def _fail(error: ResponseValidationError) -> Response[Any]:
    """An answer of ours that is not what we document is our failure: it is logged and answered as one."""
    raise error


def _refuse_fields(error: RequestValidationError) -> Response[Any]:
    errors = [
        {"loc": list(part["loc"]), "type": part["type"], "msg": part["msg"].removeprefix("Value error, ")}
        for part in error.errors()
    ]
    detail = errors[0]["msg"] if len(errors) == 1 else f"{len(errors)} fields are not accepted."
    answered = problem(422, "invalid", detail, errors=errors)
    return Response(
        status_code=422,
        content_type=PROBLEM_JSON,
        body=answered["body"],
        headers={"Cache-Control": "no-store"},
    )


def _body_bytes(event: Event) -> int:
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        return len(body) * 3 // 4 - body[-2:].count("=")
    return len(body.encode("utf-8", "replace"))


def _check_ids(parameters: Mapping[str, str]) -> None:
    """Refuse ids that are none here, before the router can take them for unknown paths."""
    for name, pattern in PATH_IDS.items():
        if name in parameters and not pattern.fullmatch(parameters[name]):
            message = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ - (a message id also :)"
            if name == "review_id":
                message = "the id of a review, as the list gives it"
            raise Invalid(("path", name), "string_pattern_mismatch", message)


def _with_text(event: Event) -> Event:
    """Give the event with its body as text, whatever the content type says."""
    body = event.get("body")
    if not body or not event.get("isBase64Encoded"):
        return event
    try:
        text = base64.b64decode(body, validate=True).decode()
    except binascii.Error:
        raise Malformed("The body is not valid base64.") from None
    except UnicodeDecodeError:
        raise Malformed("The body is not UTF-8.") from None
    return {**event, "body": text, "isBase64Encoded": False}


def _with_json(event: Event) -> Event:
    """Give the event with its body as JSON text; we speak JSON whatever the content type says."""
    event = _with_text(event)
    if not event.get("body"):
        return event
    try:
        parsed = json.loads(event["body"])
    except (ValueError, RecursionError):
        raise Malformed("The body is not valid JSON.") from None
    if not isinstance(parsed, dict):
        raise Invalid(("body",), "dict_type", "the body is a JSON object")
    return {**event, "headers": {**event.get("headers", {}), "content-type": JSON}}
