"""What `template.yaml` is held to: each rule a function from the template to its complaints, named as what must hold.

Test support; imports the package for the names that cross the boundary, and the handlers for their routes.
"""

import ast
import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer
from moto.events.models import EventPattern

from patient_contact import events, settings

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
    "POST {}/patients/search": "preferences/read",
    "POST {}/patients/{patient_id}/messages": "messages/send",
}

# Read by botocore, and empty where it is deployed.
FOR_SAM_LOCAL = "AWS_ENDPOINT_URL"
NEEDED = {
    "PracticesFunction": {"TABLE_NAME", "AUDIT_KEY"},
    "PreferencesFunction": {"TABLE_NAME", "AUDIT_KEY"},
    "MessagesFunction": {"TABLE_NAME", "AUDIT_KEY", "DECISION_RETENTION_DAYS"},
    "RunAutomationFunction": {"TABLE_NAME", "AUTOMATIONS_DLQ_URL", "DECISION_RETENTION_DAYS"},
    "PublishEventsFunction": {"TABLE_NAME", "EVENT_BUS_NAME"},
}

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

# What a function must not be able to do to the table, although another may.
FORBIDDEN = [
    ("PracticesFunction", "GetItem", PATIENT),
    ("PracticesFunction", "PutItem", NUMBER),
    ("PreferencesFunction", "PutItem", PRACTICE),
    ("PreferencesFunction", "DeleteItem", LINE),
    ("MessagesFunction", "PutItem", PRACTICE),
    ("MessagesFunction", "UpdateItem", PATIENT),
    ("MessagesFunction", "PutItem", NUMBER),
    ("MessagesFunction", "DeleteItem", PATIENT),
    ("RunAutomationFunction", "PutItem", NUMBER),
    ("RunAutomationFunction", "DeleteItem", PATIENT),
    ("PublishEventsFunction", "PutItem", PATIENT),
    ("PublishEventsFunction", "GetItem", PRACTICE),
]
ALLOWED = [
    ("PracticesFunction", "PutItem", PRACTICE),
    ("PracticesFunction", "PutItem", LINE),
    ("PreferencesFunction", "GetItem", PRACTICE),
    ("PreferencesFunction", "PutItem", PATIENT),
    ("PreferencesFunction", "UpdateItem", NUMBER),
    ("PreferencesFunction", "UpdateItem", LINE),
    ("MessagesFunction", "GetItem", PRACTICE),
    ("MessagesFunction", "BatchGetItem", NUMBER),
    ("MessagesFunction", "PutItem", PATIENT),
    ("RunAutomationFunction", "GetItem", PRACTICE),
    ("RunAutomationFunction", "BatchGetItem", PATIENT),
    ("RunAutomationFunction", "BatchGetItem", NUMBER),
    ("RunAutomationFunction", "PutItem", PATIENT),
    ("PublishEventsFunction", "GetItem", PATIENT),
]

# Actions that know no resources, so that they take `*` only.
WITHOUT_RESOURCE = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}

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
    """Yield function, event name and properties of each event of a kind: `HttpApi`, `SQS`, `DynamoDB`."""
    for name, properties in functions(template).items():
        for event, each in properties.get("Events", {}).items():
            if each["Type"] == source:
                yield name, event, each["Properties"]


def dead_letter_queues(template: Template) -> set[str]:
    """Return the queues that queues or rules give up to."""
    redriven = {
        target(each["RedrivePolicy"]["deadLetterTargetArn"])
        for each in of_type(template, "AWS::SQS::Queue").values()
        if "RedrivePolicy" in each
    }
    undelivered = {target(each.get("DeadLetterConfig", {}).get("Arn")) for _, each in rule_targets(template)}
    return (redriven | undelivered) - {""}


def rule_targets(template: Template) -> Iterator[tuple[str, Any]]:
    """Yield each rule with each of its targets."""
    for name, rule in of_type(template, "AWS::Events::Rule").items():
        for each in rule["Targets"]:
            yield name, each


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
    read = settings_names() | {FOR_SAM_LOCAL}
    return [
        f"{name}: nothing reads {each}"
        for name, function in functions(template).items()
        for each in function["Environment"]["Variables"].keys() - read
    ]


