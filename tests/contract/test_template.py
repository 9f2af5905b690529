"""Holds `template.yaml` to its rules, and each rule to noticing when it is broken."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from patient_contact import events
from tests.contract import rules

TEXT = (rules.ROOT / "template.yaml").read_text()

GONE = object()
FUNCTION = {"Name": "FunctionName", "Value": {"Ref": "PublishEventsFunction"}}
ANYBODY = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sns:Publish", "Resource": "*"}
EVERY_FIVE_MINUTES = "WatchDueFunction.Events.EveryFiveMinutes.Properties"

# For each rule, what breaks it where. A place begins with a section of the template, or it is a property of a resource.
BREAKS: list[tuple[rules.Rule, str, object]] = [
    (rules.each_function_has_its_handler, "MessagesFunction.CodeUri", "functions/mesages"),
    (rules.each_function_has_its_handler, "Globals.Function.Handler", "handler.handle"),
    (rules.each_function_has_its_handler, "Resources.MessagesFunction", GONE),
    (rules.each_environment_name_is_read, "Globals.Function.Environment.Variables.TABLE", "x"),
    (
        rules.each_function_has_the_environment_that_it_needs,
        "PublishEventsFunction.Environment.Variables.EVENT_BUS_NAME",
        GONE,
    ),
    (
        rules.each_function_has_the_environment_that_it_needs,
        "PreferencesFunction.Environment.Variables.LOOKUPS_QUEUE_URL",
        GONE,
    ),
    (
        rules.each_function_has_the_environment_that_it_needs,
        "StartBulkFunction.Environment.Variables.CHUNKS_QUEUE_URL",
        GONE,
    ),
    (
        rules.each_function_has_the_environment_that_it_needs,
        "RouteBatchFunction.Environment.Variables.LISTS_BUCKET",
        GONE,
    ),
    (
        rules.what_is_deployed_asks_the_real_aws,
        "Globals.Function.Environment.Variables.AWS_ENDPOINT_URL",
        "http://127.0.0.1:4566",
    ),
    (
        rules.what_is_deployed_asks_the_real_aws,
        "Globals.Function.Environment.Variables.AWS_ENDPOINT_URL_PINPOINT_SMS_VOICE_V2",
        GONE,
    ),
    (rules.an_environment_name_means_one_thing, "MessagesFunction.Environment.Variables.DECISION_RETENTION_DAYS", 30),
    (
        rules.an_environment_name_means_one_thing,
        "BulkFunction.Environment.Variables.LISTS_BUCKET",
        {"Ref": "FailedRecordsBucket"},
    ),
    (rules.a_new_layer_reaches_the_functions, "Globals.Function.AutoPublishAlias", GONE),
    (rules.a_new_layer_reaches_the_functions, "PracticesFunction.AutoPublishAliasAllProperties", GONE),
    (rules.a_new_layer_reaches_the_functions, "PatientContactLayer.PublishLambdaVersion", GONE),
    (
        rules.a_deployment_is_rolled_back_by_its_functions_errors,
        "PracticesFunction.DeploymentPreference.Alarms",
        [{"Ref": "MessagesErrorsAlarm"}],
    ),
    (
        rules.a_deployment_is_rolled_back_by_its_functions_errors,
        "MessagesErrorsAlarm.Dimensions.0.Value.Ref",
        "PracticesFunction",
    ),
    (rules.each_rule_catches_its_source_alone, "AutomationsRule.EventPattern.source", ["patient-contact.automation"]),
    (rules.each_rule_catches_its_source_alone, "AutomationsRule.EventPattern.source", [{"prefix": "patient-contact."}]),
    (rules.each_rule_catches_its_source_alone, "AutomationsRule.EventPattern.detail-type", ["AutomationTriggered"]),
    (rules.each_rule_catches_its_source_alone, "AutomationsRule.EventBusName", GONE),
    (rules.each_rule_catches_its_source_alone, "ReceiptsRule.EventPattern.source", ["aws.sms"]),
    (rules.each_rule_catches_its_source_alone, "ReceiptsRule.EventPattern.source", [{"anything-but": "aws.ec2"}]),
    (rules.each_rule_catches_its_source_alone, "ReceiptsRule.EventPattern.detail-type", list(events.RECEIPTS)),
    (rules.each_rule_catches_its_source_alone, "ReceiptsRule.EventBusName", {"Ref": "EventBus"}),
    (rules.each_rule_catches_its_source_alone, "Resources.ReceiptsRule", GONE),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventBusName", GONE),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.source", ["patient-contact.preferences"]),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail-type", GONE),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail-type", [{"prefix": "Message"}]),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail-type.1", "MessageSuppressed"),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail", GONE),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail.sender", ["practice"]),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail.sender.1", "practice"),
    (rules.each_rule_catches_its_source_alone, "SendsRule.EventPattern.detail.sender.1", None),
    (rules.each_rule_catches_its_source_alone, "Resources.SendsRule", GONE),
    (rules.each_rule_catches_its_source_alone, "BulksRule.EventBusName", GONE),
    (rules.each_rule_catches_its_source_alone, "BulksRule.EventPattern.source", ["patient-contact.routing"]),
    (rules.each_rule_catches_its_source_alone, "BulksRule.EventPattern.detail-type", GONE),
    (rules.each_rule_catches_its_source_alone, "BulksRule.EventPattern.detail-type", [{"prefix": "Bulk"}]),
    (rules.each_rule_catches_its_source_alone, "Resources.BulksRule", GONE),
    (
        rules.events_are_put_from_one_source_by_each,
        "TriggerAutomationsPolicy.PolicyDocument.Statement.0.Condition",
        GONE,
    ),
    (rules.events_are_put_from_one_source_by_each, "TriggerAutomationsPolicy.PolicyDocument.Statement.0.Resource", "*"),
    (
        rules.events_are_put_from_one_source_by_each,
        "PublishEventsRole.Policies.0.PolicyDocument.Statement.4.Condition.StringEquals.events:source.3",
        "patient-contact.automations",
    ),
    (
        rules.events_are_put_from_one_source_by_each,
        "PublishEventsRole.Policies.0.PolicyDocument.Statement.4.Condition.StringEquals.events:source.2",
        GONE,
    ),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "AutomationsQueue.RedrivePolicy", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "AutomationsQueue.RedrivePolicy.maxReceiveCount", 3),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "AutomationsRule.Targets.0.DeadLetterConfig", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "AutomationsDeadLetters.MessageRetentionPeriod", 345600),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "AutomationsQueue.SqsManagedSseEnabled", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "RepliesSubscription.RedrivePolicy", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "ReceiptsRule.Targets.0.DeadLetterConfig", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "LookupsQueue.RedrivePolicy", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "LookupsQueue.RedrivePolicy.maxReceiveCount", 1000),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "SendsQueue.RedrivePolicy.maxReceiveCount", 5),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "SendsRule.Targets.0.DeadLetterConfig", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "SendsDeadLetters.MessageRetentionPeriod", 345600),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "BulksQueue.RedrivePolicy.maxReceiveCount", 1000),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "BulksRule.Targets.0.DeadLetterConfig", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "BulksDeadLetters.MessageRetentionPeriod", 345600),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "ChunksQueue.RedrivePolicy", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "ChunksQueue.SqsManagedSseEnabled", GONE),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, "ChunksDeadLetters.MessageRetentionPeriod", 864000),
    (rules.each_queue_gives_up_to_a_dead_letter_queue, f"{EVERY_FIVE_MINUTES}.DeadLetterConfig", GONE),
    (rules.what_fails_on_its_schedule_is_kept, "WatchDueFunction.EventInvokeConfig", GONE),
    (
        rules.what_fails_on_its_schedule_is_kept,
        "WatchDueFunction.EventInvokeConfig.DestinationConfig.OnFailure.Destination.Fn::GetAtt.0",
        "AlarmTopic",
    ),
    (rules.what_fails_on_its_schedule_is_kept, f"{EVERY_FIVE_MINUTES}.RetryPolicy.MaximumRetryAttempts", 0),
    (rules.each_queue_admits_who_delivers_to_it, "AutomationsRulePolicy.Queues.1", GONE),
    (rules.each_queue_admits_who_delivers_to_it, "AutomationsRulePolicy.PolicyDocument.Statement.0.Condition", GONE),
    (
        rules.each_queue_admits_who_delivers_to_it,
        "ReceiptsRulePolicy.PolicyDocument.Statement.0.Condition.ArnEquals.aws:SourceArn.Fn::GetAtt.0",
        "AutomationsRule",
    ),
    (
        rules.each_queue_admits_who_delivers_to_it,
        "RepliesTopicToQueue.PolicyDocument.Statement.0.Principal.Service",
        "events.amazonaws.com",
    ),
    (rules.each_queue_admits_who_delivers_to_it, "RepliesTopicToQueue.Queues.1", GONE),
    (rules.each_queue_admits_who_delivers_to_it, "RepliesTopicToQueue.PolicyDocument.Statement.0.Action", "sqs:*"),
    (rules.each_queue_admits_who_delivers_to_it, "Resources.WatchDueRulePolicy", GONE),
    (rules.each_queue_admits_who_delivers_to_it, "SendsRulePolicy.Queues.1", GONE),
    (rules.each_queue_admits_who_delivers_to_it, "BulksRulePolicy.Queues.1", GONE),
    (
        rules.each_queue_admits_who_delivers_to_it,
        "BulksRulePolicy.PolicyDocument.Statement.0.Condition.ArnEquals.aws:SourceArn.Fn::GetAtt.0",
        "SendsRule",
    ),
    (
        rules.each_queue_admits_who_delivers_to_it,
        "WatchDueRulePolicy.PolicyDocument.Statement.0.Condition.ArnEquals.aws:SourceArn.Fn::GetAtt.0",
        "WatchDueFunctionEveryHour",
    ),
    (rules.each_queue_admits_who_delivers_to_it, "LookupsQueuePolicy.PolicyDocument.Statement.1", ANYBODY),
    (rules.each_queue_admits_who_delivers_to_it, "ChunksQueuePolicy.PolicyDocument.Statement.1", ANYBODY),
    (rules.each_queue_is_reached_by_tls_alone, "RepliesTopicToQueue.PolicyDocument.Statement.1", GONE),
    (rules.each_queue_is_reached_by_tls_alone, "AutomationsRulePolicy.PolicyDocument.Statement.1.Condition", GONE),
    (
        rules.each_queue_is_reached_by_tls_alone,
        "WatchDueRulePolicy.PolicyDocument.Statement.1.Resource.Fn::GetAtt.0",
        "LookupsDeadLetters",
    ),
    (rules.each_queue_is_reached_by_tls_alone, "Resources.LookupsQueuePolicy", GONE),
    (rules.each_queue_is_reached_by_tls_alone, "LookupsQueuePolicy.Queues.0.Ref", "RepliesQueue"),
    (rules.each_queue_is_reached_by_tls_alone, "BulksRulePolicy.PolicyDocument.Statement.1", GONE),
    (rules.each_queue_is_reached_by_tls_alone, "Resources.ChunksQueuePolicy", GONE),
    (rules.each_queue_is_reached_by_tls_alone, "ChunksQueuePolicy.Queues.1.Ref", "BulksDeadLetters"),
    (rules.a_reply_comes_with_its_time, "RepliesSubscription.RawMessageDelivery", True),
    (
        rules.nobody_else_replies_for_a_patient,
        "RepliesTopicPolicy.PolicyDocument.Statement.0.Condition",
        GONE,
    ),
    (
        rules.nobody_else_replies_for_a_patient,
        "RepliesTopicPolicy.PolicyDocument.Statement.0.Principal",
        {"AWS": {"Ref": "AWS::AccountId"}},
    ),
    (rules.nobody_else_replies_for_a_patient, "RepliesTopicPolicy.PolicyDocument.Statement.1", ANYBODY),
    (rules.nobody_else_replies_for_a_patient, "Resources.RepliesTopicPolicy", GONE),
    (rules.nobody_else_replies_for_a_patient, "DataKey.KeyPolicy.Statement.3.Condition.StringEquals", GONE),
    (rules.nobody_else_replies_for_a_patient, "DataKey.KeyPolicy.Statement.3.Action", "kms:*"),
    (rules.nobody_else_replies_for_a_patient, "DataKey.KeyPolicy.Statement.3", GONE),
    (rules.each_queue_waits_for_its_function, "AutomationsQueue.VisibilityTimeout", 360),
    (rules.each_queue_waits_for_its_function, "AutomationsQueue.VisibilityTimeout", GONE),
    (rules.each_queue_waits_for_its_function, "RunAutomationFunction.Timeout", 61),
    (rules.each_queue_waits_for_its_function, "LookUpNumberFunction.Timeout", 62),
    (rules.each_queue_waits_for_its_function, "SendsQueue.VisibilityTimeout", 179),
    (rules.each_queue_waits_for_its_function, "BulksQueue.VisibilityTimeout", 719),
    (rules.each_queue_waits_for_its_function, "ChunksQueue.VisibilityTimeout", 359),
    (rules.a_lease_ends_between_two_deliveries, "RouteBatchFunction.Timeout", 90),
    (rules.who_queues_for_itself_may_go_on, "StartBulkFunction.RecursiveLoop", GONE),
    (rules.who_queues_for_itself_may_go_on, "StartBulkFunction.RecursiveLoop", "Terminate"),
    (rules.a_lease_ends_between_two_deliveries, "SendMessageFunction.Timeout", 60),
    (rules.a_lease_ends_between_two_deliveries, "SendsQueue.VisibilityTimeout", 90),
    (rules.a_lease_ends_between_two_deliveries, "SendsQueue.VisibilityTimeout", GONE),
    (
        rules.each_batch_reports_what_failed,
        "RunAutomationFunction.Events.Automations.Properties.FunctionResponseTypes",
        GONE,
    ),
    (
        rules.each_batch_reports_what_failed,
        "RunAutomationFunction.Events.Automations.Properties.MaximumBatchingWindowInSeconds",
        GONE,
    ),
    (rules.each_batch_reports_what_failed, "PublishEventsFunction.Events.TableStream.Properties.BatchSize", 10),
    (rules.each_batch_reports_what_failed, "RecordReplyFunction.Events.Replies.Properties.BatchSize", 10),
    (rules.each_batch_reports_what_failed, "RecordReceiptFunction.Events.Receipts.Properties.BatchSize", 1000),
    (rules.each_batch_reports_what_failed, "LookUpNumberFunction.Events.Lookups.Properties.BatchSize", 100),
    (rules.each_batch_reports_what_failed, "LookUpNumberFunction.Events.Lookups.Properties.ScalingConfig", GONE),
    (rules.each_batch_reports_what_failed, "SendMessageFunction.Events.Sends.Properties.BatchSize", 100),
    (rules.each_batch_reports_what_failed, "SendMessageFunction.Events.Sends.Properties.FunctionResponseTypes", GONE),
    (rules.each_batch_reports_what_failed, "StartBulkFunction.Events.Bulks.Properties.BatchSize", 10),
    (rules.each_batch_reports_what_failed, "StartBulkFunction.Events.Bulks.Properties.ScalingConfig", GONE),
    (rules.each_batch_reports_what_failed, "RouteBatchFunction.Events.Chunks.Properties.BatchSize", 10),
    (rules.each_batch_reports_what_failed, "RouteBatchFunction.Events.Chunks.Properties.FunctionResponseTypes", GONE),
    (rules.each_batch_reports_what_failed, "RunAutomationFunction.ReservedConcurrentExecutions", 5),
    (
        rules.no_record_of_the_stream_is_lost,
        "PublishEventsFunction.Events.TableStream.Properties.DestinationConfig",
        GONE,
    ),
    (
        rules.no_record_of_the_stream_is_lost,
        "PublishEventsFunction.Events.TableStream.Properties.MaximumRecordAgeInSeconds",
        86400,
    ),
    (
        rules.each_route_has_its_one_scope,
        "PracticesFunction.Events.PutPractice.Properties.Auth.AuthorizationScopes",
        ["practice/read"],
    ),
    (
        rules.each_route_has_its_one_scope,
        "PracticesFunction.Events.PutPractice.Properties.Auth.AuthorizationScopes",
        ["practice/admin", "practice/read"],
    ),
    (rules.each_route_has_its_one_scope, "PracticesFunction.Events.PutPractice.Properties.Auth", GONE),
    (
        rules.each_route_has_its_one_scope,
        "ConsentsFunction.Events.ImportConsent.Properties.Auth.AuthorizationScopes",
        ["preferences/write"],
    ),
    (
        rules.each_route_has_its_one_scope,
        "MessagesFunction.Events.ResolveDecision.Properties.Auth.AuthorizationScopes",
        ["messages/send"],
    ),
    (rules.each_route_has_its_one_scope, "MessagesFunction.Events.ListUnknown", GONE),
    (
        rules.each_route_has_its_one_scope,
        "BulkFunction.Events.PostBroadcast.Properties.Auth.AuthorizationScopes",
        ["practice/admin"],
    ),
    (rules.each_route_has_its_one_scope, "BulkFunction.Events.CancelDryRun", GONE),
    (
        rules.each_route_has_its_one_scope,
        "PracticesFunction.Events.GetPractice.Properties.Auth",
        {"Authorizer": "NONE"},
    ),
    (rules.each_route_has_its_one_scope, "PageFunction.Events.GetPage.Properties.Auth", GONE),
    (
        rules.each_route_has_its_one_scope,
        "PageFunction.Events.GetConfig.Properties.Auth",
        {"Authorizer": "Jwt", "AuthorizationScopes": ["practice/read"]},
    ),
    (rules.each_route_has_its_one_scope, "PageFunction.Events.GetFile.Properties.Path", "/v1/practices/{file}"),
    (
        rules.who_asks_for_no_token_knows_of_nobody,
        "PreferencesFunction.Events.GetPatient.Properties.Auth",
        {"Authorizer": "NONE"},
    ),
    (
        rules.who_asks_for_no_token_knows_of_nobody,
        "PageRole.Policies.0.PolicyDocument.Statement.1",
        {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": {"Fn::GetAtt": ["Table", "Arn"]}},
    ),
    (rules.each_route_is_the_handlers_own, "PageFunction.Events.GetConfig", GONE),
    (rules.each_route_is_the_handlers_own, "MessagesFunction.Events.ResolveDecision", GONE),
    (rules.each_route_is_the_handlers_own, "PracticesFunction.Events.ListAutomations", GONE),
    (rules.each_route_is_the_handlers_own, "ConsentsFunction.Events.CloseReview", GONE),
    (rules.each_route_is_the_handlers_own, "BulkFunction.Events.DryRunAutomation", GONE),
    (
        rules.each_route_is_the_handlers_own,
        "PracticesFunction.Events.GetPractice.Properties.Path",
        "/v1/practices/{id}",
    ),
    (rules.the_api_fails_rather_than_opens, "Api.FailOnWarnings", GONE),
    (rules.the_api_fails_rather_than_opens, "Api.Auth.DefaultAuthorizer", GONE),
    (rules.the_api_fails_rather_than_opens, "Api.DefaultRouteSettings.ThrottlingRateLimit", GONE),
    (
        rules.nothing_logs_a_path,
        "Api.AccessLogSettings.Format",
        '{"routeKey": "$context.routeKey", "path": "$context.path"}',
    ),
    (rules.each_function_has_its_own_role, "MessagesFunction.Role.Fn::GetAtt.0", "PracticesRole"),
    (rules.each_function_has_its_own_role, "MessagesFunction.Role", GONE),
    (rules.each_function_has_its_own_role, "StartBulkFunction.Role.Fn::GetAtt.0", "RouteBatchRole"),
    (
        rules.each_function_has_its_own_role,
        "MessagesRole.ManagedPolicyArns.1",
        "arn:aws:iam::aws:policy/AmazonDynamoDBFullAccess",
    ),
    (rules.no_policy_has_a_star, "MessagesRole.Policies.0.PolicyDocument.Statement.0.Action", "dynamodb:*"),
    (rules.no_policy_has_a_star, "MessagesRole.Policies.0.PolicyDocument.Statement.0.Resource", "*"),
    (rules.no_policy_has_a_star, "MessagesRole.Policies.0.PolicyDocument.Statement.1.Condition", GONE),
    (rules.no_policy_has_a_star, "WatchDueRole.Policies.0.PolicyDocument.Statement.0.Condition", GONE),
    (rules.no_policy_has_a_star, "LookUpNumberRole.Policies.0.PolicyDocument.Statement.1.Action", "sms-voice:*"),
    (
        rules.no_policy_has_a_star,
        "LookUpNumberRole.Policies.0.PolicyDocument.Statement.1.Action",
        ["sms-voice:CarrierLookup", "sms-voice:SendTextMessage"],
    ),
    (rules.no_policy_has_a_star, "SendMessageRole.Policies.0.PolicyDocument.Statement.4.Resource", "*"),
    (rules.no_policy_has_a_star, "SendMessageRole.Policies.0.PolicyDocument.Statement.6.Resource", "*"),
    (rules.no_policy_has_a_star, "SendMessageRole.Policies.0.PolicyDocument.Statement.7.Resource", "*"),
    (rules.no_policy_has_a_star, "BulkRole.Policies.0.PolicyDocument.Statement.0.Condition", GONE),
    (rules.no_policy_has_a_star, "StartBulkRole.Policies.0.PolicyDocument.Statement.1.Resource", "*"),
    (rules.no_policy_has_a_star, "RouteBatchRole.Policies.0.PolicyDocument.Statement.3.Action", "s3:Get*"),
    (rules.no_policy_has_a_star, "UploadListsPolicy.PolicyDocument.Statement.0.Resource", "*"),
    (rules.functions_keep_to_their_queues, "RecordReplyRole.Policies.0.PolicyDocument.Statement.4.Action.1", GONE),
    (
        rules.functions_keep_to_their_queues,
        "RecordReceiptRole.Policies.0.PolicyDocument.Statement.4.Resource.Fn::GetAtt.0",
        "RepliesDeadLetters",
    ),
    (
        rules.functions_keep_to_their_queues,
        "PreferencesRole.Policies.0.PolicyDocument.Statement.5.Resource.Fn::GetAtt.0",
        "LookupsDeadLetters",
    ),
    (rules.functions_keep_to_their_queues, "WatchDueRole.Policies.0.PolicyDocument.Statement.1", GONE),
    (
        rules.functions_keep_to_their_queues,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.8.Resource.Fn::GetAtt.0",
        "ReceiptsQueue",
    ),
    (rules.functions_keep_to_their_queues, "StartBulkRole.Policies.0.PolicyDocument.Statement.5.Resource.1", GONE),
    (
        rules.functions_keep_to_their_queues,
        "StartBulkRole.Policies.0.PolicyDocument.Statement.5.Resource.2",
        {"Fn::GetAtt": ["SendsQueue", "Arn"]},
    ),
    (rules.functions_keep_to_their_queues, "StartBulkRole.Policies.0.PolicyDocument.Statement.6", GONE),
    (
        rules.functions_keep_to_their_queues,
        "RouteBatchRole.Policies.0.PolicyDocument.Statement.8.Resource.Fn::GetAtt.0",
        "BulksDeadLetters",
    ),
    (
        rules.those_ask_providers_who_need_to,
        "MessagesRole.Policies.0.PolicyDocument.Statement.4",
        {"Effect": "Allow", "Action": "sms-voice:CarrierLookup", "Resource": "*"},
    ),
    (rules.those_ask_providers_who_need_to, "PreferencesRole.Policies.0.PolicyDocument.Statement.4", GONE),
    (rules.those_ask_providers_who_need_to, "SendMessageRole.Policies.0.PolicyDocument.Statement.4", GONE),
    (rules.those_ask_providers_who_need_to, "SendMessageRole.Policies.0.PolicyDocument.Statement.6", GONE),
    (
        rules.those_ask_providers_who_need_to,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.7.Action",
        "ses:SendRawEmail",
    ),
    (
        rules.those_ask_providers_who_need_to,
        "RecordReplyRole.Policies.0.PolicyDocument.Statement.4",
        {
            "Effect": "Allow",
            "Action": "sms-voice:DeleteOptedOutNumber",
            "Resource": "arn:aws:sms-voice:::opt-out-list/*",
        },
    ),
    (
        rules.those_ask_providers_who_need_to,
        "MessagesRole.Policies.0.PolicyDocument.Statement.4",
        {"Effect": "Allow", "Action": ["sms-voice:SendTextMessage"], "Resource": "arn:aws:sms-voice:::phone-number/*"},
    ),
    (
        rules.those_ask_providers_who_need_to,
        "RunAutomationRole.Policies.0.PolicyDocument.Statement.3",
        {"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "arn:aws:ses:::identity/*"},
    ),
    (rules.functions_keep_to_their_keys, "PracticesRole.Policies.0.PolicyDocument.Statement.1", GONE),
    (
        rules.functions_keep_to_their_keys,
        "PreferencesRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*#PATIENT#*"],
    ),
    (rules.functions_keep_to_their_keys, "ConsentsRole.Policies.0.PolicyDocument.Statement.2", GONE),
    (rules.functions_keep_to_their_keys, "RecordReplyRole.Policies.0.PolicyDocument.Statement.3", GONE),
    (
        rules.functions_keep_to_their_keys,
        "RecordReceiptRole.Policies.0.PolicyDocument.Statement.1.Action",
        ["dynamodb:BatchGetItem", "dynamodb:UpdateItem"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "WatchDueRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "ConsentsRole.Policies.0.PolicyDocument.Statement.5.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*#OPTOUT#*", "DUE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.1.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.1.Action",
        ["dynamodb:UpdateItem", "dynamodb:PutItem"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "SendMessageRole.Policies.0.PolicyDocument.Statement.2.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (rules.functions_keep_to_their_keys, "SendMessageRole.Policies.0.PolicyDocument.Statement.3", GONE),
    (
        rules.functions_keep_to_their_keys,
        "MessagesRole.Policies.0.PolicyDocument.Statement.3.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["DUE#*"],
    ),
    (rules.functions_keep_to_their_keys, "MessagesRole.Policies.0.PolicyDocument.Statement.3", GONE),
    (
        rules.functions_keep_to_their_keys,
        "RecordReceiptRole.Policies.0.PolicyDocument.Statement.0.Action",
        "dynamodb:GetItem",
    ),
    (
        rules.functions_keep_to_their_keys,
        "PracticesRole.Policies.0.PolicyDocument.Statement.1.Condition.ForAnyValue:StringLike.dynamodb:LeadingKeys.2",
        GONE,
    ),
    (
        rules.functions_keep_to_their_keys,
        "ConsentsRole.Policies.0.PolicyDocument.Statement.2.Condition.ForAnyValue:StringLike.dynamodb:LeadingKeys.1",
        GONE,
    ),
    (
        rules.functions_keep_to_their_keys,
        "RecordReplyRole.Policies.0.PolicyDocument.Statement.3.Condition.ForAnyValue:StringLike.dynamodb:LeadingKeys.1",
        GONE,
    ),
    (rules.functions_keep_to_their_keys, "BulkRole.Policies.0.PolicyDocument.Statement.1", GONE),
    (
        rules.functions_keep_to_their_keys,
        "BulkRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*#BULK#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "BulkRole.Policies.0.PolicyDocument.Statement.2.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "StartBulkRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "StartBulkRole.Policies.0.PolicyDocument.Statement.0.Action",
        "dynamodb:GetItem",
    ),
    (
        rules.functions_keep_to_their_keys,
        "RouteBatchRole.Policies.0.PolicyDocument.Statement.0.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*#BULK#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "RouteBatchRole.Policies.0.PolicyDocument.Statement.1.Action",
        ["dynamodb:PutItem"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "RouteBatchRole.Policies.0.PolicyDocument.Statement.2.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (
        rules.functions_keep_to_their_keys,
        "PublishEventsRole.Policies.0.PolicyDocument.Statement.3.Condition.ForAllValues:StringLike.dynamodb:LeadingKeys",
        ["PRACTICE#*"],
    ),
    (rules.functions_keep_to_their_keys, "PublishEventsRole.Policies.0.PolicyDocument.Statement.3", GONE),
    (rules.those_reach_objects_who_need_to, "BulkRole.Policies.0.PolicyDocument.Statement.3.Resource.1", GONE),
    (
        rules.those_reach_objects_who_need_to,
        "BulkRole.Policies.0.PolicyDocument.Statement.4.Action",
        ["s3:PutObject", "s3:DeleteObject"],
    ),
    (rules.those_reach_objects_who_need_to, "StartBulkRole.Policies.0.PolicyDocument.Statement.2", GONE),
    (
        rules.those_reach_objects_who_need_to,
        "StartBulkRole.Policies.0.PolicyDocument.Statement.3.Action",
        ["kms:Decrypt", "kms:Encrypt"],
    ),
    (
        rules.those_reach_objects_who_need_to,
        "RouteBatchRole.Policies.0.PolicyDocument.Statement.4.Resource.Fn::Sub",
        "${ListsBucket.Arn}/*",
    ),
    (rules.those_reach_objects_who_need_to, "RouteBatchRole.Policies.0.PolicyDocument.Statement.6.Condition", GONE),
    (
        rules.those_reach_objects_who_need_to,
        "MessagesRole.Policies.0.PolicyDocument.Statement.4",
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": {"Fn::Sub": "${ListsBucket.Arn}/*"}},
    ),
    (
        rules.those_reach_objects_who_need_to,
        "UploadListsPolicy.PolicyDocument.Statement.0.Resource.Fn::Sub",
        "${ListsBucket.Arn}/*",
    ),
    (
        rules.those_reach_objects_who_need_to,
        "UploadListsPolicy.PolicyDocument.Statement.0.Action",
        ["s3:PutObject", "s3:GetObject"],
    ),
    (rules.those_reach_objects_who_need_to, "UploadListsPolicy.PolicyDocument.Statement.1.Condition", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.Table.DeletionPolicy", "Delete"),
    (rules.what_is_kept_outlives_the_stack, "Resources.AutomationsDeadLetters.UpdateReplacePolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.RepliesDeadLetters.DeletionPolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.WatchDueDeadLetters.DeletionPolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.SendsDeadLetters.DeletionPolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.BulksDeadLetters.DeletionPolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.ChunksDeadLetters.UpdateReplacePolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.ListsBucket.DeletionPolicy", GONE),
    (rules.what_is_kept_outlives_the_stack, "Resources.PracticesLog.DeletionPolicy", GONE),
    (rules.the_table_is_protected, "Table.DeletionProtectionEnabled", False),
    (rules.the_table_is_protected, "Table.PointInTimeRecoverySpecification", GONE),
    (rules.the_table_is_protected, "BackupSelection.BackupSelection.Resources", []),
    (rules.the_indexes_are_those_of_the_design, "Table.LocalSecondaryIndexes", GONE),
    (rules.the_indexes_are_those_of_the_design, "Table.GlobalSecondaryIndexes.0.Projection.ProjectionType", "ALL"),
    (rules.decisions_outlive_their_events, "Parameters.DecisionRetentionDays.MinValue", 30),
    (rules.decisions_outlive_their_events, "Parameters.DecisionRetentionDays.MinValue", GONE),
    (rules.each_log_is_encrypted_and_ends, "MessagesLog.RetentionInDays", GONE),
    (rules.each_log_is_encrypted_and_ends, "MessagesFunction.LoggingConfig.LogGroup", GONE),
    (rules.each_log_is_encrypted_and_ends, "Api.AccessLogSettings", GONE),
    (rules.buckets_and_topics_are_closed, "FailedRecordsBucket.BucketEncryption", GONE),
    (rules.buckets_and_topics_are_closed, "Resources.FailedRecordsBucketPolicy", GONE),
    (rules.buckets_and_topics_are_closed, "ListsBucket.PublicAccessBlockConfiguration.BlockPublicAcls", GONE),
    (rules.buckets_and_topics_are_closed, "ListsBucket.VersioningConfiguration", GONE),
    (rules.buckets_and_topics_are_closed, "Resources.ListsBucketPolicy", GONE),
    (rules.buckets_and_topics_are_closed, "AlarmTopic.KmsMasterKeyId", GONE),
    (rules.buckets_and_topics_are_closed, "RepliesTopic.KmsMasterKeyId", "alias/aws/sns"),
    (rules.each_list_is_kept_for_its_time, "ListsBucket.LifecycleConfiguration", GONE),
    (rules.each_list_is_kept_for_its_time, "ListsBucket.LifecycleConfiguration.Rules.1", GONE),
    (rules.each_list_is_kept_for_its_time, "ListsBucket.LifecycleConfiguration.Rules.2.ExpirationInDays", 90),
    (rules.each_list_is_kept_for_its_time, "ListsBucket.LifecycleConfiguration.Rules.0.Status", "Disabled"),
    (
        rules.each_list_is_kept_for_its_time,
        "ListsBucket.LifecycleConfiguration.Rules.3.NoncurrentVersionExpiration",
        GONE,
    ),
    (rules.each_list_is_kept_for_its_time, "ListsBucket.LifecycleConfiguration.Rules.3.Prefix", "lists/"),
    (rules.each_dead_letter_rings, "Resources.AutomationsDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "Resources.RepliesDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "Resources.WatchDueDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "Resources.SendsDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "Resources.BulksDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "Resources.ChunksDeadLettersAlarm", GONE),
    (rules.each_dead_letter_rings, "FailedRecordsAlarm.Metrics.1.MetricStat.Metric.Dimensions.1", FUNCTION),
    (rules.each_dead_letter_rings, "FailedRecordsAlarm.Metrics.2", GONE),
    (rules.each_dead_letter_rings, "Resources.FailedRecordsAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.AutomationsQueueAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.PublishEventsIteratorAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.RepliesQueueAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.RepliesNotDeliveredAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.SendsQueueAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.SendsWaitingAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "SendsWaitingAlarm.Metrics.2", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.SendsRuleFailedAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "SendsRuleFailedAlarm.Dimensions.0", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.SendMessageErrorsAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.BulksQueueAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.ChunksQueueAgeAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.BulksRuleFailedAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "BulksRuleFailedAlarm.Dimensions.0", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.RouteBatchErrorsAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.BulkThrottlesAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.AutomationsRuleFailedAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "AutomationsRuleFailedAlarm.Dimensions.0", GONE),
    (
        rules.each_thing_that_can_stall_rings,
        "ReceiptsRuleFailedAlarm.Dimensions.1",
        {"Name": "EventBusName", "Value": "default"},
    ),
    (rules.each_thing_that_can_stall_rings, "WatchDueRuleFailedAlarm.Dimensions.0.Value.Ref", "ReceiptsRule"),
    (rules.each_thing_that_can_stall_rings, "Resources.ApiErrorsAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.TableThrottlesAlarm", GONE),
    (rules.each_thing_that_can_stall_rings, "Resources.MessagesThrottlesAlarm", GONE),
    (rules.what_is_measured_rings, "Resources.ConsentReviewsOverdueAlarm", GONE),
    (rules.what_is_measured_rings, "ConsentReviewsOverdueAlarm.Namespace", "Patients"),
    (rules.what_is_measured_rings, "Resources.DecisionsUnknownAlarm", GONE),
    (rules.what_is_measured_rings, "ApiErrorsAlarm.Namespace", "PatientContact"),
    (rules.what_is_measured_rings, "ConsentReviewsOverdueAlarm.Dimensions.0.Value", "watch-due"),
    (rules.each_alarm_is_heard, "ApiErrorsAlarm.AlarmActions", []),
    (rules.each_alarm_is_heard, "AlarmTopicPolicy.PolicyDocument.Statement.0.Condition", GONE),
    (rules.each_alarm_is_heard, "AlarmSubscription.TopicArn.Ref", "RepliesTopic"),
]


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return load(TEXT)


@pytest.fixture(scope="module", autouse=True)
def region() -> Iterator[None]:
    """Handlers make their clients when they are imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_template_keeps_the_rule(rule: rules.Rule, template: dict[str, Any]) -> None:
    assert rule(template) == []


