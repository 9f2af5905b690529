"""Replies, staff, imports and receipts, in any order and repeated, against the real functions and a small model.

SEQUENCES says how many are tried in all (`make soak`: 2,000), SEED which (each run its own, and says so).
"""

import os
import random
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.integration.service import CELL, CSV_HEADER, PRACTICE, Service, receipt, reply, throttled

SEQUENCES = int(os.environ.get("SEQUENCES", "80"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
# Parts run at the same time.
PARTS = 4

NUMBERS = (CELL, "+15035550102")
LINES = {"main": "+15035559000", "billing": "+15035559001"}
# Keywords that the line `billing` leaves to staff.
LEFT = ("CANCEL", "YES")
CLINIC: dict[str, Any] = {**PRACTICE}
CLINIC["lines"] = [line | ({"review_words": list(LEFT)} if line["id"] == "billing" else {}) for line in CLINIC["lines"]]
FILE = {"phones": [{"number": number, "line_type": "text_enabled"} for number in NUMBERS], "emails": []}

# Mostly one place, and few times, so that much meets and ties there.
numbers = st.sampled_from([CELL, CELL, CELL, NUMBERS[1]])
lines = st.sampled_from(["main", "main", "billing"])
# Minutes from the beginning of the run, around what staff do, which is said now.
minutes = st.sampled_from([-60, -30, 30])
past = st.sampled_from([None, None, -60, -45, -30])
keywords = st.sampled_from(["STOP", "stop.", "Opt-Out", "CANCEL", "START", "YES", "unstop!"])
own_words = st.sampled_from(["please stop texting me", "Stop. Thank you", "no more messages", "wrong number"])
ignored = st.sampled_from(["", "see you", "HELP", "👍", "x" * 1_600])
OUT = {"STOP", "stop.", "Opt-Out", "CANCEL"}

Place = tuple[str, str]


class Model:
    """What should be in force of texts from one line to one number."""

    def __init__(self) -> None:
        # What was said: when, whether it was an opt-out (on a tie, that wins), whether by the patient's own keyword.
        self.said: list[tuple[float, bool, bool]] = []
        # What waits to be read, by id: when it was said, and whether it may be an opt-out.
        self.waiting: dict[str, tuple[float, bool]] = {}

    def status(self) -> str:
        last, own = max(self.said, default=None), self.own()
        if (last and last[1]) or (own and own[1]):
            return "opted_out"
        return "under_review" if any(may_opt_out for _, may_opt_out in self.unread().values()) else "opted_in"

    def own(self) -> tuple[float, bool, bool] | None:
        return max((said for said in self.said if said[2]), default=None)

    def unread(self) -> dict[str, tuple[float, bool]]:
        own = self.own()
        after = (own[0] + own[1] * 1e-9) if own else float("-inf")
        return {id_: message for id_, message in self.waiting.items() if message[0] >= after}


class Consent(RuleBasedStateMachine):
    """All that can be said of two numbers and two lines."""

    service: ClassVar[Service]
    empty: ClassVar[Any]

    @initialize()
    def begin(self) -> None:
        self.service.restore(self.empty)
        # To the millisecond, as replies have it: at a finer time, staff would say later what they say at the same.
        self.began = datetime.now(UTC)
        self.began = self.began.replace(microsecond=self.began.microsecond // 1_000 * 1_000)
        self.models: dict[Place, Model] = {(number, line): Model() for number in NUMBERS for line in LINES}
        self.sent: list[tuple[Place, str, float, str]] = []
        self.recorded: set[str] = set()
        self.now = 0.0

    # What patients say.

    @rule(number=numbers, line=lines, minute=minutes, text=keywords | own_words | ignored)
    def patient_writes(self, number: str, line: str, minute: int, text: str) -> None:
        self.sent.append(((number, line), text, float(minute), f"message-{len(self.sent)}"))
        self.deliver(self.sent[-1])

    @rule(data=st.data())
    @precondition(lambda self: self.sent)
    def a_batch_comes_again_in_another_order(self, data: st.DataObject) -> None:
        self.deliver(*data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=4)))

    @rule(data=st.data(), minute=minutes)
    @precondition(lambda self: self.sent)
    def a_message_is_published_again_at_another_time(self, data: st.DataObject, minute: int) -> None:
        place, text, _, id_ = data.draw(st.sampled_from(self.sent))
        self.deliver((place, text, float(minute), id_))

    @rule(number=numbers, line=lines, minute=minutes, text=keywords | own_words)
    def the_table_is_busy_and_the_message_comes_again(self, number: str, line: str, minute: int, text: str) -> None:
        sent = ((number, line), text, float(minute), f"message-{len(self.sent)}")
        if self.meaning(sent) is None:
            return
        self.sent.append(sent)
        with throttled("TransactWriteItems"):
            assert self.service.record_replies(self.body(sent)) == [0]
        self.deliver(sent)

    def deliver(self, *sent: tuple[Place, str, float, str]) -> None:
        """Hand messages to the function, and tell the model of each, in the order in which they were said."""
        assert self.service.record_replies(*map(self.body, sent)) == []
        for each in sorted(sent, key=lambda message: message[2]):
            place, _, at, id_ = each
            meaning = self.meaning(each)
            key = f"{place}{id_}"
            if meaning is None or key in self.recorded:
                continue
            self.recorded.add(key)
            if meaning in ("out", "in"):
                self.models[place].said.append((at, meaning == "out", True))
            else:
                self.models[place].waiting[id_] = (at, meaning == "may be out")

    def meaning(self, sent: tuple[Place, str, float, str]) -> str | None:
        """What a message asks for; None for nothing."""
        (number, line), text, _, _ = sent
        if line == "billing" and text == "CANCEL":
            return "may be out"
        if line == "billing" and text == "YES":
            return "may be in" if self.models[number, line].status() == "opted_out" else None
        if text in OUT:
            return "out"
        if text in ("START", "YES", "unstop!"):
            return "in"
        return None if text in ("", "see you", "HELP", "👍", "x" * 1_600) else "may be out"

    def body(self, sent: tuple[Place, str, float, str]) -> dict[str, Any]:
        (number, line), text, minute, id_ = sent
        at = (self.began + timedelta(minutes=minute)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return reply(text, id_, at=at, number=number, line=LINES[line])

    # What staff do, which is said now, or when they say that it was; and then the same again is the same.

    @rule(number=numbers, line=lines, minute=past)
    def staff_opt_out(self, number: str, line: str, minute: int | None) -> None:
        body = {"phone_number": number, "line": line, "status": "opted_out"} | self.said_at(minute)
        assert self.service.put("north/patients/p-1/sms-consent", body).status == 200
        self.models[number, line].said.append((self.tick() if minute is None else float(minute), True, False))

    @rule(number=numbers, line=lines, evidence=st.sampled_from([None, "signed_form", "portal"]), minute=past)
    def staff_opt_in(self, number: str, line: str, evidence: str | None, minute: int | None) -> None:
        model = self.models[number, line]
        body = {"phone_number": number, "line": line, "status": "opted_in"} | (
            {"evidence": evidence} if evidence else {}
        )
        status = self.service.put("north/patients/p-1/sms-consent", body | self.said_at(minute)).status
        own, key = model.own(), f"{number} {line} {evidence} {minute}"
        if key in self.recorded:
            assert status == 200
        elif evidence is None or (own and own[1]):
            assert status == 422
        elif any(may_opt_out for _, may_opt_out in model.unread().values()):
            assert status == 409
        else:
            assert status == 200
            model.said.append((self.tick() if minute is None else float(minute), False, False))
            if minute is not None:
                self.recorded.add(key)

    def said_at(self, minute: int | None) -> dict[str, str]:
        return {} if minute is None else {"said_at": (self.began + timedelta(minutes=minute)).isoformat()}

    @rule(data=st.data(), outcome=st.sampled_from(["opted_out", "not_a_request"]))
    @precondition(lambda self: any(model.unread() for model in self.models.values()))
    def staff_close_a_review(self, data: st.DataObject, outcome: str) -> None:
        waiting = [(place, id_) for place, model in self.models.items() for id_ in model.unread()]
        place, id_ = data.draw(st.sampled_from(waiting))
        (review_id,) = (
            each["review_id"]
            for each in self.listed()
            if each["review_id"].endswith(f"~{id_}") and (each["phone_number"], each["line"]) == place
        )
        answer = self.service.post(f"north/consent-reviews/{review_id}", {"outcome": outcome})
        assert answer.status == 200
        at, _ = self.models[place].waiting.pop(id_)
        if outcome == "opted_out":
            last = max(self.models[place].said, default=(at, True, False))
            # Staff know of both: what they decide now is newer than what they recorded.
            overrules = last[0] > at and not last[1] and not last[2]
            self.models[place].said.append((self.tick() if overrules else at, True, False))
        assert answer.body["sms_consent"] == self.models[place].status()

    def tick(self) -> float:
        self.now += 1e-6
        return self.now

    # What other systems say.

    @rule(
        rows=st.lists(
            st.tuples(
                numbers, lines, st.sampled_from(["opted_out", "opted_in"]), minutes, st.sampled_from(["keyword", "old"])
            ),
            min_size=1,
            max_size=4,
        ),
        dry_run=st.booleans(),
    )
    def a_file_is_imported(self, rows: list[tuple[str, str, str, int, str]], dry_run: bool) -> None:
        # Never from the future.
        past = [(number, line, status, -abs(minute), source) for number, line, status, minute, source in rows]
        text = "\n".join(
            f"{number},{line},{status},{(self.began + timedelta(minutes=minute)).isoformat()},{source}"
            for number, line, status, minute, source in past
        )
        answer = self.service.import_csv(f"{CSV_HEADER}\n{text}", dry_run=dry_run)
        assert answer.status == 200
        assert answer.body["refused"] == []
        if dry_run:
            return
        for number, line, status, minute, source in past:
            if status == "opted_out":
                said = (float(minute), True, source == "keyword")
                if said not in self.models[number, line].said:
                    self.models[number, line].said.append(said)

    @rule(
        number=numbers, event_type=st.sampled_from(["TEXT_INVALID", "TEXT_UNREACHABLE", "TEXT_DELIVERED", "TEXT_SENT"])
    )
    def a_receipt_comes(self, number: str, event_type: str) -> None:
        assert self.service.record_receipts(receipt(event_type, destinationPhoneNumber=number)) == []

    # What must hold.

    @invariant()
    def the_next_evaluation_sees_what_the_model_says(self) -> None:
        consents = self.consents()
        assert consents == {place: model.status() for place, model in self.models.items()}
        for place, model in self.models.items():
            own = model.own()
            assert consents[place] == "opted_out" or not (own and own[1])

    def teardown(self) -> None:
        """In the end, what staff see says the same."""
        if not hasattr(self, "models"):
            return
        shown = self.service.get("north/patients/p-1").body["sms_consent"]["numbers"]
        found = {(each["phone_number"], each["line"]): each["status"] for each in shown}
        statuses = {place: model.status() for place, model in self.models.items()}
        assert {place: found.get(place, "opted_in") for place in self.models} == statuses
        unread = {(*place, id_) for place, model in self.models.items() for id_ in model.unread()}
        listed = [(each["phone_number"], each["line"], each["review_id"].partition("~")[2]) for each in self.listed()]
        assert (set(listed), len(listed)) == (unread, len(unread))
        report = self.service.get("north/reports/opt-outs").body["items"]
        reported = [(each["phone_number"], each["line"]) for each in report]
        out = {place for place, status in statuses.items() if status == "opted_out"}
        assert (set(reported), len(reported)) == (out, len(out))

    def consents(self) -> Mapping[Place, str]:
        """What an evaluation sees, and so the next text."""
        messages = [
            {"class": "manual", "channels": ["text"], "line": line, "phone_number": number}
            for number, line in self.models
        ]
        answer = self.service.post("north/routing/evaluate", {"patient_id": "p-1", "messages": messages})
        facts = answer.body["decisions"][0]["facts"]["sms_consent"]
        found = {(each["phone_number"], each["line"]): each["status"] for each in facts}
        for place, decision in zip(self.models, answer.body["decisions"], strict=True):
            # An invalid number is not texted either; what consent says must then be looked for in the facts.
            assert decision["outcome"] == "suppress" or found.get(place, "opted_in") == "opted_in"
        return {place: found.get(place, "opted_in") for place in self.models}

    def listed(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.service.get("north/consent-reviews?limit=100").body["items"]
        return items


@pytest.fixture(scope="module")
def clinic(once_deployed: Service) -> Service:
    assert once_deployed.put("north", CLINIC).status == 200
    assert once_deployed.put("north/patients/p-1/contact-info", FILE).status == 200
    return once_deployed


@pytest.mark.parametrize("part", range(PARTS))
def test_no_sequence_leaves_a_number_opted_in_whose_owner_last_said_stop(clinic: Service, part: int) -> None:
    Consent.service = clinic
    Consent.empty = clinic.snapshot()
    try:
        # Kept from what pytest captures: a run that passes says which it was, too.
        sys.__stderr__ and sys.__stderr__.write(f"SEED={SEED} part {part}\n")
        run_state_machine_as_test(
            seed(SEED * PARTS + part)(Consent),
            settings=settings(
                max_examples=-(-SEQUENCES // PARTS),
                stateful_step_count=12,
                deadline=None,
                database=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        clinic.restore(Consent.empty)
        clinic.new_stream_records()
