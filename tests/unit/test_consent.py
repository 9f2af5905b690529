"""What is in force of all that was said of texts from one line to one number, in whatever order it is recorded."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patient_contact.consent import (
    MAX_OPEN_REVIEWS,
    NOTHING_SAID,
    ConsentRecord,
    ConsentSource,
    LineConsent,
    OpenReview,
    Said,
    Wish,
)
from patient_contact.facts import ConsentStatus

# However slow the machine.
unhurried = settings(deadline=None, database=None)

RECORDED = "2026-11-25T09:00:00.000000Z"


def at(second: int) -> str:
    return f"2026-11-24T18:00:{second:02}.000000Z"


def start(second: int) -> Said:
    return Said(f"start-{second}", "opted_in", "keyword", at(second), RECORDED, own=True)


def stop(second: int) -> Said:
    return Said(f"stop-{second}", "opted_out", "keyword", at(second), RECORDED, own=True)


def staff_in(second: int) -> Said:
    return Said(f"staff-in-{second}", "opted_in", "staff", at(second), RECORDED, "staff-7")


def staff_out(second: int) -> Said:
    return Said(f"staff-out-{second}", "opted_out", "staff", at(second), RECORDED, "staff-7")


def imported(second: int) -> Said:
    return Said(f"imported-{second}", "opted_out", "import", at(second), RECORDED)


def imported_keyword(second: int) -> Said:
    return Said(f"imported-keyword-{second}", "opted_out", "import", at(second), RECORDED, own=True)


# A message to read: its id, and what it may be.
Unread = tuple[str, OpenReview]


def maybe_out(second: int) -> Unread:
    return f"maybe-out-{second}", OpenReview("opted_out", at(second), RECORDED)


def maybe_in(second: int) -> Unread:
    return f"maybe-in-{second}", OpenReview("opted_in", at(second), RECORDED)


def consent(*recorded: Said | Unread) -> LineConsent:
    """The consent after these were recorded, one after the other."""

    def with_one_more(before: LineConsent, each: Said | Unread) -> LineConsent:
        return before.after(each) if isinstance(each, Said) else before.under_review(*each)

    return reduce(with_one_more, recorded, NOTHING_SAID)


@pytest.mark.parametrize(
    ("recorded", "status"),
    [
        pytest.param([], "opted_in", id="nothing was said"),
        pytest.param([stop(1)], "opted_out", id="a patient said STOP"),
        pytest.param([start(1)], "opted_in", id="a patient said START"),
        pytest.param([staff_out(1)], "opted_out", id="staff opted a patient out"),
        pytest.param([staff_in(1)], "opted_in", id="staff opted a patient in"),
        pytest.param([imported(1)], "opted_out", id="another system knew of an opt-out"),
        pytest.param([stop(1), start(2)], "opted_in", id="START after STOP"),
        pytest.param([start(1), stop(2)], "opted_out", id="STOP after START"),
        pytest.param([stop(1), start(1)], "opted_out", id="STOP and START at the same moment"),
        pytest.param([stop(1), start(2), stop(3)], "opted_out", id="STOP, START, STOP"),
        pytest.param([stop(1), stop(2), start(3)], "opted_in", id="STOP twice, START once"),
        pytest.param([staff_out(1), staff_in(2)], "opted_in", id="staff undo what staff did"),
        pytest.param([staff_in(1), staff_out(2)], "opted_out", id="staff opt out whom staff opted in"),
        pytest.param([staff_out(1), staff_in(1)], "opted_out", id="staff do both at the same moment"),
        pytest.param([imported(1), staff_in(2)], "opted_in", id="staff undo what was imported"),
        pytest.param([staff_in(1), imported(2)], "opted_out", id="imported, and newer than what staff did"),
        pytest.param([staff_in(2), imported(1)], "opted_in", id="imported, and older than what staff did"),
        pytest.param([staff_out(1), start(2)], "opted_in", id="the patient undoes what staff did"),
        pytest.param([imported(1), start(2)], "opted_in", id="the patient undoes what was imported"),
        pytest.param([stop(1), staff_in(2)], "opted_out", id="staff cannot undo STOP"),
        pytest.param([staff_in(2), stop(1)], "opted_out", id="nor when STOP arrives late"),
        pytest.param([stop(1), staff_out(2), staff_in(3)], "opted_out", id="nor by opting out and in"),
        pytest.param([stop(1), imported(2), staff_in(3)], "opted_out", id="nor after an import"),
        pytest.param([imported_keyword(1), staff_in(2)], "opted_out", id="nor a STOP that another system took"),
        pytest.param([imported_keyword(1), start(2)], "opted_in", id="which the patient undoes"),
        pytest.param([stop(1), staff_in(2), start(3)], "opted_in", id="the patient undoes STOP after staff could not"),
        pytest.param([start(1), staff_out(2)], "opted_out", id="staff opt out who said START"),
        pytest.param([stop(1), start(2), staff_out(3), staff_in(4)], "opted_in", id="staff undo staff after START"),
        pytest.param([stop(1), start(2), staff_in(3)], "opted_in", id="STOP was undone, and staff say so again"),
        pytest.param([maybe_out(1)], "under_review", id="a message may be an opt-out"),
        pytest.param([maybe_in(1)], "opted_in", id="a message may be an opt-in"),
        pytest.param([maybe_in(1), maybe_out(2)], "under_review", id="one may be either"),
        pytest.param([stop(1), maybe_out(2)], "opted_out", id="a review never replaces an opt-out"),
        pytest.param([staff_out(1), maybe_out(2)], "opted_out", id="nor an opt-out by staff"),
        pytest.param([imported(1), maybe_out(2)], "opted_out", id="nor an imported one"),
        pytest.param([stop(2), maybe_out(1)], "opted_out", id="nor one that was said later"),
        pytest.param([stop(1), maybe_in(2)], "opted_out", id="a message that may be an opt-in opts nobody in"),
        pytest.param([maybe_out(1), start(2)], "opted_in", id="a newer START ends a review"),
        pytest.param([start(2), maybe_out(1)], "opted_in", id="also one that arrives late"),
        pytest.param([maybe_out(1), start(1)], "under_review", id="a START at the same moment does not"),
        pytest.param([maybe_out(2), start(1)], "under_review", id="an older START does not"),
        pytest.param([maybe_out(1), staff_in(2)], "under_review", id="an opt-in by staff does not"),
        pytest.param([maybe_out(1), stop(2)], "opted_out", id="a newer STOP ends a review"),
        pytest.param([maybe_out(1), stop(2), start(3)], "opted_in", id="for good"),
        pytest.param([maybe_out(1), stop(1), start(2)], "opted_in", id="so does a STOP at the same moment"),
        pytest.param([maybe_out(1), imported_keyword(2), start(3)], "opted_in", id="so does an imported STOP"),
        pytest.param([maybe_out(1), staff_out(2), staff_in(3)], "under_review", id="an opt-out by staff does not"),
        pytest.param([maybe_out(1), start(2), maybe_out(3)], "under_review", id="a START ends what was said before"),
    ],
)
def test_what_is_in_force_after_all_that_was_said(recorded: list[Said | Unread], status: ConsentStatus) -> None:
    for order in permutations(recorded):
        assert consent(*order).status == status


class TestRecord:
    def test_nothing_is_recorded_until_something_is_said(self) -> None:
        assert NOTHING_SAID.record is None
        assert NOTHING_SAID.in_force is None
        assert not NOTHING_SAID.only_the_patient_can_undo

    def test_a_message_that_may_be_an_opt_in_alone_is_no_record(self) -> None:
        assert consent(maybe_in(1)).record is None

    def test_it_is_what_is_in_force_and_where_it_came_from(self) -> None:
        said = Said("one", "opted_out", "staff", at(1), RECORDED, "staff-7")
        assert consent(said).record == ConsentRecord("opted_out", "staff", at(1), RECORDED, "staff-7")

    def test_a_stop_that_staff_cannot_undo_is_the_record_and_not_what_staff_tried(self) -> None:
        assert consent(stop(1), staff_in(2)).record == ConsentRecord("opted_out", "keyword", at(1), RECORDED)

    def test_a_newer_opt_out_by_staff_is_the_record_and_only_the_patient_can_undo_it(self) -> None:
        said = consent(stop(1), staff_out(2))
        assert said.record == ConsentRecord("opted_out", "staff", at(2), RECORDED, "staff-7")
        assert said.only_the_patient_can_undo

    def test_a_review_is_by_keyword_from_when_the_last_unread_message_was_said(self) -> None:
        said = consent(staff_in(1), maybe_out(2), maybe_out(4), maybe_out(3), maybe_in(5))
        assert said.record == ConsentRecord("under_review", "keyword", at(4), RECORDED)

    def test_of_messages_said_at_the_same_moment_the_record_is_one_in_whatever_order_they_came(self) -> None:
        """Phones cut a long text into messages, and the moment is the envelope's."""
        parts = [(f"part-{n}", OpenReview("opted_out", at(1), at(30 + n))) for n in range(3)]
        assert len({consent(*order).record for order in permutations(parts)}) == 1

    @pytest.mark.parametrize(
        ("recorded", "only_theirs"),
        [
            ([stop(1)], True),
            ([imported_keyword(1)], True),
            ([stop(1), staff_out(2)], True),
            ([stop(1), start(1)], True),
            ([staff_out(1)], False),
            ([imported(1)], False),
            ([stop(1), start(2)], False),
            ([stop(1), start(2), staff_out(3)], False),
            ([maybe_out(1)], False),
        ],
    )
    def test_only_the_patient_can_undo_what_they_last_said_by_keyword(
        self, recorded: list[Said | Unread], only_theirs: bool
    ) -> None:
        for order in permutations(recorded):
            assert consent(*order).only_the_patient_can_undo is only_theirs


