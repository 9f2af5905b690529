"""Patients over HTTP: contact info, the facesheet, preferences, consent, history and search."""

import base64
from typing import Any

import pytest

from patient_contact import aws, table
from tests.integration.service import (
    CELL,
    CONTACT_INFO,
    CURSOR,
    LANDLINE,
    MANUAL_TEXT,
    PRACTICE,
    STALE,
    TIME,
    UNKNOWN_PATIENT,
    UNKNOWN_PRACTICE,
    Answer,
    Service,
    fault,
    invalid,
    problem,
    receipt,
    reply,
)

# What the facesheet says of each phone beside what is on file, where nothing else is known of it.
ALONE = {"suspect": False, "shared_with": 0}
ON_FILE: dict[str, Any] = {
    "phones": [
        {"number": CELL, "line_type": "text_enabled", "status": "valid"},
        {"number": LANDLINE, "line_type": "landline", "status": "valid"},
    ],
    "emails": [{"address": "pat@example.org", "status": "valid"}],
}
PHONES: list[dict[str, Any]] = [
    {**phone, **ALONE, "display": display} for phone, display in zip(ON_FILE["phones"], ("TEXT", "CALL"), strict=True)
]
FACESHEET: dict[str, Any] = {
    "practice_id": "north",
    "patient_id": "p-1",
    "version": 1,
    "phones": PHONES,
    "emails": ON_FILE["emails"],
    "preferred_contact": None,
    "do_not_contact": False,
    "sms_consent": {"status": "Opted In", "numbers": []},
    "updated_at": TIME,
    "updated_by": "staff-7",
}
NOT_ON_FILE = invalid((["body", "phone_number"], "not_on_file", "this phone is not on the patient's file"))
PREFERRED_CELL = {"number": CELL, "display": "TEXT", "on_file": True}

PATIENT = "north/patients/p-1"
CONTACT = f"{PATIENT}/contact-info"
PREFERRED = f"{PATIENT}/preferred-contact"
SILENCE = f"{PATIENT}/do-not-contact"
CONSENT = f"{PATIENT}/sms-consent"
OPT_OUT = {"phone_number": CELL, "line": "main", "status": "opted_out"}


def consent(number: str, line: str = "main") -> dict[str, object]:
    return {"phone_number": number, "line": line, "status": "opted_out", "source": "staff", "recorded_at": TIME}


