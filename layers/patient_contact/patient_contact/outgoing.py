"""What is to be sent: gathered with all that decides about it now, and decided again.

I/O. A message is a decision for a patient, or the confirmation of what somebody said by keyword.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from patient_contact import (
    bulks,
    clock,
    confirmations,
    consents,
    decision_data,
    decisions,
    life,
    numbers,
    patients,
    practices,
    providers,
    sends,
    table,
)
from patient_contact.consent import NOTHING_SAID, Said
from patient_contact.events import Refused
from patient_contact.facesheet import UNKNOWN_NUMBER, Line, Practice, facts_of
from patient_contact.patients import Gathering
from patient_contact.providers import Envelope
from patient_contact.routing import automation_disabled, decide
from patient_contact.triggers import ToSend
from patient_contact.verdict import Evidence

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it was read: where it lies, its content by channel, and whether it still goes out.

    `why_not` is why it is withdrawn, None when it goes out; `decided` is what is written with that: the decision as it
    is now, and the previous one, where they differ. With `is_held` its list is paused: it comes again later.
    """

    key: table.Key
    item: Item
    practice: Practice
    line: Line | None
    messages: Mapping[str, Mapping[str, str]]
    why_not: str | None
    decided: Mapping[str, Any]
    is_held: bool = False

    def envelope(self, claimed: Item) -> Envelope:
        """Give the message, as it was claimed, for its provider."""
        if self.line is None:
            raise Refused("unknown line")
        channel = claimed["channel"]
        content = self.messages[channel]
        left = datetime.fromisoformat(claimed["send_before"]) - clock.now()
        return Envelope(
            channel,
            claimed["destination"],
            content["body"],
            content.get("subject"),
            self.line,
            {**_names(self.key), "attempt": claimed["attempt"]},
            left.total_seconds(),
        )

    def learn(self, refusal: providers.Refused, claimed: Item) -> bool:
        """Keep what a refusal says of the number; say whether the message may still go out otherwise."""
        if self.line is None or refusal.kind == "for_good":
            return False
        number, now = claimed["destination"], clock.iso(clock.now())
        if refusal.kind == "no_number":
            because = Evidence("refusal", refusal.code, now)
            numbers.change_verdict(
                self.practice.practice_id, number, lambda verdict: verdict.after_refusal(because), because
            )
        elif self._is_first_refusal_of_start(refusal.code, claimed):
            with suppress(BotoCoreError, ClientError):
                providers.opt_in_again(str(self.line.opt_out_list), number)
            return True
        else:
            of = consents.NumberLine(self.practice.practice_id, number, self.line.id)
            said = Said(claimed["attempt"], "opted_out", "carrier", now, now)
            # A line that has moved on sends no more texts.
            with suppress(consents.Repeated, practices.LineMoved):
                practices.expect_consent(self.practice, self.line.id)
                consents.record(of, said)
        # An opt-out stops no call: decided again, it would be the same call.
        is_otherwise = refusal.kind == "no_number" or claimed["channel"] == "text"
        return is_otherwise and "kind" not in self.item

    def _is_first_refusal_of_start(self, code: str, claimed: Item) -> bool:
        """Say whether the line's own list at AWS stands against a START: that is what the patient has just undone."""
        is_start = self.item.get("kind") == "opt_in" and self.line is not None and self.line.opt_out_list is not None
        return is_start and code not in claimed.get("refused", {})


def gather(wanted: Iterable[ToSend]) -> Gathering:
    """Read messages with all that decides about them, strongly consistent, in two rounds of batch reads."""
    every = list(wanted)
    also: list[table.Key] = [sends.SWITCH]
    for each in every:
        also += [_key_of(each), practices.key(each.practice_id), *_automation_of(each)]
        if (of := bulks.key_of_message(each.practice_id, each.message_id)) is not None:
            also.append(of)
        if each.phone_number is not None:
            also.append(table.number_key(each.practice_id, each.phone_number))

    def contents(read: table.BatchRead) -> Iterator[table.Key]:
        for item in read.items.values():
            if (key := decisions.content_key(item)) is not None:
                yield key

    people = [(each.practice_id, each.patient_id) for each in every if each.patient_id is not None]
    return patients.gather(people, also, contents)


def _key_of(wanted: ToSend) -> table.Key:
    return sends.key_of(wanted.practice_id, wanted.message_id, wanted.patient_id, str(wanted.phone_number))