def each_function_has_the_environment_that_it_needs(template: Template) -> list[str]:
    """Every function is given exactly the names that it reads."""
    given = {
        name: set(each["Environment"]["Variables"]) - {FOR_SAM_LOCAL} for name, each in functions(template).items()
    }
    return [f"{name}: {sorted(given.get(name, set()) ^ NEEDED.get(name, set()))}" for name in differing(given, NEEDED)]


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


def each_pattern_matches_what_the_code_accepts(template: Template) -> list[str]:
    """Rules match every event of the source of automations, known to the code or not, and nothing that we publish."""
    record = json.loads((ROOT / "events" / "run_automation.ok.json").read_text())["Records"][0]
    accepted: Any = json.loads(record["body"])
    mistyped: Any = {**accepted, "detail-type": "AutomationTrigered"}
    ours: list[Any] = [
        {**accepted, "source": source, "detail-type": detail_type}
        for source, detail_type in (
            (events.SOURCE_ROUTING, events.MESSAGE_ROUTED),
            (events.SOURCE_ROUTING, events.MESSAGE_SUPPRESSED),
            (events.SOURCE_PREFERENCES, events.PREFERENCES_CHANGED),
            (events.SOURCE_PREFERENCES, events.SMS_CONSENT_CHANGED),
        )
    ]
    complaints = []
    if (accepted["source"], accepted["detail-type"]) != (events.SOURCE_AUTOMATIONS, events.AUTOMATION_TRIGGERED):
        complaints.append("the sample is not what the code accepts")
    for name, rule in of_type(template, "AWS::Events::Rule").items():
        matches = EventPattern.load(json.dumps(rule["EventPattern"])).matches_event
        complaints += [f"{name}: misses {each['detail-type']}" for each in (accepted, mistyped) if not matches(each)]
        complaints += [f"{name}: catches our own {each['detail-type']}" for each in ours if matches(each)]
    return complaints


def events_are_put_from_one_source_by_each(template: Template) -> list[str]:
    """Integration engineers may put events as automations only, the function as routing and preferences only."""
    (policy,) = of_type(template, "AWS::IAM::ManagedPolicy")["TriggerAutomationsPolicy"]["PolicyDocument"]["Statement"]
    role = statements(template, "PublishEventsFunction")
    own = [each for each in role if "events:PutEvents" in listed(each["Action"])]
    complaints = []
    for who, allowed, sources in (
        ("TriggerAutomationsPolicy", [policy], {events.SOURCE_AUTOMATIONS}),
        ("PublishEventsFunction", own, {events.SOURCE_ROUTING, events.SOURCE_PREFERENCES}),
    ):
        conditions = [each.get("Condition", {}).get("StringEquals", {}) for each in allowed]
        found = [set(listed(each.get("events:source"))) for each in conditions]
        if found != [sources] or any(target(each["Resource"]) != "EventBus" for each in allowed):
            complaints.append(f"{who}: {found}")
    return complaints


def each_queue_gives_up_to_a_dead_letter_queue(template: Template) -> list[str]:
    """After as many receives as the functions count on; what a rule cannot deliver is kept as well."""
    queues = of_type(template, "AWS::SQS::Queue")
    dead = dead_letter_queues(template)
    alive = queues.keys() - dead
    complaints = [f"{name}: has no dead-letter queue" for name in alive if "RedrivePolicy" not in queues[name]]
    for name, each in queues.items():
        policy = each.get("RedrivePolicy")
        if policy and target(policy["deadLetterTargetArn"]) not in queues:
            complaints.append(f"{name}: gives up to nothing")
        if policy and policy["maxReceiveCount"] != events.MAX_RECEIVES:
            complaints.append(f"{name}: {policy['maxReceiveCount']} receives, not {events.MAX_RECEIVES}")
        if name in dead and each.get("MessageRetentionPeriod") != 1209600:
            complaints.append(f"{name}: keeps dead letters less than 14 days")
        if each.get("SqsManagedSseEnabled") is not True:
            complaints.append(f"{name}: is not encrypted")
    for name, each in rule_targets(template):
        if target(each.get("DeadLetterConfig", {}).get("Arn")) not in queues:
            complaints.append(f"{name}: what it cannot deliver is lost")
    return complaints