class TestContactInfo:
    def test_a_new_patient_is_answered_with_the_facesheet_at_version_1(self, north: Service) -> None:
        answer = north.put("north/patients/p-2/contact-info", CONTACT_INFO)
        phones = [{**phone, "shared_with": 1} for phone in PHONES]
        assert answer == Answer(200, FACESHEET | {"patient_id": "p-2", "phones": phones}, {})
        assert answer.headers["etag"] == '"1"'

    def test_the_same_contact_info_again_changes_nothing(self, north: Service) -> None:
        before = north.items()
        answer = north.put(CONTACT, CONTACT_INFO, sub="someone-else")
        assert answer == Answer(200, FACESHEET, {})
        assert north.items() == before
        assert north.new_stream_records() == []

    def test_a_replacement_replaces_phones_and_emails_and_nothing_else(self, north: Service) -> None:
        assert north.put(PREFERRED, {"phone_number": CELL}).status == 200
        assert north.put(SILENCE, {"enabled": True}).status == 200
        answer = north.put(CONTACT, {"phones": [{"number": CELL}], "emails": []})
        assert north.carriers.lookups == {CELL: 1}
        expected = FACESHEET | {
            "version": 4,
            # Looked up, since registration does not say it any more.
            "phones": [PHONES[0]],
            "emails": [],
            "preferred_contact": PREFERRED_CELL,
            "do_not_contact": True,
        }
        assert answer == Answer(200, expected, {})
        assert answer.headers["etag"] == '"4"'
        assert north.get(PATIENT) == Answer(200, expected, {})

    def test_a_patient_may_have_nothing_on_file(self, north: Service) -> None:
        answer = north.put(CONTACT, {"phones": [], "emails": []})
        assert answer == Answer(200, FACESHEET | {"version": 2, "phones": [], "emails": []}, {})

    def test_junk_is_kept_as_it_came_invalid_and_never_refused(self, north: Service) -> None:
        junk = ["555 CALL ME", "n/a", "+1", "☎", "12", "+15035550", "000-000-0000", "PATIENT#p-2"]
        answer = north.put(
            CONTACT, {"phones": [{"number": number} for number in junk], "emails": [{"address": "none"}]}
        )
        assert answer.body["phones"] == [
            {"number": number, "line_type": "unknown", "status": "invalid", **ALONE, "display": "CALL"}
            for number in junk
        ]
        assert answer.body["emails"] == [{"address": "none", "status": "invalid"}]

    def test_junk_keeps_the_line_type_that_was_given_and_cannot_be_valid(self, north: Service) -> None:
        phone = {"number": "555 CALL ME", "line_type": "text_enabled", "status": "valid"}
        answer = north.put(CONTACT, {"phones": [phone], "emails": []})
        assert answer.body["phones"] == [{**phone, **ALONE, "status": "invalid", "display": "TEXT"}]

    def test_numbers_are_normalised_and_duplicates_merged(self, north: Service) -> None:
        phones = [
            {"number": "(503) 555-0102"},
            {"number": "503-555-0101", "line_type": "landline"},
            {"number": "+1 503 555 0102", "line_type": "text_enabled"},
            {"number": CELL, "line_type": "text_enabled", "status": "invalid"},
            {"number": LANDLINE, "line_type": "unknown"},
        ]
        emails = [{"address": "Pat@EXAMPLE.org"}, {"address": "Pat@example.org", "status": "invalid"}]
        answer = north.put(CONTACT, {"phones": phones, "emails": emails})
        assert answer.body["phones"] == [
            {"number": LANDLINE, "line_type": "text_enabled", "status": "valid", **ALONE, "display": "TEXT"},
            {"number": CELL, "line_type": "text_enabled", "status": "invalid", **ALONE, "display": "TEXT"},
        ]
        assert answer.body["emails"] == [{"address": "Pat@example.org", "status": "invalid"}]

    def test_a_number_of_another_country_keeps_its_country(self, north: Service) -> None:
        answer = north.put(CONTACT, {"phones": [{"number": "+44 20 7946 0958"}], "emails": []})
        assert [phone["number"] for phone in answer.body["phones"]] == ["+442079460958"]

    def test_twenty_phones_and_emails_are_accepted(self, north: Service) -> None:
        phones = [{"number": f"+150355501{n:02}"} for n in range(20)]
        emails = [{"address": f"p{n}@example.org"} for n in range(20)]
        answer = north.put(CONTACT, {"phones": phones, "emails": emails})
        assert (answer.status, len(answer.body["phones"]), len(answer.body["emails"])) == (200, 20, 20)

    def test_twenty_one_phones_or_emails_are_refused_even_if_they_are_the_same(self, north: Service) -> None:
        answer = north.put(
            CONTACT, {"phones": [{"number": CELL}] * 21, "emails": [{"address": "pat@example.org"}] * 21}
        )
        message = "List should have at most 20 items after validation, not 21"
        assert answer == invalid((["body", "phones"], "too_long", message), (["body", "emails"], "too_long", message))

    def test_an_unknown_practice_has_no_patients(self, service: Service) -> None:
        assert service.put(CONTACT, CONTACT_INFO) == UNKNOWN_PRACTICE
        assert service.items() == []

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            (
                {},
                [(["body", "phones"], "missing", "Field required"), (["body", "emails"], "missing", "Field required")],
            ),
            ({"phones": None, "emails": []}, [(["body", "phones"], "list_type", "Input should be a valid list")]),
            (
                {"phones": [CELL], "emails": []},
                [
                    (
                        ["body", "phones", 0],
                        "model_attributes_type",
                        "Input should be a valid dictionary or object to extract fields from",
                    )
                ],
            ),
            (
                {"phones": [{"number": 5035550101}], "emails": []},
                [(["body", "phones", 0, "number"], "string_type", "Input should be a valid string")],
            ),
            (
                {"phones": [{"number": ""}], "emails": []},
                [
                    (
                        ["body", "phones", 0, "number"],
                        "string_too_short",
                        "String should have at least 1 character",
                    )
                ],
            ),
            (
                {"phones": [{"number": "5" * 65}], "emails": []},
                [
                    (
                        ["body", "phones", 0, "number"],
                        "string_too_long",
                        "String should have at most 64 characters",
                    )
                ],
            ),
            (
                {"phones": [{"number": CELL, "line_type": "mobile"}], "emails": []},
                [
                    (
                        ["body", "phones", 0, "line_type"],
                        "literal_error",
                        "Input should be 'text_enabled', 'landline' or 'unknown'",
                    )
                ],
            ),
            (
                {"phones": [], "emails": [{"address": "pat@example.org", "status": True}]},
                [(["body", "emails", 0, "status"], "literal_error", "Input should be 'valid' or 'invalid'")],
            ),
            (
                {"phones": [], "emails": [], "do_not_contact": True},
                [(["body", "do_not_contact"], "extra_forbidden", "Extra inputs are not permitted")],
            ),
        ],
    )
    def test_what_contact_info_cannot_be_is_refused_by_field(
        self, north: Service, body: object, errors: list[tuple[list[str | int], str, str]]
    ) -> None:
        before = north.items()
        assert north.put(CONTACT, body) == invalid(*errors)
        assert north.items() == before