class TestReviewed:
    def test_one_that_was_no_wish_is_gone_and_the_others_stay(self) -> None:
        said = consent(staff_in(1), maybe_out(2), maybe_out(3))
        assert said.reviewed("maybe-out-2") == consent(staff_in(1), maybe_out(3))
        assert said.reviewed("maybe-out-2").reviewed("maybe-out-3") == consent(staff_in(1))

    def test_one_that_is_unknown_changes_nothing(self) -> None:
        assert consent(maybe_out(1)).reviewed("maybe-out-2") == consent(maybe_out(1))

    def test_one_that_was_an_opt_out_counts_from_when_it_was_said(self) -> None:
        read = staff_out(1)
        assert consent(maybe_out(1)).reviewed("maybe-out-1").after(read).status == "opted_out"
        assert consent(maybe_out(1)).counted(read) == read

    @pytest.mark.parametrize(
        ("before", "counts_from"),
        [
            pytest.param([], at(1), id="nothing was said"),
            pytest.param([staff_in(0)], at(1), id="an opt-in by staff is older"),
            pytest.param([staff_in(1)], at(1), id="an opt-in by staff of the same moment"),
            pytest.param([staff_in(2)], RECORDED, id="an opt-in by staff is newer"),
            pytest.param([start(0), staff_in(2)], RECORDED, id="an opt-in by staff is newer than it and a START"),
            pytest.param([staff_in(2), staff_out(3)], at(1), id="staff opted the number out themselves"),
            pytest.param([staff_in(2), start(3)], at(1), id="the patient said START last"),
            pytest.param([staff_in(2), stop(3)], at(1), id="the patient said STOP last"),
        ],
    )
    def test_one_that_staff_decide_though_they_opted_the_number_in_since_counts_from_now(
        self, before: list[Said | Unread], counts_from: str
    ) -> None:
        read = staff_out(1)
        assert consent(*before).counted(read) == replace(read, said_at=counts_from)

    def test_it_holds_when_the_clock_that_the_opt_in_was_recorded_by_is_ahead(self) -> None:
        ahead = replace(staff_in(2), said_at="2026-11-25T09:00:00.000007Z")
        before = consent(ahead)
        assert before.after(before.counted(staff_out(1))).status == "opted_out"

    def test_the_last_one_that_was_no_wish_brings_back_what_was_in_force(self) -> None:
        assert consent(maybe_out(1)).reviewed("maybe-out-1") == NOTHING_SAID

    def test_all_that_one_number_may_have_open_can_end_in_one_transaction(self) -> None:
        """The consent, its history, the reply's marker, the index, and two for each review, of at most a hundred."""
        assert 4 + 2 * MAX_OPEN_REVIEWS <= 100