@pytest.mark.parametrize(("rule", "place", "value"), BREAKS, ids=lambda each: getattr(each, "__name__", None))
def test_the_rule_notices_when_it_is_broken(
    rule: rules.Rule, place: str, value: object, template: dict[str, Any]
) -> None:
    broken = copy.deepcopy(template)
    put(broken, place, value)

    try:
        complaints = rule(broken)
    except (KeyError, ValueError) as missing:
        complaints = [repr(missing)]

    assert complaints


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for rule, _, _ in BREAKS} == set(rules.RULES)


def test_a_changed_layer_becomes_a_new_version_of_every_function(template: dict[str, Any]) -> None:
    before, after = (published(template, layer) for layer in ("one", "two"))

    assert len(before) == len(after) == len(rules.functions(template))
    assert not before & after


def test_each_function_has_a_sample_that_it_accepts_and_one_that_it_refuses(template: dict[str, Any]) -> None:
    folders = {Path(each["CodeUri"]).name for each in rules.functions(template).values()}
    # It reads nothing of its event, and so refuses none.
    wanted = {f"{folder}.{kind}.json" for folder in folders for kind in ("ok", "bad")} - {"watch_due.bad.json"}

    assert {path.name for path in (rules.ROOT / "events").iterdir()} == wanted


def test_each_index_says_what_reads_it() -> None:
    lines = TEXT.splitlines()
    indexes = [number for number, line in enumerate(lines) if "- IndexName:" in line]

    assert len(indexes) == 2
    assert all(lines[number - 1].lstrip().startswith("#") for number in indexes)


