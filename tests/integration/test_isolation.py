"""Two practices with the same patient ids never see each other's data, whatever is asked."""

import json
from typing import Any

import pytest

from patient_contact import bulks
from patient_contact.bulk import Step
from tests.integration.bulk import Work, csv_of, leave_started, upload
from tests.integration.sending import leave_unknown, send, to_send, wire
from tests.integration.service import (
    BROADCAST,
    BULKS,
    CAMPAIGN,
    CELL,
    CSV_HEADER,
    EVERY_ROUTE,
    IMPORT,
    LANDLINE,
    PRACTICE,
    REMINDER,
    STARTED,
    WAITING,
    Answer,
    Service,
    bus_event,
    invalid,
    problem,
    receipt,
    reply,
    trigger,
)
from tests.local import sms

# Both practices have the patient p-1, the automation reminder, the message ids (one whose outcome is unknown), an id of
# a review, ids of bulks, the name of a list, and phones; all else tells whose.
THEIRS = "southern"
SOUTH = PRACTICE | {
    "name": f"{THEIRS} Clinic",
    "lines": [
        {"id": "main", "name": f"{THEIRS} main", "phone_number": "+15035559500"},
        {"id": THEIRS, "name": f"{THEIRS} line", "phone_number": "+15035559501"},
    ],
}


# The numbers of each practice's lines.
MAIN = {"north": "+15035559000", "south": "+15035559500"}
SECOND = {"north": "+15035559001", "south": "+15035559501"}
# How providers refuse a number.
OPTED_OUT: dict[str, Any] = {"__type": "ConflictException", "Reason": "DESTINATION_PHONE_NUMBER_OPTED_OUT"}
NO_NUMBER: dict[str, Any] = {
    "__type": "ValidationException",
    "Fields": [{"Name": "DestinationPhoneNumber", "Message": "is none"}],
}
# What patients of both practices have said of these numbers.
SHARED = (CELL, "+15035550130", "+15035550131")


def marked(practice_id: str, patient_id: str, mark: str) -> dict[str, Any]:
    """Contact info that says whose it is."""
    return {
        "phones": [{"number": CELL, "line_type": "text_enabled"}, {"number": f"call {mark}"}],
        "emails": [{"address": f"{practice_id}.{patient_id}.{mark}@example.org"}],
    }


def import_rows(service: Service, practice_id: str, rows: str) -> dict[str, Any]:
    """Import a file with these rows, and give the answer."""
    data, headers = f"{CSV_HEADER}\n{rows}".encode(), {"content-type": "text/csv"}
    path = f"{practice_id}/imports/consent"
    answer = service.post(path, data, headers=headers, practice_ids=[practice_id])
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


def fill(service: Service, practice_id: str, practice: dict[str, Any], mark: str) -> None:
    """Put in a practice with everything that a route can read."""
    own: dict[str, Any] = {"practice_ids": [practice_id], "sub": f"staff-{mark}"}
    key = {"idempotency-key": "key-1"}

    def put(path: str, body: object) -> None:
        assert service.put(f"{practice_id}{path}", body, **own).status == 200

    put("", practice | {"sending": True})
    put("/automations/reminder", REMINDER | {"name": f"Reminder {mark}"})
    put(f"/automations/{mark}", REMINDER)
    for patient_id in ("p-1", f"p-{mark}"):
        put(f"/patients/{patient_id}/contact-info", marked(practice_id, patient_id, mark))
        leave_unknown(service, "key-0", practice_id, patient_id)
        put(f"/patients/{patient_id}/do-not-contact", {"enabled": mark == THEIRS, "note": f"note {mark}"})
    leave_started(service, practice_id, "key-0", "p-1", mark)
    leave_started(service, practice_id, mark, f"p-{mark}", mark)
    put("", practice)
    for patient_id in ("p-1", f"p-{mark}"):
        text = {"channel": "text", "body": f"Hi {mark}"}
        assert service.post(f"{practice_id}/patients/{patient_id}/messages", text, headers=key, **own).status == 202
    assert (
        service.run_automations(trigger(practice_id=practice_id), trigger(f"p-{mark}", practice_id=practice_id)) == []
    )
    # The same review id in both, and one that only this practice has; opt-outs by reply and by import.
    main, second, at = MAIN[practice_id], SECOND[practice_id], WAITING["Timestamp"]
    words = f"please stop texting me, {mark}"
    assert service.record_replies(reply(words, at=at, line=second), reply(words, mark, at=at, line=second)) == []
    assert service.record_replies(reply("STOP", f"stop-{mark}", number=SHARED[1], line=main)) == []
    rows = f"{SHARED[2]},main,opted_out,2025-11-20T17:02:11Z,{mark}\nnobody,main,opted_out,2025-11-20,{mark}"
    imported = import_rows(service, practice_id, rows)
    assert (len(imported["changes"]), len(imported["refused"])) == (1, 1)
    assert service.record_receipts(receipt("TEXT_UNREACHABLE", f"lost-{mark}", originationPhoneNumber=main)) == []


