"""Uses of the AWS bindings that cannot work are told in one line, before jsii sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stack.bindings import BindingsError, asset, aws, cdktf, file_asset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def scope() -> Any:
    return cdktf.TerraformStack(cdktf.Testing.app(), "s")


def told(use: Callable[[], Any]) -> str:
    with pytest.raises(BindingsError) as caught:
        use()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", ["database", "table"])
def test_timestream_modules_have_no_underscore_after_timestream(kind: str) -> None:
    text = told(lambda: getattr(aws, f"timestream_write_{kind}"))
    assert text == (
        f"the AWS bindings have no module timestream_write_{kind}: write timestreamwrite_{kind}"
    )
    assert getattr(aws, f"timestreamwrite_{kind}")


@pytest.mark.parametrize("kind", ["Database", "Table"])
def test_timestream_classes_have_a_small_w(kind: str) -> None:
    module = getattr(aws, f"timestreamwrite_{kind.lower()}")
    text = told(lambda: getattr(module, f"TimestreamWrite{kind}"))
    assert text.endswith(f"has no class TimestreamWrite{kind}: write Timestreamwrite{kind}")
    assert getattr(module, f"Timestreamwrite{kind}")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("s3_bucket_versioning", "S3BucketVersioning"),
        (
            "s3_bucket_server_side_encryption_configuration",
            "S3BucketServerSideEncryptionConfiguration",
        ),
    ],
)
def test_bucket_classes_carry_the_suffix_a(module: str, name: str) -> None:
    text = told(lambda: getattr(getattr(aws, module), name))
    assert text == f"{module} has no class {name}: write {name}A"
    assert getattr(getattr(aws, module), f"{name}A")


@pytest.mark.parametrize("what", ["size", "interval"])
def test_firehose_takes_buffering_arguments(what: str) -> None:
    module = aws.kinesis_firehose_delivery_stream
    make = module.KinesisFirehoseDeliveryStreamExtendedS3Configuration
    text = told(lambda: make(bucket_arn="b", role_arn="r", **{f"buffer_{what}": 5}))
    assert text.endswith(f"has no argument buffer_{what}: write buffering_{what}")
    assert make(bucket_arn="b", role_arn="r", **{f"buffering_{what}": 5})


def test_an_archive_asset_takes_a_folder(scope: Any, tmp_path: Path) -> None:
    zipped = tmp_path / "code.zip"
    zipped.write_bytes(b"PK")
    text = told(lambda: file_asset(scope, "code", zipped, cdktf.AssetType.ARCHIVE))
    assert text == (
        "asset code: type ARCHIVE takes a folder, and code.zip is a file: "
        "use AssetType.FILE and give its path to filename"
    )
    assert asset(scope, "code", zipped).path.endswith("code.zip")


def test_an_asset_that_is_no_file_is_told(scope: Any, tmp_path: Path) -> None:
    assert "is a folder; give the file made from it" in told(lambda: asset(scope, "a", tmp_path))
    assert "there is no file" in told(lambda: asset(scope, "b", tmp_path / "none.zip"))


def test_a_dict_for_a_nested_block_is_told_with_the_class_to_use(scope: Any) -> None:
    module = aws.s3_bucket_lifecycle_configuration
    days = {"days": 30, "storage_class": "STANDARD_IA"}
    rule = module.S3BucketLifecycleConfigurationRule
    text = told(lambda: rule(id="r", status="Enabled", transition=[days]))
    assert text == (
        "S3BucketLifecycleConfigurationRule: transition is a nested block: give an object of the "
        "bindings (S3BucketLifecycleConfigurationRuleTransition), not a dict"
    )
    typed = module.S3BucketLifecycleConfigurationRuleTransition(**days)
    assert rule(id="r", status="Enabled", transition=[typed])


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: aws.kinesis_steam, "no module kinesis_steam: did you mean kinesis_stream?"),
        (lambda: aws.kinesis_stream.KinesisSteam, "no class KinesisSteam: write KinesisStream"),
        (
            lambda: aws.kinesis_stream.KinesisStream(None, "s", name="n", shard_cout=1),
            "KinesisStream has no argument shard_cout: write shard_count",
        ),
    ],
)
def test_a_misspelt_name_is_told_with_what_is_near(use: Callable[[], Any], text: str) -> None:
    assert text in told(use)
