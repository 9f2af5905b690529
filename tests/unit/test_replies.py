"""What a reply means, by the table `tests/cases/replies.json` and for all texts; and when staff must have read it."""

import unicodedata
from datetime import date, timedelta
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patient_contact.replies import (
    BUSINESS_DAYS,
    HELP,
    MAX_ANALYSED,
    OPT_IN,
    OPT_OUT,
    Meaning,
    ReviewWord,
    due_on,
    meaning,
)
from tests.unit.cases import read

# However slow the machine.
unhurried = settings(deadline=None, database=None)

ROWS: list[dict[str, Any]] = read("replies")
KEYWORDS: dict[str, Meaning] = {
    **dict.fromkeys(
        (
            "STOP",
            "STOPALL",
            "STOP ALL",
            "UNSUBSCRIBE",
            "CANCEL",
            "END",
            "QUIT",
            "REVOKE",
            "OPTOUT",
            "OPT OUT",
            "REMOVE",
            "ARRET",
            "TD",
        ),
        "opt_out",
    ),
    **dict.fromkeys(("START", "UNSTOP", "YES"), "opt_in"),
    **dict.fromkeys(("HELP", "INFO"), "help"),
}
HANDED_OVER = ("CANCEL", "END", "QUIT", "REMOVE", "YES")


@pytest.mark.parametrize("row", ROWS, ids=[row["sentence"] for row in ROWS])
def test_a_reply_means_what_its_row_says(row: dict[str, Any]) -> None:
    assert meaning(row["text"], row.get("handed_over", ())) == row["meaning"]


class TestTable:
    def test_the_keywords_are_these_and_no_others(self) -> None:
        known = {
            **dict.fromkeys(OPT_OUT, "opt_out"),
            **dict.fromkeys(OPT_IN, "opt_in"),
            **dict.fromkeys(HELP, "help"),
        }
        assert {word.upper(): what for word, what in known.items()} == KEYWORDS
        assert get_args(ReviewWord) == HANDED_OVER

    def test_no_row_says_what_another_says(self) -> None:
        for part in ("sentence", ("text", "handed_over")):
            names = (part,) if isinstance(part, str) else part
            said = [tuple(str(row.get(name)) for name in names) for row in ROWS]
            assert sorted(set(said)) == sorted(said)

    def test_it_has_every_keyword_every_word_handed_over_and_every_meaning(self) -> None:
        plain = {row["text"]: row["meaning"] for row in ROWS if "handed_over" not in row}
        assert {word: plain[word] for word in KEYWORDS} == KEYWORDS
        assert {row["text"] for row in ROWS if row.get("handed_over") == [row["text"]]} == set(HANDED_OVER)
        assert {row["meaning"] for row in ROWS} == set(get_args(Meaning))

    @pytest.mark.parametrize("what", ["may_opt_out", "other"])
    def test_it_has_at_least_sixty_wishes_in_own_words_and_as_many_messages_that_are_none(self, what: str) -> None:
        assert sum(row["meaning"] == what for row in ROWS) >= 60


class TestLength:
    SMALL_TALK = "See you on Monday, and thank you for the new time. "
    WISH = "please stop texting me"

    @pytest.mark.parametrize("length", [160, 1_600, MAX_ANALYSED])
    def test_small_talk_of_any_length_asks_for_nothing(self, length: int) -> None:
        assert meaning((self.SMALL_TALK * length)[:length]) == "other"

    @pytest.mark.parametrize("length", [160, 1_600, MAX_ANALYSED])
    def test_a_wish_is_found_at_either_end_of_a_text_of_any_length(self, length: int) -> None:
        talk = (self.SMALL_TALK * length)[: length - len(self.WISH) - 2]
        assert meaning(f"{talk}. {self.WISH}") == "may_opt_out"
        assert meaning(f"{self.WISH}. {talk}") == "may_opt_out"

    def test_a_keyword_among_hundreds_of_blanks_is_one(self) -> None:
        assert meaning(f"{' ' * 800}STOP{' ' * 800}") == "opt_out"

    def test_a_keyword_that_is_said_for_1_600_characters_is_read_by_staff(self) -> None:
        assert meaning("STOP " * 320) == "may_opt_out"

    @pytest.mark.parametrize("text", [SMALL_TALK * 400, "x" * (MAX_ANALYSED + 1), " " * 20_000, "STOP" + " " * 2_000])
    def test_one_that_is_longer_than_a_text_can_be_may_be_an_opt_out_whatever_it_says(self, text: str) -> None:
        assert meaning(text) == meaning(text, HANDED_OVER) == "may_opt_out"

    def test_marks_that_would_take_seconds_to_put_in_order_are_left_to_staff(self) -> None:
        """Unicode sorts the marks of a letter, one by one past those that belong behind it."""
        assert meaning("a" + "".join(mark * 4_000 for mark in "\u0345\u035d\u0301\u0323\u0327")) == "may_opt_out"

    @pytest.mark.parametrize("text", ["👍" * 1_600, "?" * 1_600, "\u200b" * 1_600])
    def test_signs_of_any_number_are_no_words(self, text: str) -> None:
        assert meaning(text) == "other"