id_of = bulks.id_of


def one_id_of(practice_id: str, path: str, idempotency_key: str) -> str:
    """Give the id of a bulk as if the practice was the north, whichever it is."""
    return id_of("north", path, idempotency_key)


@pytest.fixture(scope="module")
def both_as_put(once_deployed: Service) -> Any:
    """A table with the practices `north` and `south`, put in over HTTP and by automations."""
    with pytest.MonkeyPatch.context() as patch:
        # An id is a digest of the practice, too: so that both have the same ones, it is not.
        patch.setattr(bulks, "id_of", one_id_of)
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


def objects_of(practice_id: str, service: Service) -> dict[str, bytes]:
    """Those of the bucket's objects that are a practice's."""
    return {name: data for name, data in service.objects().items() if name.split("/")[1] == practice_id}


@pytest.mark.parametrize("key", EVERY_ROUTE)
def test_no_route_answers_or_touches_anything_of_the_other_practice(both: Service, key: str) -> None:
    before, objects = both.items(), objects_of("south", both)
    assert objects
    body = EVERY_ROUTE[key]
    if key.endswith("/sms-consent"):
        body = {"phone_number": CELL, "line": "main", "status": "opted_out"}
    if key == IMPORT:
        rows = "".join(f"{number},main,opted_out,2025-11-21T17:02:11Z,keyword\n" for number in SHARED)
        body = f"{CSV_HEADER}\n{rows}".encode()
    answer = both.request(key, body, headers={"idempotency-key": "key-2"})
    assert answer.status in (200, 202, 204)
    shown = json.dumps([answer.body, dict(answer.headers)])
    assert THEIRS not in shown
    assert "south" not in shown
    assert not any(line in shown for line in (MAIN["south"], SECOND["south"]))
    assert of("south", both.items()) == of("south", before)
    assert objects_of("south", both) == objects


ONLY_THEIRS = {"patient_id": f"p-{THEIRS}", "automation_id": THEIRS, "review_id": f"2026-12-10~{THEIRS}"}
THEIR_BULKS = {found: one_id_of("south", path, THEIRS) for found, path in STARTED.items()}
# All but those that make what is not there.
ABOUT_SOMETHING = [
    key
    for key in EVERY_ROUTE
    if any(f"{{{name}}}" in key for name in (*ONLY_THEIRS, "bulk_id"))
    and not (key.startswith("PUT") and key.endswith(("{automation_id}", "contact-info")))
]


