"""The HTTP API's description, generated from the functions: `make openapi` writes it, a test holds it current."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer

from functions.bulk import handler as bulk
from functions.consents import handler as consents
from functions.messages import handler as messages
from functions.practices import handler as practices
from functions.preferences import handler as preferences
from patient_contact import http
from patient_contact.consent_csv import COLUMNS, MAX_ROWS

TITLE = "Patient contact preferences"
VERSION = "1"
DESCRIPTION = (
    "Patients' contact preferences, and whether, where and how each message to them goes. "
    "Every operation needs one scope of the bearer token, and a practice that the token is for."
)
FUNCTIONS = (practices, preferences, messages, consents, bulk)

# The handler reads the file itself: Powertools knows of no body.
CSV_FILE = {
    "required": True,
    "description": (
        f"A file with a header, the columns `{','.join(COLUMNS)}` in any order, and at most {MAX_ROWS:,} rows. "
        "`number` is a phone number as people write it, `line` the id of a line, `status` `opted_out` or `opted_in`, "
        "`said_at` a time in ISO 8601 with its offset, `source` what says so (`keyword`: the patients themselves)."
    ),
    "content": {http.CSV: {"schema": {"type": "string"}}},
}


def openapi() -> dict[str, Any]:
    """Give the description of all functions' routes as one OpenAPI 3.1 document."""
    merged: dict[str, Any] = {}
    for module in FUNCTIONS:
        app = module.app
        app.configure_openapi(
            title=TITLE,
            version=VERSION,
            openapi_version="3.1.0",
            description=DESCRIPTION,
            security_schemes={"jwt": HTTPBearer(bearerFormat="JWT")},
        )
        part = json.loads(app.get_openapi_json_schema())
        _name(part, module)
        if not merged:
            merged = part
            continue
        for path, of_path in part["paths"].items():
            merged["paths"].setdefault(path, {}).update(of_path)
        for name, schema in part["components"]["schemas"].items():
            assert merged["components"]["schemas"].setdefault(name, schema) == schema, f"two schemas are named {name}"
    for _, _, operation in operations(merged):
        # A wrong answer of ours is a problem document as any other.
        operation["responses"]["500"] = {**operation["responses"]["503"], "description": http.TITLES[500]}
    merged["paths"][consents.IMPORT]["post"]["requestBody"] = CSV_FILE
    # Our errors are problem documents: what Powertools would say of validation errors is not what is answered.
    for name in ("HTTPValidationError", "ValidationError", "ResponseValidationError"):
        merged["components"]["schemas"].pop(name, None)
    merged.pop("servers", None)
    return dict(sorted(merged.items()))


def _name(part: dict[str, Any], module: Any) -> None:
    """Name a function's operations: by what answers them and, where that answers several, by what each is about."""
    names = {id(operation): operation["operationId"].partition("_v1_")[0] for *_, operation in operations(part)}
    of_all = Counter(names.values())
    for _, path, operation in operations(part):
        name = names[id(operation)]
        about = "" if of_all[name] == 1 else "_" + path.split("/")[4].removesuffix("s").replace("-", "_")
        operation["operationId"] = name + about
        operation["summary"] = (getattr(module, name).__doc__ or "").partition("\n")[0]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give every (method, path, operation) of a document."""
    for path, of_path in document["paths"].items():
        for method, operation in of_path.items():
            yield method.upper(), path, operation


def routes_as_markdown() -> str:
    """Give the routes, the scope that each needs, and what it is for, as the README lists them."""
    lines = ["| Route, below `/v1/practices/{practice_id}` | Scope | |", "|---|---|---|"]
    for method, path, operation in sorted(operations(openapi()), key=lambda each: (each[1], each[0])):
        ((scope,),) = (each["jwt"] for each in operation["security"])
        below = path.removeprefix("/v1/practices/{practice_id}")
        lines.append(f"| `{method} {below}` | `{scope}` | {operation['summary']} |".replace(" ` |", "` |"))
    return "\n".join(lines) + "\n"


def rendered() -> str:
    """Give the document as it is committed."""
    return json.dumps(openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered())