def _adds_no_word(sign: str, *, and_no_space: bool = False) -> bool:
    """Say whether a sign stays one when its form is simplified: ™ is two letters, and an accent alone is a space."""
    plain = unicodedata.normalize("NFKD", sign)
    return not any(each.isalnum() or (and_no_space and each.isspace()) for each in plain)


signs = st.characters(categories=("P", "S", "Z", "Cf")).filter(_adds_no_word) | st.sampled_from("\t\n\r")
inner = st.characters(categories=("P", "S", "Cf")).filter(lambda sign: _adds_no_word(sign, and_no_space=True))
spaces = st.text(st.sampled_from(" \t\n\u00a0\u2003"), min_size=1, max_size=4)


@st.composite
def decorated(draw: st.DrawFn, keyword: str) -> str:
    """A keyword as somebody may write it: each letter in some case, width and accent, signs around and between."""

    def letter(plain: str) -> str:
        ways = [plain.lower(), plain, chr(ord(plain) + 0xFEE0), chr(ord(plain.lower()) + 0xFEE0)]
        return draw(st.sampled_from(ways)) + draw(st.sampled_from(["", "", "\u0301", "\u0308"]))

    between = draw(st.sampled_from(["", "", ".", "-"]) | inner)
    words = [between.join(letter(plain) for plain in word) for word in keyword.split()]
    before, after = draw(st.text(signs, max_size=5)), draw(st.text(signs, max_size=5))
    return before + draw(spaces).join(words) + after


any_text = st.text(st.characters(exclude_categories=()))
WORDS = [
    "stop",
    "please",
    "texting",
    "me",
    "no",
    "more",
    "cancel",
    "my",
    "appointment",
    "yes",
    "help",
    "don't",
    "wrong",
]
some_words = st.lists(st.sampled_from([*WORDS, "number", "🛑", "👍", ".", "“", "liked", "to"]), max_size=8).map(
    " ".join
)


class TestAllTexts:
    @unhurried
    @given(st.sampled_from(sorted(KEYWORDS)).flatmap(lambda word: st.tuples(st.just(word), decorated(word))))
    def test_a_keyword_is_one_in_any_case_among_any_spaces_and_signs(self, written: tuple[str, str]) -> None:
        keyword, text = written
        assert meaning(text) == KEYWORDS[keyword]

    @unhurried
    @given(st.sampled_from(HANDED_OVER).flatmap(lambda word: st.tuples(st.just(word), decorated(word))))
    def test_a_word_that_is_handed_over_is_never_acted_on_however_it_is_written(self, written: tuple[str, str]) -> None:
        keyword, text = written
        assert meaning(text, [keyword]) == ("may_opt_in" if keyword == "YES" else "may_opt_out")

    @unhurried
    @given(any_text | some_words)
    @example("\ud83d")
    @example("\x00")
    def test_every_text_means_something(self, text: str) -> None:
        assert meaning(text) in get_args(Meaning)

    @unhurried
    @given(any_text | some_words | st.sampled_from(sorted(KEYWORDS)).flatmap(decorated))
    def test_only_a_keyword_is_acted_on(self, text: str) -> None:
        """Whatever is made of signs and accents, the letters that are left are the keyword's and nobody else's."""
        letters = "".join(each for each in unicodedata.normalize("NFKD", text.casefold()) if each.isalnum())
        whole = {word.replace(" ", ""): what for word, what in KEYWORDS.items()}
        if meaning(text) in ("opt_out", "opt_in", "help"):
            assert meaning(text) == whole[letters.upper()]

    @unhurried
    @given(any_text | some_words | st.sampled_from(sorted(KEYWORDS)).flatmap(decorated))
    def test_to_hand_words_over_takes_no_wish_away(self, text: str) -> None:
        read_by_staff = {"opt_out": "may_opt_out", "opt_in": "may_opt_in"}
        alone = meaning(text)
        assert meaning(text, HANDED_OVER) in (alone, read_by_staff.get(alone))

    @unhurried
    @given(some_words)
    def test_one_who_asks_to_stop_in_passing_is_heard_in_any_company(self, text: str) -> None:
        assert meaning(f"{text}. Please stop texting me. {text}") == "may_opt_out"


class TestReactions:
    @pytest.mark.parametrize("verb", ["Liked", "Loved", "Disliked", "Laughed at", "Emphasized", "Questioned"])
    @unhurried
    @given(said=some_words)
    def test_what_a_reaction_quotes_is_our_own_and_no_wish(self, verb: str, said: str) -> None:
        assert meaning(f"{verb} “{said} Reply STOP to opt out”") == "other"

    @pytest.mark.parametrize("verb", ["Liked", "Loved", "Questioned"])
    def test_what_follows_the_quote_is_the_patients(self, verb: str) -> None:
        assert meaning(f"{verb} “See you” stop texting me") == "may_opt_out"

    @pytest.mark.parametrize("quotes", ["“”", '""', "«»"])
    @unhurried
    @given(quoted=some_words.filter(lambda words: "“" not in words))
    def test_so_is_what_stands_between_two_quotes(self, quotes: str, quoted: str) -> None:
        one, two = f"{quotes[0]}See you{quotes[1]}", f"{quotes[0]}{quoted}{quotes[1]}"
        assert meaning(f"Liked {one} and stop texting me {two}") == "may_opt_out"
        assert meaning(f"Liked {one} and {two}") == "other"

    @pytest.mark.parametrize("outer", ["“”", '""', "«»"])
    @pytest.mark.parametrize("inner", ["“”", '""', "«»"])
    def test_a_quote_within_the_quote_is_ours_too(self, outer: str, inner: str) -> None:
        assert meaning(f"Liked {outer[0]}Reply {inner[0]}STOP{inner[1]} to opt out{outer[1]}") == "other"


