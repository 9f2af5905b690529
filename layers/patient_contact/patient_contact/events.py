"""The events that come in and go out: names and limits, each spelled once.

Pure. A test holds `template.yaml` against them.
"""

SOURCE_AUTOMATIONS = "patient-contact.automations"
SOURCE_ROUTING = "patient-contact.routing"
SOURCE_PREFERENCES = "patient-contact.preferences"
SOURCE_BULK = "patient-contact.bulk"

AUTOMATION_TRIGGERED = "AutomationTriggered"
MESSAGE_ROUTED = "MessageRouted"
MESSAGE_SUPPRESSED = "MessageSuppressed"
MESSAGE_SENT = "MessageSent"
MESSAGE_FAILED = "MessageFailed"
MESSAGE_WITHDRAWN = "MessageWithdrawn"
PREFERENCES_CHANGED = "PreferencesChanged"
SMS_CONSENT_CHANGED = "SmsConsentChanged"
NUMBER_STATUS_CHANGED = "NumberStatusChanged"
BULK_QUEUED = "BulkQueued"

# What AWS End User Messaging puts on the account's default bus.
SOURCE_RECEIPTS = "aws.sms-voice"
RECEIPTS = ("Text Message Delivery Status Updated", "Voice Message Delivery Status Updated")

# A message is received at most this often; on the last receive the function dead-letters it itself, with the reason.
MAX_RECEIVES = 5
# What is to be sent waits for its provider until it expires: a day at three minutes a time, and as much again.
SEND_RECEIVES = 1_000
AUTOMATION_BATCH = 100
REPLY_BATCH = 100
RECEIPT_BATCH = 100
LOOKUP_BATCH = 10
SEND_BATCH = 10
BULK_BATCH = 1
CHUNK_BATCH = 1
STREAM_BATCH = 100

# Claims outlive every event that may be accepted, so that no replay sends a second message.
MAX_EVENT_AGE_DAYS = 14
MIN_RETENTION_DAYS = 396
# An event's time is its sender's; one from further ahead than clocks differ would be young for too long.
MAX_CLOCK_SKEW_DAYS = 1


class Refused(Exception):
    """An event can never be handled; `reason` says why, in codes and field names, never values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