def each_rule_may_reach_its_queues(template: Template) -> list[str]:
    """A queue policy admits the rule, and nobody else, to its target and its dead-letter queue."""
    complaints = []
    for name, each in rule_targets(template):
        wanted = {target(each["Arn"]), target(each.get("DeadLetterConfig", {}).get("Arn"))}
        admitted: set[str] = set()
        for policy in of_type(template, "AWS::SQS::QueuePolicy").values():
            for statement in policy["PolicyDocument"]["Statement"]:
                source = statement.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn")
                if statement["Principal"] == {"Service": "events.amazonaws.com"} and target(source) == name:
                    admitted |= {target(queue) for queue in policy["Queues"]}
        if admitted != wanted:
            complaints.append(f"{name}: is admitted to {sorted(admitted)}")
    return complaints


def each_queue_waits_for_its_function(template: Template) -> list[str]:
    """A message stays hidden for six time-outs of the function and the batching window."""
    complaints = []
    for name, event, each in mappings(template, "SQS"):
        needed = 6 * functions(template)[name]["Timeout"] + each.get("MaximumBatchingWindowInSeconds", 0)
        queue = template["Resources"][target(each["Queue"])]["Properties"]
        if queue.get("VisibilityTimeout", 30) < needed:
            complaints.append(f"{name}.{event}: {queue.get('VisibilityTimeout', 30)} s hidden, {needed} s needed")
    return complaints


def each_batch_reports_what_failed(template: Template) -> list[str]:
    """Batches have the sizes that the code counts on, a window where their size asks for one, and partial failures."""
    complaints = []
    for source, size in (("SQS", events.AUTOMATION_BATCH), ("DynamoDB", events.STREAM_BATCH)):
        for name, event, each in mappings(template, source):
            if each.get("FunctionResponseTypes") != ["ReportBatchItemFailures"]:
                complaints.append(f"{name}.{event}: one failure fails the batch")
            if each.get("BatchSize") != size:
                complaints.append(f"{name}.{event}: batches of {each.get('BatchSize')}, the code takes {size}")
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
    """The routes are those of the design, each with its scope, and each behind the authorizer."""
    found = {}
    complaints = []
    for name, event, each in mappings(template, "HttpApi"):
        key = f"{each['Method']} {each['Path']}"
        scopes = each.get("Auth", {}).get("AuthorizationScopes", [])
        if len(scopes) != 1 or each.get("Auth", {}).get("Authorizer") != "Jwt" or target(each.get("ApiId")) != "Api":
            complaints.append(f"{name}.{event}: {scopes}")
        found[key] = scopes
    wanted = {key.replace("{}", "/v1/practices/{practice_id}", 1): [scope] for key, scope in SCOPES.items()}
    return complaints + [f"{key}: {found.get(key)}" for key in differing(found, wanted)]


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
    """Return the routes of a handler's app, each with the scopes that it documents."""
    if not (ROOT / folder).is_dir():
        return {}
    app = importlib.import_module(f"{folder.replace('/', '.')}.handler").app
    schema = app.get_openapi_schema(title="", version="", security_schemes={"jwt": HTTPBearer()})
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
        "audience": authorizer["audience"] == [{"Ref": "JwtAudience"}],
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


