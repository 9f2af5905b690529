"""record_reply: what patients say takes effect once, for everyone who shares the phone, and nothing of it is lost."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ReadTimeoutError

from functions.record_reply.handler import RESERVE, handler
from patient_contact import aws
from patient_contact.events import MAX_RECEIVES
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    PRACTICE,
    TIME,
    Context,
    Service,
    client_error,
    fault,
    reply,
    sqs_record,
    throttled,
    time_of_event,
    trigger,
)

BILLING = "+15035559001"
PATIENTS = "north/patients"


def consent(service: Service, patient_id: str = "p-1") -> dict[tuple[str, str], str]:
    """What the facesheet says of each (number, line) on which something is recorded."""
    shown = service.get(f"{PATIENTS}/{patient_id}").body["sms_consent"]["numbers"]
    return {(each["phone_number"], each["line"]): each["status"] for each in shown}


def history(service: Service, number: str = CELL) -> list[dict[str, Any]]:
    answer = service.post("north/numbers/search", {"phone_number": number})
    assert answer.status == 200
    items: list[dict[str, Any]] = answer.body["history"]
    return items


def reviews(service: Service) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = service.get("north/consent-reviews").body["items"]
    return items


def counted(capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """Replies by the class that was counted."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return Counter(line["reason"] for line in lines if "Replies" in line)


def put_line(service: Service, **changes: object) -> None:
    lines: Any = PRACTICE["lines"]
    assert service.put("north", PRACTICE | {"lines": [lines[0] | changes, lines[1]]}).status == 200


class TestOptOut:
    def test_a_stop_is_on_the_facesheet_of_all_who_share_the_phone_and_turns_the_next_text_into_a_call(
        self, north: Service
    ) -> None:
        assert north.put(f"{PATIENTS}/p-2/contact-info", CONTACT_INFO).status == 200
        assert north.record_replies(reply("STOP")) == []
        for patient_id in ("p-1", "p-2"):
            assert north.get(f"{PATIENTS}/{patient_id}").body["sms_consent"] == {
                "status": "Opted Out of 1 numbers",
                "numbers": [
                    {
                        "phone_number": CELL,
                        "line": "main",
                        "status": "opted_out",
                        "source": "keyword",
                        "recorded_at": TIME,
                    }
                ],
            }
            assert north.run_automations(trigger(patient_id)) == []
            (decided,) = north.get(f"{PATIENTS}/{patient_id}/decisions").body["items"]
            assert (decided["channel"], decided["reason"]) == ("call", "SMS_OPTED_OUT")

    def test_it_counts_from_when_it_was_said_and_keeps_both_times(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", at="2026-11-20T17:02:11.123Z")) == []
        assert history(north) == [
            {
                "line": "main",
                "status": "opted_out",
                "in_force": "opted_out",
                "source": "keyword",
                "said_at": "2026-11-20T17:02:11.123000Z",
                "recorded_at": TIME,
            }
        ]

    def test_it_holds_for_the_line_that_was_written_to_and_no_other(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", line=BILLING)) == []
        assert consent(north) == {(CELL, "billing"): "opted_out"}

    def test_one_of_a_number_that_nobody_has_holds_for_whoever_will_have_it(self, north: Service) -> None:
        assert north.record_replies(reply("STOP", number="+15035550199")) == []
        body = {"phones": [{"number": "+15035550199", "line_type": "text_enabled"}], "emails": []}
        assert north.put(f"{PATIENTS}/p-9/contact-info", body).body["sms_consent"]["status"] == "Opted Out of 1 numbers"

    def test_the_line_keeps_its_number_from_then_on(self, north: Service) -> None:
        assert north.record_replies(reply("STOP")) == []
        lines: Any = PRACTICE["lines"]
        moved = PRACTICE | {"lines": [lines[0] | {"phone_number": "+15035559077"}, lines[1]]}
        assert north.put("north", moved).status == 409

    def test_it_is_announced(self, north: Service) -> None:
        north.new_stream_records()
        assert north.record_replies(reply("STOP")) == []
        assert north.publish(north.new_stream_records()) == []
        (event,) = north.events
        detail = json.loads(event["Detail"])
        assert (event["DetailType"], detail.pop("event_id").partition(":")[2]) == ("SmsConsentChanged", "main")
        assert detail == {
            "version": 1,
            "practice_id": "north",
            "phone_number": CELL,
            "line": "main",
            "status": "opted_out",
            "source": "keyword",
            "said_at": "2026-11-24T18:00:00.000000Z",
            "recorded_at": TIME,
        }


class TestOptIn:
    def test_start_ends_an_opt_out_and_takes_it_out_of_the_report(self, north: Service) -> None:
        assert north.record_replies(reply("STOP")) == []
        assert north.record_replies(reply("START", "message-2", at="2026-11-24T18:00:01.000Z")) == []
        assert consent(north) == {(CELL, "main"): "opted_in"}
        assert north.get("north/reports/opt-outs").body["items"] == []

    def test_only_start_undoes_stop_whatever_staff_have_evidence_of(self, north: Service) -> None:
        assert north.record_replies(reply("STOP")) == []
        body = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "signed_form"}
        assert north.put(f"{PATIENTS}/p-1/sms-consent", body).status == 422
        assert consent(north) == {(CELL, "main"): "opted_out"}

    def test_a_stop_that_arrives_after_staff_opted_the_patient_in_holds(self, north: Service) -> None:
        """It was said before, staff could not know of it, and only the patient can undo it."""
        body = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "signed_form"}
        assert north.put(f"{PATIENTS}/p-1/sms-consent", body).status == 200
        assert north.record_replies(reply("STOP", at="2026-11-24T18:00:00.000Z")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}