class TestFacesheet:
    def test_it_answers_with_its_entity_tag(self, north: Service) -> None:
        answer = north.get(PATIENT)
        assert answer == Answer(200, FACESHEET, {})
        assert answer.headers["etag"] == '"1"'
        assert answer.headers["cache-control"] == "no-store"

    def test_it_says_how_many_others_have_each_phone_and_not_how_many_have_phones_like_it(self, north: Service) -> None:
        both = {"phones": [{"number": CELL, "line_type": "landline"}, {"number": "555 CALL ME"}], "emails": []}
        for patient_id in ("p-2", "p-3"):
            assert north.put(f"north/patients/{patient_id}/contact-info", both).status == 200
        assert north.put("north/patients/p-4/contact-info", ON_FILE).status == 200
        phones = [{**PHONES[0], "shared_with": 3}, {**PHONES[1], "shared_with": 1}]
        assert north.get(PATIENT) == Answer(200, FACESHEET | {"phones": phones}, {})
        assert [phone["shared_with"] for phone in north.get("north/patients/p-2").body["phones"]] == [3, 0]
        assert north.put("north/patients/p-4/contact-info", {"phones": [], "emails": []}).status == 200
        assert [phone["shared_with"] for phone in north.get(PATIENT).body["phones"]] == [2, 0]

    @pytest.mark.parametrize(("others", "shown"), [(1, 1), (99, 99), (100, 100), (101, "100+"), (500, "100+")])
    @pytest.mark.parametrize("prefix", ["a", "z"])
    def test_others_are_counted_to_a_hundred(self, north: Service, others: int, shown: int | str, prefix: str) -> None:
        for n in range(others):
            table.put({"PK": table.number_pk("north", CELL), "SK": f"PATIENT#{prefix}-{n:03}"})
        phones = [{**PHONES[0], "shared_with": shown}, PHONES[1]]
        assert north.get(PATIENT) == Answer(200, FACESHEET | {"phones": phones}, {})

    def test_a_phone_that_has_failed_lately_is_suspect_for_all_who_share_it(self, north: Service) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO).status == 200
        assert north.record_receipts(receipt("TEXT_UNREACHABLE")) == []
        phones = [
            {**PHONES[0], "suspect": True, "shared_with": 1},
            {**PHONES[1], "shared_with": 1},
        ]
        for patient_id in ("p-1", "p-2"):
            sheet = FACESHEET | {"patient_id": patient_id, "phones": phones}
            assert north.get(f"north/patients/{patient_id}") == Answer(200, sheet, {})

    def test_an_unknown_patient_is_not_found(self, north: Service) -> None:
        assert north.get("north/patients/p-2") == UNKNOWN_PATIENT

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "preferred-contact", {"phone_number": CELL}),
            ("DELETE", "preferred-contact", None),
            ("PUT", "do-not-contact", {"enabled": True}),
            ("PUT", "sms-consent", OPT_OUT),
            ("GET", "changes", None),
            ("GET", "decisions", None),
            ("POST", "messages", {"channel": "text", "body": "Hi"}),
        ],
    )
    def test_an_unknown_patient_has_nothing_and_gets_nothing(
        self, north: Service, method: str, path: str, body: object
    ) -> None:
        before = north.items()
        answer = north.call(method, f"north/patients/p-2/{path}", body, headers={"idempotency-key": "k"})
        assert answer == UNKNOWN_PATIENT
        assert north.items() == before