def test_each_suppressed_lint_rule_has_its_reason_beside_it() -> None:
    lines = TEXT.splitlines()
    suppressed = [number for number, line in enumerate(lines) if re.search(r"\b[EW]S?\d{4}\b", line)]

    assert suppressed
    assert all("#" in lines[number] or lines[number - 1].lstrip().startswith("#") for number in suppressed)


def test_the_serverless_rules_of_cfn_lint_are_awake(tmp_path: Path, template: dict[str, Any]) -> None:
    broken = copy.deepcopy(template)
    put(broken, "AutomationsRule.Targets.0.DeadLetterConfig", GONE)
    put(broken, "Api.AccessLogSettings", GONE)
    put(broken, "Globals.Function.Tracing", GONE)
    for function in rules.of_type(broken, "AWS::Serverless::Function").values():
        function["CodeUri"] = "s3://bucket/key"
    (tmp_path / "template.json").write_text(json.dumps(broken))

    linted = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "-a", "cfn_lint_serverless.rules", "-f", "json", "template.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
    )

    assert {"ES4000", "ES2000", "WS1000"} <= {each["Rule"]["Id"] for each in json.loads(linted.stdout)}


def load(text: str) -> dict[str, Any]:
    """Return the template with its intrinsic functions in their long form."""
    loaded: dict[str, Any] = yaml_parse(text)
    return loaded


