"""Two practices with the same patient ids never see each other's data, whatever is asked."""

import json
from typing import Any

import pytest

from tests.integration.service import (
    ACCEPTED,
    CELL,
    LANDLINE,
    PRACTICE,
    REMINDER,
    Answer,
    Service,
    trigger,
)

# Both practices have the patient p-1, the automation reminder, the message ids and a phone; all else tells whose.
THEIRS = "southern"
SOUTH = PRACTICE | {
    "name": f"{THEIRS} Clinic",
    "lines": [
        {"id": "main", "name": f"{THEIRS} main", "phone_number": "+15035559500"},
        {"id": THEIRS, "name": f"{THEIRS} line", "phone_number": "+15035559501"},
    ],
}


def marked(practice_id: str, patient_id: str, mark: str) -> dict[str, Any]:
    """Contact info that says whose it is."""
    return {
        "phones": [{"number": CELL, "line_type": "text_enabled"}, {"number": f"call {mark}"}],
        "emails": [{"address": f"{practice_id}.{patient_id}.{mark}@example.org"}],
    }


def fill(service: Service, practice_id: str, practice: dict[str, Any], mark: str) -> None:
    """Put in a practice with everything that a route can read."""
    own: dict[str, Any] = {"practice_ids": [practice_id], "sub": f"staff-{mark}"}
    key = {"idempotency-key": "key-1"}

    def put(path: str, body: object) -> None:
        assert service.put(f"{practice_id}{path}", body, **own).status == 200

    put("", practice)
    put("/automations/reminder", REMINDER | {"name": f"Reminder {mark}"})
    put(f"/automations/{mark}", REMINDER)
    for patient_id in ("p-1", f"p-{mark}"):
        put(f"/patients/{patient_id}/contact-info", marked(practice_id, patient_id, mark))
        put(f"/patients/{patient_id}/do-not-contact", {"enabled": mark == THEIRS, "note": f"note {mark}"})
        text = {"channel": "text", "body": f"Hi {mark}"}
        assert service.post(f"{practice_id}/patients/{patient_id}/messages", text, headers=key, **own).status == 202
    assert (
        service.run_automations(trigger(practice_id=practice_id), trigger(f"p-{mark}", practice_id=practice_id)) == []
    )


@pytest.fixture(scope="module")
def both_as_put(once_deployed: Service) -> Any:
    """A table with the practices `north` and `south`, put in over HTTP and by automations."""
    fill(once_deployed, "north", dict(PRACTICE), "northern")
    fill(once_deployed, "south", dict(SOUTH), THEIRS)
    opt_out = {"phone_number": CELL, "line": "main", "status": "opted_out"}
    answer = once_deployed.put("south/patients/p-1/sms-consent", opt_out, practice_ids=["south"])
    assert answer.body["sms_consent"]["status"] == "Opted Out of 1 numbers"
    snapshot = once_deployed.snapshot()
    once_deployed.forget()
    return snapshot


@pytest.fixture
def both(service: Service, both_as_put: Any) -> Service:
    """The service with the practices `north` and `south`."""
    service.restore(both_as_put)
    return service


