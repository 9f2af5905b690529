"""What carriers say of a number: line types by lookup, validity by lookup, receipts and registration."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact.facts import LineType
from patient_contact.verdict import LINE_TYPES, NOTHING_KNOWN, Evidence, NumberType, Verdict

# However slow the machine.
unhurried = settings(deadline=None, database=None)

BEGIN = datetime(2026, 11, 20, 17, 2, 11, tzinfo=UTC)
FAILURES = ("TEXT_UNREACHABLE", "TEXT_CARRIER_UNREACHABLE")
SUCCESSES = ("TEXT_DELIVERED", "TEXT_SUCCESSFUL")
# What a receipt may say besides, and nothing of the number follows from.
OTHERS = (
    "TEXT_INVALID_MESSAGE",
    "TEXT_PENDING",
    "TEXT_QUEUED",
    "TEXT_SENT",
    "TEXT_BLOCKED",
    "TEXT_CARRIER_BLOCKED",
    "TEXT_SPAM",
    "TEXT_TTL_EXPIRED",
    "TEXT_PROTECT_BLOCKED",
    "TEXT_UNKNOWN",
    "VOICE_ANSWERED",
    "VOICE_INVALID",
    "SOMETHING_NEW",
)


def iso(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def on(day: float) -> str:
    """The time so many days after the beginning."""
    return iso(BEGIN + timedelta(days=day))


def receipt(code: str, day: float, message: str | None = None) -> Evidence:
    return Evidence("receipt", code, on(day), message or f"message-{code}-{day}")


def failed(day: float, message: str | None = None) -> Evidence:
    return receipt("TEXT_UNREACHABLE", day, message)


def delivered(day: float) -> Evidence:
    return receipt("TEXT_DELIVERED", day)


def invalid(day: float) -> Evidence:
    return receipt("TEXT_INVALID", day)


def after(*receipts: Evidence, of: Verdict = NOTHING_KNOWN) -> Verdict:
    """The verdict after these receipts, one after the other."""
    return reduce(Verdict.after_receipt, receipts, of)


def shown(verdict: Verdict) -> str:
    return "suspect" if verdict.suspect else verdict.status


def test_nothing_is_known_of_a_number_that_is_valid_and_of_unknown_line() -> None:
    assert (NOTHING_KNOWN.status, NOTHING_KNOWN.suspect, NOTHING_KNOWN.line_type) == ("valid", False, "unknown")
    assert NOTHING_KNOWN.evidence is None


class TestLookup:
    @pytest.mark.parametrize(
        ("number_type", "line_type"),
        [
            ("MOBILE", "text_enabled"),
            ("PREPAID", "text_enabled"),
            ("VOIP", "text_enabled"),
            ("LANDLINE", "landline"),
            ("OTHER", "unknown"),
            ("SOMETHING_NEW", "unknown"),
        ],
    )
    def test_it_says_what_line_a_valid_number_is_and_is_kept_with_its_time(
        self, number_type: str, line_type: LineType
    ) -> None:
        assert NOTHING_KNOWN.after_lookup(number_type, on(0)) == Verdict(
            line_type=line_type, looked_up_at=on(0), number_type=number_type, vouched_at=on(0)
        )

    def test_every_type_but_invalid_is_a_line(self) -> None:
        assert set(LINE_TYPES) | {"INVALID"} == set(get_args(NumberType))

    def test_invalid_marks_the_number_with_its_evidence_and_says_nothing_of_the_line(self) -> None:
        landline = NOTHING_KNOWN.after_lookup("LANDLINE", on(0))
        assert landline.after_lookup("INVALID", on(91)) == replace(
            landline,
            status="invalid",
            looked_up_at=on(91),
            number_type="INVALID",
            evidence=Evidence("lookup", "INVALID", on(91)),
        )

    def test_invalid_once_more_keeps_the_first_evidence(self) -> None:
        first = NOTHING_KNOWN.after_lookup("INVALID", on(0))
        assert first.after_lookup("INVALID", on(1)) == replace(first, looked_up_at=on(1))

    def test_a_lookup_replaces_the_line_of_one_before(self) -> None:
        ported = NOTHING_KNOWN.after_lookup("LANDLINE", on(0)).after_lookup("MOBILE", on(100))
        assert (ported.line_type, ported.looked_up_at) == ("text_enabled", on(100))

    @pytest.mark.parametrize("number_type", ["MOBILE", "PREPAID", "VOIP", "LANDLINE", "OTHER"])
    @pytest.mark.parametrize(
        "before",
        [
            NOTHING_KNOWN.after_lookup("INVALID", on(0)),
            after(invalid(0)),
            after(failed(0), failed(1), failed(2)),
        ],
        ids=["by a lookup", "by a receipt", "by three failures"],
    )
    def test_a_number_marked_invalid_is_valid_again_when_a_lookup_says_so(
        self, before: Verdict, number_type: str
    ) -> None:
        assert before.status == "invalid"
        found = before.after_lookup(number_type, on(3))
        assert (shown(found), found.evidence) == ("valid", Evidence("lookup", number_type, on(3)))

    def test_a_suspect_number_stays_suspect_when_a_lookup_says_what_it_is(self) -> None:
        """A line may exist and not be reached; only a message that arrives says that it is."""
        found = after(failed(0)).after_lookup("MOBILE", on(1))
        assert (shown(found), found.line_type, found.evidence) == ("suspect", "text_enabled", failed(0))
        assert after(failed(2), failed(3), of=found).status == "invalid"


class TestNeedsLookup:
    @pytest.mark.parametrize(
        ("later", "needed"),
        [
            (timedelta(), False),
            (timedelta(days=90) - timedelta(microseconds=1), False),
            (timedelta(days=90), False),
            (timedelta(days=90) + timedelta(microseconds=1), True),
            (timedelta(days=400), True),
        ],
    )
    @pytest.mark.parametrize("number_type", ["MOBILE", "PREPAID", "VOIP", "LANDLINE", "OTHER"])
    def test_a_result_is_reused_for_90_days(self, number_type: str, later: timedelta, needed: bool) -> None:
        assert NOTHING_KNOWN.after_lookup(number_type, iso(BEGIN)).needs_lookup(BEGIN + later) is needed

    def test_a_number_that_was_never_looked_up_needs_it(self) -> None:
        assert NOTHING_KNOWN.needs_lookup(BEGIN)
        assert after(failed(0)).needs_lookup(BEGIN)

    def test_invalid_is_no_result_to_reuse_for_a_number_that_is_sent_anew(self) -> None:
        assert NOTHING_KNOWN.after_lookup("INVALID", iso(BEGIN)).needs_lookup(BEGIN)
        assert NOTHING_KNOWN.after_lookup("INVALID", on(0)).sent_anew(on(1)).needs_lookup(BEGIN + timedelta(days=1))


class TestInvalid:
    def test_text_invalid_marks_the_number_with_its_evidence(self) -> None:
        assert after(invalid(0)) == Verdict(status="invalid", evidence=invalid(0))

    def test_once_is_enough_also_of_a_number_that_was_reached(self) -> None:
        assert after(failed(0), delivered(1), invalid(2)).status == "invalid"

    def test_what_follows_changes_nothing(self) -> None:
        first = after(invalid(0))
        for more in (invalid(1), *(receipt(code, 2) for code in (*FAILURES, *SUCCESSES, *OTHERS))):
            assert first.after_receipt(more) == first

    def test_it_keeps_what_is_known_of_the_line(self) -> None:
        known = NOTHING_KNOWN.after_lookup("MOBILE", on(0))
        assert after(invalid(1), of=known) == replace(known, status="invalid", evidence=invalid(1))

    @pytest.mark.parametrize("code", OTHERS)
    def test_what_says_something_of_the_message_and_not_of_the_number_does_nothing(self, code: str) -> None:
        for before in (NOTHING_KNOWN, after(failed(0)), after(invalid(0)), NOTHING_KNOWN.after_lookup("VOIP", on(0))):
            assert before.after_receipt(receipt(code, 1)) == before


class TestUnreachable:
    @pytest.mark.parametrize("code", FAILURES)
    def test_the_first_makes_a_number_suspect_and_it_stays_valid(self, code: str) -> None:
        first = after(receipt(code, 0))
        assert (first.status, first.suspect, first.evidence) == ("valid", True, receipt(code, 0))

    def test_so_does_the_second(self) -> None:
        second = after(failed(0), failed(1))
        assert (shown(second), second.evidence) == ("suspect", failed(1))

    def test_the_third_makes_it_invalid_whichever_of_the_two_they_are(self) -> None:
        third = receipt("TEXT_CARRIER_UNREACHABLE", 2)
        verdict = after(failed(0), receipt("TEXT_CARRIER_UNREACHABLE", 1), third)
        assert (verdict.status, verdict.suspect, verdict.evidence) == ("invalid", False, third)

    @pytest.mark.parametrize(
        ("days", "expected"),
        [
            ((0, 15, 30), "invalid"),
            ((0, 0, 30), "invalid"),
            ((0, 30, 30), "invalid"),
            ((0, 15, 30 + 1e-6), "suspect"),
            ((0, 1, 31), "suspect"),
            ((0, 29, 31), "suspect"),
            ((0, 29, 31, 59), "invalid"),
            ((0, 29, 31, 59 + 1e-6), "suspect"),
            ((0, 20, 40, 60, 80, 100), "suspect"),
            ((0, 20, 40, 45), "invalid"),
            ((0, 400), "suspect"),
        ],
    )
    def test_three_count_within_30_days_and_not_within_more(self, days: tuple[float, ...], expected: str) -> None:
        receipts = [failed(day, f"message-{n}") for n, day in enumerate(days)]
        assert shown(after(*receipts)) == expected

    @pytest.mark.parametrize("days", [(0, 15, 30), (0, 1, 2), (5, 6, 31), (0, 29, 31), (0, 31, 62)])
    def test_three_are_the_same_in_whatever_order_they_come(self, days: tuple[int, ...]) -> None:
        receipts = [failed(day) for day in days]
        assert {shown(after(*order)) for order in permutations(receipts)} == {shown(after(*receipts))}

    @pytest.mark.parametrize("again", FAILURES)
    def test_one_message_counts_once_however_often_it_is_reported(self, again: str) -> None:
        receipts = [receipt(again, day, "one message") for day in (1, 1, 2, 3)]
        verdict = after(failed(0, "one message"), *receipts)
        assert (shown(verdict), verdict.unreachable) == ("suspect", (failed(0, "one message"),))
        assert shown(after(failed(4, "another"), *receipts, of=verdict)) == "suspect"
        assert shown(after(failed(4, "another"), failed(5, "a third"), of=verdict)) == "invalid"

    def test_a_repeat_changes_nothing(self) -> None:
        suspect = after(failed(0), failed(1))
        assert after(failed(0), failed(1), of=suspect) == suspect
        gone = after(failed(2), of=suspect)
        assert after(failed(0), failed(1), failed(2), of=gone) == gone

    def test_failures_before_it_was_marked_invalid_count_no_more_when_it_is_valid_again(self) -> None:
        again = after(failed(0), failed(1), failed(2)).sent_anew(on(3))
        assert shown(again) == "valid"
        assert shown(after(failed(4), failed(5), of=again)) == "suspect"
        assert shown(after(failed(4), failed(5), failed(6), of=again)) == "invalid"
        assert after(failed(0), failed(1), failed(2), failed(3), of=again) == again

    def test_one_that_comes_late_and_is_too_old_to_count_changes_nothing(self) -> None:
        suspect = after(failed(40))
        assert after(failed(1), of=suspect) == suspect


class TestDelivered:
    @pytest.mark.parametrize("code", SUCCESSES)
    def test_it_clears_suspect_and_is_the_evidence_for_it(self, code: str) -> None:
        verdict = after(failed(0), receipt(code, 1))
        assert (shown(verdict), verdict.evidence) == ("valid", receipt(code, 1))

    @pytest.mark.parametrize("code", SUCCESSES)
    def test_it_says_nothing_new_of_a_number_that_is_well(self, code: str) -> None:
        for before in (NOTHING_KNOWN, NOTHING_KNOWN.after_lookup("MOBILE", on(0)), after(failed(0), delivered(1))):
            assert before.after_receipt(receipt(code, 2)) == before

    @pytest.mark.parametrize("code", SUCCESSES)
    @pytest.mark.parametrize(
        "before",
        [after(invalid(0)), NOTHING_KNOWN.after_lookup("INVALID", on(0)), after(failed(-2), failed(-1), failed(0))],
        ids=["by a receipt", "by a lookup", "by three failures"],
    )
    @pytest.mark.parametrize("day", [-0.5, 0.5])
    def test_it_does_not_make_an_invalid_number_valid(self, before: Verdict, code: str, day: float) -> None:
        verdict = before.after_receipt(receipt(code, day))
        assert (verdict.status, verdict.evidence) == ("invalid", before.evidence)

    def test_the_count_begins_anew_after_it(self) -> None:
        verdict = after(failed(0), failed(1), delivered(2), failed(3), failed(4))
        assert shown(verdict) == "suspect"
        assert shown(after(failed(5), of=verdict)) == "invalid"

    def test_one_that_comes_late_leaves_what_failed_after_it(self) -> None:
        verdict = after(failed(0), failed(2), delivered(1))
        assert (shown(verdict), verdict.unreachable, verdict.evidence) == ("suspect", (failed(2),), failed(2))
        assert shown(after(failed(3), of=verdict)) == "suspect"
        assert shown(after(failed(3), failed(4), of=verdict)) == "invalid"

    def test_one_that_comes_late_and_before_all_that_failed_leaves_it_all(self) -> None:
        verdict = after(failed(1), failed(2), delivered(0))
        assert (shown(verdict), verdict.unreachable, verdict.evidence) == (
            "suspect",
            (failed(1), failed(2)),
            failed(2),
        )

    def test_what_failed_before_it_and_comes_late_counts_no_more(self) -> None:
        verdict = after(failed(1), delivered(2))
        assert after(failed(0), failed(1.5), failed(2, "at the same moment"), of=verdict) == verdict

    def test_an_old_one_does_not_undo_a_newer(self) -> None:
        verdict = after(failed(0), delivered(3), failed(4), delivered(1))
        assert (shown(verdict), verdict.counted_from) == ("suspect", on(3))


class TestSentAnew:
    @pytest.mark.parametrize(
        "before",
        [after(invalid(0)), NOTHING_KNOWN.after_lookup("INVALID", on(0)), after(failed(-2), failed(-1), failed(0))],
        ids=["by a receipt", "by a lookup", "by three failures"],
    )
    def test_a_number_marked_invalid_is_valid_again_and_that_is_the_evidence(self, before: Verdict) -> None:
        again = before.sent_anew(on(1))
        assert (shown(again), again.evidence) == ("valid", Evidence("registration", "SENT_ANEW", on(1)))
        assert (again.line_type, again.looked_up_at) == (before.line_type, before.looked_up_at)

    @pytest.mark.parametrize(
        "before",
        [NOTHING_KNOWN, after(failed(0)), NOTHING_KNOWN.after_lookup("LANDLINE", on(0))],
        ids=["unknown", "suspect", "a landline"],
    )
    def test_a_number_that_is_valid_stays_as_it_is(self, before: Verdict) -> None:
        assert before.sent_anew(on(1)) == before

    @pytest.mark.parametrize("vouch", ["registration", "lookup"])
    @pytest.mark.parametrize(("day", "expected"), [(0.5, "valid"), (1, "valid"), (1 + 1e-6, "invalid")])
    def test_a_receipt_from_before_somebody_vouched_for_it_is_ignored(
        self, vouch: str, day: float, expected: str
    ) -> None:
        bad = after(invalid(0))
        again = bad.sent_anew(on(1)) if vouch == "registration" else bad.after_lookup("MOBILE", on(1))
        assert after(invalid(day), of=again).status == expected

    def test_a_receipt_from_before_a_lookup_of_a_valid_number_is_ignored_too(self) -> None:
        known = NOTHING_KNOWN.after_lookup("MOBILE", on(1))
        assert after(invalid(0.5), of=known) == known
        assert after(invalid(1.5), of=known).status == "invalid"

    def test_failures_from_before_it_are_ignored_also_when_they_come_late(self) -> None:
        again = after(invalid(0)).sent_anew(on(2))
        assert after(failed(0.5), failed(1), failed(2), of=again) == again
        assert shown(after(failed(0.5), failed(1), failed(2 + 1e-6), of=again)) == "suspect"

    def test_it_may_be_marked_and_vouched_for_again_and_again(self) -> None:
        verdict = NOTHING_KNOWN
        for day in range(0, 20, 2):
            verdict = after(invalid(day), of=verdict)
            assert verdict.status == "invalid"
            verdict = verdict.sent_anew(on(day + 1))
            assert verdict.status == "valid"


@st.composite
def receipts(draw: st.DrawFn) -> list[Evidence]:
    """Receipts of different messages at different times, in the order in which it happened."""
    days = sorted(draw(st.lists(st.integers(0, 100), max_size=8, unique=True)))
    codes = st.sampled_from([*FAILURES, *FAILURES, *SUCCESSES, *OTHERS[:2]])
    return [receipt(draw(codes), day) for day in days]


def _by_the_book(told: Sequence[Evidence]) -> str:
    """What the rules say of receipts in the order in which it happened."""
    counted: list[datetime] = []
    for each in told:
        at = datetime.fromisoformat(each.at)
        if each.code in SUCCESSES:
            counted = []
        elif each.code in FAILURES:
            counted.append(at)
            if len(counted) >= 3 and counted[-1] - counted[-3] <= timedelta(days=30):
                return "invalid"
    return "suspect" if counted else "valid"


class TestAllReceipts:
    @unhurried
    @given(receipts())
    def test_the_verdict_follows_the_rules(self, told: list[Evidence]) -> None:
        assert shown(after(*told)) == _by_the_book(told)

    @unhurried
    @given(receipts(), st.data())
    def test_one_that_comes_again_changes_nothing(self, told: list[Evidence], data: st.DataObject) -> None:
        verdict = NOTHING_KNOWN
        for n, each in enumerate(told):
            verdict = verdict.after_receipt(each)
            for again in data.draw(st.lists(st.sampled_from(told[: n + 1]), max_size=2)):
                assert shown(verdict.after_receipt(again)) == shown(verdict)

    @unhurried
    @given(receipts(), st.data())
    def test_a_number_is_never_marked_for_fewer_than_three_failures_in_30_days(
        self, told: list[Evidence], data: st.DataObject
    ) -> None:
        """Whatever the order in which they come."""
        verdict = after(*data.draw(st.permutations(told)))
        times = sorted(datetime.fromisoformat(each.at) for each in told if each.code in FAILURES)
        close = any(c - a <= timedelta(days=30) for a, c in zip(times, times[2:], strict=False))
        if verdict.status == "invalid":
            assert close

    @unhurried
    @given(receipts(), st.sampled_from([code for code in NumberType.__args__ if code != "INVALID"]))  # type: ignore[attr-defined]
    def test_a_number_that_somebody_vouches_for_is_valid(self, told: list[Evidence], number_type: str) -> None:
        verdict = after(*told)
        assert verdict.sent_anew(on(101)).status == "valid"
        assert verdict.after_lookup(number_type, on(101)).status == "valid"