class TestPreferredContact:
    @pytest.mark.parametrize("written", [CELL, "503-555-0101", "(503) 555 0101"])
    def test_it_is_a_phone_on_file_however_it_is_written(self, north: Service, written: str) -> None:
        answer = north.put(PREFERRED, {"phone_number": written})
        assert answer == Answer(200, FACESHEET | {"version": 2, "preferred_contact": PREFERRED_CELL}, {})
        assert answer.headers["etag"] == '"2"'

    def test_a_landline_is_shown_as_call(self, north: Service) -> None:
        answer = north.put(PREFERRED, {"phone_number": LANDLINE})
        assert answer.body["preferred_contact"] == {"number": LANDLINE, "display": "CALL", "on_file": True}

    def test_it_can_be_taken_back(self, north: Service) -> None:
        assert north.put(PREFERRED, {"phone_number": CELL}).status == 200
        assert north.delete(PREFERRED) == Answer(200, FACESHEET | {"version": 3}, {})

    def test_one_that_has_left_the_file_is_dormant_and_counts_again_when_it_returns(self, north: Service) -> None:
        assert north.put(PREFERRED, {"phone_number": CELL}).status == 200
        without = {"phones": [CONTACT_INFO["phones"][1]], "emails": []}
        dormant = north.put(CONTACT, without).body
        assert dormant["preferred_contact"] == {"number": CELL, "display": "CALL", "on_file": False}
        returned = north.put(CONTACT, CONTACT_INFO)
        assert returned == Answer(200, FACESHEET | {"version": 4, "preferred_contact": PREFERRED_CELL}, {})

    def test_a_phone_that_is_not_on_file_is_refused(self, north: Service) -> None:
        before = north.items()
        assert north.put(PREFERRED, {"phone_number": "+15035550199"}) == NOT_ON_FILE
        assert north.put(PREFERRED, {"phone_number": "no number"}) == NOT_ON_FILE
        assert north.items() == before

    def test_an_email_address_is_refused_even_if_it_is_on_file(self, north: Service) -> None:
        assert north.put(PREFERRED, {"phone_number": "pat@example.org"}) == invalid(
            (["body", "phone_number"], "value_error", "Email is not supported as a preferred contact.")
        )


class TestDoNotContact:
    def test_it_is_switched_on_and_off(self, north: Service) -> None:
        on = FACESHEET | {"version": 2, "do_not_contact": True}
        assert north.put(SILENCE, {"enabled": True, "note": "asked by phone"}) == Answer(200, on, {})
        assert north.put(SILENCE, {"enabled": False}) == Answer(200, FACESHEET | {"version": 3}, {})

    def test_a_note_of_a_thousand_characters_is_kept_and_a_longer_one_refused(self, north: Service) -> None:
        assert north.put(SILENCE, {"enabled": True, "note": "é" * 1_000}).status == 200
        assert north.put(SILENCE, {"enabled": True, "note": "é" * 1_001}) == invalid(
            (["body", "note"], "string_too_long", "String should have at most 1000 characters")
        )

    @pytest.mark.parametrize("enabled", ["true", 1, None])
    def test_it_is_true_or_false_and_nothing_like_it(self, north: Service, enabled: object) -> None:
        assert north.put(SILENCE, {"enabled": enabled}) == invalid(
            (["body", "enabled"], "bool_type", "Input should be a valid boolean")
        )