# Few moments, so that much is said at the same one.
moments = st.integers(0, 4).map(at)
recorded_at = st.integers(30, 33).map(at)


@st.composite
def wishes(draw: st.DrawFn) -> Said:
    status: Wish = draw(st.sampled_from(["opted_in", "opted_out"]))
    source: ConsentSource = draw(st.sampled_from(["keyword", "staff", "carrier", "import"]))
    own = source == "keyword" or (source == "import" and status == "opted_out" and draw(st.booleans()))
    actor = "staff-7" if source == "staff" else None
    return Said("", status, source, draw(moments), draw(recorded_at), actor, own)


reviews = st.builds(OpenReview, st.sampled_from(["opted_in", "opted_out"]), moments, recorded_at)


@st.composite
def histories(draw: st.DrawFn) -> list[Said | Unread]:
    """Wishes and messages to read, each with an id of its own."""
    drawn = draw(st.lists(wishes() | reviews, max_size=7))
    return [
        replace(each, id=f"wish-{n}") if isinstance(each, Said) else (f"message-{n}", each)
        for n, each in enumerate(drawn)
    ]


def _is_own(said: Said, status: str | None = None) -> bool:
    return said.own and status in (None, said.status)


def _by_the_book(recorded: Sequence[Said | Unread]) -> ConsentStatus:
    """What the rules say, from all that was said at once."""
    said = [each for each in recorded if isinstance(each, Said)]
    outs = [each.said_at for each in said if each.status == "opted_out"]
    ins = [each.said_at for each in said if each.status == "opted_in"]
    own_outs = [each.said_at for each in said if _is_own(each, "opted_out")]
    own_ins = [each.said_at for each in said if _is_own(each, "opted_in")]
    if outs and max(outs) >= max(ins, default=""):
        return "opted_out"
    if own_outs and max(own_outs) >= max(own_ins, default=""):
        return "opted_out"
    for each in recorded:
        if (
            not isinstance(each, Said)
            and each[1].wish == "opted_out"
            and each[1].said_at > max(own_outs, default="")
            and each[1].said_at >= max(own_ins, default="")
        ):
            return "under_review"
    return "opted_in"


