from __future__ import annotations

import botocore.session
import pytest

from fleetcast.errors import UsageError
from stack.config import TIMESTREAM_REGIONS, StackConfig


@pytest.mark.parametrize("environment", ["ab", "dev", "e2e-7", "a-suffix-of-20-chars"])
def test_usable_suffixes_are_taken(environment: str) -> None:
    assert StackConfig.for_target("aws", environment).environment == environment


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ("a", "use 2 to 20 lower-case letters"),
        ("a-suffix-of-21-chars-", "use 2 to 20 lower-case letters"),
        ("a-suffix-of-21-charss", "use 2 to 20 lower-case letters"),
        ("Dev", "use 2 to 20 lower-case letters"),
        ("7up", "use 2 to 20 lower-case letters"),
        ("dev-", "use 2 to 20 lower-case letters"),
        ("d_v", "use 2 to 20 lower-case letters"),
        ("dev\n", "use 2 to 20 lower-case letters"),
        ("dév", "use 2 to 20 lower-case letters"),
        ("aws", "AWS refuses names with 'aws', 'amazon' or '--' there"),
        ("my--env", "AWS refuses names with 'aws', 'amazon' or '--' there"),
    ],
)
def test_a_suffix_that_aws_would_refuse_is_told_in_a_line(environment: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        StackConfig.for_target("aws", environment)
    assert str(caught.value).startswith(f"stack setting environment={environment!r}: {text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("region", "moon-1", "write an AWS region such as us-east-1"),
        ("region", "eu-north-1", "Timestream for LiveAnalytics is not there: use ap-northeast-1"),
        ("tags", {"aws:x": "1"}, "the tag 'aws:x' is taken"),
        ("tags", {"environment": "1"}, "the tag 'environment' is taken"),
        ("tags", {"": "1"}, "is too long: 128 letters"),
        ("tags", {"k": "v" * 257}, "is too long: 128 letters for keys, 256 for values"),
        ("tags", {"k": "a?b"}, "has letters that AWS does not take"),
        ("tags", {str(n): "x" for n in range(49)}, "AWS takes 48 tags beside our own"),
        ("tags", {"cost-centre": "a b.c:/=+-@"}, None),
        ("shards", 0, "greater than or equal to 1"),
        ("shards", 501, "less than or equal to 500"),
        ("stream_retention_hours", 23, "greater than or equal to 24"),
        ("log_retention_days", 8, "CloudWatch Logs keeps logs for one of"),
        ("archive_expire_after_days", 31, None),
        ("alarm_period_s", 7, "Input should be 10, 30, 60 or 300"),
        ("colour", "red", "Extra inputs are not permitted"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    setting: str, value: object, text: str | None
) -> None:
    if text is None:
        assert StackConfig.for_target("aws", "dev", **{setting: value})
        return
    with pytest.raises(UsageError, match=f"^stack setting {setting}=") as caught:
        StackConfig.for_target("aws", "dev", **{setting: value})
    assert text in str(caught.value)


def test_an_archive_that_expires_before_it_is_moved_is_refused() -> None:
    with pytest.raises(UsageError, match="archive_expire_after_days must exceed"):
        StackConfig.for_target(
            "aws", "dev", archive_infrequent_after_days=90, archive_expire_after_days=90
        )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"record_age_s": 86_401}, "record_age_s=86401 is longer than the stream keeps records"),
        ({"iterator_age_limit_ms": 86_400_000}, "the alarm would come after the loss"),
    ],
)
def test_ages_beyond_the_retention_of_the_stream_are_refused(
    settings: dict[str, int], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        StackConfig.for_target("aws", "dev", **settings)
    assert StackConfig.for_target("aws", "dev", **settings, stream_retention_hours=48)


def test_the_regions_are_those_that_the_service_has_endpoints_in() -> None:
    found = botocore.session.get_session().get_available_regions("timestream-write")
    assert set(TIMESTREAM_REGIONS) == {
        region for region in found if not region.startswith("ingest")
    }


def test_the_local_target_has_short_periods_and_aws_its_usual_ones() -> None:
    local, aws = (StackConfig.for_target(name, "dev") for name in ("local", "aws"))
    assert (local.alarm_period_s, local.archive_buffer_s) == (10, 5)
    assert (aws.alarm_period_s, aws.archive_buffer_s) == (60, 60)
    assert StackConfig.for_target("local", "dev", alarm_period_s=30).alarm_period_s == 30
