"""What `template.yaml` is held to: each rule a function from the template to its complaints, named as what must hold.

Test support; imports the package for the names that cross the boundary, and the handlers for their routes.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer
from moto.events.models import EventPattern

from patient_contact import bulks, events, log, reviews, sends, settings

ROOT = Path(__file__).parents[2]

Template = Mapping[str, Any]
Rule = Callable[[Template], list[str]]

# As the table of DESIGN.md has it; {} stands for the practice's path.
SCOPES = {
    "GET {}": "practice/read",
    "PUT {}": "practice/admin",
    "GET {}/automations": "practice/read",
    "GET {}/automations/{automation_id}": "practice/read",
    "PUT {}/automations/{automation_id}": "practice/admin",
    "DELETE {}/automations/{automation_id}": "practice/admin",
    "GET {}/routing/truth-table": "practice/read",
    "POST {}/routing/evaluate": "preferences/read",
    "PUT {}/patients/{patient_id}/contact-info": "contact-info/write",
    "GET {}/patients/{patient_id}": "preferences/read",
    "PUT {}/patients/{patient_id}/preferred-contact": "preferences/write",
    "DELETE {}/patients/{patient_id}/preferred-contact": "preferences/write",
    "PUT {}/patients/{patient_id}/do-not-contact": "preferences/write",
    "PUT {}/patients/{patient_id}/sms-consent": "preferences/write",
    "GET {}/patients/{patient_id}/changes": "preferences/read",
    "GET {}/patients/{patient_id}/decisions": "preferences/read",
    "GET {}/patients/{patient_id}/decisions/{message_id}": "preferences/read",
    "POST {}/patients/{patient_id}/decisions/{message_id}/resolve": "preferences/write",
    "GET {}/decisions/unknown": "preferences/read",
    "POST {}/patients/search": "preferences/read",
    "POST {}/patients/{patient_id}/messages": "messages/send",
    "POST {}/numbers/search": "preferences/read",
    "GET {}/reports/opt-outs": "preferences/read",
    "GET {}/consent-reviews": "preferences/read",
    "POST {}/consent-reviews/{review_id}": "preferences/write",
    "POST {}/imports/consent": "practice/admin",
    "POST {}/broadcasts": "messages/send",
    "POST {}/campaigns": "messages/send",
    "GET {}/broadcasts/{bulk_id}": "messages/send",
    "GET {}/campaigns/{bulk_id}": "messages/send",
    "GET {}/dry-runs/{bulk_id}": "messages/send",
    "POST {}/broadcasts/{bulk_id}/pause": "messages/send",
    "POST {}/broadcasts/{bulk_id}/resume": "messages/send",
    "POST {}/broadcasts/{bulk_id}/cancel": "messages/send",
    "POST {}/campaigns/{bulk_id}/pause": "messages/send",
    "POST {}/campaigns/{bulk_id}/resume": "messages/send",
    "POST {}/campaigns/{bulk_id}/cancel": "messages/send",
    "POST {}/dry-runs/{bulk_id}/cancel": "messages/send",
    "POST {}/broadcasts/{bulk_id}/dry-run": "messages/send",
    "POST {}/campaigns/{bulk_id}/dry-run": "messages/send",
    "POST {}/automations/{automation_id}/dry-run": "messages/send",
    "GET {}/broadcasts/{bulk_id}/recipients": "messages/send",
    "GET {}/campaigns/{bulk_id}/recipients": "messages/send",
    "GET {}/dry-runs/{bulk_id}/recipients": "messages/send",
    "GET {}/broadcasts/{bulk_id}/unreachable": "messages/send",
    "GET {}/campaigns/{bulk_id}/unreachable": "messages/send",
    "GET {}/dry-runs/{bulk_id}/unreachable": "messages/send",
}

# The page's own, which alone ask for no token: nobody has signed in yet.
OPEN = ("GET /", "GET /static/{version}/{file}", "GET /config.json")

# Read by botocore, and empty where it is deployed.
FOR_SAM_LOCAL = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_PINPOINT_SMS_VOICE_V2"}
NEEDED = {
    # The table's name goes to every function; the page's has no right to it.
    "PageFunction": {"TABLE_NAME", "JWT_ISSUER", "PAGE_CLIENT_ID", "SIGN_IN_ORIGIN"},
    "PracticesFunction": {"TABLE_NAME", "AUDIT_KEY"},
    "PreferencesFunction": {"TABLE_NAME", "AUDIT_KEY", "LOOKUPS_QUEUE_URL"},
    "MessagesFunction": {"TABLE_NAME", "AUDIT_KEY", "DECISION_RETENTION_DAYS"},
    "ConsentsFunction": {"TABLE_NAME", "AUDIT_KEY"},
    "BulkFunction": {"TABLE_NAME", "AUDIT_KEY", "DECISION_RETENTION_DAYS", "LISTS_BUCKET"},
    "RunAutomationFunction": {"TABLE_NAME", "AUTOMATIONS_DLQ_URL", "DECISION_RETENTION_DAYS"},
    "StartBulkFunction": {"TABLE_NAME", "BULKS_DLQ_URL", "BULKS_QUEUE_URL", "CHUNKS_QUEUE_URL", "LISTS_BUCKET"},
    "RouteBatchFunction": {"TABLE_NAME", "CHUNKS_DLQ_URL", "DECISION_RETENTION_DAYS", "LISTS_BUCKET"},
    "RecordReplyFunction": {"TABLE_NAME", "REPLIES_DLQ_URL"},
    "RecordReceiptFunction": {"TABLE_NAME", "RECEIPTS_DLQ_URL"},
    "LookUpNumberFunction": {"TABLE_NAME", "LOOKUPS_DLQ_URL"},
    "SendMessageFunction": {"TABLE_NAME", "SENDS_DLQ_URL"},
    "WatchDueFunction": {"TABLE_NAME"},
    "PublishEventsFunction": {"TABLE_NAME", "EVENT_BUS_NAME"},
}

# How many records the code takes at once.
BATCHES = {
    "RunAutomationFunction": events.AUTOMATION_BATCH,
    "StartBulkFunction": events.BULK_BATCH,
    "RouteBatchFunction": events.CHUNK_BATCH,
    "RecordReplyFunction": events.REPLY_BATCH,
    "RecordReceiptFunction": events.RECEIPT_BATCH,
    "LookUpNumberFunction": events.LOOKUP_BATCH,
    "SendMessageFunction": events.SEND_BATCH,
    "PublishEventsFunction": events.STREAM_BATCH,
}

# How often a queue's messages are received at most, where that is not as often as those of most queues.
RECEIVES = {"SendsQueue": events.SEND_RECEIVES}

# For each rule its bus (none is the account's default one), a sample, and the source and detail-types that it catches.
CAUGHT = {
    "AutomationsRule": ("EventBus", "run_automation.ok", events.SOURCE_AUTOMATIONS, (events.AUTOMATION_TRIGGERED,)),
    "BulksRule": ("EventBus", "start_bulk.ok", events.SOURCE_BULK, (events.BULK_QUEUED,)),
    "ReceiptsRule": ("", "record_receipt.ok", events.SOURCE_RECEIPTS, events.RECEIPTS),
    "SendsRule": ("EventBus", "send_message.ok", events.SOURCE_ROUTING, (events.MESSAGE_ROUTED,)),
}
# Those that catch an event of our own making, whose detail-type is never mistyped.
OWN = {"BulksRule", "SendsRule"}
# What a sample must say beside that, and what else may stand in its place.
ONLY_WHERE = {"SendsRule": ("sender", "service", ("practice", None))}
# What the service itself puts on its bus.
PUBLISHED = (
    (events.SOURCE_ROUTING, events.MESSAGE_ROUTED),
    (events.SOURCE_ROUTING, events.MESSAGE_SUPPRESSED),
    (events.SOURCE_ROUTING, events.MESSAGE_SENT),
    (events.SOURCE_ROUTING, events.MESSAGE_FAILED),
    (events.SOURCE_ROUTING, events.MESSAGE_WITHDRAWN),
    (events.SOURCE_PREFERENCES, events.PREFERENCES_CHANGED),
    (events.SOURCE_PREFERENCES, events.SMS_CONSENT_CHANGED),
    (events.SOURCE_PREFERENCES, events.NUMBER_STATUS_CHANGED),
    (events.SOURCE_BULK, events.BULK_QUEUED),
)
RULES_SERVICE, TOPICS_SERVICE, TEXTS_SERVICE = "events.amazonaws.com", "sns.amazonaws.com", "sms-voice.amazonaws.com"

KEPT = {
    "AWS::Backup::BackupVault",
    "AWS::DynamoDB::Table",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SecretsManager::Secret",
}

PRACTICE, LINE = "PRACTICE#north", "LINE#+15035559000"
PATIENT, NUMBER = "PRACTICE#north#PATIENT#p-1", "PRACTICE#north#NUMBER#+15035550101"
BULK = "PRACTICE#north#BULK#b-1"
# The switch that stops all sending.
STACK = sends.SWITCH[0]
# In the global index.
OPT_OUTS, DUE, UNKNOWN = "PRACTICE#north#OPTOUT#main", reviews.DUE_PK, sends.UNKNOWN_PK

# What a function must not be able to do to the table, or through an index of it, although another may.
FORBIDDEN: list[tuple[str, ...]] = [
    ("PracticesFunction", "GetItem", PATIENT),
    ("PracticesFunction", "PutItem", NUMBER),
    ("PracticesFunction", "GetItem", BULK),
    ("PracticesFunction", "PutItem", BULK),
    ("PracticesFunction", "DeleteItem", BULK),
    ("PreferencesFunction", "PutItem", PRACTICE),
    ("PreferencesFunction", "DeleteItem", LINE),
    ("PreferencesFunction", "Query", OPT_OUTS, "GSI1"),
    ("MessagesFunction", "PutItem", PRACTICE),
    ("MessagesFunction", "UpdateItem", PRACTICE),
    ("MessagesFunction", "PutItem", NUMBER),
    ("MessagesFunction", "UpdateItem", NUMBER),
    ("MessagesFunction", "DeleteItem", PATIENT),
    ("MessagesFunction", "UpdateItem", BULK),
    ("MessagesFunction", "Query", PATIENT),
    ("MessagesFunction", "Query", OPT_OUTS, "GSI1"),
    ("MessagesFunction", "Query", DUE, "GSI1"),
    ("ConsentsFunction", "GetItem", PATIENT),
    ("ConsentsFunction", "BatchGetItem", PATIENT),
    ("ConsentsFunction", "Query", PATIENT),
    ("ConsentsFunction", "PutItem", PATIENT),
    ("ConsentsFunction", "DeleteItem", PATIENT),
    ("ConsentsFunction", "Query", PATIENT, "by_time"),
    ("ConsentsFunction", "Query", DUE, "GSI1"),
    ("ConsentsFunction", "UpdateItem", PRACTICE),
    ("ConsentsFunction", "PutItem", LINE),
    ("ConsentsFunction", "DeleteItem", LINE),
    ("ConsentsFunction", "PutItem", BULK),
    ("ConsentsFunction", "DeleteItem", BULK),
    ("BulkFunction", "GetItem", PATIENT),
    ("BulkFunction", "PutItem", PATIENT),
    ("BulkFunction", "UpdateItem", PATIENT),
    ("BulkFunction", "Query", PATIENT),
    ("BulkFunction", "GetItem", NUMBER),
    ("BulkFunction", "UpdateItem", NUMBER),
    ("BulkFunction", "PutItem", PRACTICE),
    ("BulkFunction", "DeleteItem", PRACTICE),
    ("BulkFunction", "Query", PRACTICE),
    ("BulkFunction", "DeleteItem", BULK),
    ("BulkFunction", "UpdateItem", LINE),
    ("BulkFunction", "Query", OPT_OUTS, "GSI1"),
    ("RunAutomationFunction", "PutItem", NUMBER),
    ("RunAutomationFunction", "DeleteItem", PATIENT),
    ("RunAutomationFunction", "PutItem", BULK),
    ("StartBulkFunction", "GetItem", PRACTICE),
    ("StartBulkFunction", "UpdateItem", PRACTICE),
    ("StartBulkFunction", "GetItem", PATIENT),
    ("StartBulkFunction", "UpdateItem", PATIENT),
    ("StartBulkFunction", "PutItem", BULK),
    ("StartBulkFunction", "DeleteItem", BULK),
    ("RouteBatchFunction", "DeleteItem", PATIENT),
    ("RouteBatchFunction", "Query", PATIENT),
    ("RouteBatchFunction", "PutItem", NUMBER),
    ("RouteBatchFunction", "UpdateItem", NUMBER),
    ("RouteBatchFunction", "PutItem", PRACTICE),
    ("RouteBatchFunction", "UpdateItem", PRACTICE),
    ("RouteBatchFunction", "DeleteItem", BULK),
    ("RouteBatchFunction", "UpdateItem", LINE),
    ("RecordReplyFunction", "GetItem", PATIENT),
    ("RecordReplyFunction", "PutItem", PATIENT),
    ("RecordReplyFunction", "UpdateItem", PATIENT),
    ("RecordReplyFunction", "DeleteItem", PATIENT),
    ("RecordReplyFunction", "GetItem", PRACTICE),
    ("RecordReplyFunction", "UpdateItem", PRACTICE),
    ("RecordReplyFunction", "PutItem", LINE),
    ("RecordReplyFunction", "DeleteItem", LINE),
    ("RecordReplyFunction", "PutItem", BULK),
    ("RecordReplyFunction", "DeleteItem", BULK),
    ("RecordReceiptFunction", "PutItem", LINE),
    ("RecordReceiptFunction", "UpdateItem", LINE),
    ("RecordReceiptFunction", "PutItem", PATIENT),
    ("RecordReceiptFunction", "DeleteItem", PATIENT),
    ("RecordReceiptFunction", "PutItem", PRACTICE),
    ("RecordReceiptFunction", "DeleteItem", NUMBER),
    ("LookUpNumberFunction", "GetItem", PATIENT),
    ("LookUpNumberFunction", "GetItem", PRACTICE),
    ("LookUpNumberFunction", "PutItem", PATIENT),
    ("LookUpNumberFunction", "UpdateItem", LINE),
    ("LookUpNumberFunction", "DeleteItem", NUMBER),
    ("SendMessageFunction", "GetItem", PATIENT),
    ("SendMessageFunction", "PutItem", PATIENT),
    ("SendMessageFunction", "DeleteItem", PATIENT),
    ("SendMessageFunction", "DeleteItem", NUMBER),
    ("SendMessageFunction", "PutItem", PRACTICE),
    ("SendMessageFunction", "UpdateItem", PRACTICE),
    ("SendMessageFunction", "DeleteItem", PRACTICE),
    ("SendMessageFunction", "PutItem", STACK),
    ("SendMessageFunction", "UpdateItem", STACK),
    ("SendMessageFunction", "PutItem", LINE),
    ("SendMessageFunction", "DeleteItem", LINE),
    ("SendMessageFunction", "UpdateItem", BULK),
    ("SendMessageFunction", "Query", PATIENT),
    ("SendMessageFunction", "Query", DUE, "GSI1"),
    ("WatchDueFunction", "GetItem", NUMBER),
    ("WatchDueFunction", "Query", PRACTICE),
    ("WatchDueFunction", "Query", NUMBER, "by_time"),
    ("WatchDueFunction", "Query", OPT_OUTS, "GSI1"),
    ("PublishEventsFunction", "PutItem", PATIENT),
    ("PublishEventsFunction", "GetItem", PRACTICE),
    ("PublishEventsFunction", "PutItem", PRACTICE),
    ("PublishEventsFunction", "UpdateItem", PRACTICE),
    ("PublishEventsFunction", "UpdateItem", PATIENT),
    ("PublishEventsFunction", "DeleteItem", BULK),
]
ALLOWED: list[tuple[str, ...]] = [
    ("PracticesFunction", "PutItem", PRACTICE),
    ("PracticesFunction", "PutItem", LINE),
    ("PreferencesFunction", "GetItem", PRACTICE),
    ("PreferencesFunction", "PutItem", PATIENT),
    ("PreferencesFunction", "UpdateItem", NUMBER),
    ("PreferencesFunction", "UpdateItem", LINE),
    ("PreferencesFunction", "Query", PATIENT, "by_time"),
    ("MessagesFunction", "GetItem", PRACTICE),
    ("MessagesFunction", "BatchGetItem", NUMBER),
    ("MessagesFunction", "PutItem", PATIENT),
    ("MessagesFunction", "BatchGetItem", PATIENT),
    ("MessagesFunction", "UpdateItem", PATIENT),
    ("MessagesFunction", "Query", UNKNOWN, "GSI1"),
    ("ConsentsFunction", "PutItem", NUMBER),
    ("ConsentsFunction", "DeleteItem", PRACTICE),
    ("ConsentsFunction", "UpdateItem", LINE),
    ("ConsentsFunction", "Query", NUMBER, "by_time"),
    ("ConsentsFunction", "Query", OPT_OUTS, "GSI1"),
    ("BulkFunction", "GetItem", PRACTICE),
    ("BulkFunction", "UpdateItem", PRACTICE),
    ("BulkFunction", "GetItem", BULK),
    ("BulkFunction", "PutItem", BULK),
    ("BulkFunction", "UpdateItem", BULK),
    ("BulkFunction", "Query", BULK),
    ("RunAutomationFunction", "GetItem", PRACTICE),
    ("RunAutomationFunction", "BatchGetItem", PATIENT),
    ("RunAutomationFunction", "BatchGetItem", NUMBER),
    ("RunAutomationFunction", "PutItem", PATIENT),
    ("StartBulkFunction", "GetItem", BULK),
    ("StartBulkFunction", "UpdateItem", BULK),
    ("StartBulkFunction", "Query", BULK),
    ("RouteBatchFunction", "PutItem", PATIENT),
    ("RouteBatchFunction", "UpdateItem", PATIENT),
    ("RouteBatchFunction", "PutItem", BULK),
    ("RouteBatchFunction", "UpdateItem", BULK),
    ("RecordReplyFunction", "PutItem", NUMBER),
    ("RecordReplyFunction", "UpdateItem", NUMBER),
    ("RecordReplyFunction", "PutItem", PRACTICE),
    ("RecordReplyFunction", "UpdateItem", LINE),
    ("RecordReceiptFunction", "GetItem", PATIENT),
    ("RecordReceiptFunction", "UpdateItem", PATIENT),
    ("RecordReceiptFunction", "BatchGetItem", LINE),
    ("RecordReceiptFunction", "UpdateItem", NUMBER),
    ("LookUpNumberFunction", "UpdateItem", NUMBER),
    ("SendMessageFunction", "GetItem", NUMBER),
    ("SendMessageFunction", "BatchGetItem", LINE),
    ("SendMessageFunction", "UpdateItem", PATIENT),
    ("SendMessageFunction", "UpdateItem", NUMBER),
    ("SendMessageFunction", "UpdateItem", LINE),
    ("SendMessageFunction", "PutItem", NUMBER),
    ("WatchDueFunction", "Query", DUE, "GSI1"),
    ("WatchDueFunction", "Query", UNKNOWN, "GSI1"),
    ("PublishEventsFunction", "GetItem", PATIENT),
    ("PublishEventsFunction", "GetItem", BULK),
    ("PublishEventsFunction", "PutItem", BULK),
    ("PublishEventsFunction", "UpdateItem", BULK),
]

# What functions read in one request, of which one statement must cover all.
TOGETHER = [
    ("SendMessageFunction", "BatchGetItem", (STACK, PRACTICE, PATIENT, NUMBER, BULK)),
    ("RouteBatchFunction", "BatchGetItem", (PRACTICE, BULK)),
    ("RouteBatchFunction", "BatchGetItem", (PATIENT, NUMBER)),
]

# What is asked of S3, and of which bucket, or which of its objects: by functions, and by who holds the policy.
OBJECTS = {
    "UploadListsPolicy": {("s3:PutObject", "${ListsBucket.Arn}/lists/*")},
    "BulkFunction": {
        ("s3:GetObject", "${ListsBucket.Arn}/lists/*"),
        ("s3:GetObject", "${ListsBucket.Arn}/results/*"),
        ("s3:PutObject", "${ListsBucket.Arn}/broadcasts/*"),
        ("s3:ListBucket", "ListsBucket"),
    },
    "StartBulkFunction": {
        ("s3:GetObject", "${ListsBucket.Arn}/lists/*"),
        ("s3:GetObject", "${ListsBucket.Arn}/broadcasts/*"),
        ("s3:ListBucket", "ListsBucket"),
    },
    "RouteBatchFunction": {
        ("s3:GetObject", "${ListsBucket.Arn}/lists/*"),
        ("s3:GetObject", "${ListsBucket.Arn}/broadcasts/*"),
        ("s3:GetObject", "${ListsBucket.Arn}/results/*"),
        ("s3:PutObject", "${ListsBucket.Arn}/results/*"),
        ("s3:ListBucket", "ListsBucket"),
    },
    "PublishEventsFunction": {
        ("s3:PutObject", "${FailedRecordsBucket.Arn}/*"),
        ("s3:ListBucket", "FailedRecordsBucket"),
    },
}
# What the stack's key does for each; a put in parts decrypts as well.
KEY_FOR = {"s3:GetObject": {"kms:Decrypt"}, "s3:PutObject": {"kms:GenerateDataKey", "kms:Decrypt"}}
# For how many days objects are kept, by the beginning of their names.
DAYS_KEPT = {"lists/": 90, "broadcasts/": 90, "results/": 400}

# What a function does with the queue that feeds it.
TAKES = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"}
ASK_CARRIERS = "sms-voice:CarrierLookup"
# What the providers of texts, calls and emails are asked for, by the module that asks: a function that imports it may.
PROVIDERS = {
    "lookups": {ASK_CARRIERS},
    "providers": {
        "sms-voice:SendTextMessage",
        "sms-voice:SendVoiceMessage",
        "sms-voice:DeleteOptedOutNumber",
        "ses:SendEmail",
    },
}

# Actions that know no resources, so that they take `*` only.
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords", ASK_CARRIERS}

# The metric of messages that wait between two receives.
HIDDEN = "ApproximateNumberOfMessagesNotVisible"

# All of a service, or all of its reads or writes.
STAR = re.compile(r"\*|\w+:(\*|Get\*|Put\*|Batch\*)")

# What an access log line may say: nothing here carries a path.
LOGGED = {
    "requestId",
    "requestTime",
    "routeKey",
    "status",
    "responseLength",
    "responseLatency",
    "integrationLatency",
    "integrationErrorMessage",
    "authorizer.error",
    "identity.sourceIp",
    "authorizer.claims.sub",
}


def of_type(template: Template, *types: str) -> dict[str, Any]:
    """Return the properties of the resources of these types, by logical id."""
    return {name: each.get("Properties", {}) for name, each in template["Resources"].items() if each["Type"] in types}


def functions(template: Template) -> dict[str, Any]:
    """Return each function's properties, with what all of them share."""
    shared = template["Globals"]["Function"]
    found = {}
    for name, own in of_type(template, "AWS::Serverless::Function").items():
        merged = {**shared, **own}
        for key in ("Environment", "LoggingConfig"):
            merged[key] = {**shared.get(key, {}), **own.get(key, {})}
        variables = [each.get("Environment", {}).get("Variables", {}) for each in (shared, own)]
        merged["Environment"] = {"Variables": {**variables[0], **variables[1]}}
        found[name] = merged
    return found


