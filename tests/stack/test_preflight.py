"""Each rule finds what is planted for it in a stack that is otherwise right, and nothing else."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.errors import UsageError
from stack.preflight import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Resources = dict[str, dict[str, dict[str, Any]]]


def first(resources: Resources, kind: str) -> dict[str, Any]:
    return next(iter(resources[kind].values()))


def rewrite(given: dict[str, Any], change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes the statements of a policy."""
    policy = json.loads(given["policy"])
    change(policy["Statement"])
    given["policy"] = json.dumps(policy)


def of_service(statements: list[dict[str, Any]], service: str) -> dict[str, Any]:
    return next(s for s in statements if s["Principal"] == {"Service": service})


def test_the_stack_itself_is_clean(stack_folder: Path) -> None:
    assert check(stack_folder, "tst") == []


DEFECTS: list[tuple[Callable[[Resources], Any], str, str, str]] = [
    (
        lambda r: first(r, "aws_sns_topic").update(name="fleetcast-alarms"),
        "suffix", "aws_sns_topic.alarms-topic", "name 'fleetcast-alarms' does not end in -tst",
    ),
    (
        lambda r: first(r, "aws_kinesis_stream").pop("name"),
        "suffix", "aws_kinesis_stream.ingest", "has no name of its own",
    ),
    (
        lambda r: first(r, "aws_iam_role").update(name="a" * 61 + "-tst"),
        "name", "aws_iam_role.", "has 65 letters: AWS takes 64",
    ),
    (
        lambda r: first(r, "aws_iot_topic_rule").update(name="fleetcast-readings-tst"),
        "name", "aws_iot_topic_rule.readings-rule", "has letters that AWS does not take there",
    ),
    (
        lambda r: rewrite(r["aws_iam_role_policy"]["archive-role-policy"],
                          lambda s: s[0].update(Action="kinesis:*")),
        "least-privilege", "aws_iam_role_policy.archive-role-policy", "allows kinesis:*: name the",
    ),
    (
        lambda r: rewrite(r["aws_iam_role_policy"]["processor-role-policy"],
                          lambda s: s[1].update(Resource="*")),
        "least-privilege", "aws_iam_role_policy.processor-role-policy",
        "allows timestream:WriteRecords on every resource",
    ),
    (
        lambda r: rewrite(r["aws_iam_role_policy"]["processor-role-policy"],
                          lambda s: s.append({"Effect": "Allow", "NotAction": "iam:*",
                                              "Resource": "arn:aws:s3:::b"})),
        "least-privilege", "aws_iam_role_policy.processor-role-policy", "allows all but something",
    ),
    (
        lambda r: first(r, "aws_iam_role").update(assume_role_policy=json.dumps(
            {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": "*"}]})),
        "trust", "aws_iam_role.", "can be assumed by anybody",
    ),
    (
        lambda r: rewrite(first(r, "aws_sns_topic_policy"), lambda s: s.append(
            {"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "x"})),
        "public", "aws_sns_topic_policy.alarms-topic-policy", "allows anybody",
    ),
    (
        lambda r: rewrite(first(r, "aws_s3_bucket_policy"),
                          lambda s: s[0].update(Effect="Allow", Principal={"AWS": "x"})),
        "tls", "aws_s3_bucket.archive-bucket", "takes requests without TLS",
    ),
    (
        lambda r: r.pop("aws_s3_bucket_public_access_block"),
        "public", "aws_s3_bucket.archive-bucket", "is not closed to the public",
    ),
    (
        lambda r: first(r, "aws_s3_bucket_public_access_block").update(ignore_public_acls=False),
        "public", "aws_s3_bucket.archive-bucket", "is not closed to the public",
    ),
    (
        lambda r: first(r, "aws_s3_bucket_versioning").update(
            versioning_configuration={"status": "Suspended"}),
        "versioning", "aws_s3_bucket.archive-bucket", "keeps no versions",
    ),
    (
        lambda r: r.pop("aws_s3_bucket_server_side_encryption_configuration"),
        "encryption", "aws_s3_bucket.archive-bucket", "is not encrypted with a key of the stack",
    ),
    (
        lambda r: first(r, "aws_sns_topic").update(kms_master_key_id="alias/aws/sns"),
        "encryption", "aws_sns_topic.alarms-topic", "set kms_master_key_id to a key of the stack",
    ),
    (
        lambda r: first(r, "aws_kinesis_stream").pop("kms_key_id"),
        "encryption", "aws_kinesis_stream.ingest", "set kms_key_id to a key of the stack",
    ),
    (
        lambda r: first(r, "aws_kinesis_firehose_delivery_stream")[
            "extended_s3_configuration"].pop("kms_key_arn"),
        "encryption", "aws_kinesis_firehose_delivery_stream.archive-delivery", "set kms_key_arn",
    ),
    (
        lambda r: first(r, "aws_kms_key").update(enable_key_rotation=False),
        "encryption", "aws_kms_key.key", "set enable_key_rotation",
    ),
    (
        lambda r: first(r, "aws_cloudwatch_log_group").pop("retention_in_days"),
        "log-retention", "aws_cloudwatch_log_group.", "keeps logs for ever",
    ),
    (
        lambda r: first(r, "aws_cloudwatch_metric_alarm").update(alarm_actions=[]),
        "alarm-actions", "aws_cloudwatch_metric_alarm.", "tells nobody",
    ),
    (
        lambda r: rewrite(first(r, "aws_sns_topic_policy"), lambda s: s[0].update(Action="sns:X")),
        "alarm-delivery", "aws_sns_topic.alarms-topic", "does not let cloudwatch.amazonaws.com",
    ),
    (
        lambda r: rewrite(first(r, "aws_kms_key"), lambda s: of_service(
            s, "cloudwatch.amazonaws.com").update(Action=["kms:GenerateDataKey*"])),
        "alarm-delivery", "aws_kms_key.key", "does not let cloudwatch.amazonaws.com use kms:Decryp",
    ),
    (
        lambda r: rewrite(r["aws_sqs_queue_policy"]["probe-queue-policy"], lambda s: of_service(
            s, "sns.amazonaws.com").update(Effect="Deny")),
        "alarm-delivery", "aws_sns_topic_subscription.", "does not let sns.amazonaws.com send",
    ),
    (
        lambda r: first(r, "aws_iot_topic_rule").update(
            kinesis=[{"partition_key": "${topic(2)}"}]),
        "expression", "aws_iot_topic_rule.readings-rule",
        "kinesis.partition_key: Terraform would read ${topic(2)} as its own: write $${topic(2)}",
    ),
    (
        lambda r: r["aws_iot_policy"]["device-policy"].update(policy='{"a": "${iot:Connection.Thing}"}'),
        "expression", "aws_iot_policy.device-policy", "write $${iot:Connection.Thing}",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "rule", "address", "text"), DEFECTS)
def test_a_planted_defect_is_found_and_nothing_else(
    stack: dict[str, Any],
    tmp_path: Path,
    plant: Callable[[Resources], Any],
    rule: str,
    address: str,
    text: str,
) -> None:
    changed = copy.deepcopy(stack)
    plant(changed["resource"])
    (tmp_path / "cdk.tf.json").write_text(json.dumps(changed))
    found = check(tmp_path, "tst")
    assert [finding.rule for finding in found] == [rule]
    assert found[0].address.startswith(address)
    assert text in found[0].text
    assert "\n" not in str(found[0])


def test_a_queue_without_a_policy_is_open_to_plain_http_too(
    stack: dict[str, Any], tmp_path: Path
) -> None:
    changed = copy.deepcopy(stack)
    del changed["resource"]["aws_sqs_queue_policy"]["failures-queue-policy"]
    (tmp_path / "cdk.tf.json").write_text(json.dumps(changed))
    assert {finding.rule for finding in check(tmp_path, "tst")} == {"queue-policy", "tls"}


def test_another_environments_stack_has_every_name_wrong(stack_folder: Path) -> None:
    found = check(stack_folder, "prod")
    assert {finding.rule for finding in found} == {"suffix"}
    assert len(found) > 30


@pytest.mark.parametrize("content", [None, "not JSON", "[]", '{"resource": {"aws_x": []}}'])
def test_what_is_no_stack_is_told_in_a_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "cdk.tf.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        check(tmp_path, "dev")
    assert str(tmp_path / "cdk.tf.json") in str(caught.value)
    assert "\n" not in str(caught.value)