def functions_keep_to_their_keys(template: Template) -> list[str]:
    """Each function reaches the items that it needs, and not those of others."""
    wrong = [("may", each) for each in FORBIDDEN if may(template, *each)]
    wrong += [("may not", each) for each in ALLOWED if not may(template, *each)]
    return [f"{name} {verb} {action} {key}" for verb, (name, action, key) in wrong]


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
    """Age of queues and streams, rules that fail, errors and throttles of functions, of the API and of the table."""
    queues = {target(each["Queue"]) for _, _, each in mappings(template, "SQS")}
    streams = {name for name, _, _ in mappings(template, "DynamoDB")}
    every = set(functions(template))
    # A rule's name is a part of its ARN.
    rules = {
        each["Fn::Select"][1]["Fn::Split"][1]["Fn::GetAtt"][0]
        for _, dimensions in alarms_on(template, "AWS/Events", "FailedInvocations")
        for each in [dimensions["RuleName"]]
    }
    missing = {
        "oldest message": queues - alarmed(template, "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
        "iterator age": streams - alarmed(template, "AWS/Lambda", "IteratorAge", "FunctionName"),
        "failed invocations": set(of_type(template, "AWS::Events::Rule")) - rules,
        "errors": every - alarmed(template, "AWS/Lambda", "Errors", "FunctionName"),
        "throttles": every - alarmed(template, "AWS/Lambda", "Throttles", "FunctionName"),
        "5xx": set(of_type(template, "AWS::Serverless::HttpApi")) - alarmed(template, "AWS/ApiGateway", "5xx", "ApiId"),
        "throttled reads": {"Table"} - alarmed(template, "AWS/DynamoDB", "ReadThrottleEvents", "TableName"),
        "throttled writes": {"Table"} - alarmed(template, "AWS/DynamoDB", "WriteThrottleEvents", "TableName"),
    }
    return [f"{name}: no alarm on {what}" for what, names in missing.items() for name in names]


def each_alarm_is_heard(template: Template) -> list[str]:
    """Alarms go to the topic, silence is no alarm, and the topic admits the alarms of this account."""
    complaints = [
        f"{name}: nobody hears it"
        for name, each in of_type(template, "AWS::CloudWatch::Alarm").items()
        if each.get("AlarmActions") != [{"Ref": "AlarmTopic"}] or each.get("TreatMissingData") != "notBreaching"
    ]
    (policy,) = of_type(template, "AWS::SNS::TopicPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    source = statement.get("Condition", {}).get("ArnLike", {}).get("aws:SourceArn", {}).get("Fn::Sub", "")
    if statement["Principal"] != {"Service": "cloudwatch.amazonaws.com"} or "${AWS::AccountId}:alarm:" not in source:
        complaints.append("the topic admits others")
    (subscription,) = of_type(template, "AWS::SNS::Subscription").values()
    if subscription["Endpoint"] != {"Ref": "AlarmEmail"}:
        complaints.append("nobody subscribes")
    return complaints


RULES: tuple[Rule, ...] = (
    each_function_has_its_handler,
    each_environment_name_is_read,
    each_function_has_the_environment_that_it_needs,
    an_environment_name_means_one_thing,
    a_new_layer_reaches_the_functions,
    a_deployment_is_rolled_back_by_its_functions_errors,
    each_pattern_matches_what_the_code_accepts,
    events_are_put_from_one_source_by_each,
    each_queue_gives_up_to_a_dead_letter_queue,
    each_rule_may_reach_its_queues,
    each_queue_waits_for_its_function,
    each_batch_reports_what_failed,
    no_record_of_the_stream_is_lost,
    each_route_has_its_one_scope,
    each_route_is_the_handlers_own,
    the_api_fails_rather_than_opens,
    nothing_logs_a_path,
    each_function_has_its_own_role,
    no_policy_has_a_star,
    functions_keep_to_their_keys,
    what_is_kept_outlives_the_stack,
    the_table_is_protected,
    the_indexes_are_those_of_the_design,
    decisions_outlive_their_events,
    each_log_is_encrypted_and_ends,
    buckets_and_topics_are_closed,
    each_dead_letter_rings,
    each_thing_that_can_stall_rings,
    each_alarm_is_heard,
)