def target(value: Any) -> str:
    """Return the logical id that a reference or the ARN of a resource names; empty for anything else."""
    if isinstance(value, Mapping):
        if "Ref" in value:
            return str(value["Ref"])
        if "Fn::GetAtt" in value:
            return str(value["Fn::GetAtt"][0])
    return ""


def mappings(template: Template, source: str) -> Iterator[tuple[str, str, Any]]:
    """Yield function, event name and properties of each event of a kind: `HttpApi`, `SQS`, `DynamoDB`, `Schedule`."""
    for name, properties in functions(template).items():
        for event, each in properties.get("Events", {}).items():
            if each["Type"] == source:
                yield name, event, each["Properties"]


@dataclass(frozen=True)
class Delivery:
    """What a rule or a topic delivers, as which service, where to, and where else what it cannot deliver goes."""

    sender: str
    service: str
    to: str
    dead_letters: str


def deliveries(template: Template) -> Iterator[Delivery]:
    """Yield all deliveries: of rules, of the rules that schedules become, and of topics to queues."""
    for name, rule in of_type(template, "AWS::Events::Rule").items():
        for each in rule["Targets"]:
            dead_letters = target(each.get("DeadLetterConfig", {}).get("Arn"))
            yield Delivery(name, RULES_SERVICE, target(each["Arn"]), dead_letters)
    for function, event, each in mappings(template, "Schedule"):
        dead_letters = target(each.get("DeadLetterConfig", {}).get("Arn"))
        yield Delivery(f"{function}{event}", RULES_SERVICE, function, dead_letters)
    for each in of_type(template, "AWS::SNS::Subscription").values():
        if each["Protocol"] == "sqs":
            dead_letters = target(each.get("RedrivePolicy", {}).get("deadLetterTargetArn"))
            yield Delivery(target(each["TopicArn"]), TOPICS_SERVICE, target(each["Endpoint"]), dead_letters)


