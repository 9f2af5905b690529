"""Line types: phones that come without one are looked up in the request, and from a queue when that takes too long."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.look_up_number.handler import RESERVE, handler
from patient_contact import aws, clock, numbers, table
from patient_contact.events import MAX_RECEIVES
from patient_contact.facts import LineType, Status
from patient_contact.lookups import PATIENCE
from patient_contact.verdict import Evidence
from tests.integration.service import CELL, Answer, Context, Service, client_error, fault, sqs_record, trigger
from tests.local import sms

PATH = "north/patients/p-9/contact-info"
MOBILE = "+12065550199"


def put(service: Service, *phones: str | dict[str, str]) -> Answer:
    body = {"phones": [phone if isinstance(phone, dict) else {"number": phone} for phone in phones], "emails": []}
    answer = service.put(PATH, body)
    assert answer.status == 200
    return answer


def shown(answer: Answer) -> list[tuple[LineType, Status]]:
    return [(phone["line_type"], phone["status"]) for phone in answer.body["phones"]]


def known(service: Service, number: str) -> Any:
    return service.post("north/numbers/search", {"phone_number": number}).body


class TestInsideTheRequest:
    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (MOBILE, ("text_enabled", "valid")),
            (sms.PREPAID, ("text_enabled", "valid")),
            (sms.VOIP, ("text_enabled", "valid")),
            (sms.LANDLINE, ("landline", "valid")),
            (sms.OTHER, ("unknown", "valid")),
            (sms.INVALID, ("unknown", "invalid")),
        ],
    )
    def test_what_the_carrier_says_is_on_the_facesheet_at_once(
        self, north: Service, number: str, expected: tuple[LineType, Status]
    ) -> None:
        assert shown(put(north, number)) == [expected]
        assert north.waiting_lookups() == []

    def test_a_mobile_phone_is_texted_then_and_not_called(self, north: Service) -> None:
        put(north, MOBILE)
        assert north.run_automations(trigger("p-9")) == []
        (decided,) = north.get("north/patients/p-9/decisions").body["items"]
        assert decided["channel"] == "text"

    @pytest.mark.parametrize("sent", ["text_enabled", "landline"])
    def test_a_line_type_that_registration_sends_is_neither_looked_up_nor_overridden(
        self, north: Service, sent: str
    ) -> None:
        assert shown(put(north, {"number": sms.VOIP, "line_type": sent})) == [(sent, "valid")]
        assert north.carriers.lookups == {}
        put(north, sms.VOIP)
        assert shown(put(north, {"number": sms.VOIP, "line_type": sent})) == [(sent, "valid")]

    @pytest.mark.parametrize("line_type", [{}, {"line_type": "unknown"}])
    def test_one_that_registration_does_not_know_is(self, north: Service, line_type: dict[str, str]) -> None:
        assert shown(put(north, {"number": MOBILE} | line_type)) == [("text_enabled", "valid")]

    @pytest.mark.parametrize("phone", [{"number": "ask her son"}, {"number": MOBILE, "status": "invalid"}])
    def test_what_is_no_valid_number_is_not_looked_up(self, north: Service, phone: dict[str, str]) -> None:
        assert shown(put(north, phone)) == [("unknown", "invalid")]
        assert north.carriers.lookups == {}

    def test_the_result_is_kept_with_its_time_and_shared_by_all_who_have_the_number(self, north: Service) -> None:
        before = clock.iso(clock.now())
        put(north, sms.LANDLINE)
        body = {"phones": [{"number": sms.LANDLINE}], "emails": []}
        assert shown(north.put("north/patients/p-8/contact-info", body)) == [("landline", "valid")]
        assert north.carriers.lookups == {sms.LANDLINE: 1}
        assert before < known(north, sms.LANDLINE)["looked_up_at"] < clock.iso(clock.now())

    @pytest.mark.parametrize(("days", "lookups"), [(89.99, 1), (90.01, 2)])
    def test_it_is_reused_for_90_days(self, north: Service, days: float, lookups: int) -> None:
        put(north, MOBILE)
        item = table.get(table.number_key("north", MOBILE))
        assert item
        at = clock.iso(datetime.now(UTC) - timedelta(days=days))
        table.put(item | {"verdict": item["verdict"] | {"looked_up_at": at}})
        assert shown(put(north, MOBILE)) == [("text_enabled", "valid")]
        assert north.carriers.lookups == {MOBILE: lookups}

    def test_twenty_phones_are_looked_up_at_the_same_time(self, north: Service) -> None:
        phones = [f"+120655502{n:02}" for n in range(19)]
        began = time.monotonic()
        answer = put(north, sms.TIMES_OUT, *phones)
        took = time.monotonic() - began
        assert shown(answer) == [("unknown", "valid"), *[("text_enabled", "valid")] * 19]
        # One that hangs takes the patience of all, and no more.
        assert PATIENCE <= took < sms.HANGS_SECONDS
        assert [json.loads(body)["phone_number"] for body in north.waiting_lookups()] == [sms.TIMES_OUT]


class TestLater:
    @pytest.mark.parametrize("number", [sms.TIMES_OUT, sms.THROTTLES_TWICE])
    def test_what_was_not_answered_in_time_stays_unknown_and_waits_in_the_queue(
        self, north: Service, number: str
    ) -> None:
        assert shown(put(north, number)) == [("unknown", "valid")]
        assert [json.loads(body) for body in north.waiting_lookups()] == [
            {"practice_id": "north", "phone_number": number}
        ]

    def test_it_is_asked_again_until_the_carrier_answers(self, north: Service) -> None:
        put(north, sms.THROTTLES_TWICE)
        (waiting,) = north.waiting_lookups()
        assert north.run("LookUpNumberFunction", waiting) == [0]
        assert north.run("LookUpNumberFunction", waiting, receives=2) == []
        assert shown(north.get("north/patients/p-9")) == [("text_enabled", "valid")]
        assert north.carriers.lookups == {sms.THROTTLES_TWICE: 3}

    def test_what_has_been_looked_up_since_is_not_again(self, north: Service) -> None:
        put(north, sms.THROTTLES_TWICE)
        (waiting,) = north.waiting_lookups()
        north.carriers.lookups[sms.THROTTLES_TWICE] = 2
        assert north.run("LookUpNumberFunction", waiting, waiting, waiting) == []
        assert north.carriers.lookups == {sms.THROTTLES_TWICE: 3}

    def test_on_the_last_receive_it_is_dead_lettered_with_its_reason(self, north: Service) -> None:
        put(north, sms.THROTTLES_TWICE)
        (waiting,) = north.waiting_lookups()
        assert north.run("LookUpNumberFunction", waiting, receives=MAX_RECEIVES) == []
        assert north.dead_letters("LOOKUPS") == [("gave up: lookup failed: ThrottlingException", waiting)]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("junk", "invalid lookup: not JSON"),
            ("{}", "invalid lookup: phone_number, practice_id"),
            ('{"practice_id": "a/b", "phone_number": "+15035550101"}', "invalid lookup: practice_id"),
            ('{"practice_id": "north", "phone_number": "CALL ME"}', "invalid lookup: phone_number"),
            ('{"practice_id": "north", "phone_number": "+15035550101", "more": 1}', "invalid lookup: unknown field"),
        ],
    )
    def test_what_can_never_be_handled_is_dead_lettered_at_once(self, north: Service, body: str, reason: str) -> None:
        good = json.dumps({"practice_id": "north", "phone_number": MOBILE})
        assert north.run("LookUpNumberFunction", body, good) == []
        assert north.dead_letters("LOOKUPS") == [(reason, body)]
        assert known(north, MOBILE)["line_type"] == "text_enabled"

    def test_a_number_that_the_carrier_refuses_to_look_up_is_dead_lettered_at_once(self, north: Service) -> None:
        body = json.dumps({"practice_id": "north", "phone_number": MOBILE})
        with fault(aws.sms(), "CarrierLookup", lambda _: client_error("ValidationException")):
            assert north.run("LookUpNumberFunction", body) == []
        assert north.dead_letters("LOOKUPS") == [("lookup refused: ValidationException", body)]

    @pytest.mark.usefixtures("north")
    def test_what_does_not_fit_into_the_invocation_goes_back(self) -> None:
        bodies = [json.dumps({"practice_id": "north", "phone_number": f"+1206555020{n}"}) for n in range(2)]
        records = [sqs_record(n, body) for n, body in enumerate(bodies)]
        answer = handler({"Records": records}, Context([RESERVE, RESERVE - 1]))  # type: ignore[arg-type]  # a stand-in
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}

    @pytest.mark.parametrize(
        "code", ["AccessDeniedException", "InternalServerException", "ServiceQuotaExceededException"]
    )
    def test_a_carrier_that_refuses_everything_does_not_keep_contact_info_from_being_stored(
        self, north: Service, code: str
    ) -> None:
        with fault(aws.sms(), "CarrierLookup", lambda _: client_error(code)):
            assert shown(put(north, MOBILE)) == [("unknown", "valid")]
        assert len(north.waiting_lookups()) == 1

    @pytest.mark.parametrize("answer", ["refused", "failed"])
    def test_a_queue_that_takes_nothing_is_answered_503_and_the_same_request_again_asks_again(
        self, north: Service, answer: str
    ) -> None:
        response, _ = client_error("")
        failed = {"Failed": [{"Id": "0", "SenderFault": False, "Code": "InternalError"}], "Successful": []}
        given = client_error("ServiceUnavailable") if answer == "refused" else (response, failed)
        if answer == "failed":
            response.status_code = 200
        body = {"phones": [{"number": sms.THROTTLES_TWICE}], "emails": []}
        with fault(aws.sqs(), "SendMessageBatch", lambda _: given):
            refused = north.put(PATH, body)
        assert (refused.status, refused.body["type"]) == (503, "urn:patient-contact:problem:try-again")
        assert refused.headers["retry-after"] == "1"
        assert north.get("north/patients/p-9").body["version"] == 1
        assert north.put(PATH, body).status == 200
        assert len(north.waiting_lookups()) == 1

    def test_many_that_wait_are_put_into_the_queue_in_calls_that_it_takes(self, north: Service) -> None:
        with fault(aws.sms(), "CarrierLookup", lambda _: client_error("ThrottlingException")):
            put(north, *(f"+120655502{n:02}" for n in range(20)))
        assert len(north.waiting_lookups()) == 20


class TestValidAgain:
    def invalidate(self, service: Service, number: str) -> None:
        assert put(service, number).status == 200
        found = Evidence("lookup", "INVALID", clock.iso(clock.now()))
        numbers.change_verdict("north", number, lambda verdict: verdict.after_lookup("INVALID", found.at), found)
        assert shown(service.get("north/patients/p-9"))[0][1] == "invalid"

    @pytest.mark.parametrize("line_type", [{}, {"line_type": "text_enabled"}])
    def test_a_number_that_registration_sends_anew_is_valid_again(
        self, north: Service, line_type: dict[str, str]
    ) -> None:
        self.invalidate(north, MOBILE)
        assert shown(put(north, {"number": MOBILE} | line_type)) == [("text_enabled", "valid")]

    def test_one_that_registration_itself_calls_invalid_is_not(self, north: Service) -> None:
        self.invalidate(north, MOBILE)
        assert shown(put(north, {"number": MOBILE, "status": "invalid"})) == [("text_enabled", "invalid")]
        assert known(north, MOBILE)["status"] == "invalid"

    def test_one_of_which_the_carrier_says_again_that_it_is_none_stays_invalid_and_nothing_is_announced(
        self, north: Service
    ) -> None:
        put(north, sms.INVALID)
        north.new_stream_records()
        assert shown(put(north, sms.INVALID)) == [("unknown", "invalid")]
        assert north.carriers.lookups == {sms.INVALID: 2}
        assert north.publish(north.new_stream_records()) == []
        assert north.events == []

    def test_each_change_is_kept_with_its_evidence_and_announced(self, north: Service) -> None:
        put(north, sms.INVALID)
        put(north, {"number": sms.INVALID, "line_type": "landline"})
        changes = known(north, sms.INVALID)["changes"]
        told = [(each["status"], each["evidence"]["source"], each["evidence"]["code"]) for each in changes]
        assert told == [("valid", "registration", "SENT_ANEW"), ("invalid", "lookup", "INVALID")]
        assert north.publish(north.new_stream_records()) == []
        details = [json.loads(e["Detail"]) for e in north.events if e["DetailType"] == "NumberStatusChanged"]
        assert [(each["phone_number"], each["status"], each["evidence"]["code"]) for each in details] == [
            (sms.INVALID, "invalid", "INVALID"),
            (sms.INVALID, "valid", "SENT_ANEW"),
        ]

    def test_contact_info_that_says_nothing_new_of_valid_numbers_writes_nothing(self, north: Service) -> None:
        put(north, MOBILE)
        before = north.items()
        put(north, MOBILE)
        assert north.items() == before


def test_the_clinics_own_file_needs_no_lookup(north: Service) -> None:
    assert known(north, CELL)["looked_up_at"] is None
    assert north.carriers.lookups == {}
