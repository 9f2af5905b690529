"""What holds for every route: tokens, ids, bodies, and a table that does not answer."""

import json
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from patient_contact import aws
from tests.integration.service import (
    ACCEPTED,
    BUCKET_BUSY,
    BULKS,
    BUSY,
    CELL,
    CSV_FILE,
    CSV_HEADER,
    EVERY_ROUTE,
    FAILED,
    IMPORT,
    LANDLINE,
    LONG,
    LONG_TOO_LARGE,
    OF_THE_BUCKET,
    OTHER_PRACTICE,
    TOO_LARGE,
    WITH_BODY,
    Answer,
    Service,
    client_error,
    encoded,
    fault,
    invalid,
    problem,
    reply,
    throttled,
)

MAX_BODY = 256 * 1024
MAX_LONG_BODY = 1024 * 1024
NOT_JSON = problem(400, "malformed", "Bad Request", "The body is not valid JSON.")
NOT_UTF_8 = problem(400, "malformed", "Bad Request", "The body is not UTF-8.")
NOT_BASE64 = problem(400, "malformed", "Bad Request", "The body is not valid base64.")
NO_OBJECT = invalid((["body"], "dict_type", "the body is a JSON object"))
NOT_FOUND = Answer(404, {"message": "Not Found"}, {})
ID = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ - (a message id also :)"

every_route = pytest.mark.parametrize("key", EVERY_ROUTE)
every_json_route = pytest.mark.parametrize("key", ACCEPTED)
every_body = pytest.mark.parametrize("key", WITH_BODY)


@pytest.fixture
def north(waiting: Service) -> Service:
    """The service with the practice `north` and all that the routes are about: what waits for staff, too."""
    return waiting


def kept(service: Service) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """All that the service keeps: what is in its table, and in the bucket of lists."""
    return service.items(), service.objects()


def limit(key: str) -> tuple[int, Answer]:
    """How long the body of a route may be, and the answer to one that is longer."""
    return (MAX_LONG_BODY, LONG_TOO_LARGE) if key in LONG else (MAX_BODY, TOO_LARGE)


def refused_id(name: str) -> Answer:
    message = "the id of a review, as the list gives it" if name == "review_id" else ID
    return invalid((["path", name], "string_pattern_mismatch", message))


def test_these_are_all_the_routes_of_the_template(service: Service) -> None:
    # The page's, which ask for no token, have tests of their own.
    assert {route.key for route in service.routes if route.scopes is not None} == EVERY_ROUTE.keys()


class TestToken:
    @every_route
    def test_a_practice_outside_the_token_is_forbidden_whether_it_exists_or_not(self, north: Service, key: str) -> None:
        before = kept(north)
        for practice_id in ("north", "nowhere"):
            for practice_ids in (["south"], ["nort", "northern", "NORTH"], [""], []):
                answer = north.request(key, EVERY_ROUTE[key], practice_id=practice_id, practice_ids=practice_ids)
                assert answer == OTHER_PRACTICE
        assert kept(north) == before

    @every_route
    def test_a_token_with_every_scope_but_the_routes_own_is_forbidden_by_the_gateway(
        self, north: Service, key: str
    ) -> None:
        (route,) = (route for route in north.routes if route.key == key)
        (own,) = route.scopes or []
        others = {scope for each in north.routes for scope in each.scopes or []} - {own}
        answer = north.request(key, EVERY_ROUTE[key], scope=" ".join(sorted(others)))
        assert answer == Answer(403, {"message": "Forbidden"}, {})

    @pytest.mark.parametrize("claim", ["north", "south north", "[south north]", "[north]", "[north south]"])
    def test_the_practices_of_a_token_may_be_text_or_a_list(self, north: Service, claim: str) -> None:
        event = north.request_event("GET /v1/practices/{practice_id}")
        event["requestContext"]["authorizer"]["jwt"]["claims"]["practice_ids"] = claim
        assert north.invoke_route("GET /v1/practices/{practice_id}", event).status == 200

    @pytest.mark.parametrize("claim", ["", "[]", "south", "[south]", "northsouth", "[[north]x]", "*"])
    def test_nothing_else_in_the_claim_is_the_practice(self, north: Service, claim: str) -> None:
        event = north.request_event("GET /v1/practices/{practice_id}")
        event["requestContext"]["authorizer"]["jwt"]["claims"]["practice_ids"] = claim
        assert north.invoke_route("GET /v1/practices/{practice_id}", event) == OTHER_PRACTICE