def dead_letter_queues(template: Template) -> set[str]:
    """Return the queues that queues, rules, schedules, topics or functions give up to."""
    redriven = {
        target(each["RedrivePolicy"]["deadLetterTargetArn"])
        for each in of_type(template, "AWS::SQS::Queue").values()
        if "RedrivePolicy" in each
    }
    failed = {on_failure(each) for each in functions(template).values()}
    return (redriven | failed | {each.dead_letters for each in deliveries(template)}) - {""}


def on_failure(function: Any) -> str:
    """Return where a function's event goes when it was invoked asynchronously, and failed."""
    config = function.get("EventInvokeConfig", {}).get("DestinationConfig", {})
    return target(config.get("OnFailure", {}).get("Destination"))


def alarms_on(template: Template, namespace: str, metric: str) -> list[tuple[str, Any]]:
    """Return the alarms on a metric, each with its dimensions by name; metrics of an expression count too."""
    metrics = [
        (name, each)
        for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items()
        for each in (alarm, *(part.get("MetricStat", {}).get("Metric", {}) for part in alarm.get("Metrics", [])))
    ]
    return [
        (name, {part["Name"]: part["Value"] for part in each.get("Dimensions", [])})
        for name, each in metrics
        if (each.get("Namespace"), each.get("MetricName")) == (namespace, metric)
    ]


