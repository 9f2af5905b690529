"""The life of a message: each step with what it expects and writes, what receipts say, and how it is told."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact import life
from patient_contact.life import DELIVERIES, FINAL, Step

# However slow the machine.
unhurried = settings(deadline=None, database=None)

DECIDED = "2026-11-25T11:59:00.000000Z"
CLAIMED = "2026-11-25T12:00:00.000000Z"
NOW = "2026-11-25T12:00:01.000000Z"
CELL = "+15035550101"
OF_A_SEND = ("lease_until", "GSI1PK", "GSI1SK")
INDEX = {"GSI1PK": "DUE#UNKNOWN", "GSI1SK": "north#now#a-1"}
STATES = ("suppressed", "handed_over", "routed", "sending", "sent", "failed", "unknown", "withdrawn")

# As it was decided, and nobody has claimed it.
ROUTED: dict[str, Any] = {
    "at": DECIDED,
    "state": "routed",
    "sender": "service",
    "channel": "text",
    "destination": CELL,
}
SENDING: dict[str, Any] = {
    **ROUTED,
    "state": "sending",
    "attempt": "a-1",
    "claimed_at": CLAIMED,
    "lease_until": "2026-11-25T12:01:00.000000Z",
}
# The entry of the send under way, kept when it ends.
UNDER_WAY = {"state": "sending", "at": CLAIMED, "attempt": "a-1", "channel": "text", "destination": CELL}
UNKNOWN: dict[str, Any] = {
    **{name: value for name, value in SENDING.items() if name != "lease_until"},
    **INDEX,
    "state": "unknown",
    "code": "ReadTimeoutError",
    "life": [UNDER_WAY, {"state": "unknown", "at": CLAIMED, "code": "ReadTimeoutError"}],
}
# It was refused for now, and nobody has claimed it again.
RELEASED: dict[str, Any] = {
    **ROUTED,
    "attempt": "a-1",
    "claimed_at": CLAIMED,
    "refused": {"ThrottlingException": {"times": 1, "at": CLAIMED, "attempt": "a-1"}},
}


def after(item: dict[str, Any], step: Step) -> dict[str, Any]:
    """Take a step, as the table takes it."""
    assert {name: item.get(name) for name in step.expected} == step.expected
    left = {name: value for name, value in item.items() if name not in step.remove}
    lived = [*item.get("life", []), *step.entries]
    return {**left, **step.set, **({"life": lived} if lived else {})}


class TestSteps:
    """Each holds for the state and the attempt that it was taken on, and says what it writes."""

    @pytest.mark.parametrize("before", [None, "a-1"])
    def test_a_claim_is_of_what_is_routed_and_was_not_tried_since_it_was_read(self, before: str | None) -> None:
        changed = {"state": "sending", "attempt": "a-2", "claimed_at": NOW, "lease_until": "later"}
        item = ROUTED if before is None else {**ROUTED, "attempt": before}
        assert life.sending(item, "a-2", NOW, "later") == Step(changed, {"state": "routed", "attempt": before})

    @pytest.mark.parametrize(
        ("item", "entries"),
        [
            (SENDING, [UNDER_WAY, {"state": "sent", "at": NOW, "provider_message_id": "provider-1"}]),
            (UNKNOWN, [{"state": "sent", "at": NOW, "provider_message_id": "provider-1"}]),
        ],
        ids=["sending", "unknown"],
    )
    def test_what_a_provider_has_accepted_is_sent(self, item: dict[str, Any], entries: list[dict[str, Any]]) -> None:
        assert life.sent(item, NOW, "provider-1") == Step(
            {"state": "sent", "provider_message_id": "provider-1"},
            {"state": item["state"], "attempt": "a-1"},
            entries,
            OF_A_SEND,
        )

    def test_who_says_that_it_was_sent_may_not_know_the_providers_id(self) -> None:
        assert life.sent(UNKNOWN, NOW, None, by="staff-7", note="Pat has it") == Step(
            {"state": "sent"},
            {"state": "unknown", "attempt": "a-1"},
            [{"state": "sent", "at": NOW, "by": "staff-7", "note": "Pat has it"}],
            OF_A_SEND,
        )

    def test_what_is_refused_for_good_has_failed(self) -> None:
        assert life.failed(SENDING, NOW, "MessageRejected") == Step(
            {"state": "failed", "code": "MessageRejected"},
            {"state": "sending", "attempt": "a-1"},
            [UNDER_WAY, {"state": "failed", "at": NOW, "code": "MessageRejected"}],
            OF_A_SEND,
        )

    @pytest.mark.parametrize("index", [INDEX, {}], ids=["listed", "not listed"])
    def test_what_is_not_known_is_listed_and_has_no_lease_any_more(self, index: dict[str, str]) -> None:
        assert life.unknown(SENDING, NOW, "ReadTimeoutError", index) == Step(
            {"state": "unknown", "code": "ReadTimeoutError", **index},
            {"state": "sending", "attempt": "a-1"},
            [UNDER_WAY, {"state": "unknown", "at": NOW, "code": "ReadTimeoutError"}],
            ("lease_until",),
        )

    def test_what_no_provider_was_asked_for_is_released_without_a_trace(self) -> None:
        expected = {"state": "sending", "attempt": "a-1"}
        assert life.released(SENDING, NOW, None) == Step({"state": "routed"}, expected, (), ("lease_until",))

    @pytest.mark.parametrize(
        ("refused", "expected"),
        [
            (None, {"Throttling": {"times": 1, "at": NOW, "attempt": "a-1"}}),
            (
                {"Throttling": {"times": 4, "at": CLAIMED, "attempt": "a-0"}},
                {"Throttling": {"times": 5, "at": NOW, "attempt": "a-1"}},
            ),
            (
                {"ConnectTimeoutError": {"times": 2, "at": CLAIMED, "attempt": "a-0"}},
                {
                    "ConnectTimeoutError": {"times": 2, "at": CLAIMED, "attempt": "a-0"},
                    "Throttling": {"times": 1, "at": NOW, "attempt": "a-1"},
                },
            ),
        ],
        ids=["first", "again", "of another kind"],
    )
    def test_what_is_refused_for_now_is_released_and_counted_by_its_code(
        self, refused: dict[str, Any] | None, expected: dict[str, Any]
    ) -> None:
        item = SENDING if refused is None else {**SENDING, "refused": refused}
        assert life.released(item, NOW, "Throttling") == Step(
            {"state": "routed", "refused": expected},
            {"state": "sending", "attempt": "a-1"},
            (),
            ("lease_until",),
        )

    @pytest.mark.parametrize(
        ("item", "attempt"), [(ROUTED, None), (RELEASED, "a-1")], ids=["never claimed", "released"]
    )
    def test_what_will_not_be_sent_is_withdrawn_while_nobody_claims_it(
        self, item: dict[str, Any], attempt: str | None
    ) -> None:
        assert life.withdrawn(item, NOW, "EXPIRED") == Step(
            {"state": "withdrawn", "withdrawn": "EXPIRED"},
            {"state": "routed", "attempt": attempt},
            [{"state": "withdrawn", "at": NOW, "reason": "EXPIRED"}],
            OF_A_SEND,
        )

    def test_a_withdrawal_may_say_more_of_why(self) -> None:
        step = life.withdrawn(RELEASED, NOW, "ALREADY_SENT", provider_message_id="provider-1", by="receipt")
        told = {"reason": "ALREADY_SENT", "provider_message_id": "provider-1", "by": "receipt"}
        assert step.entries == [{"state": "withdrawn", "at": NOW, **told}]

    @pytest.mark.parametrize("note", [None, "Pat has it"])
    def test_staff_resolve_what_is_unknown_as_sent(self, note: str | None) -> None:
        about = {"by": "staff-7"} if note is None else {"by": "staff-7", "note": note}
        assert life.resolved(UNKNOWN, NOW, "sent", "staff-7", note) == Step(
            {"state": "sent"},
            {"state": "unknown", "attempt": "a-1"},
            [{"state": "sent", "at": NOW, **about}],
            OF_A_SEND,
        )

    @pytest.mark.parametrize("note", [None, "Pat has nothing"])
    def test_staff_resolve_what_is_unknown_as_not_sent_and_it_is_to_be_sent_again(self, note: str | None) -> None:
        about = {"by": "staff-7"} if note is None else {"by": "staff-7", "note": note}
        assert life.resolved(UNKNOWN, NOW, "not_sent", "staff-7", note) == Step(
            {"state": "routed"},
            {"state": "unknown", "attempt": "a-1"},
            [{"state": "routed", "at": NOW, **about}],
            ("GSI1PK", "GSI1SK"),
        )


class TestAccepted:
    """What follows from hearing that a provider has accepted an attempt."""

    @pytest.mark.parametrize("state", STATES)
    def test_one_of_another_attempt_says_nothing(self, state: str) -> None:
        item = {**SENDING, "state": state}
        assert life.accepted(item, "a-2", NOW, "provider-1", "receipt") is None
        assert life.accepted(item, "", NOW, "provider-1", "receipt") is None

    @pytest.mark.parametrize("state", STATES)
    def test_one_of_a_message_that_nobody_has_claimed_says_nothing(self, state: str) -> None:
        assert life.accepted({**ROUTED, "state": state}, "a-1", NOW, "provider-1", "receipt") is None

    @pytest.mark.parametrize("by", ["receipt", "provider"])
    @pytest.mark.parametrize("item", [SENDING, UNKNOWN], ids=["sending", "unknown"])
    def test_what_is_under_way_or_unknown_is_sent(self, item: dict[str, Any], by: str) -> None:
        expected = life.sent(item, NOW, "provider-1", by=by)
        assert life.accepted(item, "a-1", NOW, "provider-1", by) == expected
        assert expected.entries[-1] == {"state": "sent", "at": NOW, "provider_message_id": "provider-1", "by": by}

    def test_what_waits_to_be_sent_again_is_withdrawn(self) -> None:
        step = life.accepted(RELEASED, "a-1", NOW, "provider-1", "receipt")
        assert step == life.withdrawn(RELEASED, NOW, "ALREADY_SENT", provider_message_id="provider-1", by="receipt")

    @pytest.mark.parametrize("state", sorted(FINAL))
    def test_what_has_ended_stays_as_it_is(self, state: str) -> None:
        assert life.accepted({**SENDING, "state": state}, "a-1", NOW, "provider-1", "receipt") is None


ORDER: list[str] = list(DELIVERIES)
EVERY_CODE = [(delivery, code) for delivery, codes in DELIVERIES.items() for code in codes]


class TestDelivered:
    @pytest.mark.parametrize(("delivery", "code"), EVERY_CODE)
    def test_the_first_receipt_says_how_far_it_has_come(self, delivery: str, code: str) -> None:
        assert life.delivered(SENDING, "a-1", code, NOW) == {"status": delivery, "code": code, "at": NOW}

    def test_no_event_type_says_two_things(self) -> None:
        codes = [code for _, code in EVERY_CODE]
        assert len(set(codes)) == len(codes)

    @pytest.mark.parametrize("code", ["TEXT_NEW", "", "DELIVERED", "text_delivered"])
    def test_an_event_type_that_is_not_known_says_nothing(self, code: str) -> None:
        assert life.delivered(SENDING, "a-1", code, NOW) is None

    @pytest.mark.parametrize("attempt", ["a-2", ""])
    def test_one_of_another_attempt_says_nothing(self, attempt: str) -> None:
        assert life.delivered(SENDING, attempt, "TEXT_DELIVERED", NOW) is None
        assert life.delivered(ROUTED, attempt, "TEXT_DELIVERED", NOW) is None

    @pytest.mark.parametrize("known", ORDER)
    @pytest.mark.parametrize(("delivery", "code"), EVERY_CODE)
    def test_it_only_moves_up(self, known: str, delivery: str, code: str) -> None:
        item = {**SENDING, "delivery": {"status": known, "code": "earlier", "at": CLAIMED}}
        moves = ORDER.index(delivery) > ORDER.index(known)
        expected = {"status": delivery, "code": code, "at": NOW} if moves else None
        assert life.delivered(item, "a-1", code, NOW) == expected

    @unhurried
    @given(st.lists(st.sampled_from([code for _, code in EVERY_CODE] + ["TEXT_NEW"])))
    def test_any_order_of_receipts_ends_at_the_highest(self, codes: list[str]) -> None:
        item = dict(SENDING)
        for code in codes:
            if (delivery := life.delivered(item, "a-1", code, NOW)) is not None:
                item["delivery"] = delivery
        of = {code: ORDER.index(delivery) for delivery, code in EVERY_CODE}
        ranks = [of[code] for code in codes if code in of]
        assert item.get("delivery", {}).get("status") == (ORDER[max(ranks)] if ranks else None)

    def test_in_every_order_four_receipts_end_at_delivered(self) -> None:
        for order in permutations(["TEXT_PENDING", "TEXT_SENT", "TEXT_UNREACHABLE", "TEXT_DELIVERED"]):
            item = dict(SENDING)
            for code in order:
                if (delivery := life.delivered(item, "a-1", code, NOW)) is not None:
                    item["delivery"] = delivery
            assert item["delivery"]["code"] == "TEXT_DELIVERED"


ELSEWHERE = {**UNDER_WAY, "attempt": "a-0", "destination": "+15035550199"}


class TestDestination:
    @pytest.mark.parametrize(
        ("item", "attempt", "expected"),
        [
            (SENDING, "a-1", CELL),
            (UNKNOWN, "a-1", CELL),
            ({**SENDING, "life": [ELSEWHERE]}, "a-1", CELL),
            ({**SENDING, "life": [ELSEWHERE]}, "a-0", "+15035550199"),
            ({**SENDING, "life": [{"state": "failed", "at": NOW, "attempt": "a-0"}]}, "a-0", None),
            (SENDING, "a-2", None),
            (ROUTED, "a-1", None),
        ],
    )
    def test_an_attempt_went_where_it_says(self, item: dict[str, Any], attempt: str, expected: str | None) -> None:
        assert life.destination_of(item, attempt) == expected


class TestTold:
    """The whole life, for an answer: without numbers, each state with its time, the oldest first."""

    @pytest.mark.parametrize(
        ("item", "first"),
        [
            (ROUTED, "routed"),
            ({**ROUTED, "state": "suppressed"}, "suppressed"),
            ({**ROUTED, "state": "handed_over", "sender": "practice"}, "handed_over"),
            # Decided before it was said who sends.
            ({"at": DECIDED, "state": "suppressed"}, "suppressed"),
        ],
    )
    def test_it_begins_when_it_was_decided(self, item: dict[str, Any], first: str) -> None:
        assert life.told(item) == [{"state": first, "at": DECIDED}]

    def test_what_is_under_way_is_told_last_and_without_its_number(self) -> None:
        assert life.told(SENDING) == [
            {"state": "routed", "at": DECIDED},
            {"state": "sending", "at": CLAIMED, "attempt": "a-1", "channel": "text"},
        ]

    def test_what_has_ended_is_told_without_its_number(self) -> None:
        assert life.told(after(SENDING, life.sent(SENDING, NOW, "provider-1"))) == [
            {"state": "routed", "at": DECIDED},
            {"state": "sending", "at": CLAIMED, "attempt": "a-1", "channel": "text"},
            {"state": "sent", "at": NOW, "provider_message_id": "provider-1"},
        ]

    def test_refusals_of_one_kind_are_one_entry_at_the_time_of_the_last(self) -> None:
        item = SENDING
        for second in range(1, 4):
            now = f"2026-11-25T12:00:0{second}.000000Z"
            item = after(item, life.released(item, now, "Throttling"))
            item = after(item, life.sending(item, f"a-{second + 1}", now, "later"))
        assert life.told(item) == [
            {"state": "routed", "at": DECIDED},
            {
                "state": "routed",
                "at": "2026-11-25T12:00:03.000000Z",
                "code": "Throttling",
                "attempt": "a-3",
                "times": 3,
            },
            {"state": "sending", "at": "2026-11-25T12:00:03.000000Z", "attempt": "a-4", "channel": "text"},
        ]

    def test_a_life_is_told_in_the_order_in_which_it_happened(self) -> None:
        def at(minute: int) -> str:
            return f"2026-11-25T12:{minute:02}:00.000000Z"

        item = after(ROUTED, life.sending(ROUTED, "a-1", at(1), at(2)))
        item = after(item, life.released(item, at(1), "Throttling"))
        item = after(item, life.sending(item, "a-2", at(4), at(5)))
        item = after(item, life.unknown(item, at(5), "ReadTimeoutError", INDEX))
        item = after(item, life.resolved(item, at(6), "not_sent", "staff-7", None))
        item = after(item, life.sending(item, "a-3", at(7), at(8)))
        item = after(item, life.failed(item, at(8), "MessageRejected"))
        assert [(each["state"], each["at"]) for each in life.told(item)] == [
            ("routed", DECIDED),
            ("routed", at(1)),
            ("sending", at(4)),
            ("unknown", at(5)),
            ("routed", at(6)),
            ("sending", at(7)),
            ("failed", at(8)),
        ]
        assert not set(OF_A_SEND) & item.keys()

    def test_to_tell_it_changes_nothing(self) -> None:
        item = {**UNKNOWN, "state": "sending", "life": [dict(UNDER_WAY)]}
        assert life.told(item) == life.told(item)
        assert item["life"] == [UNDER_WAY]