@pytest.mark.parametrize("key", ABOUT_SOMETHING)
def test_what_only_the_other_practice_has_is_unknown(both: Service, key: str) -> None:
    theirs = dict(ONLY_THEIRS)
    for path, bulk_id in THEIR_BULKS.items():
        if f"/{path}/" in key:
            theirs["bulk_id"] = bulk_id
    (name, *_) = (name for name in theirs if f"{{{name}}}" in key)
    before = both.items(), both.objects()
    answer = both.request(key, EVERY_ROUTE[key], **{name: theirs[name]})
    assert answer.status == 404
    assert (both.items(), both.objects()) == before
    # There is such a thing, at the other practice.
    assert both.request(key, EVERY_ROUTE[key], practice_id="south", **{name: theirs[name]}).status != 404


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
    own = {"phone_number": CELL, "line": "billing", "status": "under_review"}
    shown = both.get("north/patients/p-1").body["sms_consent"]
    assert shown["status"] == "Opted In"
    assert [{name: said[name] for name in own} for said in shown["numbers"]] == [own]
    message = {"class": "automation", "channels": ["text"]}
    answer = both.post("north/routing/evaluate", {"message": message, "patient_id": "p-1"})
    assert (answer.body["outcome"], answer.body["facts"]["sms_consent"]) == ("deliver", [own])


# What is told of the bulks that both practices have.
PATHS_OF_BULKS = [
    f"{path}/{bulk_id}{part}" for path, bulk_id in BULKS.items() for part in ("", "/recipients", "/unreachable")
]


def everything_of(service: Service, practice_id: str) -> list[Any]:
    """All that a practice is told of its patients' messages, consent and numbers, and of its bulks."""
    own = {"practice_ids": [practice_id]}
    messages = [
        {"class": "automation", "channels": ["text", "call"]},
        {"class": "manual", "channels": ["text"]},
        {"class": "broadcast", "channels": ["text"], "line": "main"},
    ]
    return [
        service.get(f"{practice_id}/patients/p-1", **own).body,
        *(service.post(f"{practice_id}/numbers/search", {"phone_number": number}, **own).body for number in SHARED),
        service.get(f"{practice_id}/reports/opt-outs", **own).body,
        service.get(f"{practice_id}/reports/opt-outs", headers={"accept": "text/csv"}, **own).body,
        service.get(f"{practice_id}/consent-reviews", **own).body,
        service.get(f"{practice_id}/decisions/unknown", **own).body,
        service.get(f"{practice_id}/patients/p-1/decisions", **own).body,
        service.post(f"{practice_id}/routing/evaluate", {"messages": messages, "patient_id": "p-1"}, **own).body,
        # But for when they end, which is guessed each time.
        *(service.get(f"{practice_id}/{path}", **own).body | {"estimated_end": None} for path in PATHS_OF_BULKS),
        of(practice_id, service.items()),
        # Whatever is in a list is the practice's own, its bytes included.
        {name: data.decode() for name, data in objects_of(practice_id, service).items()},
    ]


def opt_out_by_staff(service: Service) -> None:
    body = {"phone_number": CELL, "line": "main", "status": "opted_out", "note": f"note {THEIRS}"}
    assert service.put("south/patients/p-1/sms-consent", body, practice_ids=["south"]).status == 200


def opt_out_by_import(service: Service) -> None:
    rows = "".join(f"{number},main,opted_out,2025-11-21T17:02:11Z,keyword\n" for number in SHARED)
    assert import_rows(service, "south", rows)["refused"] == []


def close_review(service: Service) -> None:
    for review_id in ("2026-12-10~message-1", f"2026-12-10~{THEIRS}"):
        path = f"south/consent-reviews/{review_id}"
        assert service.post(path, {"outcome": "opted_out"}, practice_ids=["south"]).status == 200


def send_context(service: Service) -> None:
    """A receipt that says by its context whose it is; the number is the decision's own."""
    context = {"practice_id": "south", "patient_id": "p-1", "message_id": "manual:key-1"}
    detail: dict[str, Any] = {"context": context, "originationPhoneNumber": None, "destinationPhoneNumber": None}
    assert service.record_receipts(receipt("TEXT_INVALID", **detail)) == []