def of(practice_id: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the table's items that are a practice's, its lines among them."""
    return [
        item
        for item in items
        if f"{item['PK']['S']}#".startswith(f"PRACTICE#{practice_id}#")
        or item.get("practice_id", {}).get("S") == practice_id
    ]


@pytest.mark.parametrize("key", ACCEPTED)
def test_no_route_answers_or_touches_anything_of_the_other_practice(both: Service, key: str) -> None:
    before = both.items()
    body = ACCEPTED[key]
    if key.endswith("/sms-consent"):
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
    answer = both.request(key, body, headers={"idempotency-key": "key-2"})
    assert answer.status in (200, 202, 204)
    shown = json.dumps([answer.body, dict(answer.headers)])
    assert THEIRS not in shown
    assert "south" not in shown
    assert of("south", both.items()) == of("south", before)


# All but those that make what is not there.
ABOUT_SOMETHING = [
    key
    for key in ACCEPTED
    if ("{patient_id}" in key or "{automation_id}" in key)
    and not (key.startswith("PUT") and key.endswith(("{automation_id}", "contact-info")))
]


@pytest.mark.parametrize("key", ABOUT_SOMETHING)
def test_what_only_the_other_practice_has_is_unknown(both: Service, key: str) -> None:
    ids = {"patient_id": f"p-{THEIRS}"} if "{patient_id}" in key else {"automation_id": THEIRS}
    before = both.items()
    answer = both.request(key, ACCEPTED[key], **ids)
    assert answer.status == 404
    assert both.items() == before


def test_what_is_put_under_an_id_that_the_other_practice_has_is_ones_own(both: Service) -> None:
    before = of("south", both.items())
    path = f"north/patients/p-{THEIRS}/contact-info"
    answer = both.put(path, {"phones": [{"number": LANDLINE}], "emails": []})
    assert (answer.body["version"], answer.body["phones"][0]["number"]) == (1, LANDLINE)
    assert both.put(f"north/automations/{THEIRS}", REMINDER).status == 200
    assert of("south", both.items()) == before


def test_a_token_for_both_practices_sees_in_each_what_is_there(both: Service) -> None:
    for practice_id, mark, silent in (("north", "northern", False), ("south", THEIRS, True)):
        answer = both.get(f"{practice_id}/patients/p-1", practice_ids=["north", "south"])
        assert (answer.body["updated_by"], answer.body["do_not_contact"]) == (f"staff-{mark}", silent)


def test_a_phone_that_both_practices_know_finds_ones_own_patients_only(both: Service) -> None:
    for practice_id, found in (("north", ["p-1", "p-northern"]), ("south", ["p-1", f"p-{THEIRS}"])):
        answer = both.post(f"{practice_id}/patients/search", {"phone_number": CELL}, practice_ids=[practice_id])
        expected = {"items": [{"patient_id": patient_id} for patient_id in found], "next": None}
        assert answer == Answer(200, expected, {})
    answer = both.post("north/patients/search", {"patient_id": f"p-{THEIRS}"})
    assert answer == Answer(200, {"items": [], "next": None}, {})


def test_an_opt_out_at_one_practice_is_none_at_the_other(both: Service) -> None:
    assert both.get("north/patients/p-1").body["sms_consent"] == {"status": "Opted In", "numbers": []}
    message = {"class": "automation", "channels": ["text"]}
    answer = both.post("north/routing/evaluate", {"message": message, "patient_id": "p-1"})
    assert (answer.body["outcome"], answer.body["facts"]["sms_consent"]) == ("deliver", [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("automations", None),
        ("patients/p-1/changes", None),
        ("patients/p-1/decisions", None),
        ("patients/search", {"phone_number": CELL}),
    ],
)
def test_a_cursor_of_the_other_practice_shows_nothing_of_it(both: Service, path: str, body: object) -> None:
    method = "GET" if body is None else "POST"
    theirs = both.call(method, f"south/{path}?limit=1", body, practice_ids=["south"])
    assert theirs.body["next"]
    answer = both.call(method, f"north/{path}?cursor={theirs.body['next']}", body)
    own = both.call(method, f"north/{path}", body).body["items"]
    assert answer.status in (200, 422)
    assert all(item in own for item in answer.body.get("items", []))
    assert THEIRS not in json.dumps(answer.body)


@pytest.mark.parametrize("patient_id", ["p-1", "NUMBER", "PATIENT", "PRACTICE"])
def test_ids_that_look_like_parts_of_keys_lead_nowhere(both: Service, patient_id: str) -> None:
    answer = both.get(f"north/patients/{patient_id}/decisions")
    assert THEIRS not in json.dumps(answer.body)


def test_a_practice_whose_id_begins_as_the_others_is_another(both: Service) -> None:
    body = PRACTICE | {"lines": [{"id": "main", "name": "Main", "phone_number": "+15035559600"}]}
    assert both.put("sout", body, practice_ids=["sout"]).status == 200
    for path in ("automations", "patients/p-1", "patients/p-1/decisions"):
        answer = both.get(f"sout/{path}", practice_ids=["sout"])
        assert answer.status == 404 or answer.body["items"] == []


def test_one_batch_decides_for_each_practice_by_its_own_facts(both: Service) -> None:
    batch = [trigger(occurrence_id="both", practice_id=practice_id) for practice_id in ("north", "south")]
    assert both.run_automations(*batch) == []
    outcomes = []
    for practice_id in ("north", "south"):
        path = f"{practice_id}/patients/p-1/decisions/automation:reminder:both"
        outcomes.append(both.get(path, practice_ids=[practice_id]).body["reason"])
    assert outcomes == ["TEXT_ENABLED", "DO_NOT_CONTACT"]


def test_every_event_names_the_practice_that_it_is_about(both: Service) -> None:
    for practice_id in ("north", "south"):
        both.events.clear()
        own: dict[str, Any] = {"practice_ids": [practice_id]}
        consent = {"phone_number": CELL, "line": "main", "status": "opted_out"}
        assert both.put(f"{practice_id}/patients/p-1/sms-consent", consent, **own).status == 200
        assert both.put(f"{practice_id}/patients/p-1/do-not-contact", {"enabled": False}, **own).status == 200
        assert both.run_automations(trigger(occurrence_id="later", practice_id=practice_id)) == []
        assert both.publish(both.new_stream_records()) == []
        details = [json.loads(event["Detail"]) for event in both.events]
        assert len(details) == 3
        assert {detail["practice_id"] for detail in details} == {practice_id}
