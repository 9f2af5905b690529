"""Broadcasts, campaigns and dry runs: what leads from one state to the next, and how far they have come."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, ClassVar, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact import bulk
from patient_contact.bulk import ENDS, WAITING, Action, NotNow, State, Step

# However slow the machine.
unhurried = settings(deadline=None, database=None)

BEGIN = {"begin": 11, "number": 0, "first_row": 1}
CURSOR = {"begin": 1_411, "number": 2, "first_row": 201}
STARTED = "2026-11-25T12:00:00.000000Z"
LATER = "2026-11-25T13:00:00.000000Z"
NOW = "2026-11-25T12:01:40.000000Z"

# As it was started: nobody has looked into its list.
QUEUED: dict[str, Any] = {
    "kind": "campaign",
    "dry_run": False,
    "list": {"begin": BEGIN},
    "state": "queued",
    "run": 3,
    "cursor": BEGIN,
}
PENDING = {**QUEUED, "state": "pending", "starts_at": LATER}
RUNNING = {**QUEUED, "state": "running", "cursor": CURSOR, "began_at": STARTED, "began_rows": 0}
READ = {**RUNNING, "read_run": 3, "chunks": 2, "total": 150}
# All its rows are routed; 100 of them are sent, or not, and nothing goes to the other 50.
ROUTED = {
    **READ,
    "done": 2,
    "last_at": NOW,
    "decided#deliver#text#TEXT_ENABLED": 90,
    "decided#deliver#call#LANDLINE": 10,
    "decided#suppress##NO_VALID_PHONE": 30,
    "decided#refused##UNKNOWN_PATIENT": 20,
}
COMPLETED = {**ROUTED, "became#sent": 80, "became#failed": 9, "became#unknown": 6, "became#withdrawn": 5}
ITEMS: dict[str, dict[str, Any]] = {
    "pending": PENDING,
    "queued": QUEUED,
    "running": ROUTED,
    "paused": {**ROUTED, "state": "paused"},
    "completed": COMPLETED,
    "cancelled": {**ROUTED, "state": "cancelled"},
    "failed": {**RUNNING, "state": "failed", "failure": "gone"},
}
AGAIN = {"run": 4, "cursor": BEGIN, "walked": None}
REFUSED = "refused"


class TestState:
    @pytest.mark.parametrize("name", get_args(State))
    def test_it_is_the_one_that_is_kept_unless_all_rows_have_come_to_their_end(self, name: str) -> None:
        assert bulk.state(ITEMS[name]) == name

    @pytest.mark.parametrize("name", ["sent", "failed", "unknown", "withdrawn", "handed_over"])
    def test_whatever_became_of_a_message_its_row_has_come_to_its_end(self, name: str) -> None:
        assert bulk.state({**ROUTED, f"became#{name}": 99}) == "running"
        assert bulk.state({**ROUTED, f"became#{name}": 100}) == "completed"

    def test_a_dry_run_has_ended_when_its_rows_are_told(self) -> None:
        assert bulk.state({**ROUTED, "dry_run": True}) == "completed"
        assert bulk.state({**ROUTED, "dry_run": True, "done": 1}) == "running"

    @pytest.mark.parametrize(
        "item",
        [
            {**COMPLETED, "chunks": None, "total": None},
            {name: value for name, value in COMPLETED.items() if name not in ("chunks", "total")},
            {**COMPLETED, "chunks": 3, "total": 250},
            {**COMPLETED, "chunks": 3},
            {**COMPLETED, "total": 151},
            {**COMPLETED, "became#sent": 79},
            {**COMPLETED, "state": "paused"},
            {**COMPLETED, "state": "queued"},
            {**COMPLETED, "state": "cancelled"},
        ],
    )
    def test_else_it_is_not_completed(self, item: dict[str, Any]) -> None:
        assert bulk.state(item) == item["state"]

    @pytest.mark.parametrize("name", get_args(State))
    def test_a_run_goes_on_until_it_is_paused_and_what_failed_or_was_cancelled_ends_what_it_has_routed(
        self, name: str
    ) -> None:
        assert bulk.is_to_run(ITEMS[name], 3) is (name != "paused")
        assert bulk.is_to_run(ITEMS[name], 2) is False
        assert bulk.is_to_run(ITEMS[name], 4) is False

    @pytest.mark.parametrize("item", [QUEUED, PENDING, {**READ, "dry_run": True}], ids=["queued", "pending", "dry run"])
    def test_cancelled_with_nothing_to_take_back_it_goes_on_no_more(self, item: dict[str, Any]) -> None:
        assert bulk.is_to_run(item, 3) is True
        assert bulk.is_to_run({**item, "state": "cancelled"}, 3) is False

    @pytest.mark.parametrize(
        ("starts_at", "expected"),
        [(None, "queued"), (LATER, "pending"), (NOW, "queued"), (STARTED, "queued")],
    )
    def test_one_that_starts_later_waits_for_its_time(self, starts_at: str | None, expected: State) -> None:
        assert bulk.first_state(starts_at, NOW) == expected


class TestSteering:
    """What staff do to it, in each of its states: a step, nothing where it was done already, or refused."""

    STEPS: ClassVar[dict[tuple[Action, State], dict[str, Any] | str | None]] = {
        ("pause", "pending"): {"state": "paused"},
        ("pause", "queued"): {"state": "paused"},
        ("pause", "running"): {"state": "paused"},
        ("pause", "paused"): None,
        ("pause", "completed"): REFUSED,
        ("pause", "cancelled"): REFUSED,
        ("pause", "failed"): REFUSED,
        ("resume", "pending"): None,
        ("resume", "queued"): None,
        ("resume", "running"): None,
        ("resume", "paused"): {"state": "queued", **AGAIN},
        ("resume", "completed"): REFUSED,
        ("resume", "cancelled"): REFUSED,
        ("resume", "failed"): REFUSED,
        ("cancel", "pending"): {"state": "cancelled"},
        ("cancel", "queued"): {"state": "cancelled"},
        ("cancel", "running"): {"state": "cancelled", **AGAIN},
        ("cancel", "paused"): {"state": "cancelled", **AGAIN},
        ("cancel", "completed"): REFUSED,
        ("cancel", "cancelled"): None,
        ("cancel", "failed"): {"state": "cancelled", **AGAIN},
    }

    @pytest.mark.parametrize("name", get_args(State))
    @pytest.mark.parametrize("action", get_args(Action))
    def test_in_each_state_it_is_a_step_or_done_already_or_refused(self, action: Action, name: State) -> None:
        item, expected = ITEMS[name], self.STEPS[action, name]
        if isinstance(expected, str):
            with pytest.raises(NotNow) as refused:
                bulk.after(item, action, NOW)
            assert refused.value.state == name
            return
        step = bulk.after(item, action, NOW)
        gives_back = action == "cancel" and name in ("pending", "queued")
        assert step == (None if expected is None else Step(expected, {"state": item["state"], "run": 3}, gives_back))

    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            ({**PENDING, "state": "paused"}, Step({"state": "cancelled"}, {"state": "paused", "run": 3}, True)),
            ({**QUEUED, "state": "paused"}, Step({"state": "cancelled"}, {"state": "paused", "run": 3}, True)),
            ({**QUEUED, "dry_run": True}, Step({"state": "cancelled"}, {"state": "queued", "run": 3}, True)),
            # What a dry run has told takes nothing back.
            (
                {**READ, "dry_run": True, "done": 1},
                Step({"state": "cancelled"}, {"state": "running", "run": 3}, True),
            ),
            # It was begun before it was paused.
            (
                {**RUNNING, "state": "queued"},
                Step({"state": "cancelled", **AGAIN}, {"state": "queued", "run": 3}, False),
            ),
        ],
        ids=["paused while pending", "paused while queued", "dry run", "dry run that runs", "begun before"],
    )
    def test_cancelled_before_it_began_it_gives_its_texts_back_and_has_nothing_to_withdraw(
        self, item: dict[str, Any], expected: Step
    ) -> None:
        assert bulk.after(item, "cancel", NOW) == expected

    @pytest.mark.parametrize(("starts_at", "expected"), [(LATER, "pending"), (NOW, "queued"), (STARTED, "queued")])
    def test_resumed_before_its_time_it_waits_on(self, starts_at: str, expected: str) -> None:
        step = bulk.after({**PENDING, "state": "paused", "starts_at": starts_at}, "resume", NOW)
        assert step == Step({"state": expected, **AGAIN}, {"state": "paused", "run": 3})


class TestReading:
    """The steps that are taken while its list is read."""

    @pytest.mark.parametrize("item", [QUEUED, PENDING])
    def test_it_begins(self, item: dict[str, Any]) -> None:
        changed = {"state": "running", "began_at": NOW, "began_rows": 0}
        assert bulk.began(item, NOW) == Step(changed, {"state": item["state"], "run": 3})

    def test_begun_again_it_counts_from_the_rows_that_had_ended(self) -> None:
        item = {**COMPLETED, "became#sent": 70, "state": "queued"}
        changed = {"state": "running", "began_at": NOW, "began_rows": 140}
        assert bulk.began(item, NOW) == Step(changed, {"state": "queued", "run": 3})

    @pytest.mark.parametrize("state", ["running", "cancelled"])
    def test_it_goes_on_and_comes_to_the_lists_end(self, state: str) -> None:
        item = {**RUNNING, "state": state}
        expected = {"state": state, "run": 3}
        assert bulk.went_on(item, CURSOR) == Step({"cursor": CURSOR}, expected)
        read = {"cursor": CURSOR, "read_run": 3, "chunks": 2, "total": 150}
        assert bulk.was_read(item, CURSOR, 2, 150, None) == Step({**read, "failure": None}, expected)
        assert bulk.was_read(item, CURSOR, 2, 150, "cut") == Step({**read, "failure": "cut"}, expected)
        assert bulk.walked(item, "CHUNK#000099") == Step({"walked": "CHUNK#000099"}, expected)

    @pytest.mark.parametrize(("state", "expected"), [("running", "failed"), ("cancelled", "cancelled")])
    def test_it_fails_when_its_list_is_gone_unless_it_is_cancelled(self, state: str, expected: str) -> None:
        step = bulk.failed({**RUNNING, "state": state}, "gone")
        assert step == Step({"state": expected, "failure": "gone"}, {"state": state, "run": 3})


def result(
    outcome: Any = "deliver", channel: str | None = "text", reason: str = "TEXT_ENABLED", **more: object
) -> dict[str, Any]:
    return bulk.result(1, "p-1", outcome, channel, reason, "So it is.", **more)


def before(outcome: str, channel: str | None, reason: str) -> dict[str, Any]:
    return {"before": {"outcome": outcome, "channel": channel, "reason": reason}}


NO_PHONE = ("suppress", None, "NO_VALID_PHONE")
TEXTED = ("deliver", "text", "TEXT_ENABLED")


class TestCounts:
    def test_rows_are_counted_by_what_was_decided(self) -> None:
        results = [result(), result(), result(*NO_PHONE), result("refused", None, "EMPTY_ROW")]
        assert bulk.counts(results) == {
            "decided#deliver#text#TEXT_ENABLED": 2,
            "decided#suppress##NO_VALID_PHONE": 1,
            "decided#refused##EMPTY_ROW": 1,
        }

    def test_what_the_practice_sends_itself_is_all_that_is_heard_of_it(self) -> None:
        assert bulk.counts([result(), result()], 2) == {
            "became#handed_over": 2,
            "decided#deliver#text#TEXT_ENABLED": 2,
        }

    def test_nothing_is_counted_of_nothing(self) -> None:
        assert bulk.counts([]) == {}

    @pytest.mark.parametrize(
        ("was", "now", "name"),
        [
            (TEXTED, TEXTED, None),
            (NO_PHONE, NO_PHONE, None),
            (TEXTED, NO_PHONE, "changed#deliver#text#TEXT_ENABLED#suppress##NO_VALID_PHONE"),
            (NO_PHONE, TEXTED, "changed#suppress##NO_VALID_PHONE#deliver#text#TEXT_ENABLED"),
            (
                NO_PHONE,
                ("suppress", None, "LANDLINE"),
                "changed#suppress##NO_VALID_PHONE#suppress##LANDLINE",
            ),
            (
                TEXTED,
                ("deliver", "call", "TEXT_NOT_INCLUDED"),
                "changed#deliver#text#TEXT_ENABLED#deliver#call#TEXT_NOT_INCLUDED",
            ),
        ],
    )
    def test_what_would_change_is_counted_from_what_to_what(
        self, was: tuple[str, str | None, str], now: tuple[str, str | None, str], name: str | None
    ) -> None:
        counted = bulk.counts([result(*now, **before(*was))] * 3)
        del counted[f"decided#{now[0]}#{now[1] or ''}#{now[2]}"]
        assert counted == ({} if name is None else {name: 3})

    def test_a_result_says_all_of_a_row(self) -> None:
        remedy = {"code": "ADD_PHONE", "message": "Add one."}
        assert bulk.result(7, None, "suppress", None, "NO_VALID_PHONE", "So it is.", remedy=remedy) == {
            "row": 7,
            "patient_id": None,
            "outcome": "suppress",
            "channel": None,
            "reason": "NO_VALID_PHONE",
            "explanation": "So it is.",
            "remedy": remedy,
        }

    @pytest.mark.parametrize(
        ("was", "now", "expected"),
        [
            (None, TEXTED, False),
            (TEXTED, TEXTED, False),
            (TEXTED, NO_PHONE, True),
            (TEXTED, ("deliver", "email", "NO_VALID_PHONE"), True),
            # The patient gets the same, for another reason.
            (NO_PHONE, ("suppress", None, "LANDLINE"), False),
            (("deliver", "call", "LANDLINE"), ("deliver", "call", "TEXT_NOT_INCLUDED"), False),
        ],
    )
    def test_a_patient_gets_something_else_whatever_the_reason(
        self, was: tuple[str, str | None, str] | None, now: tuple[str, str | None, str], expected: bool
    ) -> None:
        assert bulk.is_changed(result(*now, **({} if was is None else before(*was)))) is expected


# What is heard of the messages of a chunk: of which row, and the letter for what became of it.
HEARD = st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["1", "2", "3", *ENDS])), max_size=60)
# In the order in which they come, but that there is one end.
ORDER = [*WAITING, *ENDS]


def hear(batches: list[list[tuple[int, str]]], letters: str = "") -> tuple[str, Counter[str]]:
    """Tally batches one after the other, and give the letters and the sum of what was added."""
    counted: Counter[str] = Counter()
    for batch in batches:
        letters, added = bulk.tallied(letters, batch)
        counted.update(added)
    return letters, counted


def count(letters: str) -> Counter[str]:
    names = {**ENDS, "1": "unknown", "3": "unknown"}
    return Counter(f"became#{names[letter]}" for letter in letters if letter in names)


class TestTally:
    """What became of the messages of a chunk, each counted once, however often and in whatever order it is heard."""

    UNKNOWN: ClassVar = {"state": "unknown"}

    @pytest.mark.parametrize(
        ("state", "life", "expected"),
        [
            ("routed", [], None),
            ("sending", [], None),
            ("suppressed", [], None),
            ("handed_over", [], None),
            ("unknown", [UNKNOWN], "1"),
            ("routed", [UNKNOWN, {"state": "routed"}], "2"),
            # It was counted when it was routed again.
            ("sending", [UNKNOWN, {"state": "routed"}], None),
            ("unknown", [UNKNOWN, {"state": "routed"}, {"state": "sending"}, UNKNOWN], "3"),
            ("sent", [UNKNOWN, {"state": "sent"}], "s"),
            ("failed", [{"state": "failed"}], "f"),
            ("withdrawn", [], "w"),
            ("unknown", [UNKNOWN] * 100, WAITING[-1]),
        ],
    )
    def test_a_letter_says_how_far_a_message_has_come(
        self, state: str, life: list[dict[str, str]], expected: str | None
    ) -> None:
        assert bulk.letter(state, life) == expected

    @pytest.mark.parametrize("was", [".", "1", "2", "3", *ENDS])
    @pytest.mark.parametrize("new", ["1", "2", "3", *ENDS])
    def test_what_is_known_stays_and_what_is_unknown_moves(self, was: str, new: str) -> None:
        moves = was not in ENDS and ORDER.index(new) > ORDER.index(was)
        letters, added = bulk.tallied(f"s{was}f", [(1, new)])
        now = new if moves else was
        assert letters == f"s{now}f"
        expected = count(now)
        expected.subtract(count(was))
        assert added == {name: number for name, number in expected.items() if number}

    def test_what_staff_say_was_not_sent_is_unknown_no_more_until_it_is_again(self) -> None:
        assert bulk.tallied("1", [(0, "2")]) == ("2", {"became#unknown": -1})
        assert bulk.tallied("2", [(0, "1")]) == ("2", {})
        assert bulk.tallied("2", [(0, "3")]) == ("3", {"became#unknown": 1})
        assert bulk.tallied("2", [(0, "s")]) == ("s", {"became#sent": 1})

    def test_it_is_as_long_as_the_last_row_that_something_was_heard_of(self) -> None:
        assert bulk.tallied("", [(3, "s")]) == ("...s", {"became#sent": 1})
        assert bulk.tallied("...s", [(0, "f"), (5, "1")]) == ("f..s.1", {"became#failed": 1, "became#unknown": 1})

    def test_nothing_heard_adds_nothing(self) -> None:
        assert bulk.tallied("s1", []) == ("s1", {})

    @unhurried
    @given(st.lists(HEARD, max_size=8))
    def test_in_any_order_and_with_any_repeats_the_counts_are_those_of_the_letters(
        self, batches: list[list[tuple[int, str]]]
    ) -> None:
        letters, counted = hear(batches)
        assert +counted == count(letters)
        # Nothing is ever counted below nothing.
        assert not -counted

    @unhurried
    @given(st.lists(HEARD, max_size=8), st.data())
    def test_what_is_heard_again_adds_nothing(self, batches: list[list[tuple[int, str]]], draw: st.DataObject) -> None:
        letters, _ = hear(batches)
        known = [(place, letter) for place, letter in enumerate(letters) if letter != "."]
        again = draw.draw(st.lists(st.sampled_from(known), max_size=40)) if known else []
        assert bulk.tallied(letters, again) == (letters, {})

    @unhurried
    @given(st.dictionaries(st.integers(0, 99), st.sampled_from([*ENDS])), st.data())
    def test_each_row_ends_at_what_it_came_to_whenever_it_was_unknown(
        self, final: dict[int, str], draw: st.DataObject
    ) -> None:
        on_the_way = [(place, letter) for place in final for letter in "123"]
        heard = draw.draw(st.permutations([*final.items(), *final.items(), *on_the_way, *on_the_way]))
        letters, counted = hear([[each] for each in heard])
        assert {place: letter for place, letter in enumerate(letters) if letter != "."} == final
        assert +counted == Counter(f"became#{ENDS[letter]}" for letter in final.values())

    @pytest.mark.parametrize("order", sorted({*permutations(["1", "s", "s", "2", "1"])}))
    def test_unknown_and_then_sent_is_sent_once(self, order: tuple[str, ...]) -> None:
        letters, counted = hear([[(0, letter)] for letter in order])
        assert (letters, +counted) == ("s", {"became#sent": 1})


# Nothing is known of it, but for its state.
NOTHING: dict[str, Any] = {
    "state": "queued",
    "failure": None,
    "total": None,
    "done": 0,
    "routed": 0,
    "suppressed": 0,
    "refused": 0,
    "by_channel": {},
    "by_reason": {},
    "sent": 0,
    "failed": 0,
    "unknown": 0,
    "withdrawn": 0,
    "handed_over": 0,
    "rate": None,
    "estimated_end": None,
    "changes": [],
}
AT = datetime(2026, 11, 25, 12, 2, tzinfo=UTC)
ALL_ROUTED = {
    **NOTHING,
    "total": 150,
    "done": 150,
    "routed": 100,
    "suppressed": 30,
    "refused": 20,
    "by_channel": {"text": 90, "call": 10},
    "by_reason": {"TEXT_ENABLED": 90, "LANDLINE": 10, "NO_VALID_PHONE": 30, "UNKNOWN_PATIENT": 20},
}


class TestProgress:
    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (QUEUED, NOTHING),
            (PENDING, {**NOTHING, "state": "pending"}),
            (RUNNING, {**NOTHING, "state": "running"}),
            (READ, {**NOTHING, "state": "running", "total": 150}),
            # 50 rows in the 100 seconds since it began; 100 are left.
            (
                ROUTED,
                {**ALL_ROUTED, "state": "running", "rate": 0.5, "estimated_end": AT + timedelta(seconds=200)},
            ),
            (
                {**ROUTED, "became#sent": 40, "became#handed_over": 10},
                {
                    **ALL_ROUTED,
                    "state": "running",
                    "sent": 40,
                    "handed_over": 10,
                    "rate": 1.0,
                    "estimated_end": AT + timedelta(seconds=50),
                },
            ),
            (
                COMPLETED,
                {
                    **ALL_ROUTED,
                    "state": "completed",
                    "sent": 80,
                    "failed": 9,
                    "unknown": 6,
                    "withdrawn": 5,
                    "rate": 1.5,
                },
            ),
            ({**ROUTED, "state": "paused"}, {**ALL_ROUTED, "state": "paused", "rate": 0.5}),
            ({**ROUTED, "state": "cancelled"}, {**ALL_ROUTED, "state": "cancelled", "rate": 0.5}),
            (
                {**RUNNING, "state": "failed", "failure": "gone"},
                {**NOTHING, "state": "failed", "failure": "gone"},
            ),
            # Its list is not read to the end: nobody knows when it will be over.
            (
                {**RUNNING, "last_at": NOW, "done": 1, "decided#suppress##NO_VALID_PHONE": 100},
                {
                    **NOTHING,
                    "state": "running",
                    "done": 100,
                    "suppressed": 100,
                    "by_reason": {"NO_VALID_PHONE": 100},
                    "rate": 1.0,
                },
            ),
        ],
        ids=[
            "queued",
            "pending",
            "begun",
            "read",
            "routed",
            "on its way",
            "completed",
            "paused",
            "cancelled",
            "failed",
            "not read",
        ],
    )
    def test_it_says_how_far_it_has_come(self, item: dict[str, Any], expected: dict[str, Any]) -> None:
        assert bulk.progress(item, AT) == expected

    def test_reasons_are_summed_over_channels_and_outcomes(self) -> None:
        item = {
            **READ,
            "decided#deliver#call#LANDLINE": 1,
            "decided#deliver#email#LANDLINE": 2,
            "decided#suppress##LANDLINE": 4,
        }
        assert bulk.progress(item, AT) == {
            **NOTHING,
            "state": "running",
            "total": 150,
            "done": 7,
            "routed": 3,
            "suppressed": 4,
            "by_channel": {"call": 1, "email": 2},
            "by_reason": {"LANDLINE": 7},
        }

    def test_a_dry_run_sends_nothing_and_ends_when_its_rows_are_told(self) -> None:
        assert bulk.progress({**ROUTED, "dry_run": True}, AT) == {**ALL_ROUTED, "state": "completed", "rate": 1.5}

    def test_changes_are_told_those_of_the_most_patients_first(self) -> None:
        item = {
            **ROUTED,
            "dry_run": True,
            "changed#deliver#text#TEXT_ENABLED#suppress##NO_VALID_PHONE": 3,
            "changed#suppress##NO_VALID_PHONE#deliver#email#NO_VALID_PHONE": 7,
            "changed#suppress##LANDLINE#suppress##NO_VALID_EMAIL": 3,
        }
        texted, no_phone, landline, no_email, emailed = (
            {"outcome": outcome, "channel": channel, "reason": reason}
            for outcome, channel, reason in (
                TEXTED,
                NO_PHONE,
                ("suppress", None, "LANDLINE"),
                ("suppress", None, "NO_VALID_EMAIL"),
                ("deliver", "email", "NO_VALID_PHONE"),
            )
        )
        assert bulk.progress(item, AT)["changes"] == [
            {"from": no_phone, "to": emailed, "patients": 7},
            {"from": texted, "to": no_phone, "patients": 3},
            {"from": landline, "to": no_email, "patients": 3},
        ]

    @pytest.mark.parametrize(
        ("changed", "rate"),
        [
            ({"began_rows": 0}, 0.5),
            ({"began_rows": 49}, 0.0),
            ({"began_rows": 20}, 0.3),
            # Nothing has ended since it was begun again.
            ({"began_rows": 50}, None),
            ({"began_at": NOW}, None),
            ({"began_at": LATER}, None),
            ({"last_at": STARTED}, None),
        ],
    )
    def test_its_rate_is_measured_since_it_was_last_begun(self, changed: dict[str, Any], rate: float | None) -> None:
        told = bulk.progress({**ROUTED, **changed}, AT)
        assert told["rate"] == rate
        assert (told["estimated_end"] is None) == (rate is None)

    @unhurried
    @given(
        st.dictionaries(
            st.sampled_from(["deliver#text#TEXT_ENABLED", "deliver#call#LANDLINE", "suppress##LANDLINE", "refused##X"]),
            st.integers(0, 1_000_000),
        ),
        st.booleans(),
    )
    def test_its_counts_add_up(self, decided: dict[str, int], is_dry_run: bool) -> None:
        item = {**READ, "dry_run": is_dry_run, **{f"decided#{name}": count for name, count in decided.items()}}
        told = bulk.progress(item, AT)
        assert told["done"] == told["routed"] + told["suppressed"] + told["refused"] == sum(decided.values())
        assert told["done"] == sum(told["by_reason"].values())
        assert told["routed"] == sum(told["by_channel"].values())
        assert bulk.rows_over(item) == told["done"] - (0 if is_dry_run else told["routed"])


def test_what_goes_on_so_slowly_that_no_date_holds_its_end_has_none() -> None:
    item = {
        "state": "running",
        "dry_run": False,
        "total": 1_000_000,
        "decided#suppress##LANDLINE": 1,
        "began_at": "2026-11-22T00:00:00.000000Z",
        "began_rows": 0,
        "last_at": "2026-11-25T00:00:00.000000Z",
    }
    assert bulk.progress(item, datetime(2026, 11, 25, tzinfo=UTC))["estimated_end"] is None