def alarmed(template: Template, namespace: str, metric: str, dimension: str) -> set[str]:
    """Return the logical ids that alarms on a metric watch by a dimension."""
    return {target(dimensions.get(dimension)) for _, dimensions in alarms_on(template, namespace, metric)}


def statements(template: Template, function: str) -> list[Any]:
    """Return the statements of a function's own role."""
    role = template["Resources"][target(functions(template)[function].get("Role"))]["Properties"]
    return [each for policy in role["Policies"] for each in policy["PolicyDocument"]["Statement"]]


def listed(value: Any) -> list[Any]:
    """Return a list as it is, anything else in one."""
    return value if isinstance(value, list) else [value]


# Code and configuration


def each_function_has_its_handler(template: Template) -> list[str]:
    """The folder, the file and the function of each handler are there, and no folder is left over."""
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    named = {name: Path(each["CodeUri"]) for name, each in functions(template).items()}
    complaints = [f"no function runs functions/{name}" for name in folders - {path.name for path in named.values()}]
    for name, path in named.items():
        module, _, wanted = functions(template)[name]["Handler"].rpartition(".")
        source = ROOT / path / f"{module}.py"
        defined = ast.parse(source.read_text()).body if source.is_file() else []
        if wanted not in {each.name for each in defined if isinstance(each, ast.FunctionDef)}:
            complaints.append(f"{name}: {path} has no {module}.{wanted}")
    return complaints


def each_environment_name_is_read(template: Template) -> list[str]:
    """No function is given a name that the settings do not read."""
    read = settings_names() | FOR_SAM_LOCAL
    return [
        f"{name}: nothing reads {each}"
        for name, function in functions(template).items()
        for each in function["Environment"]["Variables"].keys() - read
    ]


def each_function_has_the_environment_that_it_needs(template: Template) -> list[str]:
    """Every function is given exactly the names that it reads."""
    given = {name: set(each["Environment"]["Variables"]) - FOR_SAM_LOCAL for name, each in functions(template).items()}
    return [f"{name}: {sorted(given.get(name, set()) ^ NEEDED.get(name, set()))}" for name in differing(given, NEEDED)]


def what_is_deployed_asks_the_real_aws(template: Template) -> list[str]:
    """The endpoints of the local stack are declared, so that SAM CLI passes them on, and empty."""
    return [
        f"{name}: {each}"
        for name, function in functions(template).items()
        for each in FOR_SAM_LOCAL
        if function["Environment"]["Variables"].get(each) != ""
    ]


def an_environment_name_means_one_thing(template: Template) -> list[str]:
    """A name has the same value in all functions."""
    values: dict[str, set[str]] = {}
    for function in functions(template).values():
        for name, value in function["Environment"]["Variables"].items():
            values.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return [f"{name} has {len(each)} values" for name, each in values.items() if len(each) > 1]


def settings_names() -> set[str]:
    """Return the names that the settings read from the environment."""
    tree = ast.parse(Path(settings.__file__).read_text())
    read = [each.slice for each in ast.walk(tree) if isinstance(each, ast.Subscript)]
    return {each.value for each in read if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def a_new_layer_reaches_the_functions(template: Template) -> list[str]:
    """A change of the layer, or of a setting, publishes a version of every function behind its alias."""
    complaints = [
        f"{name}: publishes no version for every change"
        for name, each in functions(template).items()
        if not (each.get("AutoPublishAlias") == "live" and each.get("AutoPublishAliasAllProperties") is True)
    ]
    for name, layer in of_type(template, "AWS::Serverless::LayerVersion").items():
        if layer.get("PublishLambdaVersion") is not True:
            complaints.append(f"{name}: publishes no version of the functions")
    return complaints


def a_deployment_is_rolled_back_by_its_functions_errors(template: Template) -> list[str]:
    """Each function's deployment watches the alarm on the errors of its own live alias."""
    complaints = []
    for name, each in functions(template).items():
        watched = json.dumps(each.get("DeploymentPreference", {}).get("Alarms", []))
        own = [
            alarm
            for alarm, dimensions in alarms_on(template, "AWS/Lambda", "Errors")
            if dimensions == {"FunctionName": {"Ref": name}, "Resource": {"Fn::Sub": f"${{{name}}}:live"}}
        ]
        if not own or any(f'"Ref": "{alarm}"' not in watched for alarm in own):
            complaints.append(f"{name}: no alarm rolls it back")
    return complaints


# Events


def each_rule_catches_its_source_alone(template: Template) -> list[str]:
    """On its bus, and nothing else that we publish or another rule catches; what comes in, whatever its detail-type."""
    patterns = of_type(template, "AWS::Events::Rule")
    complaints = [f"{name}: nothing is known of it" for name in patterns.keys() ^ CAUGHT.keys()]
    for name, (bus, sample, source, detail_types) in CAUGHT.items():
        record = json.loads((ROOT / "events" / f"{sample}.json").read_text())["Records"][0]
        event: Any = json.loads(record["body"])
        key, value, others_there = ONLY_WHERE.get(name, ("", None, ()))
        says = event["detail"].get(key) == value
        if event["source"] != source or event["detail-type"] not in detail_types or not says:
            complaints.append(f"{name}: the sample is not what the code accepts")
        if target(patterns[name].get("EventBusName")) != bus:
            complaints.append(f"{name}: listens on another bus")
        matches: Any = EventPattern.load(json.dumps(patterns[name]["EventPattern"])).matches_event
        mistyped = (source, f"{detail_types[0]}, mistyped")
        wanted = [(source, each) for each in detail_types] + ([] if name in OWN else [mistyped])
        others = [(other, each) for rule, (_, _, other, all_) in CAUGHT.items() if rule != name for each in all_]
        complaints += [
            f"{name}: {'misses' if pair in wanted else 'catches'} {pair[1]}"
            for pair in (*wanted, mistyped, *others, *PUBLISHED)
            if matches({**event, "source": pair[0], "detail-type": pair[1]}) != (pair in wanted)
        ]
        complaints += [
            f"{name}: catches {key} {other}"
            for other in others_there
            if matches({**event, "detail": {**event["detail"], key: other}})
        ]
    return complaints


def events_are_put_from_one_source_by_each(template: Template) -> list[str]:
    """Integration engineers may put events as automations only, the function as all that the service publishes."""
    (policy,) = of_type(template, "AWS::IAM::ManagedPolicy")["TriggerAutomationsPolicy"]["PolicyDocument"]["Statement"]
    role = statements(template, "PublishEventsFunction")
    own = [each for each in role if "events:PutEvents" in listed(each["Action"])]
    complaints = []
    for who, allowed, sources in (
        ("TriggerAutomationsPolicy", [policy], {events.SOURCE_AUTOMATIONS}),
        ("PublishEventsFunction", own, {source for source, _ in PUBLISHED}),
    ):
        conditions = [each.get("Condition", {}).get("StringEquals", {}) for each in allowed]
        found = [set(listed(each.get("events:source"))) for each in conditions]
        if found != [sources] or any(target(each["Resource"]) != "EventBus" for each in allowed):
            complaints.append(f"{who}: {found}")
    return complaints


def each_queue_gives_up_to_a_dead_letter_queue(template: Template) -> list[str]:
    """After as many receives as the functions count on; what a rule or a topic cannot deliver is kept as well."""
    queues = of_type(template, "AWS::SQS::Queue")
    dead = dead_letter_queues(template)
    alive = queues.keys() - dead
    complaints = [f"{name}: has no dead-letter queue" for name in alive if "RedrivePolicy" not in queues[name]]
    for name, each in queues.items():
        policy = each.get("RedrivePolicy")
        if policy and target(policy["deadLetterTargetArn"]) not in queues:
            complaints.append(f"{name}: gives up to nothing")
        receives = RECEIVES.get(name, events.MAX_RECEIVES)
        if policy and policy["maxReceiveCount"] != receives:
            complaints.append(f"{name}: {policy['maxReceiveCount']} receives, not {receives}")
        if name in dead and each.get("MessageRetentionPeriod") != 1209600:
            complaints.append(f"{name}: keeps dead letters less than 14 days")
        if each.get("SqsManagedSseEnabled") is not True:
            complaints.append(f"{name}: is not encrypted")
    lost = [each.sender for each in deliveries(template) if each.dead_letters not in queues]
    return complaints + [f"{name}: what it cannot deliver is lost" for name in lost]


def what_fails_on_its_schedule_is_kept(template: Template) -> list[str]:
    """A function that a schedule invokes is tried again, and then its event goes to a queue that it may write."""
    queues = of_type(template, "AWS::SQS::Queue")
    complaints = []
    for name, event, each in mappings(template, "Schedule"):
        function = functions(template)[name]
        tries = (function.get("EventInvokeConfig", {}), each.get("RetryPolicy", {}))
        if on_failure(function) not in queues:
            complaints.append(f"{name}.{event}: what it fails on is lost")
        if any(part.get("MaximumRetryAttempts", 0) < 1 for part in tries):
            complaints.append(f"{name}.{event}: is not tried again")
    return complaints


def each_queue_admits_who_delivers_to_it(template: Template) -> list[str]:
    """Policies admit each rule and topic, and nobody else, to its target and its dead-letter queue."""
    queues = of_type(template, "AWS::SQS::Queue")
    wanted: dict[str, set[str]] = {}
    for each in deliveries(template):
        of_sender = wanted.setdefault(f"{each.sender} as {each.service}", set())
        of_sender |= {each.to, each.dead_letters} & queues.keys()
    admitted: dict[str, set[str]] = {}
    complaints = []
    for policy in of_type(template, "AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                sender = target(statement.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn"))
                principal = statement["Principal"]
                who = f"{sender} as {principal.get('Service') if isinstance(principal, Mapping) else principal}"
                admitted.setdefault(who, set()).update(named(statement["Resource"], policy))
                if statement["Action"] != "sqs:SendMessage":
                    complaints.append(f"{who}: may {statement['Action']}")
    wrong = differing(admitted, wanted)
    return complaints + [f"{who}: is admitted to {sorted(admitted.get(who, ()))}" for who in wrong]


