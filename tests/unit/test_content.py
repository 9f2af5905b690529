"""Content: templates, limits, and filling from an event's context, never by half."""

import pytest

from patient_contact.content import Content, Unfillable, fill, is_template, too_long
from patient_contact.facts import Channel

# Two bytes each in UTF-8.
UMLAUT = "ü"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("Hello $first_name", True),
        ("Hello ${first_name}!", True),
        ("It is $$50", True),
        ("no placeholder", True),
        ("It is $50", False),
        ("Hello $", False),
        ("Hello ${first name}", False),
        ("Hello ${first_name", False),
    ],
)
def test_every_dollar_begins_a_placeholder_or_is_doubled(text: str, valid: bool) -> None:
    assert is_template(text) is valid


@pytest.mark.parametrize(
    ("channel", "longest", "broken"),
    [
        ("text", UMLAUT * 1_600, "a text has at most 1600 characters"),
        ("call", UMLAUT * 6_000, "a call has at most 6000 characters"),
        ("email", UMLAUT * (16 * 1024), "an email body has at most 32768 bytes"),
    ],
)
def test_a_body_at_its_limit_is_accepted_and_one_character_more_is_not(
    channel: Channel, longest: str, broken: str
) -> None:
    assert too_long(channel, longest) is None
    assert too_long(channel, longest + "!") == broken


def test_every_channel_is_filled_from_the_same_context() -> None:
    content = Content(
        {"text": "Hi $name", "call": "Hello ${name}, at $when", "email": "Dear $name"}, subject="$name, your visit"
    )

    assert fill(content, {"name": "Pat", "when": 5, "unused": "x"}) == Content(
        {"text": "Hi Pat", "call": "Hello Pat, at 5", "email": "Dear Pat"}, subject="Pat, your visit"
    )


def test_a_doubled_dollar_is_sent_as_one() -> None:
    assert fill(Content({"text": "$$50 due, $name"}), {"name": "Pat"}) == Content({"text": "$50 due, Pat"})


def test_what_fills_a_placeholder_is_not_filled_again() -> None:
    assert fill(Content({"text": "Hi $name"}), {"name": "$when"}) == Content({"text": "Hi $when"})


@pytest.mark.parametrize(
    "content",
    [
        Content({"text": "Hi $name, $when and $where"}),
        Content({"text": "Hi", "email": "$name $when $where"}, subject="visit"),
        Content({"text": "Hi", "email": "Dear $name"}, subject="$when, $where"),
    ],
)
def test_a_missing_placeholder_is_named_and_nothing_is_filled(content: Content) -> None:
    with pytest.raises(Unfillable) as refused:
        fill(content, {"name": "Pat"})

    assert refused.value.reason == "missing placeholder: when, where"


@pytest.mark.parametrize(("channel", "limit"), [("text", 1_600), ("call", 6_000), ("email", 32 * 1024)])
def test_a_body_is_measured_again_when_filled(channel: Channel, limit: int) -> None:
    subject = "visit" if channel == "email" else None
    content = Content({channel: "$words"}, subject)

    assert fill(content, {"words": "x" * limit}) == Content({channel: "x" * limit}, subject)
    with pytest.raises(Unfillable) as refused:
        fill(content, {"words": "x" * (limit + 1)})
    assert refused.value.reason == f"{channel} too long when filled"


def test_a_subject_is_measured_again_when_filled() -> None:
    content = Content({"email": "body"}, "$words")

    assert fill(content, {"words": "x" * 250}).subject == "x" * 250
    with pytest.raises(Unfillable) as refused:
        fill(content, {"words": "x" * 251})
    assert refused.value.reason == "email subject too long when filled"


@pytest.mark.parametrize("breaks", ["\r\n", "\n", "\r", "\v", "\u2028"])
def test_a_line_break_from_the_context_starts_no_mail_header(breaks: str) -> None:
    filled = fill(Content({"email": "body"}, "Hello $name"), {"name": f"Pat{breaks}Bcc: all@example.org"})

    assert filled.subject == "Hello Pat Bcc: all@example.org"


def test_a_line_break_stays_in_a_body() -> None:
    assert fill(Content({"text": "$name"}), {"name": "a\nb"}) == Content({"text": "a\nb"})


def test_a_message_includes_the_channels_it_has_a_body_for() -> None:
    assert Content({"email": "body", "text": "body"}, "subject").channels == {"text", "email"}


def test_content_is_given_as_the_api_has_it_in_the_order_text_call_email() -> None:
    content = Content({"email": "e", "call": "c", "text": "t"}, "s")

    assert list(content.as_messages().items()) == [
        ("text", {"body": "t"}),
        ("call", {"body": "c"}),
        ("email", {"subject": "s", "body": "e"}),
    ]
    assert Content({"call": "c"}).as_messages() == {"call": {"body": "c"}}


def test_a_short_template_that_names_a_long_value_thousands_of_times_is_refused_before_it_is_built() -> None:
    with pytest.raises(Unfillable) as refused:
        fill(Content({"email": "$a" * 15_000}, "s"), {"a": "x" * 6_000})
    assert refused.value.reason == "email too long when filled"
