"""What holds for every route: tokens, ids, bodies, and a table that does not answer."""

import json
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from patient_contact import aws
from tests.integration.service import (
    ACCEPTED,
    BUSY,
    FAILED,
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
    throttled,
)

MAX_BODY = 256 * 1024
NOT_JSON = problem(400, "malformed", "Bad Request", "The body is not valid JSON.")
NOT_UTF_8 = problem(400, "malformed", "Bad Request", "The body is not UTF-8.")
NOT_BASE64 = problem(400, "malformed", "Bad Request", "The body is not valid base64.")
NO_OBJECT = invalid((["body"], "dict_type", "the body is a JSON object"))
NOT_FOUND = Answer(404, {"message": "Not Found"}, {})
ID = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ - (a message id also :)"

every_route = pytest.mark.parametrize("key", ACCEPTED)
every_body = pytest.mark.parametrize("key", WITH_BODY)


def refused_id(name: str) -> Answer:
    return invalid((["path", name], "string_pattern_mismatch", ID))


def test_these_are_all_the_routes_of_the_template(service: Service) -> None:
    assert {route.key for route in service.routes} == ACCEPTED.keys()


class TestToken:
    @every_route
    def test_a_practice_outside_the_token_is_forbidden_whether_it_exists_or_not(self, north: Service, key: str) -> None:
        before = north.items()
        for practice_id in ("north", "nowhere"):
            for practice_ids in (["south"], ["nort", "northern", "NORTH"], [""], []):
                answer = north.request(key, ACCEPTED[key], practice_id=practice_id, practice_ids=practice_ids)
                assert answer == OTHER_PRACTICE
        assert north.items() == before

    @every_route
    def test_a_token_with_every_scope_but_the_routes_own_is_forbidden_by_the_gateway(
        self, north: Service, key: str
    ) -> None:
        (route,) = (route for route in north.routes if route.key == key)
        (own,) = route.scopes or []
        others = {scope for each in north.routes for scope in each.scopes or []} - {own}
        answer = north.request(key, ACCEPTED[key], scope=" ".join(sorted(others)))
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
        before = north.items()
        for name in ("practice_id", "patient_id", "automation_id", "message_id"):
            if f"{{{name}}}" not in key:
                continue
            for value in ("a#b", "a b", "é", "☎", "%", "a\n", "\x00", "x" * 401, "'", "<b>", "a:b#c", "a\\b"):
                ids: dict[str, Any] = {name: value}
                if name == "practice_id":
                    # A token cannot be for an id that is none; if it is, the id is refused all the same.
                    event = north.request_event(key, body=json.dumps(ACCEPTED[key]))
                    event["pathParameters"]["practice_id"] = value
                    event["rawPath"] = event["rawPath"].replace("north", value)
                    answer = north.invoke_route(key, event)
                    assert answer in (OTHER_PRACTICE, refused_id(name))
                else:
                    assert north.request(key, ACCEPTED[key], **ids) == refused_id(name), value
        assert north.items() == before

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
        before = north.items()
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
        assert north.items() == before

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
        before = north.items()

        def spoiled(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: spoiled(each) for name, each in value.items()}
            return [spoiled(each) for each in value] if isinstance(value, list) else "\ud800"

        answers = [
            north.request(key, spoiled(ACCEPTED[key])),
            north.request(key, {**(ACCEPTED[key] or {}), "\udfff": "x"}),
        ]
        assert [answer.status for answer in answers] == [422, 422]
        assert north.items() == before

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

    @every_route
    def test_a_body_over_256_kb_is_too_large_before_anything_else_is_looked_at(self, north: Service, key: str) -> None:
        long = b"{" + b" " * MAX_BODY
        for body in (long, b"\xff" * (MAX_BODY + 1), "é".encode() * (MAX_BODY // 2 + 1)):
            assert north.request(key, body) == TOO_LARGE
            assert north.request(key, body, practice_ids=["south"]) == TOO_LARGE
        answer = north.request(key, long, headers={"content-type": "application/octet-stream"})
        assert answer == TOO_LARGE

    @every_body
    def test_a_body_of_exactly_256_kb_is_read(self, north: Service, key: str) -> None:
        text = json.dumps(ACCEPTED[key]).encode()
        body = text + b" " * (MAX_BODY - len(text))
        for content_type in ("application/json", "application/octet-stream"):
            assert north.request(key, body, headers={"content-type": content_type}).status in (200, 202)


class TestFaults:
    @every_route
    def test_a_table_that_throttles_is_503_with_retry_after_and_nothing_is_written(
        self, north: Service, key: str
    ) -> None:
        before = north.items()
        calls = ("GetItem", "Query", "PutItem", "DeleteItem", "TransactWriteItems", "BatchGetItem")
        # The call that the route makes first, and only that one: batch reads wait for seconds before they give up.
        with fault(aws.dynamodb(), "", lambda _: client_error("ThrottlingException")) as requests:
            answer = north.request(key, ACCEPTED[key])
        assert answer == BUSY
        assert answer.headers["retry-after"] == "1"
        assert len(requests) == 1, calls
        assert north.items() == before

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
            ("DeleteItem", "DELETE /v1/practices/{practice_id}/automations/{automation_id}"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}/patients/{patient_id}/do-not-contact"),
            ("TransactWriteItems", "PUT /v1/practices/{practice_id}"),
        ],
    )
    def test_each_way_of_being_busy_on_each_kind_of_call_is_503(
        self, north: Service, operation: str, key: str, code: str
    ) -> None:
        with fault(aws.dynamodb(), operation, lambda _: client_error(code)):
            assert north.request(key, {**(ACCEPTED[key] or {})} if ACCEPTED[key] else None) == BUSY

    @pytest.mark.usefixtures("time_flies")
    def test_numbers_that_stay_unread_are_503_and_never_taken_for_none(self, north: Service) -> None:
        key = "GET /v1/practices/{practice_id}/patients/{patient_id}"
        with throttled("BatchGetItem"):
            assert north.request(key) == BUSY

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
            assert north.request(key, ACCEPTED[key]) == FAILED


def test_a_token_that_names_nobody_is_refused(north: Service) -> None:
    answer = north.get("north/patients/p-1", sub="")
    assert (answer.status, answer.body["type"]) == (403, "urn:patient-contact:problem:nobody")