class TestSmsConsent:
    def test_an_opt_out_by_staff_is_on_the_facesheet_and_no_new_version(self, north: Service) -> None:
        opted_out = {"status": "Opted Out of 1 numbers", "numbers": [consent(CELL)]}
        answer = north.put(CONSENT, OPT_OUT | {"note": "called us"})
        assert answer == Answer(200, FACESHEET | {"sms_consent": opted_out}, {})
        assert answer.headers["etag"] == '"1"'

    def test_each_phone_and_line_counts(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        assert north.put(CONSENT, OPT_OUT | {"line": "billing"}).status == 200
        answer = north.put(CONSENT, OPT_OUT | {"phone_number": "(503) 555-0102"})
        assert answer.body["sms_consent"] == {
            "status": "Opted Out of 3 numbers",
            "numbers": [consent(CELL, "billing"), consent(CELL), consent(LANDLINE)],
        }

    def test_the_same_opt_out_again_is_history_and_counts_once(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        answer = north.put(CONSENT, OPT_OUT)
        assert answer.body["sms_consent"] == {"status": "Opted Out of 1 numbers", "numbers": [consent(CELL)]}
        assert sum(item["SK"]["S"].startswith("CONSENT#main#") for item in north.items()) == 2

    def test_it_belongs_to_the_number_and_shows_for_all_who_share_it(self, north: Service) -> None:
        spouse = {"phones": [{"number": CELL}], "emails": []}
        assert north.put("north/patients/p-2/contact-info", spouse).status == 200
        assert north.put(CONSENT, OPT_OUT).status == 200
        answer = north.get("north/patients/p-2")
        assert answer.body["sms_consent"] == {"status": "Opted Out of 1 numbers", "numbers": [consent(CELL)]}
        assert (answer.body["version"], answer.headers["etag"]) == (1, '"1"')

    def test_it_stays_with_a_number_that_leaves_the_file_and_returns(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        left = north.put(CONTACT, {"phones": [], "emails": []})
        assert left.body["sms_consent"] == {"status": "Opted In", "numbers": []}
        returned = north.put(CONTACT, CONTACT_INFO)
        assert returned.body["sms_consent"] == {"status": "Opted Out of 1 numbers", "numbers": [consent(CELL)]}

    def test_it_is_honoured_by_the_next_message(self, north: Service) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        answer = north.post(f"{PATIENT}/messages", {"channel": "text", "body": "Hi"}, headers={"idempotency-key": "k"})
        assert (answer.status, answer.body["reason"]) == (409, "SMS_OPTED_OUT")

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"phone_number": "+15035550199"}, (["body", "phone_number"], "not_on_file", NOT_ON_FILE.body["detail"])),
            ({"line": "unknown"}, (["body", "line"], "unknown_line", "the practice has no such line")),
            (
                {"status": "under_review"},
                (["body", "status"], "literal_error", "Input should be 'opted_out' or 'opted_in'"),
            ),
            (
                {"status": "opted_in"},
                (["body", "evidence"], "missing", "opting in for a patient needs evidence of their wish"),
            ),
            (
                {"status": "opted_in", "evidence": "she said so"},
                (
                    ["body", "evidence"],
                    "literal_error",
                    "Input should be 'signed_form', 'recorded_call' or 'portal'",
                ),
            ),
            ({"source": "keyword"}, (["body", "source"], "extra_forbidden", "Extra inputs are not permitted")),
        ],
    )
    def test_what_staff_cannot_record_is_refused(
        self, north: Service, change: dict[str, object], error: tuple[list[str | int], str, str]
    ) -> None:
        before = north.items()
        assert north.put(CONSENT, OPT_OUT | change) == invalid(error)
        assert north.items() == before

    @pytest.mark.parametrize("evidence", ["signed_form", "recorded_call", "portal"])
    def test_an_opt_in_by_staff_with_evidence_ends_an_opt_out_by_staff(self, north: Service, evidence: str) -> None:
        assert north.put(CONSENT, OPT_OUT).status == 200
        opt_in = OPT_OUT | {"status": "opted_in", "evidence": evidence, "note": "form in the file"}
        opted_in = {"status": "Opted In", "numbers": [consent(CELL) | {"status": "opted_in"}]}
        answer = north.put(CONSENT, opt_in, sub="staff-8")
        assert answer == Answer(200, FACESHEET | {"sms_consent": opted_in}, {})
        assert answer.headers["etag"] == '"1"'
        assert north.get(PATIENT) == answer

    def test_a_form_that_is_sent_again_after_a_newer_opt_out_answers_with_the_facesheet_as_it_is(
        self, north: Service
    ) -> None:
        signed = OPT_OUT | {"status": "opted_in", "evidence": "signed_form", "said_at": "2024-05-06T12:00:00-07:00"}
        opted_in = {"status": "Opted In", "numbers": [consent(CELL) | {"status": "opted_in"}]}
        assert north.put(CONSENT, signed) == Answer(200, FACESHEET | {"sms_consent": opted_in}, {})
        assert north.put(CONSENT, OPT_OUT).status == 200
        before = north.items()
        opted_out = {"status": "Opted Out of 1 numbers", "numbers": [consent(CELL)]}
        assert north.put(CONSENT, signed) == Answer(200, FACESHEET | {"sms_consent": opted_out}, {})
        assert north.items() == before

    def test_an_opt_out_by_the_patients_own_keyword_only_the_patient_can_undo(self, north: Service) -> None:
        assert north.record_replies(reply("STOP")) == []
        # Not even when staff have recorded the same since.
        assert north.put(CONSENT, OPT_OUT).status == 200
        before = north.items()
        message = "the patient opted out by replying; only they can opt in again, by replying START"
        assert north.put(CONSENT, OPT_OUT | {"status": "opted_in", "evidence": "signed_form"}) == invalid(
            (["body", "status"], "opted_out_by_the_patient", message)
        )
        assert north.items() == before

    def test_an_opt_in_by_staff_waits_for_a_reply_that_may_be_an_opt_out_to_be_read(self, north: Service) -> None:
        assert north.record_replies(reply("please stop texting me")) == []
        before = north.items()
        answer = north.put(CONSENT, OPT_OUT | {"status": "opted_in", "evidence": "portal"})
        assert answer == problem(
            409, "review-open", "Conflict", "A reply that may be an opt-out waits to be read: close its review first."
        )
        assert north.items() == before
        under_review = {"status": "under_review", "source": "keyword"}
        assert north.get(PATIENT).body["sms_consent"] == {
            "status": "Opted In",
            "numbers": [consent(CELL) | under_review],
        }

    def test_what_is_on_file_and_no_number_gets_no_texts_anyway(self, north: Service) -> None:
        assert north.put(CONTACT, {"phones": [{"number": "555 CALL ME"}], "emails": []}).status == 200
        assert north.put(CONSENT, OPT_OUT | {"phone_number": "555 CALL ME"}) == invalid(
            (["body", "phone_number"], "not_a_number", "the phone on file is no number, and gets no texts")
        )


