"""As whom Terraform acts, where its state lies, and what is protected from being destroyed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.errors import UsageError
from fleetcast.target import Target
from stack.config import StackConfig
from stack.deploy import AwsOptions, deploy, destroy
from stack.deploy.engine import _claim
from stack.deploy.terraform import _override
from stack.names import is_production

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROLE = "arn:aws:iam::123456789012:role/deployer"
AWS = Target.named("aws", region="eu-west-1")


def test_the_state_is_a_file_of_ones_own_unless_a_bucket_is_named(tmp_path: Path) -> None:
    assert _override("dev", tmp_path, AWS, AwsOptions()) == {
        "terraform": {"backend": {"local": {"path": str(tmp_path / "terraform.tfstate")}}}
    }


def test_a_state_in_a_bucket_is_locked_and_encrypted_and_of_one_environment(
    tmp_path: Path,
) -> None:
    options = AwsOptions(state_bucket="our-states", state_region="us-east-2")
    assert _override("dev", tmp_path, AWS, options)["terraform"]["backend"] == {
        "s3": {
            "bucket": "our-states",
            "key": "fleetcast/dev/terraform.tfstate",
            "region": "us-east-2",
            "encrypt": True,
            "use_lockfile": True,
        }
    }


def test_profile_and_role_are_used_for_resources_and_for_the_state(tmp_path: Path) -> None:
    options = AwsOptions("ops", ROLE, "secret-word", "our-states")
    override = _override("dev", tmp_path, AWS, options)
    assumed = {"role_arn": ROLE, "session_name": "fleetcast", "external_id": "secret-word"}
    assert override["provider"] == {"aws": [{"profile": "ops", "assume_role": [assumed]}]}
    backend = override["terraform"]["backend"]["s3"]
    assert (backend["profile"], backend["assume_role"]) == ("ops", assumed)
    assert backend["region"] == "eu-west-1"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"state_bucket": "No_Bucket"}, "--state-bucket 'No_Bucket' is no name of an S3 bucket"),
        ({"state_region": "us-east-1"}, "--state-region is of the bucket of --state-bucket"),
        ({"role_arn": "deployer"}, "--role-arn 'deployer' is no role"),
        ({"external_id": "x"}, "--external-id goes with a role"),
    ],
)
def test_options_that_cannot_be_used_are_told(given: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        AwsOptions(**given)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "engine", "text"),
    [
        (AwsOptions(profile="ops"), "builtin", "are for --target aws"),
        (AwsOptions(role_arn=ROLE), "terraform", "are for --target aws"),
        (AwsOptions(state_bucket="our-states"), "builtin", "use --engine terraform"),
    ],
)
async def test_options_that_the_target_or_engine_has_no_use_for_are_refused(
    options: AwsOptions, engine: Any, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    config, target = StackConfig.for_target("local", "dev"), Target.named("local", port=9)
    with pytest.raises(UsageError, match=text):
        await deploy(config, target, engine, progress=print, options=options)
    with pytest.raises(UsageError, match=text):
        await destroy(config, target, engine, progress=print, options=options)


def test_where_the_state_lies_is_remembered_and_never_changed_silently(tmp_path: Path) -> None:
    in_bucket = AwsOptions(state_bucket="our-states", state_region="us-east-2")
    assert _claim(tmp_path, "terraform", "dev", in_bucket) == in_bucket
    assert _claim(tmp_path, "terraform", "dev", AwsOptions()) == in_bucket
    with pytest.raises(UsageError, match="lies in bucket our-states, not in other-states"):
        _claim(tmp_path, "terraform", "dev", AwsOptions(state_bucket="other-states"))
    here = tmp_path / "here"
    here.mkdir()
    _claim(here, "terraform", "dev", AwsOptions(profile="ops"))
    assert "ops" not in (here / "engine.json").read_text()
    with pytest.raises(UsageError, match="lies on this machine, not in our-states"):
        _claim(here, "terraform", "dev", in_bucket)


@pytest.mark.parametrize("name", ["prod", "live", "eu-prod", "production", "prd-2", "prod2"])
def test_names_of_productions_are_known(name: str) -> None:
    assert is_production(name)


@pytest.mark.parametrize("name", ["dev", "product", "alive", "nightly-7", "reproduction"])
def test_other_names_are_no_productions(name: str) -> None:
    assert not is_production(name)


@pytest.mark.asyncio
async def test_a_production_is_destroyed_only_when_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_HOME", str(tmp_path))
    config, target = StackConfig.for_target("local", "prod"), Target.named("local", port=9)
    with pytest.raises(UsageError, match="is protected: destroy it with --even-production"):
        await destroy(config, target, "builtin", progress=print)
    # The next question is whether there is one.
    with pytest.raises(UsageError, match="nothing is deployed as 'prod'"):
        await destroy(config, target, "builtin", progress=print, even_production=True)


def test_a_production_keeps_its_archive_its_key_and_its_secret_for_a_while(
    synthesized: Callable[..., Path], stack: dict[str, Any]
) -> None:
    production = json.loads((synthesized("eu-prod") / "cdk.tf.json").read_text())["resource"]
    plain = stack["resource"]
    for kind, argument, kept, left in (
        ("aws_s3_bucket", "force_destroy", False, True),
        ("aws_kms_key", "deletion_window_in_days", 30, 7),
        ("aws_secretsmanager_secret", "recovery_window_in_days", 30, 0),
    ):
        (protected,), (other,) = production[kind].values(), plain[kind].values()
        assert (protected[argument], other[argument]) == (kept, left), kind
    asked = StackConfig.for_target("aws", "prod", destroy_archive_with_stack=True)
    assert asked.destroy_archive_with_stack