def resolve(service: Service) -> None:
    """Staff say of the message of an id that the north has, too, that it was not sent; it is decided again."""
    path = "south/patients/p-1/decisions/manual:key-0/resolve"
    body = {"outcome": "not_sent", "note": f"note {THEIRS}"}
    assert service.post(path, body, practice_ids=["south"]).status == 200
    assert service.put("south", SOUTH | {"sending": True}, practice_ids=["south"]).status == 200
    assert send(service, *to_send(service)) == []


def hear(service: Service) -> None:
    """A receipt settles what was unknown; the attempt is the south's, whatever else it says."""
    listed = service.get("south/decisions/unknown", practice_ids=["south"]).body["items"]
    context = {"practice_id": "south", "patient_id": "p-1", "message_id": "manual:key-0"}
    for each in listed:
        for practice_id in ("north", "south"):
            about = context | {"practice_id": practice_id, "attempt": each["attempt"]}
            assert service.record_receipts(receipt("TEXT_SENT", f"for-{THEIRS}", context=about)) == []


def be_refused(service: Service) -> None:
    """Carriers say of one number that it is opted out of the line, of the other that it is none."""
    assert service.put("south", SOUTH | {"sending": True}, practice_ids=["south"]).status == 200
    refusals = {SHARED[1]: OPTED_OUT, SHARED[2]: NO_NUMBER}
    path, more = "south/patients/q-1", {"practice_ids": ["south"]}
    phones = [{"number": number, "line_type": "text_enabled"} for number in refusals]
    assert service.put(f"{path}/contact-info", {"phones": phones, "emails": []}, **more).status == 200
    for number in refusals:
        text = {"channel": "text", "body": f"Hi {THEIRS}", "line": THEIRS, "phone_number": number}
        headers = {"idempotency-key": number[1:]}
        assert service.post(f"{path}/messages", text, headers=headers, **more).status == 202
    with wire(lambda _, asked: (400, refusals[asked["DestinationPhoneNumber"]])) as requests:
        assert send(service, *to_send(service)) == []
    assert len(requests) == 2


def register(service: Service) -> None:
    """Registration sends the phones without a line type, so that they are looked up."""
    body = {"phones": [{"number": number} for number in (*SHARED, sms.LANDLINE)], "emails": []}
    assert service.put("south/patients/p-1/contact-info", body, practice_ids=["south"]).status == 200


def steer(path: str, *actions: str) -> Any:
    """Do this to a bulk of the south, and let whatever is announced then be done; the north has one of the same id."""

    def steered(service: Service) -> None:
        for action in actions:
            told = service.post(f"south/{path}/{BULKS[path]}/{action}", practice_ids=["south"])
            assert told.status == 200, told
            Work(service).route()

    return steered


def route_the_rest(service: Service) -> None:
    """Route all chunks of the dry run."""
    event = {"practice_id": "south", "bulk_id": BULKS["dry-runs"], "run": 1}
    item = {"state": "running", "run": 1}
    begin = {"begin": 0, "number": 0, "first_row": 1}
    # As if nothing of it had been queued.
    step = Step({"cursor": begin, "read_run": 0}, item)
    assert bulks.take("south", BULKS["dry-runs"], step, item)
    queued = bus_event(event, **{"detail-type": "BulkQueued", "source": "patient-contact.bulk"})
    assert service.run("StartBulkFunction", queued) == []
    chunks = Work(service).chunks()
    assert len(chunks) == 2
    for chunk in chunks:
        assert service.run("RouteBatchFunction", chunk) == []


def send_lists(service: Service) -> None:
    """Send what is routed of the south's bulks, which is counted where it is told."""
    assert service.put("south", SOUTH | {"sending": True}, practice_ids=["south"]).status == 200
    # Announced once more, since that was done.
    for action in ("pause", "resume"):
        steer("campaigns", action)(service)
    Work(service).send()
    counted = service.get(f"south/campaigns/{BULKS['campaigns']}", practice_ids=["south"]).body
    # Who opted out meanwhile is not texted.
    assert (counted["state"], counted["routed"], counted["withdrawn"]) == ("completed", 1, 1)


