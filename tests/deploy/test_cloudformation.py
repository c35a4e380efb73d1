"""The template of AWS passes its linter, gives the function no right that it does not need, and loses no upload."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_files import DEPLOY

FILE = DEPLOY / "aws" / "template.yaml"


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!Ref X` becomes `{"Ref": X}`, and so on."""


def _function(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix == "Ref" else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("!", _function)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(FILE.read_text(), Loader)["Resources"]
    return found


def test_cfn_lint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "cfn-lint"
    said = subprocess.run([program, "--include-checks", "I", "--", FILE], capture_output=True, text=True, timeout=100)
    assert (said.returncode, said.stdout) == (0, ""), said.stderr


def test_no_aliases_which_cloudformation_does_not_know() -> None:
    events = yaml.parse(FILE.read_text(), Loader)
    assert not [event for event in events if isinstance(event, yaml.AliasEvent)]


def test_the_function_may_do_what_it_does_and_nothing_else(resources: dict[str, Any]) -> None:
    (policy,) = resources["Role"]["Properties"]["Policies"]
    allowed = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]:
            allowed[action] = str(statement["Resource"])
    assert set(allowed) == {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
    assert "-in-${AWS::AccountId}" in allowed["s3:GetObject"]
    assert allowed["s3:GetObject"].rstrip("'}").endswith("/${InputPrefix}*")
    assert allowed["s3:ListBucket"].removesuffix("'}") + "/${InputPrefix}*'}" == allowed["s3:GetObject"]
    assert "OutputBucket.Arn" in allowed["s3:PutObject"]
    assert all("log-group:${Logs}" in allowed[action] for action in allowed if action.startswith("logs:"))
    assert "ManagedPolicyArns" not in resources["Role"]["Properties"]


def test_only_the_bucket_may_tell_the_queue(resources: dict[str, Any]) -> None:
    (statement,) = resources["QueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Principal"], statement["Action"]) == ({"Service": "s3.amazonaws.com"}, "sqs:SendMessage")
    assert set(statement["Condition"]) == {"StringEquals", "ArnLike"}
    written = resources["InputBucket"]["Properties"]["BucketName"]["Fn::Sub"]
    assert statement["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Sub"].endswith(f":::{written}")


def test_buckets_are_closed_kept_and_not_the_same(resources: dict[str, Any]) -> None:
    names = []
    for name in ("InputBucket", "OutputBucket"):
        bucket = resources[name]
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["Properties"]["BucketEncryption"]
        policy = resources[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"][0]
        assert (policy["Effect"], policy["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        names.append(bucket["Properties"]["BucketName"]["Fn::Sub"])
    assert len(set(names)) == 2, "results in the bucket that is watched would be a loop"
    assert "NotificationConfiguration" not in resources["OutputBucket"]["Properties"]


def test_a_failed_message_comes_alone_and_ends_where_it_is_seen(resources: dict[str, Any]) -> None:
    events = resources["Events"]["Properties"]
    assert events["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    queue = resources["Queue"]["Properties"]
    assert queue["RedrivePolicy"] == {"deadLetterTargetArn": {"Fn::GetAtt": "DeadLetters.Arn"}, "maxReceiveCount": 5}
    template = yaml.load(FILE.read_text(), Loader)
    limits = template["Parameters"]["TimeoutSeconds"]["AllowedValues"]
    # Six times, and no more: so long a message that failed waits for its next attempt.
    assert queue["VisibilityTimeout"] == {"Fn::FindInMap": ["Visibility", {"Ref": "TimeoutSeconds"}, "Seconds"]}
    assert template["Mappings"]["Visibility"] == {str(limit): {"Seconds": 6 * limit} for limit in limits}
    dead = resources["DeadLetters"]["Properties"]
    assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]
    alarms = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    assert {alarm["MetricName"] for alarm in alarms} == {
        "ApproximateNumberOfMessagesVisible",
        "ApproximateAgeOfOldestMessage",
        "Errors",
        "Throttles",
    }
    assert all(alarm["AlarmActions"] == [{"Ref": "Alarms"}] for alarm in alarms)