class TestTime:
    EARLIER, LATER = "2026-11-24T18:00:00.000Z", "2026-11-24T18:00:00.001Z"

    @pytest.mark.parametrize(
        ("first", "second", "in_force"),
        [
            (("STOP", EARLIER), ("START", LATER), "opted_in"),
            (("START", EARLIER), ("STOP", LATER), "opted_out"),
            (("START", EARLIER), ("STOP", EARLIER), "opted_out"),
        ],
    )
    @pytest.mark.parametrize("swapped", [False, True])
    @pytest.mark.parametrize("together", [False, True])
    def test_when_it_was_said_decides_and_not_when_it_arrived_and_on_a_tie_the_opt_out(
        self,
        north: Service,
        first: tuple[str, str],
        second: tuple[str, str],
        in_force: str,
        swapped: bool,
        together: bool,
    ) -> None:
        said = [reply(text, f"message-{n}", at=at) for n, (text, at) in enumerate((first, second))]
        arriving = said[::-1] if swapped else said
        for batch in [arriving] if together else [[each] for each in arriving]:
            assert north.record_replies(*batch) == []
        assert consent(north) == {(CELL, "main"): in_force}
        # Whatever it changed, it is in the history.
        assert len(history(north)) == 2

    def test_one_that_comes_late_says_in_the_history_what_was_in_force_after_it(self, north: Service) -> None:
        assert north.record_replies(reply("START", "message-2", at=self.LATER)) == []
        assert north.record_replies(reply("STOP", "message-1", at=self.EARLIER)) == []
        assert [(each["status"], each["in_force"]) for each in history(north)] == [
            ("opted_out", "opted_in"),
            ("opted_in", "opted_in"),
        ]


class TestFromTheFuture:
    """A time that is not yet counts as now: a STOP is never refused, and no START stands above every STOP."""

    @pytest.mark.parametrize("ahead", ["2999-01-01T00:00:00.000Z", "9998-12-31T23:59:59.999Z"])
    @pytest.mark.parametrize(
        ("first", "second", "in_force"), [("START", "STOP", "opted_out"), ("STOP", "START", "opted_in")]
    )
    def test_what_is_said_after_it_counts(
        self, north: Service, ahead: str, first: str, second: str, in_force: str
    ) -> None:
        assert north.record_replies(reply(first, "message-1", at=ahead)) == []
        said = history(north)[0]
        assert said["said_at"] <= said["recorded_at"]
        later = time_of_event(seconds=5).replace("Z", ".000Z")
        assert north.record_replies(reply(second, "message-2", at=later)) == []
        assert consent(north) == {(CELL, "main"): in_force}

    def test_the_same_again_is_still_the_same(self, north: Service) -> None:
        ahead = reply("START", "message-1", at="2999-01-01T00:00:00.000Z")
        assert north.record_replies(ahead) == []
        assert north.record_replies(reply("STOP", "message-2", at=time_of_event(seconds=5))) == []
        assert north.record_replies(ahead) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}

    def test_one_that_clocks_may_differ_by_keeps_its_own(self, north: Service) -> None:
        at = time_of_event(hours=23)
        assert north.record_replies(reply("STOP", at=at)) == []
        assert history(north)[0]["said_at"] == at.replace("Z", ".000000Z")


