"""What the synthesized stack must be, whatever constructs it is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stack.alarms import ALARM_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMING = ("name", "bucket", "function_name", "alarm_name", "dashboard_name", "database_name",
          "table_name")  # fmt: skip
# It lies in a log group that has the suffix.
WITHIN_A_NAMED_ONE = {"aws_cloudwatch_log_stream.archive-log-stream"}


def resources(stack: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, named in stack["resource"].items():
        for name, given in named.items():
            yield f"{kind}.{name}", given


def only(stack: dict[str, Any], kind: str) -> dict[str, Any]:
    (given,) = stack["resource"][kind].values()
    return given


def block(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) else value


def names(stack: dict[str, Any]) -> dict[str, str]:
    """The names that resources are given themselves, by address and argument."""
    return {
        f"{address}.{argument}": given[argument]
        for address, given in resources(stack)
        for argument in NAMING
        if address not in WITHIN_A_NAMED_ONE
        and isinstance(given.get(argument), str)
        and not given[argument].startswith("${")
    }


def statements(policy: str) -> list[dict[str, Any]]:
    return json.loads(policy)["Statement"]


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_the_same_configuration_gives_the_same_bytes(
    synthesized: Callable[..., Path], stack_folder: Path
) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*")}

    first, second = content(stack_folder), content(synthesized("tst", seed=1))
    assert first.keys() == second.keys()
    assert len(first) >= 2
    assert [name for name in first if first[name] != second[name]] == []


def test_every_name_carries_the_suffix(stack: dict[str, Any]) -> None:
    found = names(stack)
    assert len(found) > 30
    suffixed = ("-tst", "_tst", "-tst-${data.aws_caller_identity.account.account_id}")
    assert {k: v for k, v in found.items() if not v.endswith(suffixed)} == {}


def test_two_environments_share_no_name(
    stack: dict[str, Any], synthesized: Callable[..., Path]
) -> None:
    other = json.loads((synthesized("second") / "cdk.tf.json").read_text())
    first, second = names(stack), names(other)
    assert first.keys() == second.keys()
    assert set(first.values()) & set(second.values()) == set()


def test_the_stack_has_a_resource_of_every_kind_that_the_pipeline_needs(
    stack: dict[str, Any],
) -> None:
    assert stack["resource"].keys() >= {
        "aws_kinesis_stream", "aws_lambda_function", "aws_lambda_event_source_mapping",
        "aws_timestreamwrite_database", "aws_timestreamwrite_table",
        "aws_kinesis_firehose_delivery_stream", "aws_s3_bucket", "aws_s3_bucket_versioning",
        "aws_s3_bucket_lifecycle_configuration", "aws_kms_key", "aws_kms_alias",
        "aws_secretsmanager_secret", "aws_sns_topic", "aws_sqs_queue", "aws_iam_role",
        "aws_cloudwatch_metric_alarm", "aws_cloudwatch_dashboard", "aws_cloudwatch_log_group",
        "aws_iot_thing_type", "aws_iot_thing_group", "aws_iot_policy", "aws_iot_topic_rule",
        "aws_iot_provisioning_template",
    }  # fmt: skip
    assert only(stack, "aws_kinesis_stream")["shard_count"] == 10
    assert set(stack["output"]["alarms"]["value"]) == set(ALARM_NAMES)


def test_everything_that_can_be_is_encrypted_with_the_stacks_key(stack: dict[str, Any]) -> None:
    key = "${aws_kms_key.key."
    where = {
        "aws_kinesis_stream": "kms_key_id",
        "aws_timestreamwrite_database": "kms_key_id",
        "aws_secretsmanager_secret": "kms_key_id",
        "aws_sns_topic": "kms_master_key_id",
        "aws_sqs_queue": "kms_master_key_id",
        "aws_cloudwatch_log_group": "kms_key_id",
        "aws_lambda_function": "kms_key_arn",
    }
    for kind, argument in where.items():
        for name, given in stack["resource"][kind].items():
            assert given.get(argument, "").startswith(key), f"{kind}.{name}.{argument}"
    rule = block(only(stack, "aws_s3_bucket_server_side_encryption_configuration")["rule"])
    sse = block(rule["apply_server_side_encryption_by_default"])
    assert (sse["sse_algorithm"], sse["kms_master_key_id"].startswith(key)) == ("aws:kms", True)
    assert only(stack, "aws_kms_key")["enable_key_rotation"] is True


def test_the_bucket_is_closed_to_the_public_and_to_plain_http(stack: dict[str, Any]) -> None:
    blocked = only(stack, "aws_s3_bucket_public_access_block")
    assert all(blocked[name] for name in ("block_public_acls", "block_public_policy",
               "ignore_public_acls", "restrict_public_buckets"))  # fmt: skip
    denied = [
        s for s in statements(only(stack, "aws_s3_bucket_policy")["policy"])
        if s["Effect"] == "Deny" and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    ]  # fmt: skip
    assert len(denied) == 1
    assert as_list(denied[0]["Action"]) == ["s3:*"]


def test_roles_are_allowed_single_actions_on_single_resources(stack: dict[str, Any]) -> None:
    for name, given in stack["resource"]["aws_iam_role_policy"].items():
        for statement in statements(given["policy"]):
            actions, targets = as_list(statement["Action"]), as_list(statement["Resource"])
            assert not [a for a in actions if a == "*" or a.endswith(":*")], name
            # These know no resource.
            if actions not in (["timestream:DescribeEndpoints"], ["iot:AttachThingPrincipal"]):
                assert "*" not in targets, (name, statement)


def test_each_role_is_for_one_service(stack: dict[str, Any]) -> None:
    trusted = {
        name: [s["Principal"] for s in statements(given["assume_role_policy"])]
        for name, given in stack["resource"]["aws_iam_role"].items()
    }
    assert trusted == {
        "archive-role": [{"Service": "firehose.amazonaws.com"}],
        "processor-role": [{"Service": "lambda.amazonaws.com"}],
        "provisioning-role": [{"Service": "iot.amazonaws.com"}],
        "topic-rule-role": [{"Service": "iot.amazonaws.com"}],
    }


def test_alarms_reach_the_topic_and_cloudwatch_may_use_its_key(stack: dict[str, Any]) -> None:
    for name, given in stack["resource"]["aws_cloudwatch_metric_alarm"].items():
        topic = ["${aws_sns_topic.alarms-topic.arn}"]
        assert (given["alarm_actions"], given["ok_actions"]) == (topic, topic), name
    cloudwatch = "cloudwatch.amazonaws.com"

    def allowed_to(policy: str) -> set[str]:
        return {
            action
            for statement in statements(policy)
            if statement["Effect"] == "Allow"
            and cloudwatch in as_list(statement["Principal"].get("Service", []))
            for action in as_list(statement["Action"])
        }

    assert allowed_to(only(stack, "aws_sns_topic_policy")["policy"]) == {"sns:Publish"}
    assert allowed_to(only(stack, "aws_kms_key")["policy"]) >= {"kms:Decrypt"}


def test_batches_are_retried_within_bounds_and_then_kept(stack: dict[str, Any]) -> None:
    mapping = only(stack, "aws_lambda_event_source_mapping")
    assert mapping["function_response_types"] == ["ReportBatchItemFailures"]
    assert mapping["bisect_batch_on_function_error"] is True
    assert mapping["maximum_retry_attempts"] == 20
    assert mapping["maximum_record_age_in_seconds"] == 21_600
    destination = block(block(mapping["destination_config"])["on_failure"])["destination_arn"]
    assert destination == "${aws_sqs_queue.failures-queue.arn}"


def test_the_archive_is_compressed_dated_and_delimited(stack: dict[str, Any]) -> None:
    stream = only(stack, "aws_kinesis_firehose_delivery_stream")
    s3 = block(stream["extended_s3_configuration"])
    assert s3["compression_format"] == "GZIP"
    assert (s3["buffering_size"], s3["buffering_interval"]) == (16, 60)
    assert "!{timestamp:" in s3["prefix"]
    assert "!{firehose:error-output-type}" in s3["error_output_prefix"]
    processors = block(s3["processing_configuration"])["processors"]
    assert [p["type"] for p in processors] == ["AppendDelimiterToRecord"]


def test_the_processor_is_a_prepared_zip_with_its_hash(
    stack: dict[str, Any], stack_folder: Path
) -> None:
    function = only(stack, "aws_lambda_function")
    assert function["filename"].endswith(".zip")
    assert (stack_folder / function["filename"]).read_bytes()[:2] == b"PK"
    assert function["source_code_hash"] == f'${{filebase64sha256("{function["filename"]}")}}'


def test_expressions_of_iot_are_no_expressions_of_terraform(stack: dict[str, Any]) -> None:
    rule = only(stack, "aws_iot_topic_rule")
    assert block(rule["kinesis"])["partition_key"] == "$${topic(2)}"
    for name in ("device-policy", "gateway-policy"):
        connect, publish = statements(stack["resource"]["aws_iot_policy"][name]["policy"])
        assert as_list(connect["Resource"])[0].endswith(
            ":client/$${iot:Connection.Thing.ThingName}"
        )
        assert as_list(publish["Action"]) == ["iot:Publish"]
    own = stack["resource"]["aws_iot_policy"]["device-policy"]["policy"]
    assert statements(own)[1]["Resource"][0].endswith("$${iot:Connection.Thing.ThingName}/readings")
    assert "sqs" in block(rule["error_action"])


def test_settings_reach_the_resources(synthesized: Callable[..., Path]) -> None:
    folder = synthesized(
        "other", shards=3, probe_queue=False, log_retention_days=30, alarm_period_s=300,
        tags={"team": "t"},
    )  # fmt: skip
    changed = json.loads((folder / "cdk.tf.json").read_text())
    assert only(changed, "aws_kinesis_stream")["shard_count"] == 3
    assert "probe-queue" not in changed["resource"]["aws_sqs_queue"]
    assert "aws_sns_topic_subscription" not in changed["resource"]
    groups = changed["resource"]["aws_cloudwatch_log_group"].values()
    assert {group["retention_in_days"] for group in groups} == {30}
    alarms = changed["resource"]["aws_cloudwatch_metric_alarm"].values()
    assert {alarm["period"] for alarm in alarms} == {300}
    tags = block(changed["provider"]["aws"][0]["default_tags"])["tags"]
    assert tags == {"environment": "other", "project": "fleetcast", "team": "t"}


@pytest.mark.parametrize("target", ["local", "aws"])
def test_longest_names_are_within_the_limits_of_aws(
    synthesized: Callable[..., Path], target: str
) -> None:
    folder = synthesized("a-suffix-of-20-chars", target=target)
    written = json.loads((folder / "cdk.tf.json").read_text())
    found = names(written)
    limits = {"aws_iam_role": 64, "aws_lambda_function": 64, "aws_s3_bucket": 63,
              "aws_kinesis_firehose_delivery_stream": 64, "aws_sqs_queue": 80}  # fmt: skip
    for address, name in found.items():
        account = "${data.aws_caller_identity.account.account_id}"
        longest = len(name.replace(account, "123456789012"))
        assert longest <= limits.get(address.partition(".")[0], 128), address


def test_a_claim_may_ask_to_be_provisioned_and_nothing_else(stack: dict[str, Any]) -> None:
    claim = statements(stack["resource"]["aws_iot_policy"]["claim-policy"]["policy"])
    allowed = {
        as_list(s["Action"])[0]: [r.partition("account_id}:")[2] for r in as_list(s["Resource"])]
        for s in claim
    }
    ask = "$aws/certificates/create-from-csr/json"
    register = "$aws/provisioning-templates/fleetcast-fleet-tst/provision/json"
    answers = [
        f"{topic}/{which}" for topic in (ask, register) for which in ("accepted", "rejected")
    ]
    assert allowed == {
        "iot:Connect": ["client/fleetcast-claim-*-tst"],
        "iot:Publish": [f"topic/{ask}", f"topic/{register}"],
        "iot:Receive": [f"topic/{answer}" for answer in answers],
        "iot:Subscribe": [f"topicfilter/{answer}" for answer in answers],
    }


def test_iot_core_logs_only_if_it_is_asked_to_as_that_is_of_the_whole_account(
    stack: dict[str, Any], synthesized: Callable[..., Path]
) -> None:
    assert "aws_iot_logging_options" not in stack["resource"]
    logging = json.loads((synthesized("logs", iot_log_level="WARN") / "cdk.tf.json").read_text())
    options = only(logging, "aws_iot_logging_options")
    assert options["default_log_level"] == "WARN"
    assert options["role_arn"] == "${aws_iam_role.iot-logs-role.arn}"
    grants = statements(
        logging["resource"]["aws_iam_role_policy"]["iot-logs-role-policy"]["policy"]
    )
    where = {r.partition("account_id}:")[2] for s in grants for r in as_list(s["Resource"])}
    assert where == {"log-group:AWSIotLogsV2", "log-group:AWSIotLogsV2:*"}