class TestIfMatch:
    WRITES: tuple[tuple[str, str, object], ...] = (
        ("PUT", "contact-info", {"phones": [], "emails": []}),
        ("PUT", "preferred-contact", {"phone_number": CELL}),
        ("DELETE", "preferred-contact", None),
        ("PUT", "do-not-contact", {"enabled": True}),
        ("PUT", "sms-consent", OPT_OUT),
    )

    @pytest.mark.parametrize(("method", "path", "body"), WRITES)
    def test_a_stale_or_foreign_tag_is_refused_and_changes_nothing(
        self, north: Service, method: str, path: str, body: object
    ) -> None:
        assert north.put(SILENCE, {"enabled": False}).status == 200
        before = north.items()
        for tag in ('"1"', '"7"', "2", 'W/"2"', "junk", '""'):
            assert north.call(method, f"{PATIENT}/{path}", body, headers={"if-match": tag}) == STALE, tag
        assert north.items() == before

    @pytest.mark.parametrize(("method", "path", "body"), WRITES)
    @pytest.mark.parametrize("tag", ['"1"', "*", '"0", "1"'])
    def test_the_current_tag_and_any_are_accepted(
        self, north: Service, method: str, path: str, body: object, tag: str
    ) -> None:
        assert north.call(method, f"{PATIENT}/{path}", body, headers={"if-match": tag}).status == 200

    @pytest.mark.parametrize("tag", ['"1"', "*"])
    def test_no_tag_is_that_of_a_patient_who_does_not_exist(self, north: Service, tag: str) -> None:
        assert north.put("north/patients/p-2/contact-info", CONTACT_INFO, headers={"if-match": tag}) == STALE
        assert north.get("north/patients/p-2") == UNKNOWN_PATIENT

    def test_a_tag_that_was_read_is_good_for_one_write(self, north: Service) -> None:
        tag = {"if-match": north.get(PATIENT).headers["etag"]}
        assert north.put(SILENCE, {"enabled": True}, headers=tag).status == 200
        assert north.put(SILENCE, {"enabled": False}, headers=tag) == STALE


class TestChanges:
    def test_each_change_says_who_changed_what_from_what_to_what_newest_first(self, north: Service) -> None:
        assert north.put(PREFERRED, {"phone_number": CELL}, sub="staff-8").status == 200
        assert north.put(SILENCE, {"enabled": True, "note": "asked by phone"}, sub="staff-9").status == 200
        assert north.put(CONTACT, {"phones": [], "emails": []}, sub="registration").status == 200
        assert north.delete(PREFERRED).status == 200
        items = [
            {"version": 5, "at": TIME, "by": "staff-7", "what": "preferred_contact", "old": CELL, "new": None},
            {
                "version": 4,
                "at": TIME,
                "by": "registration",
                "what": "contact_info",
                "old": ON_FILE,
                "new": {"phones": [], "emails": []},
            },
            {
                "version": 3,
                "at": TIME,
                "by": "staff-9",
                "what": "do_not_contact",
                "old": False,
                "new": True,
                "note": "asked by phone",
            },
            {"version": 2, "at": TIME, "by": "staff-8", "what": "preferred_contact", "old": None, "new": CELL},
            {"version": 1, "at": TIME, "by": "staff-7", "what": "contact_info", "old": None, "new": ON_FILE},
        ]
        answer = north.get(f"{PATIENT}/changes")
        assert answer == Answer(200, {"items": items, "next": None}, {})
        times = [item["at"] for item in answer.body["items"]]
        assert times == sorted(times, reverse=True)


def change_often(service: Service, times: int) -> None:
    for n in range(times):
        assert service.put(SILENCE, {"enabled": n % 2 == 0}).status == 200


# All lists that are read page by page, and what tells an item of each from those of the others.
LISTS = {
    "patients/p-1/changes": {"version"},
    "patients/p-1/decisions": {"message_id"},
    "decisions/unknown": {"message_id", "since"},
    "automations": {"automation_id"},
    "consent-reviews": {"review_id"},
    "reports/opt-outs": {"actor"},
    "numbers/search": {"in_force"},
}


def ask_for_page(service: Service, path: str, query: str) -> Answer:
    """Ask for a page of a list; that of a number's history is asked for by its number, which is in no URL."""
    if path == "numbers/search":
        return service.post(f"north/{path}?{query}", {"phone_number": CELL})
    return service.get(f"north/{path}?{query}")