def start(path: str, body: dict[str, Any]) -> Any:
    """Start a bulk in the south, under a key that the north has used, too, and let it run."""

    def started(service: Service) -> None:
        headers = {"idempotency-key": "key-0"}
        told = service.post(f"south/{path}", body, headers=headers, practice_ids=["south"])
        assert told.status == 202, told
        Work(service).route()

    return started


def replace_list(service: Service) -> None:
    """Upload another list under the name that both have; what is over it ends."""
    upload(service, csv_of([THEIRS]), practice_id="south")
    steer("campaigns", "pause", "resume")(service)
    counted = service.get(f"south/campaigns/{BULKS['campaigns']}", practice_ids=["south"]).body
    assert counted["state"] == "failed"


def reply_to(number: str, text: str, message_id: str = "message-9") -> Any:
    """Let a patient write to a line of the south; the same message id is in use in the north."""
    return lambda service: service.record_replies(
        reply(text, message_id, number=number, line=MAIN["south"], at="2026-11-26T18:00:00.000Z")
    )


SAID_IN_THE_SOUTH: dict[str, Any] = {
    "STOP": reply_to(CELL, "STOP"),
    "STOP under an id of the north": reply_to(CELL, "STOP", "stop-northern"),
    "START": reply_to(SHARED[1], "START"),
    "own words": reply_to(CELL, f"no more messages, {THEIRS}"),
    "own words under an id of the north": reply_to(SHARED[2], "no more messages", "message-1"),
    "an opt-out by staff": opt_out_by_staff,
    "an import": opt_out_by_import,
    "a review": close_review,
    "a receipt": lambda service: service.record_receipts(receipt("TEXT_INVALID", originationPhoneNumber=MAIN["south"])),
    "a receipt with a context": send_context,
    "registration": register,
    "what became of a message": resolve,
    "a receipt of an attempt": hear,
    "a refusal": be_refused,
    "a broadcast": start("broadcasts", BROADCAST | {"patient_ids": ["p-1", f"p-{THEIRS}"]}),
    "a campaign": start("campaigns", CAMPAIGN | {"list": {"key": "lists/south/list.csv"}}),
    "a dry run of a campaign": start(f"campaigns/{BULKS['campaigns']}/dry-run", {}),
    "a pause of a broadcast": steer("broadcasts", "pause"),
    "a pause and more of a campaign": steer("campaigns", "pause", "resume", "cancel"),
    "the end of a broadcast": steer("broadcasts", "cancel"),
    "the end of a dry run": steer("dry-runs", "cancel"),
    "the rest of a dry run": route_the_rest,
    "texts of lists": send_lists,
    "another list of the same name": replace_list,
}


@pytest.mark.parametrize("what", SAID_IN_THE_SOUTH)
def test_what_is_said_at_one_practice_of_a_phone_that_both_know_never_shows_or_counts_at_the_other(
    both: Service, what: str
) -> None:
    north, south = everything_of(both, "north"), everything_of(both, "south")
    SAID_IN_THE_SOUTH[what](both)
    assert everything_of(both, "south") != south
    assert everything_of(both, "north") == north
    assert THEIRS not in json.dumps(north)


# Where a list of the south is, or seems to be, and why it is none of the north's.
NOT_OURS = "a list lies under lists/north/ in the bucket of lists"
NO_NAME = "a list's name has no empty parts and none of dots alone"
LISTS_OF_THE_SOUTH = {
    "lists/south/list.csv": NOT_OURS,
    "lists/north/../south/list.csv": NO_NAME,
    "lists/north//../../south/list.csv": NO_NAME,
    "lists/north/south/list.csv": "there is no such list in the bucket",
    "/lists/south/list.csv": NOT_OURS,
    "LISTS/south/list.csv": NOT_OURS,
    "lists/south": NOT_OURS,
    "lists/": NOT_OURS,
    "list.csv": NOT_OURS,
}