class TestIds:
    @every_route
    def test_an_id_that_is_none_is_refused_and_never_a_key(self, north: Service, key: str) -> None:
        before = kept(north)
        for name in ("practice_id", "patient_id", "automation_id", "message_id", "review_id", "bulk_id"):
            if f"{{{name}}}" not in key:
                continue
            for value in ("a#b", "a b", "é", "☎", "%", "a\n", "\x00", "x" * 401, "'", "<b>", "a:b#c", "a\\b"):
                ids: dict[str, Any] = {name: value}
                if name == "practice_id":
                    # A token cannot be for an id that is none; if it is, the id is refused all the same.
                    body = CSV_FILE if key == IMPORT else json.dumps(ACCEPTED[key])
                    event = north.request_event(key, body=body)
                    event["pathParameters"]["practice_id"] = value
                    event["rawPath"] = event["rawPath"].replace("north", value)
                    answer = north.invoke_route(key, event)
                    assert answer in (OTHER_PRACTICE, refused_id(name))
                else:
                    assert north.request(key, ACCEPTED[key], **ids) == refused_id(name), value
        assert kept(north) == before

    @pytest.mark.parametrize(
        "review_id",
        [
            "message-1",
            "2026-12-10",
            "2026-12-10~",
            "~message-1",
            "26-12-10~m",
            "2026-12-10~" + "x" * 129,
            "2026-12-10~a:b",
        ],
    )
    def test_a_reviews_id_is_the_day_on_which_it_is_due_and_the_id_of_its_reply(
        self, north: Service, review_id: str
    ) -> None:
        key = "POST /v1/practices/{practice_id}/consent-reviews/{review_id}"
        assert north.request(key, ACCEPTED[key], review_id=review_id) == refused_id("review_id")
        unknown = problem(404, "unknown-review", "Not Found", "There is no such review.")
        for other in ("2026-12-09~message-1", "2026-12-10~message-2", "9999-99-99~" + "x" * 128):
            assert north.request(key, ACCEPTED[key], review_id=other) == unknown

    @pytest.mark.parametrize("key", [key for key in EVERY_ROUTE if "{bulk_id}" in key])
    def test_a_bulk_is_found_at_its_own_path_alone(self, north: Service, key: str) -> None:
        before = kept(north)
        (path,) = (each for each in BULKS if f"/{each}/" in key)
        kind = path.removesuffix("s")
        unknown = problem(404, f"unknown-{kind}", "Not Found", f"There is no such {kind}.")
        for bulk_id in (*(each for other, each in BULKS.items() if other != path), "reminder", "0" * 36):
            assert north.request(key, ACCEPTED[key], bulk_id=bulk_id) == unknown
        assert kept(north) == before

    @pytest.mark.parametrize("patient_id", ["x" * 129, "x" * 200, "a:b"])
    def test_a_patients_id_is_at_most_128_characters_without_a_colon(self, north: Service, patient_id: str) -> None:
        key = "GET /v1/practices/{practice_id}/patients/{patient_id}"
        assert north.request(key, patient_id=patient_id) == refused_id("patient_id")

    @pytest.mark.parametrize("patient_id", ["a/b", "/", "a?b"])
    def test_an_id_with_a_slash_is_another_path_and_one_with_a_question_mark_is_cut_as_at_the_gateway(
        self, north: Service, patient_id: str
    ) -> None:
        key = "GET /v1/practices/{practice_id}/patients/{patient_id}"
        assert north.request(key, patient_id=patient_id).status == 404

    @pytest.mark.parametrize("patient_id", ["~", ".", "..", "-", "A.b_c~d-9", "x" * 128, "__proto__", "search"])
    def test_every_id_that_is_one_is_kept_as_it_is(self, north: Service, patient_id: str) -> None:
        key = "PUT /v1/practices/{practice_id}/patients/{patient_id}/contact-info"
        assert north.request(key, ACCEPTED[key], patient_id=patient_id).body["patient_id"] == patient_id
        key = "GET /v1/practices/{practice_id}/patients/{patient_id}"
        assert north.request(key, patient_id=patient_id).body["patient_id"] == patient_id