def _automation_of(wanted: ToSend) -> list[table.Key]:
    """Say where the automation lies that a message is of, if it is of one: it may have been switched off since."""
    kind, _, rest = wanted.message_id.partition(":")
    return [practices.automation_key(wanted.practice_id, rest.partition(":")[0])] if kind == "automation" else []


def find(wanted: ToSend, gathering: Gathering) -> Outgoing:
    """Give a message out of what was gathered, decided again; raise Refused, and TableUnavailable when left unread."""
    items, unread = gathering.also.items, gathering.also.unread
    key, practice_key = _key_of(wanted), practices.key(wanted.practice_id)
    if unread:
        raise table.TableUnavailable("left unread")
    if practice_key not in items:
        raise Refused("unknown practice")
    if key not in items:
        raise Refused("unknown message")
    item, practice = items[key], practices.from_item(wanted.practice_id, items[practice_key])
    is_off = bool(items.get(sends.SWITCH, {}).get("off")) or not practice.sending
    if wanted.patient_id is None:
        return _confirmation(key, item, practice, items, is_off=is_off)
    person = gathering.people[wanted.practice_id, wanted.patient_id]
    if isinstance(person, table.TableUnavailable):
        raise person
    if person is None:
        raise Refused("unknown patient")
    of = bulks.key_of_message(wanted.practice_id, wanted.message_id)
    state = None if of is None else items.get(of, {}).get("state")
    is_disabled = any(not items[key].get("enabled", True) for key in _automation_of(wanted) if key in items)
    return _decision(key, item, practice, person, items, is_off=is_off, state_of_list=state, is_disabled=is_disabled)


def _decision(
    key: table.Key,
    item: Item,
    practice: Practice,
    person: patients.Gathered,
    items: Mapping[table.Key, Item],
    *,
    is_off: bool,
    state_of_list: str | None,
    is_disabled: bool,
) -> Outgoing:
    before = decision_data.from_data(item)
    line = practice.line(before.message.line)
    is_held = state_of_list == "paused"
    why_not = "CANCELLED" if state_of_list == "cancelled" else _why_not(item, line, is_off=is_off)
    messages = item.get("content")
    if messages is None:
        messages = items.get(decisions.content_key(item) or ("", ""), {}).get("messages", {})
    if why_not is not None:
        return Outgoing(key, item, practice, line, messages, why_not, {}, is_held)
    facts = facts_of(person.patient, person.numbers)
    decision = (automation_disabled if is_disabled else decide)(facts, before.message, practice.policy)
    now = decision_data.to_data(decision)
    was = {name: item[name] for name in now}
    decided = {} if now == was else {**now, "previous": was}
    suppressed = decision.reason if decision.outcome == "suppress" else None
    return Outgoing(key, item, practice, line, messages, suppressed, decided, is_held)


def _confirmation(
    key: table.Key, item: Item, practice: Practice, items: Mapping[table.Key, Item], *, is_off: bool
) -> Outgoing:
    line = practice.line(item["line"])
    why_not = _why_not(item, line, is_off=is_off or (line is not None and not line.self_managed_opt_outs))
    known = items.get((key[0], "NUMBER"))
    number = UNKNOWN_NUMBER if known is None else numbers.number_of(known)
    consent = number.consent.get(item["line"], NOTHING_SAID)
    if why_not is None and not confirmations.still_holds(item["kind"], key[1].partition("#")[2], consent):
        why_not = "SUPERSEDED"
    body = confirmations.body(item["kind"], practice, line) if line is not None else ""
    return Outgoing(key, item, practice, line, {"text": {"body": body}}, why_not, {})


def _why_not(item: Item, line: Line | None, *, is_off: bool) -> life.Withdrawal | None:
    # What the practice sends itself has no end, and its state says that it is not for us.
    if clock.iso(clock.now()) >= item.get("send_before", "9"):
        return "EXPIRED"
    if is_off:
        return "SENDING_OFF"
    return "UNKNOWN_LINE" if line is None else None


def _names(key: table.Key) -> dict[str, str]:
    """Name a message by ids alone, for receipts; what confirms a reply is for no patient, and its number stays out."""
    practice_id, owner = table.ids_of(key[0])
    kind, _, message_id = key[1].partition("#")
    if kind == "CONFIRMATION":
        return {"practice_id": practice_id, "message_id": confirmations.PREFIX + message_id}
    return {"practice_id": practice_id, "patient_id": owner, "message_id": message_id}