class TestDueOn:
    @pytest.mark.parametrize(
        ("said_on", "due"),
        [
            pytest.param("2026-03-02", "2026-03-16", id="two weeks without a holiday"),
            pytest.param("2026-03-06", "2026-03-20", id="a Friday"),
            pytest.param("2026-03-07", "2026-03-20", id="a Saturday"),
            pytest.param("2026-03-08", "2026-03-20", id="a Sunday"),
            pytest.param("2026-01-05", "2026-01-20", id="the birthday of Martin Luther King, Jr."),
            pytest.param("2026-02-02", "2026-02-17", id="Washington's birthday"),
            pytest.param("2028-02-21", "2028-03-06", id="said on a holiday, and across a leap day"),
            pytest.param("2026-05-15", "2026-06-01", id="Memorial Day"),
            pytest.param("2020-06-10", "2020-06-24", id="before Juneteenth was a holiday"),
            pytest.param("2026-06-05", "2026-06-22", id="Juneteenth"),
            pytest.param("2027-06-10", "2027-06-25", id="Juneteenth on a Saturday, observed the day before"),
            pytest.param("2022-06-10", "2022-06-27", id="Juneteenth on a Sunday, observed the day after"),
            pytest.param("2026-06-18", "2026-07-06", id="Juneteenth, and Independence Day on a Saturday"),
            pytest.param("2026-08-28", "2026-09-14", id="Labor Day"),
            pytest.param("2026-10-01", "2026-10-16", id="Columbus Day"),
            pytest.param("2026-11-02", "2026-11-17", id="Veterans Day"),
            pytest.param("2026-11-13", "2026-11-30", id="Thanksgiving, whose Friday is a business day"),
            pytest.param("2026-11-25", "2026-12-10", id="the day before Thanksgiving"),
            pytest.param("2026-12-21", "2027-01-06", id="Christmas and New Year, across the year"),
            pytest.param("2021-12-13", "2021-12-28", id="Christmas on a Saturday, observed the day before"),
            pytest.param(
                "2021-12-17", "2022-01-04", id="Christmas and New Year on Saturdays, observed in the old year"
            ),
            pytest.param("2022-12-16", "2023-01-03", id="Christmas and New Year on Sundays, observed the days after"),
            pytest.param("2027-12-20", "2028-01-05", id="Christmas and New Year on Saturdays, once more"),
        ],
    )
    def test_it_is_the_tenth_business_day_after(self, said_on: str, due: str) -> None:
        assert due_on(date.fromisoformat(said_on)) == date.fromisoformat(due)

    @unhurried
    @given(st.dates(date(2022, 1, 1), date(2060, 12, 31)))
    def test_ten_business_days_lie_after_it_the_last_of_them_the_day_on_which_it_is_due(self, said_on: date) -> None:
        due = due_on(said_on)
        days = [said_on + timedelta(days=n) for n in range(1, (due - said_on).days + 1)]
        business_days = [day for day in days if _is_business_day(day)]
        assert len(business_days) == BUSINESS_DAYS == 10
        assert business_days[-1] == due

    @unhurried
    @given(st.dates(date(2022, 1, 1), date(2060, 12, 31)))
    def test_what_is_said_later_is_never_due_earlier(self, said_on: date) -> None:
        assert due_on(said_on) <= due_on(said_on + timedelta(days=1))


def _is_business_day(day: date) -> bool:
    """Say whether US federal offices are open, by 5 U.S.C. 6103 and not by a library."""
    observed = set()
    # New Year may be observed in the old year.
    for year in (day.year, day.year + 1):
        for month, of_month in ((1, 1), (6, 19), (7, 4), (11, 11), (12, 25)):
            on = date(year, month, of_month)
            observed.add(on + timedelta(days={5: -1, 6: 1}.get(on.weekday(), 0)))
    of_weekdays = {
        (1, 0, 3),  # Martin Luther King, Jr.
        (2, 0, 3),  # Washington
        (9, 0, 1),  # Labor Day
        (10, 0, 2),  # Columbus Day
        (11, 3, 4),  # Thanksgiving
    }
    is_memorial_day = (day.month, day.weekday()) == (5, 0) and day.day > 24
    is_nth_weekday = (day.month, day.weekday(), (day.day + 6) // 7) in of_weekdays
    return day.weekday() < 5 and day not in observed and not is_nth_weekday and not is_memorial_day