@pytest.mark.parametrize("path", ["campaigns", "automations/reminder/dry-run"])
@pytest.mark.parametrize("practice_ids", [["north"], ["north", "south"]])
def test_a_list_of_the_other_practice_is_none_here_whatever_the_token_is_for(
    both: Service, path: str, practice_ids: list[str]
) -> None:
    before = both.items(), both.objects()
    theirs = [name for name in both.objects() if "/south/" in name]
    assert {name.split("/")[0] for name in theirs} == {"lists", "broadcasts", "results"}
    for key in (*LISTS_OF_THE_SOUTH, *theirs):
        body = {**(CAMPAIGN if path == "campaigns" else {}), "list": {"key": key}}
        answer = both.post(f"north/{path}", body, headers={"idempotency-key": "key-2"}, practice_ids=practice_ids)
        message = LISTS_OF_THE_SOUTH.get(key, NOT_OURS)
        assert answer == invalid((["body", "list", "key"], "list", message)), key
    assert (both.items(), both.objects()) == before


def test_a_practice_whose_id_begins_as_the_others_reaches_none_of_its_lists_and_bulks(both: Service) -> None:
    body = PRACTICE | {"lines": [{"id": "main", "name": "Main", "phone_number": "+15035559600"}]}
    more: dict[str, Any] = {"practice_ids": ["sout"], "headers": {"idempotency-key": "key-0"}}
    assert both.put("sout", body, **more).status == 200
    for key in ("lists/south/list.csv", "lists/sout/../south/list.csv"):
        answer = both.post("sout/campaigns", CAMPAIGN | {"list": {"key": key}}, **more)
        assert (answer.status, answer.body["errors"][0]["loc"]) == (422, ["body", "list", "key"])
    for path in PATHS_OF_BULKS:
        kind = path.partition("/")[0].removesuffix("s")
        assert both.get(f"sout/{path}", **more) == problem(
            404, f"unknown-{kind}", "Not Found", f"There is no such {kind}."
        )


def test_the_same_key_starts_a_bulk_at_each_practice(both: Service) -> None:
    ids = {}
    for practice_id in ("north", "south"):
        more: dict[str, Any] = {"practice_ids": [practice_id], "headers": {"idempotency-key": "key-3"}}
        name = {"name": f"of {practice_id}"}
        ids[practice_id] = both.post(f"{practice_id}/broadcasts", BROADCAST | name, **more).body["id"]
    assert ids["north"] != ids["south"]
    for practice_id, other in (("north", "south"), ("south", "north")):
        own: dict[str, Any] = {"practice_ids": [practice_id]}
        assert both.get(f"{practice_id}/broadcasts/{ids[practice_id]}", **own).body["name"] == f"of {practice_id}"
        assert both.get(f"{practice_id}/broadcasts/{ids[other]}", **own).status == 404


def test_a_bulk_or_a_chunk_of_the_other_practice_is_none_here(both: Service) -> None:
    before = both.items(), both.objects()
    bulk_id = THEIR_BULKS["campaigns"]
    event = {"practice_id": "north", "bulk_id": bulk_id, "run": 1}
    queued = bus_event(event, **{"detail-type": "BulkQueued", "source": "patient-contact.bulk"})
    rows = {"number": 0, "begin": 22, "end": 60, "first_row": 1, "rows": 2, "too_long": False}
    chunk = {"version": 1, "practice_id": "north", "bulk_id": bulk_id, "run": 1, "rows": rows}
    assert both.run("StartBulkFunction", queued) == []
    assert both.run("RouteBatchFunction", chunk) == []
    for queue in ("BULKS", "CHUNKS"):
        assert [reason for reason, _ in both.dead_letters(queue)] == ["unknown bulk"]
    assert (both.items(), both.objects()) == before