class TestBodies:
    @every_body
    def test_what_is_no_json_object_is_refused_and_nothing_is_written(self, north: Service, key: str) -> None:
        before = kept(north)
        for body, answer in (
            (b"{", NOT_JSON),
            (b"{'a': 1}", NOT_JSON),
            (b'{"a": 1} x', NOT_JSON),
            (b" ", NOT_JSON),
            (b"\xef\xbb\xbf{}", NOT_JSON),
            (b"[" * 100_000, NOT_JSON),
            (b'{"a":' * 40_000, NOT_JSON),
            (b"9" * 10_000, NOT_JSON),
            (b"[]", NO_OBJECT),
            (b"[{}]", NO_OBJECT),
            (b'"text"', NO_OBJECT),
            (b"7", NO_OBJECT),
            (b"null", NO_OBJECT),
            (b"NaN", NO_OBJECT),
            (b"\xff\xfe", NOT_UTF_8),
            (b'{"a": "\xc3\x28"}', NOT_UTF_8),
        ):
            assert north.request(key, body) == answer, body[:20]
        assert kept(north) == before

    @every_body
    def test_a_nest_that_python_can_still_read_is_refused_as_any_unknown_field(self, north: Service, key: str) -> None:
        for depth in (10, 100, 500):
            nest = b'{"a":' * depth + b"1" + b"}" * depth
            answer = north.request(key, nest)
            assert answer.status in (400, 422)
            assert answer.headers["content-type"] == "application/problem+json"

    @every_body
    def test_a_body_is_an_object_with_fields(self, north: Service, key: str) -> None:
        assert north.request(key).status == 422
        answer = north.request(key, {"unexpected": 1})
        assert answer.status == 422
        assert (["body", "unexpected"], "extra_forbidden") in [
            (error["loc"], error["type"]) for error in answer.body["errors"]
        ]

    @every_body
    def test_lone_surrogates_anywhere_are_refused_and_not_an_error_of_ours(self, north: Service, key: str) -> None:
        before = kept(north)

        def spoiled(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: spoiled(each) for name, each in value.items()}
            return [spoiled(each) for each in value] if isinstance(value, list) else "\ud800"

        answers = [
            north.request(key, spoiled(ACCEPTED[key])),
            north.request(key, {**(ACCEPTED[key] or {}), "\udfff": "x"}),
        ]
        assert [answer.status for answer in answers] == [422, 422]
        assert kept(north) == before

    @every_body
    def test_a_body_in_base64_is_decoded(self, north: Service, key: str) -> None:
        body = encoded(json.dumps(ACCEPTED[key]).encode())
        event = north.request_event(key, body=body, isBase64Encoded=True)
        assert north.invoke_route(key, event).status in (200, 202)

    @every_body
    def test_a_body_of_another_content_type_is_read_as_json(self, north: Service, key: str) -> None:
        for content_type in ("application/x-www-form-urlencoded", "text/plain", "application/octet-stream"):
            answer = north.request(key, ACCEPTED[key], headers={"content-type": content_type})
            assert answer.status in (200, 202), content_type

    @every_body
    def test_broken_base64_and_bytes_that_are_not_utf_8_are_malformed(self, north: Service, key: str) -> None:
        for body, answer in (
            ("e30", NOT_BASE64),
            ("****", NOT_BASE64),
            ("{}", NOT_BASE64),
            (encoded(b"\xff"), NOT_UTF_8),
            (encoded(b"{"), NOT_JSON),
        ):
            event = north.request_event(key, body=body, isBase64Encoded=True)
            assert north.invoke_route(key, event) == answer, body

    @every_json_route
    def test_a_body_over_256_kb_or_with_many_ids_1_mb_is_too_large_before_anything_else_is_looked_at(
        self, north: Service, key: str
    ) -> None:
        longest, too_large = limit(key)
        long = b"{" + b" " * longest
        for body in (long, b"\xff" * (longest + 1), "é".encode() * (longest // 2 + 1)):
            assert north.request(key, body) == too_large
            assert north.request(key, body, practice_ids=["south"]) == too_large
        answer = north.request(key, long, headers={"content-type": "application/octet-stream"})
        assert answer == too_large

    @every_body
    def test_a_body_that_is_as_long_as_it_may_be_is_read(self, north: Service, key: str) -> None:
        text = json.dumps(ACCEPTED[key]).encode()
        longest, _ = limit(key)
        body = text + b" " * (longest - len(text))
        for content_type in ("application/json", "application/octet-stream"):
            assert north.request(key, body, headers={"content-type": content_type}).status in (200, 202)


def opted_out(*csv_lines: int) -> list[dict[str, object]]:
    """What an import answers of CSV_FILE's row on these lines of a file."""
    said = {"phone_number": LANDLINE, "line": "main", "from": "opted_in", "to": "opted_out"}
    return [{"csv_line": csv_line, **said} for csv_line in csv_lines]


class TestCsv:
    """The import's body: CSV of at most 1 MB, and else held to what bodies of JSON are."""

    IMPORTED = Answer(
        200, {"dry_run": False, "rows": 1, "changes": opted_out(2), "skipped": [], "unchanged": 0, "refused": []}, {}
    )

    @pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8", "text/plain", "application/json"])
    def test_a_file_of_any_content_type_is_read_as_csv(self, north: Service, content_type: str) -> None:
        answer = north.request(IMPORT, CSV_FILE.encode(), headers={"content-type": content_type})
        assert answer == self.IMPORTED
        assert answer.headers["cache-control"] == "no-store"

    def test_one_of_a_type_that_the_gateway_takes_for_bytes_is_read_as_csv(self, north: Service) -> None:
        headers = {"content-type": "application/octet-stream"}
        assert north.request(IMPORT, CSV_FILE.encode(), headers=headers) == self.IMPORTED

    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    def test_one_in_base64_is_decoded_with_or_without_the_mark_that_spreadsheets_begin_with(
        self, north: Service, bom: bytes
    ) -> None:
        event = north.request_event(IMPORT, body=encoded(bom + CSV_FILE.encode()), isBase64Encoded=True)
        assert north.invoke_route(IMPORT, event) == self.IMPORTED

    def test_broken_base64_and_bytes_that_are_not_utf_8_are_malformed_and_nothing_is_written(
        self, north: Service
    ) -> None:
        before = kept(north)
        for body, answer in (
            ("e30", NOT_BASE64),
            ("****", NOT_BASE64),
            (CSV_FILE, NOT_BASE64),
            (encoded(b"\xff"), NOT_UTF_8),
            (encoded(CSV_FILE.encode("utf-16")), NOT_UTF_8),
            (encoded(f"{CSV_FILE}é".encode("latin-1")), NOT_UTF_8),
        ):
            event = north.request_event(IMPORT, body=body, isBase64Encoded=True)
            assert north.invoke_route(IMPORT, event) == answer, body
        for data in (b"\xff\xfe", CSV_FILE.encode("utf-16"), f"{CSV_FILE}é".encode("cp1252")):
            for content_type in ("text/csv", "application/octet-stream"):
                assert north.request(IMPORT, data, headers={"content-type": content_type}) == NOT_UTF_8
        assert kept(north) == before

    @pytest.mark.parametrize("body", [b"{}", b'{"number": 1}', b"\x00", b"[" * 10_000])
    def test_what_has_no_header_is_refused_whole_and_nothing_is_written(
        self, north: Service, body: bytes | None
    ) -> None:
        before = kept(north)
        message = f"the first line is a header with the columns {CSV_HEADER}, each once, separated by commas"
        assert north.request(IMPORT, body) == invalid((["body"], "csv", message))
        assert kept(north) == before

    @pytest.mark.parametrize("body", [None, b"", b" ", "\ufeff".encode()])
    def test_what_is_empty_is_refused_and_nothing_is_written(self, north: Service, body: bytes | None) -> None:
        before = kept(north)
        assert north.request(IMPORT, body) == invalid((["body"], "csv", "the file is empty"))
        assert kept(north) == before

    @pytest.mark.parametrize("key", sorted(EVERY_ROUTE))
    def test_a_query_parameter_that_a_route_does_not_know_is_refused(self, north: Service, key: str) -> None:
        before = kept(north)
        answer = north.request(key, EVERY_ROUTE[key], query="?surprise=1")
        assert answer == invalid((["query", "surprise"], "extra_forbidden", "there is no such parameter here"))
        assert kept(north) == before

    def test_half_an_emoji_is_refused_with_its_row_and_not_an_error_of_ours(self, north: Service) -> None:
        row = f"{CELL},main,opted_out,2025-11-20T17:02:11Z,"
        event = north.request_event(IMPORT, body=f"{CSV_FILE}{row}\ud83d\n\ud83d,,,,\n")
        answer = north.invoke_route(IMPORT, event)
        refused = [
            {"csv_line": 3, "column": "source", "message": "at most 200 printable characters"},
            {"csv_line": 4, "column": "number", "message": "not a valid phone number"},
        ]
        assert answer == Answer(200, {**self.IMPORTED.body, "rows": 3, "refused": refused}, {})

    def test_a_file_over_1_mb_is_too_large_before_anything_else_is_looked_at(self, north: Service) -> None:
        before = kept(north)
        long = CSV_FILE.encode() + b"\n" * MAX_LONG_BODY
        for body in (
            long,
            b"\xff" * (MAX_LONG_BODY + 1),
            "é".encode() * (MAX_LONG_BODY // 2 + 1),
            b" " * 9 * MAX_LONG_BODY,
        ):
            for content_type in ("text/csv", "application/octet-stream"):
                headers = {"content-type": content_type}
                assert north.request(IMPORT, body, headers=headers) == LONG_TOO_LARGE
                assert north.request(IMPORT, body, headers=headers, practice_ids=["south"]) == LONG_TOO_LARGE
        assert north.request(IMPORT, long, query="?dry_run=true") == LONG_TOO_LARGE
        assert kept(north) == before

    @pytest.mark.parametrize("content_type", ["text/csv", "application/octet-stream"])
    @pytest.mark.parametrize("size", [MAX_BODY + 1, MAX_LONG_BODY])
    def test_a_file_of_up_to_1_mb_is_read(self, north: Service, content_type: str, size: int) -> None:
        body = CSV_FILE.encode() + b"\n" * (size - len(CSV_FILE))
        assert north.request(IMPORT, body, headers={"content-type": content_type}) == self.IMPORTED


class TestFaults:
    @every_route
    def test_a_table_that_throttles_is_503_with_retry_after_and_nothing_is_written(
        self, north: Service, key: str
    ) -> None:
        before = kept(north)
        calls = ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchGetItem")
        # The call that the route makes first, and only that one: batch reads wait for seconds before they give up.
        with fault(aws.dynamodb(), "", lambda _: client_error("ThrottlingException")) as requests:
            answer = north.request(key, EVERY_ROUTE[key])
        assert answer == BUSY
        assert answer.headers["retry-after"] == "1"
        assert len(requests) == 1, calls
        assert kept(north) == before

    @pytest.mark.parametrize(
        "code",
        [
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "ThrottlingException",
            "InternalServerError",
            "LimitExceededException",
        ],
    )
    @pytest.mark.parametrize(
        ("operation", "key"),
        [
            ("GetItem", "GET /v1/practices/{practice_id}"),
            ("Query", "GET /v1/practices/{practice_id}/automations"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}/automations/{automation_id}"),
            ("PutItem", "POST /v1/practices/{practice_id}/patients/{patient_id}/messages"),
            ("UpdateItem", "POST /v1/practices/{practice_id}/patients/{patient_id}/decisions/{message_id}/resolve"),
            ("Query", "GET /v1/practices/{practice_id}/decisions/unknown"),
            ("DeleteItem", "DELETE /v1/practices/{practice_id}/automations/{automation_id}"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}/patients/{patient_id}/do-not-contact"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}"),
            ("Query", "GET /v1/practices/{practice_id}/patients/{patient_id}"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}/patients/{patient_id}/sms-consent"),
            ("GetItem", "POST /v1/practices/{practice_id}/numbers/search"),
            ("Query", "POST /v1/practices/{practice_id}/numbers/search"),
            ("Query", "GET /v1/practices/{practice_id}/reports/opt-outs"),
            ("Query", "GET /v1/practices/{practice_id}/consent-reviews"),
            ("GetItem", "POST /v1/practices/{practice_id}/consent-reviews/{review_id}"),
            ("TransactWriteItems", "POST /v1/practices/{practice_id}/consent-reviews/{review_id}"),
            ("TransactWriteItems", IMPORT),
            ("GetItem", "GET /v1/practices/{practice_id}/dry-runs/{bulk_id}"),
            ("Query", "GET /v1/practices/{practice_id}/broadcasts/{bulk_id}/recipients"),
            ("TransactWriteItems", "POST /v1/practices/{practice_id}/broadcasts"),
            ("TransactWriteItems", "POST /v1/practices/{practice_id}/campaigns/{bulk_id}/dry-run"),
            ("TransactWriteItems", "POST /v1/practices/{practice_id}/campaigns/{bulk_id}/pause"),
        ],
    )
    def test_each_way_of_being_busy_on_each_kind_of_call_is_503(
        self, north: Service, operation: str, key: str, code: str
    ) -> None:
        with fault(aws.dynamodb(), operation, lambda _: client_error(code)):
            assert north.request(key, EVERY_ROUTE[key]) == BUSY

    @pytest.mark.usefixtures("time_flies")
    @pytest.mark.parametrize(
        "key",
        [
            "GET /v1/practices/{practice_id}/patients/{patient_id}",
            "POST /v1/practices/{practice_id}/patients/{patient_id}/messages",
            "POST /v1/practices/{practice_id}/routing/evaluate",
            "PUT /v1/practices/{practice_id}/patients/{patient_id}/contact-info",
            "PUT /v1/practices/{practice_id}/patients/{patient_id}/sms-consent",
            "POST /v1/practices/{practice_id}/numbers/search",
            "GET /v1/practices/{practice_id}/consent-reviews",
            "GET /v1/practices/{practice_id}/reports/opt-outs",
            "GET /v1/practices/{practice_id}/decisions/unknown",
            IMPORT,
        ],
    )
    def test_what_stays_unread_is_503_and_never_taken_for_none(self, north: Service, key: str) -> None:
        assert north.record_replies(reply("STOP", "message-2")) == []
        before = kept(north)
        with throttled("BatchGetItem"):
            answer = north.request(key, EVERY_ROUTE[key])
        assert answer == BUSY
        assert answer.headers["retry-after"] == "1"
        assert kept(north) == before

    def test_an_import_that_is_throttled_after_some_rows_can_be_sent_again(self, north: Service) -> None:
        rows = "".join(f"+150355513{n:02},main,opted_out,2025-11-20T17:02:11Z,old\n" for n in range(40))
        body = f"{CSV_HEADER}\n{rows}".encode()

        def busy(request: dict[str, Any]) -> Any:
            return client_error("ThrottlingException") if "+15035551339" in json.dumps(request) else None

        with fault(aws.dynamodb(), "TransactWriteItems", busy):
            assert north.request(IMPORT, body) == BUSY
        opted_out = {item["PK"]["S"] for item in north.items() if item["SK"]["S"] == "OPTOUT#main"}
        assert len(opted_out) == 33
        again = north.request(IMPORT, body).body
        assert (len(again["changes"]), again["unchanged"]) == (7, 33)
        assert sum(item["SK"]["S"].startswith("CONSENT#main#") for item in north.items()) == 40

    def test_a_throttled_transaction_is_503(self, north: Service) -> None:
        response, parsed = client_error("TransactionCanceledException")
        parsed["CancellationReasons"] = [{"Code": "ThrottlingError"}, {"Code": "None"}]
        key = "PUT /v1/practices/{practice_id}/patients/{patient_id}/do-not-contact"
        with fault(aws.dynamodb(), "TransactWriteItems", lambda _: (response, parsed)):
            assert north.request(key, ACCEPTED[key]) == BUSY

    @pytest.mark.parametrize(
        "error",
        [
            EndpointConnectionError(endpoint_url="https://dynamodb.example"),
            ReadTimeoutError(endpoint_url="https://dynamodb.example"),
        ],
    )
    def test_a_table_that_cannot_be_reached_is_503(self, north: Service, error: Exception) -> None:
        def unreachable(_: object) -> None:
            raise error

        with fault(aws.dynamodb(), "GetItem", unreachable):
            assert north.request("GET /v1/practices/{practice_id}") == BUSY

    @every_route
    def test_what_nobody_expects_is_500_without_a_word_of_what_it_was(self, north: Service, key: str) -> None:
        with fault(aws.dynamodb(), "", lambda _: client_error("AccessDeniedException")):
            assert north.request(key, EVERY_ROUTE[key]) == FAILED


class TestFaultsOfTheBucket:
    @pytest.mark.parametrize(
        "answer",
        [
            client_error("SlowDown", 503),
            client_error("InternalError", 500),
            client_error("RequestTimeout"),
            EndpointConnectionError(endpoint_url="https://s3.example"),
            ReadTimeoutError(endpoint_url="https://s3.example"),
        ],
    )
    @pytest.mark.parametrize(("operation", "key"), OF_THE_BUCKET)
    def test_a_bucket_that_does_not_answer_now_is_503_with_retry_after_and_nothing_is_written(
        self, north: Service, operation: str, key: str, answer: Any
    ) -> None:
        before = kept(north)
        with fault(aws.s3(), operation, partial(answered, answer)) as requests:
            answer = north.request(key, EVERY_ROUTE[key])
        assert answer == BUCKET_BUSY
        assert answer.headers["retry-after"] == "1"
        assert len(requests) == 1
        assert kept(north) == before

    @pytest.mark.parametrize(("operation", "key"), OF_THE_BUCKET)
    def test_what_nobody_expects_of_it_is_500_without_a_word_of_what_it_was(
        self, north: Service, operation: str, key: str
    ) -> None:
        before = kept(north)
        with fault(aws.s3(), operation, lambda _: client_error("InvalidRequest", 400)):
            assert north.request(key, EVERY_ROUTE[key]) == FAILED
        assert kept(north) == before

    @pytest.mark.parametrize("key", [key for key in EVERY_ROUTE if key not in {key for _, key in OF_THE_BUCKET}])
    def test_no_other_route_asks_for_anything_there(self, north: Service, key: str) -> None:
        with fault(aws.s3(), "", lambda _: client_error("AccessDenied", 403)) as requests:
            assert north.request(key, EVERY_ROUTE[key]).status in (200, 202, 204)
        assert requests == []


def answered(answer: Any, _: object) -> Any:
    """Answer a call, or fail it."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_a_token_of_identity_is_refused(north: Service) -> None:
    event = north.request_event("GET /v1/practices/{practice_id}")
    claims = event["requestContext"]["authorizer"]["jwt"]["claims"]
    for use, status in (("access", 200), ("id", 403)):
        claims["token_use"] = use
        assert north.runtime.invoke("PracticesFunction", event)["statusCode"] == status


def test_a_token_that_names_nobody_is_refused(north: Service) -> None:
    answer = north.get("north/patients/p-1", sub="")
    assert (answer.status, answer.body["type"]) == (403, "urn:patient-contact:problem:nobody")
