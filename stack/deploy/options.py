"""How an environment is reached and remembered on AWS: credentials, and where the state lies."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fleetcast.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetcast.target import Target

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
SESSION_NAME = "fleetcast"


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """Options of the terraform engine.

    Attributes:
        profile: Of the AWS configuration files; the usual credentials where there is none.
        role_arn: A role to assume with these credentials, for the resources and for the state.
        external_id: What the role's trust policy may ask for.
        state_bucket: S3 bucket for the state, with a lock; a local file where there is none.
        state_region: Region of that bucket; that of the stack where it is not given.
        state_prefix: Where in the bucket states lie.
    """

    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    state_bucket: str | None = None
    state_region: str | None = None
    state_prefix: str = "fleetcast"

    def __post_init__(self) -> None:
        if self.state_bucket is not None and not _BUCKET.fullmatch(self.state_bucket):
            raise UsageError(f"--state-bucket {self.state_bucket!r} is no name of an S3 bucket")
        if self.state_region is not None and self.state_bucket is None:
            raise UsageError("--state-region is of the bucket of --state-bucket: give that, too")
        if self.role_arn is not None and not _ROLE.fullmatch(self.role_arn):
            raise UsageError(
                f"--role-arn {self.role_arn!r} is no role: write arn:aws:iam::ACCOUNT:role/NAME"
            )
        if self.external_id is not None and self.role_arn is None:
            raise UsageError("--external-id goes with a role: give --role-arn, too")

    def check(self, target: Target, engine: str) -> None:
        """Makes sure that the options are for this target and engine.

        Raises:
            UsageError: the target or the engine has no use for one.
        """
        if target.name == "local" and (self.profile or self.role_arn):
            raise UsageError("--profile and --role-arn are for --target aws: nobody asks locally")
        if engine == "builtin" and self.state_bucket:
            raise UsageError("--state-bucket is Terraform's: use --engine terraform")

    def state_key(self, environment: str) -> str:
        """The key of an environment's state in the bucket."""
        return f"{self.state_prefix}/{environment}/terraform.tfstate"

    def remembered(self) -> dict[str, Any]:
        """What a later call must know to find the same state."""
        return {"state_bucket": self.state_bucket, "state_region": self.state_region}

    def with_remembered(self, told: Mapping[str, Any], environment: str) -> AwsOptions:
        """These options with the state where it was put before.

        Raises:
            UsageError: they say that it is somewhere else.
        """
        before = told.get("state_bucket")
        if self.state_bucket is None:
            return replace(
                self, state_bucket=before, state_region=told.get("state_region") if before else None
            )
        if before != self.state_bucket:
            where = f"in bucket {before}" if before else "on this machine"
            raise UsageError(
                f"the state of environment {environment!r} lies {where}, "
                f"not in {self.state_bucket}: destroy it first, or leave --state-bucket out"
            )
        return self

    def backend(self, environment: str, target: Target) -> dict[str, Any]:
        """The arguments of Terraform's S3 backend.

        Raises:
            UsageError: there is no bucket.
        """
        if self.state_bucket is None:
            raise UsageError("there is no --state-bucket for the state")
        arguments: dict[str, Any] = {
            "bucket": self.state_bucket,
            "key": self.state_key(environment),
            "region": self.state_region or target.region,
            "encrypt": True,
            "use_lockfile": True,
        }
        if self.profile:
            arguments["profile"] = self.profile
        if self.role_arn:
            arguments["assume_role"] = self._assumed()
        return arguments

    def provider(self) -> dict[str, Any]:
        """Arguments for the provider, as whom it acts."""
        arguments: dict[str, Any] = {"profile": self.profile} if self.profile else {}
        if self.role_arn:
            arguments["assume_role"] = [self._assumed()]
        return arguments

    def _assumed(self) -> dict[str, str]:
        given = {"role_arn": self.role_arn, "session_name": SESSION_NAME}
        if self.external_id:
            given["external_id"] = self.external_id
        return {name: value for name, value in given.items() if value}


DEFAULTS = AwsOptions()