def test_texts_of_a_list_go_on_though_the_other_practice_has_paused_and_cancelled_those_of_the_same_ids(
    both: Service,
) -> None:
    assert both.put("north", PRACTICE | {"sending": True}).status == 200
    steer("campaigns", "pause")(both)
    steer("broadcasts", "cancel")(both)
    for path in ("campaigns", "broadcasts"):
        for action in ("pause", "resume"):
            assert both.post(f"north/{path}/{BULKS[path]}/{action}").status == 200
    work = Work(both)
    work.route()
    work.send()
    for path in ("campaigns", "broadcasts"):
        counted = both.get(f"north/{path}/{BULKS[path]}").body
        assert (counted["state"], counted["sent"], counted["routed"]) == ("completed", 1, 1)
    states = {
        path: both.get(f"south/{path}/{BULKS[path]}", practice_ids=["south"]).body["state"]
        for path in ("campaigns", "broadcasts")
    }
    assert states == {"campaigns": "paused", "broadcasts": "cancelled"}


def test_texts_of_broadcasts_count_against_the_quota_of_ones_own_practice(both: Service) -> None:
    more: dict[str, Any] = {"headers": {"idempotency-key": "key-3"}}
    # Of both broadcasts, two patients of each.
    quota = {"broadcast_texts_per_day": 4}
    assert both.put("south", SOUTH | quota, practice_ids=["south"]).status == 200
    refused = both.post("south/broadcasts", BROADCAST, practice_ids=["south"], **more)
    assert (refused.status, refused.body["type"]) == (409, "urn:patient-contact:problem:quota-exceeded")
    assert both.put("north", PRACTICE | {"broadcast_texts_per_day": 5}).status == 200
    assert both.post("north/broadcasts", BROADCAST, **more).status == 202


def test_one_batch_of_replies_counts_at_each_practice_by_the_line_that_was_written_to(both: Service) -> None:
    batch = [
        reply("STOP", "batch-1", line=MAIN["south"]),
        reply("START", "batch-2", number=SHARED[1], line=MAIN["north"], at="2026-11-26T18:00:00.000Z"),
        reply("STOP", "batch-3", line="+15035559999"),
    ]
    assert both.record_replies(*batch) == []
    assert [reason for reason, _ in both.dead_letters("REPLIES")] == ["unknown line"]
    reported = {
        practice_id: [
            (each["phone_number"], each["line"])
            for each in both.get(f"{practice_id}/reports/opt-outs", practice_ids=[practice_id]).body["items"]
        ]
        for practice_id in ("north", "south")
    }
    assert reported == {
        "north": [(SHARED[2], "main")],
        "south": [(SHARED[2], "main"), (SHARED[1], "main"), (CELL, "main")],
    }


def test_a_review_that_both_practices_have_by_the_same_id_is_closed_in_one(both: Service) -> None:
    path = "north/consent-reviews/2026-12-10~message-1"
    assert both.post(path, {"outcome": "not_a_request"}).status == 200
    for practice_id, ids in (("north", ["northern"]), ("south", ["message-1", THEIRS])):
        answer = both.get(f"{practice_id}/consent-reviews", practice_ids=[practice_id])
        assert [review["review_id"] for review in answer.body["items"]] == [f"2026-12-10~{id_}" for id_ in ids]
        mark = "northern" if practice_id == "north" else THEIRS
        assert {tuple(review["patients"]) for review in answer.body["items"]} == {("p-1", f"p-{mark}")}


def test_those_who_share_a_phone_are_counted_within_the_practice(both: Service) -> None:
    phones = {"phones": [{"number": CELL, "line_type": "text_enabled"}], "emails": []}
    for n in range(3):
        assert both.put(f"south/patients/q-{n}/contact-info", phones, practice_ids=["south"]).status == 200
    counted = {
        practice_id: both.get(f"{practice_id}/patients/p-1", practice_ids=[practice_id]).body["phones"][0]
        for practice_id in ("north", "south")
    }
    assert (counted["north"]["shared_with"], counted["south"]["shared_with"]) == (1, 4)