class TestRepeated:
    @pytest.mark.parametrize("text", ["STOP", "START", "please stop texting me"])
    def test_the_same_reply_again_changes_nothing(self, north: Service, text: str) -> None:
        assert north.record_replies(reply(text)) == []
        before = north.items()
        north.new_stream_records()
        assert north.record_replies(reply(text), reply(text)) == []
        assert north.items() == before
        assert north.new_stream_records() == []

    def test_not_even_when_it_is_published_again_at_another_time(self, north: Service) -> None:
        """What was said last stays said last: a START that comes twice does not undo the STOP in between."""
        assert north.record_replies(reply("START", "message-1", at="2026-11-24T18:00:00.000Z")) == []
        assert north.record_replies(reply("STOP", "message-2", at="2026-11-24T18:01:00.000Z")) == []
        assert north.record_replies(reply("START", "message-1", at="2026-11-24T18:02:00.000Z")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}
        assert len(history(north)) == 2

    def test_a_hundred_times_in_a_batch_it_is_counted_once(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert north.record_replies(*[reply("STOP")] * 100) == []
        assert counted(capsys) == {"opt_out": 1}


class TestInOwnWords:
    def test_one_that_asks_to_stop_is_put_on_the_list_and_no_text_goes_out_meanwhile(self, north: Service) -> None:
        said = reply("Stop. Thank you", at="2026-11-25T18:00:00.000Z")
        assert north.record_replies(said) == []
        assert reviews(north) == [
            {
                "review_id": "2026-12-10~message-1",
                "due_on": "2026-12-10",
                "overdue": False,
                "phone_number": CELL,
                "line": "main",
                "wish": "opted_out",
                "text": "Stop. Thank you",
                "said_at": "2026-11-25T18:00:00.000000Z",
                "recorded_at": TIME,
                "sms_consent": "under_review",
                "patients": ["p-1"],
                "more_patients": False,
            }
        ]
        assert north.run_automations(trigger()) == []
        (decided,) = north.get(f"{PATIENTS}/p-1/decisions").body["items"]
        assert (decided["channel"], decided["reason"]) == ("call", "CONSENT_UNDER_REVIEW")

    def test_it_never_replaces_an_opt_out(self, north: Service) -> None:
        assert north.record_replies(reply("STOP")) == []
        assert north.record_replies(reply("stop texting me!!", "message-2", at="2026-11-24T19:00:00.000Z")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}
        assert [each["sms_consent"] for each in reviews(north)] == ["opted_out"]

    @pytest.mark.parametrize(("text", "in_force"), [("START", "opted_in"), ("STOP", "opted_out")])
    def test_a_keyword_that_was_said_later_ends_it(self, north: Service, text: str, in_force: str) -> None:
        assert north.record_replies(reply("no more messages")) == []
        assert north.record_replies(reply(text, "message-2", at="2026-11-24T18:00:01.000Z")) == []
        assert consent(north) == {(CELL, "main"): in_force}
        assert reviews(north) == []
        assert [each.get("ends") for each in history(north)] == [["2026-12-09~message-1"], None]

    def test_an_older_start_does_not_end_it(self, north: Service) -> None:
        assert north.record_replies(reply("no more messages")) == []
        assert north.record_replies(reply("START", "message-2", at="2026-11-24T17:59:59.000Z")) == []
        assert consent(north) == {(CELL, "main"): "under_review"}
        assert len(reviews(north)) == 1

    def test_the_day_on_which_it_was_said_is_the_practices_own(self, north: Service) -> None:
        # Tuesday evening in Los Angeles.
        assert north.record_replies(reply("no more messages", at="2026-11-25T06:00:00.000Z")) == []
        assert [each["due_on"] for each in reviews(north)] == ["2026-12-09"]


class TestFullList:
    """Twenty messages of one number wait to be read."""

    OPT_IN: ClassVar = {"phone_number": CELL, "line": "main", "status": "opted_in", "evidence": "portal"}

    @pytest.fixture
    def full(self, north: Service) -> Service:
        put_line(north, review_words=["YES"])
        assert north.record_replies(*[reply("no more messages", f"message-{n}") for n in range(20)]) == []
        return north

    @pytest.fixture
    def full_of_yes(self, north: Service) -> Service:
        """Staff opted the number out, and in again when twenty had come that may be an opt-in."""
        put_line(north, review_words=["YES"])
        assert north.put(f"{PATIENTS}/p-1/sms-consent", self.OPT_IN | {"status": "opted_out"}).status == 200
        assert north.record_replies(*[reply("YES", f"message-{n}") for n in range(20)]) == []
        assert north.put(f"{PATIENTS}/p-1/sms-consent", self.OPT_IN).status == 200
        assert len(reviews(north)) == 20
        return north

    def test_one_more_that_may_be_an_opt_out_is_recorded_as_one_with_its_text(
        self, full: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert full.record_replies(reply("I mean it: no texts", "one-more", at="2026-11-24T18:00:01.000Z")) == []
        assert consent(full) == {(CELL, "main"): "opted_out"}
        assert len(reviews(full)) == 20
        assert full.dead_letters("REPLIES") == []
        assert history(full)[0] == {
            "line": "main",
            "status": "opted_out",
            "in_force": "opted_out",
            "source": "keyword",
            "text": "I mean it: no texts",
            "said_at": "2026-11-24T18:00:01.000000Z",
            "recorded_at": TIME,
        }
        assert counted(capsys) == {"may_opt_out": 1}

    def test_it_holds_when_all_that_waited_were_no_request_and_staff_can_undo_it_with_evidence(
        self, full: Service
    ) -> None:
        assert full.record_replies(reply("no texts", "one-more")) == []
        for each in reviews(full):
            closed = full.post(f"north/consent-reviews/{each['review_id']}", {"outcome": "not_a_request"})
            assert closed.status == 200
        assert consent(full) == {(CELL, "main"): "opted_out"}
        assert full.put(f"{PATIENTS}/p-1/sms-consent", self.OPT_IN).status == 200
        assert consent(full) == {(CELL, "main"): "opted_in"}

    def test_it_holds_whatever_staff_recorded_before_it_came(self, full_of_yes: Service) -> None:
        assert full_of_yes.record_replies(reply("no texts", "one-more", at="2026-11-24T18:00:01.000Z")) == []
        assert consent(full_of_yes) == {(CELL, "main"): "opted_out"}
        newest = history(full_of_yes)[0]
        assert newest["said_at"] == newest["recorded_at"]

    def test_a_start_that_was_said_later_undoes_it_and_ends_all_that_wait_in_one_write(self, full: Service) -> None:
        assert full.record_replies(reply("no texts", "one-more")) == []
        assert full.record_replies(reply("START", "message-99", at="2026-11-24T18:00:01.000Z")) == []
        assert (consent(full), reviews(full)) == ({(CELL, "main"): "opted_in"}, [])

    def test_one_that_is_older_than_a_start_finds_no_list_that_is_full(self, north: Service) -> None:
        assert north.record_replies(reply("START", "message-99", at="2026-11-24T18:00:00.000Z")) == []
        later = [reply("no texts", f"message-{n}", at="2026-11-24T18:00:01.000Z") for n in range(20)]
        assert north.record_replies(*later) == []
        assert north.record_replies(reply("no texts", "one-more", at="2026-11-24T17:59:00.000Z")) == []
        assert consent(north) == {(CELL, "main"): "under_review"}

    def test_one_that_may_be_an_opt_in_is_counted_once_and_changes_nothing(
        self, full_of_yes: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert full_of_yes.put(f"{PATIENTS}/p-1/sms-consent", self.OPT_IN | {"status": "opted_out"}).status == 200
        before = history(full_of_yes), reviews(full_of_yes), consent(full_of_yes)
        counted(capsys)
        for _ in range(2):
            assert full_of_yes.record_replies(reply("YES", "one-more")) == []
        assert (history(full_of_yes), reviews(full_of_yes), consent(full_of_yes)) == before
        assert counted(capsys) == {"may_opt_in": 1}

    @pytest.mark.parametrize("at", ["2026-11-24T18:00:00.000Z", "2026-11-20T18:00:00.000Z"])
    @pytest.mark.parametrize("receives", [1, MAX_RECEIVES])
    def test_one_of_those_that_wait_comes_again_and_changes_nothing(
        self, full: Service, at: str, receives: int
    ) -> None:
        before = full.items()
        assert full.record_replies(reply("no more messages", "message-3", at=at), receives=receives) == []
        assert full.items() == before
        assert full.dead_letters("REPLIES") == []

    def test_the_one_more_comes_again_and_changes_nothing(self, full: Service) -> None:
        assert full.record_replies(reply("no texts", "one-more")) == []
        before = full.items()
        assert full.record_replies(reply("no texts", "one-more"), reply("no texts", "one-more")) == []
        assert full.items() == before


class TestWordsLeftToStaff:
    def test_a_word_that_appointment_replies_use_goes_to_staff_and_blocks_texts_meanwhile(self, north: Service) -> None:
        put_line(north, review_words=["CANCEL", "YES"])
        assert north.record_replies(reply("Cancel")) == []
        assert consent(north) == {(CELL, "main"): "under_review"}
        assert [each["text"] for each in reviews(north)] == ["Cancel"]

    def test_every_other_keyword_is_acted_on(self, north: Service) -> None:
        put_line(north, review_words=["CANCEL", "YES"])
        assert north.record_replies(reply("STOP")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}

    def test_it_is_acted_on_where_the_line_does_not_leave_it_to_staff(self, north: Service) -> None:
        assert north.record_replies(reply("Cancel")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}

    def test_a_yes_that_is_left_to_staff_opts_nobody_in(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put_line(north, review_words=["YES"])
        assert north.record_replies(reply("STOP")) == []
        assert north.record_replies(reply("YES", "message-2", at="2026-11-24T19:00:00.000Z")) == []
        assert consent(north) == {(CELL, "main"): "opted_out"}
        assert [(each["wish"], each["text"]) for each in reviews(north)] == [("opted_in", "YES")]
        assert counted(capsys) == {"opt_out": 1, "may_opt_in": 1}

    def test_a_yes_of_one_who_is_opted_in_confirms_an_appointment_and_waits_for_nobody(
        self, north: Service, capsys: pytest.CaptureFixture[str]
    ) -> None:
        put_line(north, review_words=["YES"])
        before = [item for item in north.items() if item["SK"]["S"] != "LINE"]
        assert north.record_replies(reply("YES")) == []
        assert [item for item in north.items() if item["SK"]["S"] != "LINE"] == before
        assert counted(capsys) == {"may_opt_in": 1}

    def test_a_change_of_the_setting_counts_from_the_next_batch_on_and_the_line_keeps_its_consent(
        self, north: Service
    ) -> None:
        assert north.record_replies(reply("STOP")) == []
        put_line(north, review_words=["CANCEL"])
        assert north.record_replies(reply("cancel", "message-2", number="+15035550199")) == []
        assert len(reviews(north)) == 1
        put_line(north)
        assert north.record_replies(reply("cancel", "message-3", number="+15035550198")) == []
        assert len(reviews(north)) == 1
        assert consent(north) == {(CELL, "main"): "opted_out"}


class TestIgnored:
    @pytest.mark.parametrize(
        ("text", "counted_as"),
        [
            ("", "empty"),
            (None, "empty"),
            ("  \n", "empty"),
            ("See you Monday", "other"),
            ("👍", "other"),
            ("Help!", "help"),
        ],
    )
    def test_what_asks_for_nothing_is_counted_by_its_class_and_changes_nothing(
        self, north: Service, capsys: pytest.CaptureFixture[str], text: str | None, counted_as: str
    ) -> None:
        before = north.items()
        assert north.record_replies(reply(text)) == []
        assert north.items() == before
        assert north.dead_letters("REPLIES") == []
        assert counted(capsys) == {counted_as: 1}

    @pytest.mark.parametrize("text", ["STOP 🛑", "🙏 stop 🙏", "ST\ud83dOP", "stop" + " " * 1_596])
    def test_emoji_half_emoji_and_length_do_not_hide_a_stop(self, north: Service, text: str) -> None:
        assert north.record_replies(reply(text)) == []
        assert consent(north)[CELL, "main"] in ("opted_out", "under_review")

    def test_1600_characters_that_ask_to_stop_are_kept_whole(self, north: Service) -> None:
        text = ("Please stop texting me. 🙏 " * 70)[:1_600]
        assert north.record_replies(reply(text)) == []
        assert [each["text"] for each in reviews(north)] == [text]

    def test_20_000_characters_are_left_to_staff_unread(self, north: Service) -> None:
        text = "".join(mark * 4_000 for mark in "\u0345\u035d\u0301\u0323\u0327")
        assert north.record_replies(reply(text)) == []
        assert consent(north) == {(CELL, "main"): "under_review"}
        assert [each["text"] for each in reviews(north)] == [text]


REFUSED: dict[str, tuple[object, str]] = {
    "unknown line": (reply(line="+15035559999"), "unknown line"),
    "not JSON": ("STOP", "invalid notification: not JSON"),
    "a nest": ("[" * 100_000, "invalid notification: not JSON"),
    "no envelope": ({"originationNumber": CELL}, "invalid notification: Message, Timestamp"),
    "no time": ({**reply(), "Timestamp": None}, "invalid notification: Timestamp"),
    "a message that is not JSON": ({**reply(), "Message": "STOP"}, "invalid reply: not JSON"),
    "a sender that is no number": (reply(number="CLINIC"), "invalid reply: originationNumber"),
    "no sender": (reply(originationNumber=None), "invalid reply: originationNumber"),
    "no id": (reply(inboundMessageId=None), "invalid reply: inboundMessageId"),
    "an id that is none": (reply(message_id="a#b"), "invalid reply: inboundMessageId"),
    "a body that is no text": (reply(messageBody=["STOP"]), "invalid reply: messageBody"),
    "a body of 20,001 characters": (reply("x" * 20_001), "invalid reply: messageBody"),
}


class TestRefused:
    @pytest.mark.parametrize("why", REFUSED)
    def test_what_can_never_be_handled_is_dead_lettered_with_its_reason_and_the_rest_is_unharmed(
        self, north: Service, why: str
    ) -> None:
        event, reason = REFUSED[why]
        body = event if isinstance(event, str) else json.dumps(event)
        assert north.record_replies(reply("STOP", "before"), body, reply("STOP", "after", line=BILLING)) == []
        assert north.dead_letters("REPLIES") == [(reason, body)]
        assert consent(north) == {(CELL, "main"): "opted_out", (CELL, "billing"): "opted_out"}


class TestFailures:
    def test_the_failed_ones_alone_go_back_to_the_queue(self, north: Service) -> None:
        response, parsed = client_error("ThrottlingException")

        def busy(request: dict[str, Any]) -> Any:
            return (response, parsed) if "+15035550150" in json.dumps(request) else None

        batch = [reply("STOP", f"message-{n}", number=f"+150355501{n:02}") for n in range(49, 52)]
        with fault(aws.dynamodb(), "TransactWriteItems", busy):
            assert north.record_replies(*batch) == [1]
        assert [history(north, f"+150355501{n}") != [] for n in range(49, 52)] == [True, False, True]
        assert north.record_replies(batch[1]) == []
        assert len(history(north, "+15035550150")) == 1

    def test_lines_that_cannot_be_read_now_send_all_back(self, north: Service) -> None:
        with throttled("BatchGetItem"):
            assert north.record_replies(reply(), reply("START", "message-2"), "junk") == [0, 1]
        assert [reason for reason, _ in north.dead_letters("REPLIES")] == ["invalid notification: not JSON"]

    @pytest.mark.usefixtures("north")
    def test_what_does_not_fit_into_the_invocation_goes_back(self) -> None:
        records = [sqs_record(n, reply("STOP", f"message-{n}", number=f"+1503555016{n}")) for n in range(3)]
        answer = handler({"Records": records}, Context([RESERVE, RESERVE - 1]))  # type: ignore[arg-type]  # a stand-in
        assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}, {"itemIdentifier": "2"}]}

    def test_a_write_that_others_contend_for_is_tried_again(self, north: Service) -> None:
        response, parsed = client_error("TransactionCanceledException")
        parsed["CancellationReasons"] = [{"Code": "TransactionConflict"}]
        conflicts = iter([True, True])
        with fault(
            aws.dynamodb(), "TransactWriteItems", lambda _: (response, parsed) if next(conflicts, False) else None
        ) as requests:
            assert north.record_replies(reply()) == []
        # One marks the line, for the first consent on it.
        assert len(requests) == 4
        assert consent(north) == {(CELL, "main"): "opted_out"}

    def test_a_stop_that_was_written_and_whose_answer_was_lost_is_found_when_it_comes_again(
        self, north: Service
    ) -> None:
        assert north.record_replies(reply("STOP", "message-0", number="+15035550199")) == []
        with lost_answers():
            assert north.record_replies(reply()) == [0]
        assert consent(north) == {(CELL, "main"): "opted_out"}
        assert north.record_replies(reply(), receives=2) == []
        assert len(history(north)) == 1


@contextmanager
def lost_answers() -> Iterator[None]:
    """Every transaction is carried out, and its answer never comes."""

    def lose(**_: object) -> None:
        raise ReadTimeoutError(endpoint_url="https://aws.example")

    events = aws.dynamodb().meta.events
    events.register("after-call.dynamodb.TransactWriteItems", lose)
    try:
        yield
    finally:
        events.unregister("after-call.dynamodb.TransactWriteItems", lose)


class TestRoundTrips:
    """At most two in sequence for a reply: its line, which a batch reads at once, and its one transaction."""

    def calls(self, service: Service, *bodies: object) -> Counter[str]:
        asked: Counter[str] = Counter()

        def count(model: Any, **_: object) -> None:
            asked[model.name] += 1

        events = aws.dynamodb().meta.events
        events.register("before-call.dynamodb", count)
        try:
            assert service.record_replies(*bodies) == []
        finally:
            events.unregister("before-call.dynamodb", count)
        return asked

    @pytest.fixture
    def in_use(self, north: Service) -> Service:
        """The line has consent on record; before the first, it is marked once and for good."""
        assert north.record_replies(reply("STOP", "message-0", number="+15035550199")) == []
        return north

    @pytest.mark.parametrize("text", ["STOP", "START"])
    def test_a_hundred_replies_make_one_read_and_one_transaction_each(self, in_use: Service, text: str) -> None:
        batch = [reply(text, f"message-{n}", number=f"+150355512{n:02}") for n in range(100)]
        assert self.calls(in_use, *batch) == {"BatchGetItem": 1, "TransactWriteItems": 100}

    def test_a_reply_of_a_number_that_has_said_something_before_makes_no_more(self, in_use: Service) -> None:
        for n, text in enumerate(("STOP", "STOP", "START", "YES", "STOP")):
            said = reply(text, f"message-{n}", at=f"2026-11-24T18:00:0{n}.000Z")
            assert self.calls(in_use, said) == {"BatchGetItem": 1, "TransactWriteItems": 1}

    def test_the_same_reply_again_makes_no_more(self, in_use: Service) -> None:
        assert self.calls(in_use, reply()) == {"BatchGetItem": 1, "TransactWriteItems": 1}
        assert self.calls(in_use, reply()) == {"BatchGetItem": 1, "TransactWriteItems": 1}

    def test_what_asks_for_nothing_makes_the_one_read(self, in_use: Service) -> None:
        assert self.calls(in_use, reply("ok"), reply("", "message-2"), reply("HELP", "message-3")) == {
            "BatchGetItem": 1
        }
