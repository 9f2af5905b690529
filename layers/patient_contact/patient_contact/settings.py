"""The environment, each name spelled once. Read when used, so that a process may run more than one stack."""

import os


def table_name() -> str:
    """The table that keeps everything."""
    return os.environ["TABLE_NAME"]


def event_bus_name() -> str:
    """The bus that events are published on."""
    return os.environ["EVENT_BUS_NAME"]


def automations_dlq_url() -> str:
    """Where automation events go that can never be handled."""
    return os.environ["AUTOMATIONS_DLQ_URL"]


def replies_dlq_url() -> str:
    """Where replies go that can never be handled."""
    return os.environ["REPLIES_DLQ_URL"]


def receipts_dlq_url() -> str:
    """Where receipts go that can never be handled."""
    return os.environ["RECEIPTS_DLQ_URL"]


def lookups_queue_url() -> str:
    """Where numbers wait that are yet to be looked up."""
    return os.environ["LOOKUPS_QUEUE_URL"]


def lookups_dlq_url() -> str:
    """Where numbers go that cannot be looked up."""
    return os.environ["LOOKUPS_DLQ_URL"]


def sends_dlq_url() -> str:
    """Where messages go that can never be sent."""
    return os.environ["SENDS_DLQ_URL"]


def bulks_queue_url() -> str:
    """Where broadcasts, campaigns and dry runs wait whose lists are yet to be read."""
    return os.environ["BULKS_QUEUE_URL"]


def bulks_dlq_url() -> str:
    """Where those go whose lists cannot be read."""
    return os.environ["BULKS_DLQ_URL"]


def chunks_queue_url() -> str:
    """Where chunks of lists wait to be routed."""
    return os.environ["CHUNKS_QUEUE_URL"]


def chunks_dlq_url() -> str:
    """Where chunks go that can never be routed."""
    return os.environ["CHUNKS_DLQ_URL"]


def lists_bucket() -> str:
    """The bucket of lists, and of what became of their rows."""
    return os.environ["LISTS_BUCKET"]


def decision_retention_days() -> int:
    """How long decisions are kept."""
    return int(os.environ["DECISION_RETENTION_DAYS"])


def audit_key() -> bytes:
    """The key under which patient ids are hashed in audit lines."""
    return os.environ["AUDIT_KEY"].encode()


def jwt_issuer() -> str:
    """Who issues the tokens that the API accepts; the page finds sign-in there."""
    return os.environ["JWT_ISSUER"]


def page_client_id() -> str:
    """The page's client at the issuer: a public one, that has no secret."""
    return os.environ["PAGE_CLIENT_ID"]


def sign_in_origin() -> str:
    """Where the issuer gives tokens out, when that is not its own origin; else empty."""
    return os.environ["SIGN_IN_ORIGIN"]