@pytest.mark.parametrize("body", ["junk", "rows"])
def test_a_file_for_the_other_practice_is_forbidden_whatever_is_in_it(both: Service, body: str) -> None:
    before = both.items()
    text = f"{CSV_HEADER}\n{CELL},main,opted_out,2025-11-20T17:02:11Z,keyword" if body == "rows" else body
    for dry_run in (False, True):
        answer = both.import_csv(text, dry_run=dry_run, practice_ids=["south"])
        assert (answer.status, answer.body["type"]) == (403, "urn:patient-contact:problem:other-practice")
    assert both.items() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("automations", None),
        ("patients/p-1/changes", None),
        ("patients/p-1/decisions", None),
        ("patients/search", {"phone_number": CELL}),
        ("numbers/search", {"phone_number": CELL}),
        ("reports/opt-outs", None),
        ("consent-reviews", None),
        ("decisions/unknown", None),
        (f"broadcasts/{BULKS['broadcasts']}/recipients", None),
        (f"campaigns/{BULKS['campaigns']}/recipients", None),
        (f"dry-runs/{BULKS['dry-runs']}/unreachable", None),
    ],
)
def test_a_cursor_of_the_other_practice_shows_nothing_of_it(both: Service, path: str, body: object) -> None:
    method = "GET" if body is None else "POST"
    theirs = both.call(method, f"south/{path}?limit=1", body, practice_ids=["south"])
    assert theirs.body["next"]
    listed = "history" if path == "numbers/search" else "items"
    answer = both.call(method, f"north/{path}?cursor={theirs.body['next']}", body)
    own = both.call(method, f"north/{path}", body).body[listed]
    assert answer.status in (200, 422)
    assert all(item in own for item in answer.body.get(listed, []))
    assert THEIRS not in json.dumps(answer.body)


@pytest.mark.parametrize("patient_id", ["p-1", "NUMBER", "PATIENT", "PRACTICE"])
def test_ids_that_look_like_parts_of_keys_lead_nowhere(both: Service, patient_id: str) -> None:
    answer = both.get(f"north/patients/{patient_id}/decisions")
    assert THEIRS not in json.dumps(answer.body)


def test_a_practice_whose_id_begins_as_the_others_is_another(both: Service) -> None:
    body = PRACTICE | {"lines": [{"id": "main", "name": "Main", "phone_number": "+15035559600"}]}
    assert both.put("sout", body, practice_ids=["sout"]).status == 200
    paths = ("automations", "patients/p-1", "patients/p-1/decisions", "consent-reviews", "reports/opt-outs")
    for path in (*paths, "decisions/unknown"):
        answer = both.get(f"sout/{path}", practice_ids=["sout"])
        assert answer.status == 404 or answer.body["items"] == []
    known = both.post("sout/numbers/search", {"phone_number": CELL}, practice_ids=["sout"]).body
    assert {name: value for name, value in known.items() if value} == {
        "phone_number": CELL,
        "status": "valid",
        "line_type": "unknown",
    }


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
        assert both.record_replies(reply("STOP", "later", line=SECOND[practice_id])) == []
        resolved = f"{practice_id}/patients/p-1/decisions/manual:key-0/resolve"
        assert both.post(resolved, {"outcome": "sent"}, **own).status == 200
        lost = receipt("TEXT_INVALID", "later", originationPhoneNumber=MAIN[practice_id])
        assert both.record_receipts(lost) == []
        campaign = f"{practice_id}/campaigns/{BULKS['campaigns']}"
        for action in ("pause", "resume"):
            assert both.post(f"{campaign}/{action}", **own).status == 200
        assert both.publish(both.new_stream_records()) == []
        details = [json.loads(event["Detail"]) for event in both.events]
        assert sorted(event["DetailType"] for event in both.events) == [
            "BulkQueued",
            "MessageRouted",
            "MessageSent",
            "NumberStatusChanged",
            "PreferencesChanged",
            "SmsConsentChanged",
            "SmsConsentChanged",
        ]
        assert {detail["practice_id"] for detail in details} == {practice_id}