def named(resource: Any, policy: Any) -> set[str]:
    """Return which of a policy's queues a statement in it names: in each, `*` is that queue."""
    own = {target(queue) for queue in policy["Queues"]}
    return own if resource == "*" else own & {target(each) for each in listed(resource)}


def each_queue_is_reached_by_tls_alone(template: Template) -> list[str]:
    """A queue has one policy (a second takes the place of the first), and it denies everybody plain HTTP."""
    complaints = []
    for name in of_type(template, "AWS::SQS::Queue"):
        own = [
            each
            for each in of_type(template, "AWS::SQS::QueuePolicy").values()
            if name in {target(queue) for queue in each["Queues"]}
        ]
        denied = [
            statement
            for policy in own
            for statement in policy["PolicyDocument"]["Statement"]
            if (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
            and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
            and name in named(statement["Resource"], policy)
        ]
        if len(own) != 1:
            complaints.append(f"{name}: has {len(own)} policies")
        if len(denied) != 1:
            complaints.append(f"{name}: is reached by plain HTTP")
    return complaints


def a_reply_comes_with_its_time(template: Template) -> list[str]:
    """Topics deliver to queues with their envelope, which alone says when a reply was said."""
    return [
        f"{name}: delivers without its envelope"
        for name, each in of_type(template, "AWS::SNS::Subscription").items()
        if each["Protocol"] == "sqs" and each.get("RawMessageDelivery", False) is not False
    ]


def nobody_else_replies_for_a_patient(template: Template) -> list[str]:
    """Replies come from the service that receives texts, for this account alone, and it may use the topic's key."""
    account = {"Ref": "AWS::AccountId"}
    complaints = []
    for topic in {each.sender for each in deliveries(template) if each.service == TOPICS_SERVICE}:
        admitted = [
            statement
            for policy in of_type(template, "AWS::SNS::TopicPolicy").values()
            if topic in {target(each) for each in policy["Topics"]}
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        for each in admitted:
            sent = (each["Effect"], each["Principal"], each["Action"], target(each["Resource"]))
            own = each.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount") == account
            if sent != ("Allow", {"Service": TEXTS_SERVICE}, "sns:Publish", topic) or not own:
                complaints.append(f"{topic}: admits others")
        if len(admitted) != 1:
            complaints.append(f"{topic}: {len(admitted)} statements")
    (key,) = of_type(template, "AWS::KMS::Key").values()
    uses = [each for each in key["KeyPolicy"]["Statement"] if each["Principal"] == {"Service": TEXTS_SERVICE}]
    for each in uses:
        if set(listed(each["Action"])) != {"kms:Decrypt", "kms:GenerateDataKey*"}:
            complaints.append(f"the key: {TEXTS_SERVICE} may {each['Action']}")
        if each.get("Condition", {}).get("StringEquals", {}).get("aws:SourceAccount") != account:
            complaints.append("the key: serves texts of other accounts")
    return complaints + ["the key: replies cannot be encrypted"] * (len(uses) != 1)


def each_queue_waits_for_its_function(template: Template) -> list[str]:
    """A message stays hidden for six time-outs of the function and the batching window."""
    complaints = []
    for name, event, each in mappings(template, "SQS"):
        needed = 6 * functions(template)[name]["Timeout"] + each.get("MaximumBatchingWindowInSeconds", 0)
        queue = template["Resources"][target(each["Queue"])]["Properties"]
        if queue.get("VisibilityTimeout", 30) < needed:
            complaints.append(f"{name}.{event}: {queue.get('VisibilityTimeout', 30)} s hidden, {needed} s needed")
    return complaints


# What is claimed for an invocation of these, and for how long.
LEASES = {"SendMessageFunction": sends.LEASE_SECONDS, "RouteBatchFunction": bulks.CHUNK_LEASE_SECONDS}


def a_lease_ends_between_two_deliveries(template: Template) -> list[str]:
    """A claim's lease outlasts the invocation that made it, and is over when its message comes again.

    At the latest, a claim is made when the function's time is up; the message comes again so long after its receive.
    """
    complaints = []
    for name, lease in LEASES.items():
        time_out = functions(template)[name]["Timeout"]
        if time_out >= lease:
            complaints.append(f"{name}: {time_out} s of time, a lease of {lease} s")
        for of, event, each in mappings(template, "SQS"):
            hidden = template["Resources"][target(each["Queue"])]["Properties"].get("VisibilityTimeout", 30)
            if of == name and hidden <= time_out + lease:
                complaints.append(f"{name}.{event}: comes again after {hidden} s, when the lease may not be over")
    return complaints


def who_queues_for_itself_may_go_on(template: Template) -> list[str]:
    """Lambda ends a chain of a function that sends to its own queue after sixteen rounds, unless it is allowed."""
    complaints = []
    for name, _, each in mappings(template, "SQS"):
        function = functions(template)[name]
        own = {"Ref": target(each["Queue"])}
        if own in function["Environment"]["Variables"].values() and function.get("RecursiveLoop") != "Allow":
            complaints.append(f"{name} sends to the queue that it reads")
    return complaints


def each_batch_reports_what_failed(template: Template) -> list[str]:
    """Batches have the sizes that the code counts on, a window where their size asks for one, and partial failures."""
    complaints = []
    for source in ("SQS", "DynamoDB"):
        for name, event, each in mappings(template, source):
            if each.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
                complaints.append(f"{name}.{event}: one failure fails the batch")
            if each.get("BatchSize") != BATCHES.get(name):
                complaints.append(f"{name}.{event}: batches of {each.get('BatchSize')}, not {BATCHES.get(name)}")
            if source == "SQS" and each["BatchSize"] > 10 and each.get("MaximumBatchingWindowInSeconds", 0) < 1:
                complaints.append(f"{name}.{event}: AWS refuses such a batch without a window")
            if source == "SQS" and "MaximumConcurrency" not in each.get("ScalingConfig", {}):
                complaints.append(f"{name}.{event}: takes all of the account's concurrency")
    reserved = [name for name, each in functions(template).items() if "ReservedConcurrentExecutions" in each]
    return complaints + [f"{name}: reserved concurrency throttles its poller" for name in reserved]


def no_record_of_the_stream_is_lost(template: Template) -> list[str]:
    """A batch that fails is bisected and retried, and what still fails goes, in time, to a bucket of ours."""
    buckets = of_type(template, "AWS::S3::Bucket")
    return [
        f"{name}.{event}: loses records"
        for name, event, each in mappings(template, "DynamoDB")
        if not (
            each.get("BisectBatchOnFunctionError") is True
            and each.get("MaximumRetryAttempts", -1) > 0
            and 0 < each.get("MaximumRecordAgeInSeconds", -1) < 86400
            and each["StartingPosition"] == "TRIM_HORIZON"
            and target(each.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")) in buckets
            and each.get("MetricsConfig") == {"Metrics": ["EventCount"]}
        )
    ]


# HTTP


def each_route_has_its_one_scope(template: Template) -> list[str]:
    """The routes are those of the design, each with its scope, and each behind the authorizer but for the page's."""
    found = {}
    complaints = []
    for name, event, each in mappings(template, "HttpApi"):
        key = f"{each['Method']} {each['Path']}"
        scopes = each.get("Auth", {}).get("AuthorizationScopes", [])
        authorizer = "NONE" if key in OPEN else "Jwt"
        if each.get("Auth", {}).get("Authorizer") != authorizer or target(each.get("ApiId")) != "Api":
            complaints.append(f"{name}.{event}: {scopes}")
        found[key] = scopes
    wanted = {key.replace("{}", "/v1/practices/{practice_id}", 1): [scope] for key, scope in SCOPES.items()}
    wanted |= {key: [] for key in OPEN}
    return complaints + [f"{key}: {found.get(key)}" for key in differing(found, wanted)]


def who_asks_for_no_token_knows_of_nobody(template: Template) -> list[str]:
    """A function with a route for everybody has no other, and may do nothing but write its log."""
    authorizers: dict[str, set[str]] = {}
    for name, _, each in mappings(template, "HttpApi"):
        authorizers.setdefault(name, set()).add(each.get("Auth", {}).get("Authorizer", "Jwt"))
    opened = [name for name, each in authorizers.items() if "NONE" in each]
    complaints = [f"{name}: has routes of both kinds" for name in opened if len(authorizers[name]) > 1]
    return complaints + [
        f"{name}: may {action}"
        for name in opened
        for statement in statements(template, name)
        for action in listed(statement["Action"])
        if not action.startswith("logs:")
    ]


def each_route_is_the_handlers_own(template: Template) -> list[str]:
    """A function's routes in the template are those that its handler declares, with the scope that it documents."""
    given: dict[str, dict[str, list[str]]] = {}
    for name, _, each in mappings(template, "HttpApi"):
        scopes = each.get("Auth", {}).get("AuthorizationScopes", [])
        given.setdefault(name, {})[f"{each['Method']} {each['Path']}"] = scopes
    complaints = []
    for name, routes in given.items():
        declared = declared_routes(functions(template)[name]["CodeUri"])
        complaints += [f"{name}: {each}" for each in differing(routes, declared)]
    return complaints


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys under which two mappings do not say the same."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def declared_routes(folder: str) -> dict[str, list[str]]:
    """Return the routes of a handler, each with the scopes that it documents; one without an app has open ones."""
    if not (ROOT / folder).is_dir():
        return {}
    module = importlib.import_module(f"{folder.replace('/', '.')}.handler")
    if not hasattr(module, "app"):
        return {key: [] for key in module.ROUTES}
    schema = module.app.get_openapi_schema(title="", version="", security_schemes={"jwt": HTTPBearer()})
    methods = ("get", "put", "post", "delete", "patch")
    return {
        f"{method.upper()} {path}": [scope for each in getattr(item, method).security or [] for scope in each["jwt"]]
        for path, item in (schema.paths or {}).items()
        for method in methods
        if getattr(item, method)
    }


def the_api_fails_rather_than_opens(template: Template) -> list[str]:
    """A bad issuer fails the deployment; what is left without a scope still needs a token; callers are throttled."""
    (api,) = of_type(template, "AWS::Serverless::HttpApi").values()
    authorizer = api["Auth"]["Authorizers"]["Jwt"]["JwtConfiguration"]
    limits = api.get("DefaultRouteSettings", {})
    held = {
        "FailOnWarnings": api.get("FailOnWarnings") is True,
        "DefaultAuthorizer": api["Auth"].get("DefaultAuthorizer") == "Jwt",
        "issuer": authorizer["issuer"] == {"Ref": "JwtIssuer"},
        "audience": authorizer["audience"] == [{"Ref": "JwtAudience"}, {"Ref": "PageClientId"}],
        "throttling": {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= limits.keys(),
    }
    return [name for name, holds in held.items() if not holds]


def nothing_logs_a_path(template: Template) -> list[str]:
    """The access log says the route's key; paths carry patient ids."""
    (api,) = of_type(template, "AWS::Serverless::HttpApi").values()
    text = api["AccessLogSettings"]["Format"]
    json.loads(text)
    said = set(re.findall(r"\$context\.([A-Za-z.]+)", text))
    return [f"the access log says {each}" for each in said - LOGGED] + ["no routeKey"] * ("routeKey" not in said)


# Who may do what


def each_function_has_its_own_role(template: Template) -> list[str]:
    """With the common policy and nothing else of AWS's making, and the right to its own log group."""
    roles = {name: target(each.get("Role")) for name, each in functions(template).items()}
    given = list(roles.values())
    complaints = [f"{name}: shares {role!r}" for name, role in roles.items() if not role or given.count(role) > 1]
    for name, role in roles.items():
        if not role:
            continue
        properties = template["Resources"][role]["Properties"]
        if properties.get("ManagedPolicyArns") != [{"Ref": "FunctionsPolicy"}]:
            complaints.append(f"{name}: {properties.get('ManagedPolicyArns')}")
        log = functions(template)[name]["LoggingConfig"].get("LogGroup")
        if not any(target(each["Resource"]) == target(log) for each in statements(template, name)):
            complaints.append(f"{name}: cannot write its log")
    return complaints


def no_policy_has_a_star(template: Template) -> list[str]:
    """No statement allows all actions of a service, or an action on all resources that could name them."""
    documents = [
        (name, each)
        for name, role in of_type(template, "AWS::IAM::Role").items()
        for each in (policy["PolicyDocument"] for policy in role.get("Policies", []))
    ]
    documents += [(name, each["PolicyDocument"]) for name, each in of_type(template, "AWS::IAM::ManagedPolicy").items()]
    complaints = []
    for name, document in documents:
        for statement in document["Statement"]:
            actions = set(listed(statement["Action"]))
            complaints += [f"{name}: {action}" for action in actions if STAR.fullmatch(action)]
            if "*" in listed(statement["Resource"]) and not actions <= WITHOUT_RESOURCE:
                complaints.append(f"{name}: {sorted(actions)} on everything")
            resource = statement["Resource"]
            table = resource == {"Fn::GetAtt": ["Table", "Arn"]} or "Table.Arn}/index" in str(resource)
            items = [action for action in actions if action.startswith("dynamodb:")]
            if table and items and "dynamodb:LeadingKeys" not in json.dumps(statement.get("Condition", {})):
                complaints.append(f"{name}: {items} on all keys")
            if actions & {"dynamodb:Scan", "dynamodb:PartiQLSelect"}:
                complaints.append(f"{name}: scans have no keys, and so pass every condition on them")
    return complaints


def functions_keep_to_their_queues(template: Template) -> list[str]:
    """Each function takes from the queues that feed it, and sends to those that it is told of, or gives up to."""
    queues = of_type(template, "AWS::SQS::Queue")
    wanted: dict[str, set[tuple[str, str]]] = {name: set() for name in functions(template)}
    for name, _, each in mappings(template, "SQS"):
        wanted[name] |= {(action, target(each["Queue"])) for action in TAKES}
    for name, function in functions(template).items():
        told = {target(value) for value in function["Environment"]["Variables"].values()}
        wanted[name] |= {("sqs:SendMessage", queue) for queue in (told | {on_failure(function)}) & queues.keys()}
    found = {
        name: {
            (action, target(resource))
            for statement in statements(template, name)
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
            if action.startswith("sqs:")
        }
        for name in functions(template)
    }
    return [f"{name}: {sorted(found[name] ^ wanted[name])}" for name in differing(found, wanted)]


def those_ask_providers_who_need_to(template: Template) -> list[str]:
    """The right to ask, which is paid for, and to send, goes with the module that asks; one function alone sends."""
    complaints = []
    for name, function in functions(template).items():
        handler = ROOT / function["CodeUri"] / "handler.py"
        tree = ast.parse(handler.read_text() if handler.is_file() else "")
        froms = [each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
        imported = {part.name for each in froms for part in each.names}
        wanted = {action for module in imported & PROVIDERS.keys() for action in PROVIDERS[module]}
        actions = {action for each in statements(template, name) for action in listed(each["Action"])}
        found = {action for action in actions if action.startswith(("sms-voice:", "ses:"))}
        complaints += [f"{name}: cannot {action}" for action in wanted - found]
        complaints += [f"{name}: need not {action}" for action in found - wanted]
        if name != "SendMessageFunction" and found - {ASK_CARRIERS}:
            complaints.append(f"{name}: sends")
    return complaints


def functions_keep_to_their_keys(template: Template) -> list[str]:
    """Each function reaches the items that it needs, and not those of others."""
    wrong = [("may", each) for each in FORBIDDEN if may(template, *each[:3], index=index_of(each))]
    wrong += [("may not", each) for each in ALLOWED if not may(template, *each[:3], index=index_of(each))]
    apart = [
        f"{name} may not {action} together {keys}"
        for name, action, keys in TOGETHER
        if not may(template, name, action, *keys)
    ]
    return [f"{name} {verb} {' '.join(request)}" for verb, (name, *request) in wrong] + apart


def index_of(request: tuple[str, ...]) -> str | None:
    """Return the index that a function's request goes through: the fourth part, if there is one."""
    return request[3] if len(request) > 3 else None


def may(template: Template, function: str, action: str, *keys: str, index: str | None = None) -> bool:
    """Whether a function's role allows a request on items with these partition keys, through an index or none."""
    about = [each for each in statements(template, function) if covers(each, action, *keys, index=index)]
    return {each["Effect"] for each in about} == {"Allow"}


def covers(statement: Any, action: str, *keys: str, index: str | None = None) -> bool:
    """Whether a statement speaks of a request: an Allow of all its keys, a Deny of any."""
    resource = {"Fn::Sub": f"${{Table.Arn}}/index/{index}"} if index else {"Fn::GetAtt": ["Table", "Arn"]}
    if f"dynamodb:{action}" not in listed(statement["Action"]) or resource not in listed(statement["Resource"]):
        return False
    ((_, condition),) = statement.get("Condition", {"": {"dynamodb:LeadingKeys": ["*"]}}).items()
    matched = [any(fnmatchcase(key, pattern) for pattern in condition["dynamodb:LeadingKeys"]) for key in keys]
    return all(matched) if statement["Effect"] == "Allow" else any(matched)


def those_reach_objects_who_need_to(template: Template) -> list[str]:
    """Functions, and who uploads lists, do with objects what they need to, and use the stack's key for that alone."""
    policies = of_type(template, "AWS::IAM::ManagedPolicy")
    of_all = {name: statements(template, name) for name in functions(template)}
    of_all |= {
        name: each["PolicyDocument"]["Statement"] for name, each in policies.items() if name != "FunctionsPolicy"
    }
    through_s3 = {"StringEquals": {"kms:ViaService": {"Fn::Sub": "s3.${AWS::Region}.amazonaws.com"}}}
    complaints = []
    for name, own in of_all.items():
        found = {
            (action, resource.get("Fn::Sub") or target(resource))
            for statement in own
            for action in listed(statement["Action"])
            if action.startswith("s3:")
            for resource in listed(statement["Resource"])
        }
        wanted = OBJECTS.get(name, set())
        complaints += [f"{name}: {each}" for each in sorted(found ^ wanted)]
        keys = [each for each in own if any(action.startswith("kms:") for action in listed(each["Action"]))]
        used = {action for each in keys for action in listed(each["Action"])}
        if used != {each for action, _ in wanted for each in KEY_FOR.get(action, ())}:
            complaints.append(f"{name}: may {sorted(used)}")
        if any(target(each["Resource"]) != "DataKey" or each.get("Condition") != through_s3 for each in keys):
            complaints.append(f"{name}: uses keys for more than objects")
    return complaints


# What is kept


def what_is_kept_outlives_the_stack(template: Template) -> list[str]:
    """Table, key, logs, backups, failed records and dead letters stay when the stack, or the resource in it, goes."""
    kept = set(of_type(template, *KEPT)) | dead_letter_queues(template)
    return [
        f"{name}: goes"
        for name in kept
        for policy in ("DeletionPolicy", "UpdateReplacePolicy")
        if template["Resources"][name].get(policy) != "Retain"
    ]


def the_table_is_protected(template: Template) -> list[str]:
    """Deletion protection, point-in-time recovery, the stack's key, a stream of both images, expiry, backups."""
    (table,) = of_type(template, "AWS::DynamoDB::Table").values()
    key = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Fn::GetAtt": ["DataKey", "Arn"]}}
    selections = of_type(template, "AWS::Backup::BackupSelection").values()
    held = {
        "DeletionProtectionEnabled": table.get("DeletionProtectionEnabled") is True,
        "PointInTimeRecovery": table.get("PointInTimeRecoverySpecification") == {"PointInTimeRecoveryEnabled": True},
        "key": table.get("SSESpecification") == key,
        "stream": table.get("StreamSpecification") == {"StreamViewType": "NEW_AND_OLD_IMAGES"},
        "expiry": table.get("TimeToLiveSpecification") == {"AttributeName": "expires_at", "Enabled": True},
        "on demand": table.get("BillingMode") == "PAY_PER_REQUEST",
        "backup": any(target(part) == "Table" for each in selections for part in each["BackupSelection"]["Resources"]),
    }
    return [name for name, holds in held.items() if not holds]


def the_indexes_are_those_of_the_design(template: Template) -> list[str]:
    """Keys only; a local index can only be made with the table."""
    (table,) = of_type(template, "AWS::DynamoDB::Table").values()
    found = {
        (
            kind,
            each["IndexName"],
            *(part["AttributeName"] for part in each["KeySchema"]),
            each["Projection"]["ProjectionType"],
        )
        for kind in ("LocalSecondaryIndexes", "GlobalSecondaryIndexes")
        for each in table.get(kind, [])
    }
    wanted = {
        ("LocalSecondaryIndexes", "by_time", "PK", "at", "KEYS_ONLY"),
        ("GlobalSecondaryIndexes", "GSI1", "GSI1PK", "GSI1SK", "KEYS_ONLY"),
    }
    keys = [part["AttributeName"] for part in table["KeySchema"]]
    return [str(each) for each in found ^ wanted] + ([] if keys == ["PK", "SK"] else [str(keys)])


def decisions_outlive_their_events(template: Template) -> list[str]:
    """No parameter makes a decision shorter-lived than the code allows."""
    parameter = template["Parameters"]["DecisionRetentionDays"]
    return [] if parameter["Default"] >= parameter.get("MinValue", 0) >= events.MIN_RETENTION_DAYS else [str(parameter)]


def each_log_is_encrypted_and_ends(template: Template) -> list[str]:
    """Each function names its log group, the resource right after it, with retention and the stack's key."""
    groups = of_type(template, "AWS::Logs::LogGroup")
    order = list(template["Resources"])
    complaints = []
    for name, each in functions(template).items():
        group = target(each["LoggingConfig"].get("LogGroup"))
        if group not in groups or order.index(group) != order.index(name) + 1:
            complaints.append(f"{name}: logs to {group!r}")
    (api,) = of_type(template, "AWS::Serverless::HttpApi").values()
    if target(api.get("AccessLogSettings", {}).get("DestinationArn")) not in groups:
        complaints.append("Api: has no access log")
    for name, each in groups.items():
        if "RetentionInDays" not in each or target(each.get("KmsKeyId")) != "DataKey":
            complaints.append(f"{name}: is kept forever, or readable")
    return complaints


def buckets_and_topics_are_closed(template: Template) -> list[str]:
    """Encrypted with the stack's key; buckets are versioned, private, and reached by TLS only."""
    complaints = []
    closed = {"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"}
    for name, each in of_type(template, "AWS::S3::Bucket").items():
        (rule,) = each.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])
        denied = [
            statement
            for policy in of_type(template, "AWS::S3::BucketPolicy").values()
            for statement in policy["PolicyDocument"]["Statement"]
            if target(policy["Bucket"]) == name and statement["Effect"] == "Deny"
        ]
        held = {
            "key": target(rule.get("ServerSideEncryptionByDefault", {}).get("KMSMasterKeyID")) == "DataKey",
            "private": each.get("PublicAccessBlockConfiguration") == dict.fromkeys(closed, True),
            "versions": each.get("VersioningConfiguration") == {"Status": "Enabled"},
            "TLS": any(part["Condition"] == {"Bool": {"aws:SecureTransport": "false"}} for part in denied),
        }
        complaints += [f"{name}: {key}" for key, holds in held.items() if not holds]
    for name, each in of_type(template, "AWS::SNS::Topic").items():
        if target(each.get("KmsMasterKeyId")) != "DataKey":
            complaints.append(f"{name}: is not encrypted")
    return complaints


def each_list_is_kept_for_its_time(template: Template) -> list[str]:
    """Lists and results go after their days; so do older versions, and what was not uploaded to its end."""
    lifecycle = of_type(template, "AWS::S3::Bucket")["ListsBucket"].get("LifecycleConfiguration", {}).get("Rules", [])
    complaints = [f"{each['Id']}: is off" for each in lifecycle if each["Status"] != "Enabled"]
    found = {each["Prefix"]: each["ExpirationInDays"] for each in lifecycle if "ExpirationInDays" in each}
    complaints += [f"{prefix}: {found.get(prefix)} days" for prefix in differing(found, DAYS_KEPT)]
    of_all = [each for each in lifecycle if "Prefix" not in each]
    left = {
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
    }
    return complaints + [kind for kind, wanted in left.items() if not any(each.get(kind) == wanted for each in of_all)]


# Alarms


def each_dead_letter_rings(template: Template) -> list[str]:
    """Every dead-letter queue has its alarm on the first message in it, and so have the stream's failed records."""
    watched = alarmed(template, "AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName")
    complaints = [f"{name}: nobody hears of it" for name in dead_letter_queues(template) - watched]
    streams = {f"{name}{event}" for name, event, _ in mappings(template, "DynamoDB")}
    for metric in ("OnFailureDestinationDeliveredEventCount", "DroppedEventCount"):
        # These metrics have the one dimension; an alarm that names another as well is on a metric that is not there.
        found = [dimensions for _, dimensions in alarms_on(template, "AWS/Lambda", metric) if len(dimensions) == 1]
        heard = {target(dimensions.get("EventSourceMappingUUID")) for dimensions in found}
        complaints += [f"{name}: nobody hears of {metric}" for name in streams - heard]
    return complaints


def each_thing_that_can_stall_rings(template: Template) -> list[str]:
    """Age of queues and streams, rules that fail, errors and throttles of functions, of the API and of the table.

    SQS leaves out of the age what was received three times: a queue that is received more often is watched by length.
    """
    queues = {target(each["Queue"]) for _, _, each in mappings(template, "SQS")}
    streams = {name for name, _, _ in mappings(template, "DynamoDB")}
    every = set(functions(template))
    # Where the metric of failed invocations is, in the dimensions of a rule on the default bus and on one of ours.
    heard = [dimensions for _, dimensions in alarms_on(template, "AWS/Events", "FailedInvocations")]
    of_rules: dict[str, Any] = {f"{name}{event}": {} for name, event, _ in mappings(template, "Schedule")}
    of_rules |= {name: each.get("EventBusName", {}) for name, each in of_type(template, "AWS::Events::Rule").items()}
    unheard = {name for name, bus in of_rules.items() if dimensions_of_rule(template, name, target(bus)) not in heard}
    topics = {each.sender for each in deliveries(template) if each.service == TOPICS_SERVICE}
    not_redriven = alarmed(template, "AWS/SNS", "NumberOfNotificationsFailedToRedriveToDlq", "TopicName")
    missing = {
        "oldest message": queues - alarmed(template, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
        "what is tried again and again": RECEIVES.keys() & queues - alarmed(template, "AWS/SQS", HIDDEN, "QueueName"),
        "iterator age": streams - alarmed(template, "AWS/Lambda", "IteratorAge", "FunctionName"),
        "failed invocations": unheard,
        "what is not even a dead letter": topics - not_redriven,
        "errors": every - alarmed(template, "AWS/Lambda", "Errors", "FunctionName"),
        "throttles": every - alarmed(template, "AWS/Lambda", "Throttles", "FunctionName"),
        "5xx": set(of_type(template, "AWS::Serverless::HttpApi")) - alarmed(template, "AWS/ApiGateway", "5xx", "ApiId"),
        "throttled reads": {"Table"} - alarmed(template, "AWS/DynamoDB", "ReadThrottleEvents", "TableName"),
        "throttled writes": {"Table"} - alarmed(template, "AWS/DynamoDB", "WriteThrottleEvents", "TableName"),
    }
    return [f"{name}: no alarm on {what}" for what, names in missing.items() for name in names]


def dimensions_of_rule(template: Template, name: str, bus: str) -> dict[str, Any]:
    """Return the dimensions of a rule's metrics: on a bus of ours its name is a part of its ARN, Ref says more."""
    if not bus:
        return {"RuleName": {"Ref": name}}
    rule_name = {"Fn::Select": [2, {"Fn::Split": ["/", {"Fn::GetAtt": [name, "Arn"]}]}]}
    return {"EventBusName": of_type(template, "AWS::Events::EventBus")[bus]["Name"], "RuleName": rule_name}


def what_is_measured_rings(template: Template) -> list[str]:
    """What a handler measures has an alarm, in the namespace and with the one dimension that it is measured in.

    And no alarm waits for what nobody measures.
    """
    complaints = []
    heard_of = set()
    for name, function in functions(template).items():
        module = importlib.import_module(f"{function['CodeUri'].replace('/', '.')}.handler")
        for metric in measured(ROOT / function["CodeUri"] / "handler.py"):
            heard_of |= {alarm for alarm, _ in alarms_on(template, log.NAMESPACE, metric)}
            found = [dimensions for _, dimensions in alarms_on(template, log.NAMESPACE, metric)]
            if found != [{"service": module.SERVICE}]:
                complaints.append(f"{name}: nobody hears of {metric}")
    alarms = of_type(template, "AWS::CloudWatch::Alarm").items()
    own = {name for name, each in alarms if each.get("Namespace") == log.NAMESPACE}
    return complaints + [f"{name}: nobody measures that" for name in own - heard_of]


def measured(handler: Path) -> Iterator[str]:
    """Yield the names of the metrics that a handler measures."""
    for each in ast.walk(ast.parse(handler.read_text())):
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "log.measure":
            yield ast.literal_eval(each.args[0])


def each_alarm_is_heard(template: Template) -> list[str]:
    """Alarms go to the topic, silence is no alarm, and the topic admits the alarms of this account."""
    complaints = [
        f"{name}: nobody hears it"
        for name, each in of_type(template, "AWS::CloudWatch::Alarm").items()
        if each.get("AlarmActions") != [{"Ref": "AlarmTopic"}] or each.get("TreatMissingData") != "notBreaching"
    ]
    policies = of_type(template, "AWS::SNS::TopicPolicy").values()
    (policy,) = (each for each in policies if target(each["Topics"][0]) == "AlarmTopic")
    (statement,) = policy["PolicyDocument"]["Statement"]
    source = statement.get("Condition", {}).get("ArnLike", {}).get("aws:SourceArn", {}).get("Fn::Sub", "")
    if statement["Principal"] != {"Service": "cloudwatch.amazonaws.com"} or "${AWS::AccountId}:alarm:" not in source:
        complaints.append("the topic admits others")
    subscriptions = of_type(template, "AWS::SNS::Subscription").values()
    (subscription,) = (each for each in subscriptions if target(each["TopicArn"]) == "AlarmTopic")
    if subscription["Endpoint"] != {"Ref": "AlarmEmail"}:
        complaints.append("nobody subscribes")
    return complaints


RULES: tuple[Rule, ...] = (
    each_function_has_its_handler,
    each_environment_name_is_read,
    each_function_has_the_environment_that_it_needs,
    what_is_deployed_asks_the_real_aws,
    an_environment_name_means_one_thing,
    a_new_layer_reaches_the_functions,
    a_deployment_is_rolled_back_by_its_functions_errors,
    each_rule_catches_its_source_alone,
    events_are_put_from_one_source_by_each,
    each_queue_gives_up_to_a_dead_letter_queue,
    what_fails_on_its_schedule_is_kept,
    each_queue_admits_who_delivers_to_it,
    each_queue_is_reached_by_tls_alone,
    a_reply_comes_with_its_time,
    nobody_else_replies_for_a_patient,
    each_queue_waits_for_its_function,
    a_lease_ends_between_two_deliveries,
    who_queues_for_itself_may_go_on,
    each_batch_reports_what_failed,
    no_record_of_the_stream_is_lost,
    each_route_has_its_one_scope,
    who_asks_for_no_token_knows_of_nobody,
    each_route_is_the_handlers_own,
    the_api_fails_rather_than_opens,
    nothing_logs_a_path,
    each_function_has_its_own_role,
    no_policy_has_a_star,
    functions_keep_to_their_queues,
    those_ask_providers_who_need_to,
    functions_keep_to_their_keys,
    those_reach_objects_who_need_to,
    what_is_kept_outlives_the_stack,
    the_table_is_protected,
    the_indexes_are_those_of_the_design,
    decisions_outlive_their_events,
    each_log_is_encrypted_and_ends,
    buckets_and_topics_are_closed,
    each_list_is_kept_for_its_time,
    each_dead_letter_rings,
    each_thing_that_can_stall_rings,
    what_is_measured_rings,
    each_alarm_is_heard,
)