class TestPages:
    """Of changes; those of the other lists are in the tests of those."""

    @pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 100])
    def test_pages_of_any_size_give_the_whole_list_once(self, north: Service, limit: int) -> None:
        change_often(north, 5)
        versions: list[int] = []
        pages, cursor = 0, ""
        while True:
            page = north.get(f"{PATIENT}/changes?limit={limit}{cursor}")
            assert page.status == 200
            versions += [item["version"] for item in page.body["items"]]
            pages += 1
            if page.body["next"] is None:
                break
            assert len(page.body["items"]) == limit
            cursor = f"&cursor={page.body['next']}"
        assert versions == [6, 5, 4, 3, 2, 1]
        assert pages == -(-6 // limit)

    def test_what_changes_between_two_pages_is_not_listed_twice(self, north: Service) -> None:
        change_often(north, 2)
        first = north.get(f"{PATIENT}/changes?limit=2").body
        change_often(north, 1)
        second = north.get(f"{PATIENT}/changes?limit=2&cursor={first['next']}").body
        assert [item["version"] for item in first["items"] + second["items"]] == [3, 2, 1]

    def test_fifty_are_given_unless_asked(self, north: Service) -> None:
        sharing = [f"q-{n:02}" for n in range(51)]
        for patient_id in sharing:
            table.put({"PK": table.number_pk("north", CELL), "SK": f"PATIENT#{patient_id}"})
        first = north.post("north/patients/search", {"phone_number": CELL})
        found = [{"patient_id": patient_id} for patient_id in ["p-1", *sharing]]
        assert first == Answer(200, {"items": found[:50], "next": CURSOR}, {})
        rest = north.post(f"north/patients/search?cursor={first.body['next']}", {"phone_number": CELL})
        assert rest == Answer(200, {"items": found[50:], "next": None}, {})

    def test_no_cursor_makes_an_empty_key_which_the_table_would_refuse(self, north: Service) -> None:
        for cursor in ("IHg", "eCA", "Og", "IDo"):
            with fault(aws.dynamodb(), "Query", lambda _: None) as requests:
                assert north.get(f"{PATIENT}/decisions?cursor={cursor}").status in (200, 422)
            starts = [request.get("ExclusiveStartKey", {}) for request in requests]
            assert {"S": ""} not in [value for start in starts for value in start.values()]

    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize(
        ("query", "error"),
        [
            (
                "limit=0",
                (["query", "limit"], "greater_than_equal", "Input should be greater than or equal to 1"),
            ),
            ("limit=101", (["query", "limit"], "less_than_equal", "Input should be less than or equal to 100")),
            (
                "limit=ten",
                (
                    ["query", "limit"],
                    "int_parsing",
                    "Input should be a valid integer, unable to parse string as an integer",
                ),
            ),
            ("cursor=%21%21", (["query", "cursor"], "cursor", "not a cursor that this list has given")),
            ("cursor=", (["query", "cursor"], "cursor", "not a cursor that this list has given")),
            ("cursor=_w", (["query", "cursor"], "cursor", "not a cursor that this list has given")),
            ("cursor=YSNi", (["query", "cursor"], "cursor", "not a cursor that this list has given")),
            ("cursor=" + "QUFB" * 200, (["query", "cursor"], "cursor", "not a cursor that this list has given")),
            (
                "cursor=" + "x" * 2_001,
                (["query", "cursor"], "string_too_long", "String should have at most 2000 characters"),
            ),
        ],
    )
    def test_a_limit_or_cursor_that_is_none_is_refused(
        self, north: Service, path: str, query: str, error: tuple[list[str | int], str, str]
    ) -> None:
        assert ask_for_page(north, path, query) == invalid(error)

    @pytest.mark.parametrize("path", LISTS)
    @pytest.mark.parametrize(
        "place",
        [
            " x",
            "x ",
            ":",
            "0000000001",
            "2026-01-01T00:00:00.000000Z manual:k",
            "reminder",
            "2026-12-10~message-1",
            "main 2026-11-24T18:00:00.000000Z#message-1",
            "main ",
            "nowhere ",
            "2026-11-24T18:00:00.000000Z main#2026-11-24T18:00:00.000000Z#message-1",
            "2026-11-24T18:00:00.000000Z#00000000-0000-4000-8000-000000000000",
        ],
    )
    def test_a_cursor_of_another_list_is_refused_or_a_place_in_this_one(
        self, waiting: Service, path: str, place: str
    ) -> None:
        assert waiting.put(CONSENT, OPT_OUT | {"phone_number": LANDLINE}).status == 200
        assert waiting.post(f"{PATIENT}/messages", MANUAL_TEXT, headers={"idempotency-key": "k"}).status == 202
        cursor = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
        answer = ask_for_page(waiting, path, f"cursor={cursor}")
        refused = invalid((["query", "cursor"], "cursor", "not a cursor that this list has given"))
        assert answer.status == 200 or answer == refused
        for item in answer.body.get("items", answer.body.get("history", [])):
            assert set().union(*LISTS.values()) & item.keys() == LISTS[path]


class TestSearch:
    def test_those_who_share_a_number_are_found_by_it_however_it_is_written(self, north: Service) -> None:
        assert north.put("north/patients/p-0/contact-info", {"phones": [{"number": CELL}], "emails": []}).status == 200
        both = {"items": [{"patient_id": "p-0"}, {"patient_id": "p-1"}], "next": None}
        assert north.post("north/patients/search", {"phone_number": "503-555-0101"}) == Answer(200, both, {})

    def test_one_whose_number_has_left_the_file_is_found_by_it_no_more(self, north: Service) -> None:
        assert north.put(CONTACT, {"phones": [], "emails": []}).status == 200
        nobody = Answer(200, {"items": [], "next": None}, {})
        assert north.post("north/patients/search", {"phone_number": CELL}) == nobody

    @pytest.mark.parametrize(("patient_id", "found"), [("p-1", [{"patient_id": "p-1"}]), ("p-2", [])])
    def test_a_patient_is_found_by_id(self, north: Service, patient_id: str, found: list[object]) -> None:
        answer = north.post("north/patients/search", {"patient_id": patient_id})
        assert answer == Answer(200, {"items": found, "next": None}, {})

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({}, (["body"], "value_error", "give phone_number or patient_id, and only one of them")),
            (
                {"phone_number": CELL, "patient_id": "p-1"},
                (["body"], "value_error", "give phone_number or patient_id, and only one of them"),
            ),
            ({"phone_number": "555"}, (["body", "phone_number"], "not_a_number", "not a valid phone number")),
            ({"name": "Pat"}, (["body", "name"], "extra_forbidden", "Extra inputs are not permitted")),
        ],
    )
    def test_what_cannot_be_searched_for_is_refused(
        self, north: Service, body: object, error: tuple[list[str | int], str, str]
    ) -> None:
        assert north.post("north/patients/search", body) == invalid(error)

    def test_an_unknown_practice_is_not_found(self, service: Service) -> None:
        assert service.post("north/patients/search", {"patient_id": "p-1"}) == UNKNOWN_PRACTICE