class TestAllHistories:
    @unhurried
    @given(histories())
    def test_what_is_in_force_follows_the_rules(self, recorded: list[Said | Unread]) -> None:
        assert consent(*recorded).status == _by_the_book(recorded)

    @unhurried
    @given(histories(), st.data())
    def test_it_depends_neither_on_the_order_nor_on_how_often_each_is_recorded(
        self, recorded: list[Said | Unread], data: st.DataObject
    ) -> None:
        repeats = data.draw(st.lists(st.sampled_from(recorded), max_size=3)) if recorded else []
        another = consent(*data.draw(st.permutations([*recorded, *repeats])))
        assert another == consent(*recorded)
        assert another.status == consent(*recorded).status
        assert another.in_force == consent(*recorded).in_force

    @unhurried
    @given(histories(), st.data())
    def test_neither_does_what_is_told_of_it(self, recorded: list[Said | Unread], data: st.DataObject) -> None:
        repeats = data.draw(st.lists(st.sampled_from(recorded), max_size=3)) if recorded else []
        another = consent(*data.draw(st.permutations([*recorded, *repeats])))
        assert another.record == consent(*recorded).record

    @unhurried
    @given(histories())
    def test_nobody_is_opted_in_whose_last_own_keyword_was_an_opt_out(self, recorded: list[Said | Unread]) -> None:
        own = [each for each in recorded if isinstance(each, Said) and each.own]
        last = max(own, key=lambda said: (said.said_at, said.status == "opted_out"), default=None)
        if last is not None and last.status == "opted_out":
            assert consent(*recorded).status == "opted_out"

    @unhurried
    @given(histories(), reviews)
    def test_one_more_message_to_read_never_lets_a_text_through(
        self, recorded: list[Said | Unread], review: OpenReview
    ) -> None:
        before, after = consent(*recorded), consent(*recorded, ("one more", review))
        assert after.status == before.status or (before.status, after.status) == ("opted_in", "under_review")

    @unhurried
    @given(histories(), wishes())
    def test_one_more_opt_out_never_lets_a_text_through_that_did_not_go_before(
        self, recorded: list[Said | Unread], wish: Said
    ) -> None:
        before, after = consent(*recorded), consent(*recorded, replace(wish, id="one more", status="opted_out"))
        assert after.status in (before.status, "opted_out")

    @unhurried
    @given(histories())
    def test_the_record_tells_the_status(self, recorded: list[Said | Unread]) -> None:
        said = consent(*recorded)
        assert said.status == ("opted_in" if said.record is None else said.record.status)
        if said.in_force is not None and said.status != "under_review":
            assert said.record == ConsentRecord(
                said.in_force.status,
                said.in_force.source,
                said.in_force.said_at,
                said.in_force.recorded_at,
                said.in_force.actor,
            )

    @unhurried
    @given(histories())
    def test_all_its_messages_read_and_none_a_wish_is_as_if_none_had_come(self, recorded: list[Said | Unread]) -> None:
        said = consent(*recorded)
        for id_ in said.reviews:
            said = said.reviewed(id_)
        assert said == consent(*(each for each in recorded if isinstance(each, Said)))