def put(template: dict[str, Any], place: str, value: object) -> None:
    """Put a value at a dotted place, or take what is there away."""
    *way, last = (int(part) if part.isdigit() else part for part in place.split("."))
    if way[0] not in template:
        way = ["Resources", way[0], "Properties", *way[1:]]
    here: Any = template
    for part in way:
        here = here[part]
    if value is GONE:
        del here[last]
    elif isinstance(here, list) and last == len(here):
        here.append(value)
    else:
        here[last] = value


def published(template: dict[str, Any], layer: str) -> set[str]:
    """Return the logical ids of the versions that a deployment publishes with a layer of this content."""
    packaged = copy.deepcopy(template)
    for resource in packaged["Resources"].values():
        properties = resource.get("Properties", {})
        if "ContentUri" in properties:
            properties["ContentUri"] = f"s3://bucket/{layer}"
        if "CodeUri" in properties:
            properties["CodeUri"] = "s3://bucket/function"
    plain = transform(packaged, {"JwtIssuer": "https://issuer.example", "JwtAudience": "api"}, NoManagedPolicies())
    return {name for name, each in plain["Resources"].items() if each["Type"] == "AWS::Lambda::Version"}


class NoManagedPolicies:
    """The template names its policies by ARN, so that there are none to look up."""

    def load(self) -> dict[str, str]:
        return {}