class TestOptOutsOfOddNumbers:
    @pytest.mark.parametrize("number", ["+4956490000000000", "+23470000000000000"])
    def test_an_opt_out_of_a_number_longer_than_most_is_honoured(self, north: Service, number: str) -> None:
        phones = {"phones": [{"number": number, "line_type": "text_enabled"}], "emails": []}
        assert north.put("north/patients/p-9/contact-info", phones).status == 200
        said = {"phone_number": number, "line": "main", "status": "opted_out"}
        sheet = north.put("north/patients/p-9/sms-consent", said).body
        assert sheet["sms_consent"]["status"] == "Opted Out of 1 numbers"
        message = {"class": "automation", "channels": ["text"]}
        decision = north.post("north/routing/evaluate", {"patient_id": "p-9", "message": message}).body
        assert (decision["outcome"], decision["reason"]) == ("suppress", "SMS_OPTED_OUT")
        assert north.post("north/patients/search", {"phone_number": number}).body["items"] == [{"patient_id": "p-9"}]

    def test_an_opt_out_of_a_phone_that_could_not_be_read_when_it_came_belongs_to_the_number(
        self, north: Service
    ) -> None:
        phones = {"phones": [{"number": "503-555-0171", "line_type": "text_enabled"}], "emails": []}
        assert north.put("north", {**PRACTICE, "default_country": "GB"}).status == 200
        assert north.put("north/patients/p-9/contact-info", phones).body["phones"][0]["status"] == "invalid"
        said = {"phone_number": "503-555-0171", "line": "main", "status": "opted_out"}
        assert north.put("north/patients/p-9/sms-consent", said).status == 422
        assert north.put("north", {**PRACTICE, "default_country": "US"}).status == 200
        assert north.put("north/patients/p-9/sms-consent", said).status == 200
        sheet = north.put("north/patients/p-9/contact-info", phones).body
        assert sheet["phones"][0]["number"] == "+15035550171"
        assert sheet["sms_consent"]["status"] == "Opted Out of 1 numbers"
