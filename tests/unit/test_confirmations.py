"""Confirmations: what is texted after a keyword, and until when that is still worth saying."""

import re
from typing import get_args

import pytest

from patient_contact.confirmations import PREFIX, WITHIN_MINUTES, Kind, body, still_holds
from patient_contact.consent import NOTHING_SAID, LineConsent, OpenReview, Said, Wish
from patient_contact.facesheet import Line, Practice
from patient_contact.facts import Policy
from patient_contact.received import MESSAGE_ID_PATTERN

LINE = Line("main", "Main", "+15035559000")
KINDS: tuple[Kind, ...] = get_args(Kind)


def practice(name: str) -> Practice:
    return Practice("north", name, "America/Los_Angeles", "US", Policy(), (LINE,), "main", sending=True, version=1)


class TestBody:
    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            (
                "opt_out",
                (
                    "North Clinic: You are opted out and will get no more texts from this number. "
                    "Reply START to opt in again."
                ),
            ),
            (
                "opt_in",
                "North Clinic: You are opted in to texts from this number again. Reply HELP for help, STOP to opt out.",
            ),
            (
                "help",
                (
                    "North Clinic: Messages about your care. Call +1 503-555-9000 for help. "
                    "Msg & data rates may apply. Reply STOP to end."
                ),
            ),
        ],
    )
    def test_it_says_who_writes_and_what_holds(self, kind: Kind, expected: str) -> None:
        assert body(kind, practice("North Clinic"), LINE) == expected

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["A", "North Clinic", "Cascade Family Medicine & Dental", "X" * 40])
    def test_it_is_one_text_for_a_usual_name(self, kind: Kind, name: str) -> None:
        text = body(kind, practice(name), LINE)
        assert text.startswith(f"{name}: ")
        assert len(text) <= 160

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_name_is_taken_as_it_is(self, kind: Kind) -> None:
        assert body(kind, practice("{number} {0} $name %s"), LINE).startswith("{number} {0} $name %s: ")

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_longest_name_still_makes_a_text_that_is_accepted(self, kind: Kind) -> None:
        assert len(body(kind, practice("x" * 200), LINE)) <= 1_600

    def test_help_says_which_number_to_call_and_every_text_how_to_end_or_begin(self) -> None:
        assert "+1 503-555-9000" in body("help", practice("North Clinic"), LINE)
        ways_out = {kind: "STOP" if kind != "opt_out" else "START" for kind in KINDS}
        assert all(word in body(kind, practice("North Clinic"), LINE) for kind, word in ways_out.items())


def said(id_: str, status: Wish, second: int, *, own: bool = True) -> Said:
    at = f"2026-11-24T18:00:{second:02}.000000Z"
    return Said(id_, status, "keyword" if own else "carrier", at, at, own=own)


STOP, START = said("stop", "opted_out", 1), said("start", "opted_in", 1)
LATER_STOP, LATER_START = said("stop-2", "opted_out", 2), said("start-2", "opted_in", 2)
CARRIER = said("attempt", "opted_out", 3, own=False)
STAFF_OUT = Said("staff", "opted_out", "staff", "2026-11-24T18:00:05.000000Z", "2026-11-24T18:00:05.000000Z", "staff-7")
REVIEW = OpenReview("opted_out", "2026-11-24T18:00:06.000000Z", "2026-11-24T18:00:06.000000Z")


def consent(*wishes: Said) -> LineConsent:
    known = NOTHING_SAID
    for wish in wishes:
        known = known.after(wish)
    return known


class TestStillHolds:
    @pytest.mark.parametrize(
        ("kind", "reply_id", "known", "expected"),
        [
            # The last that was said is confirmed.
            ("opt_out", "stop", consent(STOP), True),
            ("opt_in", "start", consent(START), True),
            ("opt_in", "start-2", consent(STOP, LATER_START), True),
            ("opt_out", "stop-2", consent(START, LATER_STOP), True),
            # What was said before it is not any more, in whatever order it was recorded.
            ("opt_out", "stop", consent(STOP, LATER_START), False),
            ("opt_out", "stop", consent(LATER_START, STOP), False),
            ("opt_in", "start", consent(START, LATER_STOP), False),
            ("opt_in", "start", consent(LATER_STOP, START), False),
            ("opt_out", "stop", consent(STOP, LATER_STOP), False),
            ("opt_in", "start", consent(START, LATER_START), False),
            # At the same moment the opt-out stands.
            ("opt_out", "stop", consent(START, STOP), True),
            ("opt_in", "start", consent(START, STOP), False),
            # An opt-in that something else stands above is none; an opt-out is one, whoever else has said so.
            ("opt_in", "start", consent(START, CARRIER), False),
            ("opt_in", "start", consent(START, STAFF_OUT), False),
            ("opt_out", "stop", consent(STOP, CARRIER), True),
            ("opt_out", "stop", consent(STOP, STAFF_OUT), True),
            ("opt_in", "start", consent(START).under_review("x", REVIEW), False),
            ("opt_out", "stop", consent(STOP).under_review("x", REVIEW), True),
            # Nothing of it is known.
            ("opt_out", "stop", NOTHING_SAID, False),
            ("opt_in", "start", NOTHING_SAID, False),
            ("opt_out", "stop", consent(CARRIER), False),
            # Help is given to whoever asks.
            ("help", "help", NOTHING_SAID, True),
            ("help", "help", consent(STOP), True),
            ("help", "help", consent(START, CARRIER), True),
        ],
    )
    def test_a_reply_is_confirmed_while_it_is_the_last_word(
        self, kind: Kind, reply_id: str, known: LineConsent, expected: bool
    ) -> None:
        assert still_holds(kind, reply_id, known) is expected


def test_the_id_of_a_confirmation_is_one_of_a_message() -> None:
    assert re.fullmatch(MESSAGE_ID_PATTERN, PREFIX + "a" * 128)
    assert WITHIN_MINUTES == 5
