"""What a deployment can be told: one validated object, the same for every target."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetcast.errors import UsageError
from fleetcast.target import LOCAL_REGION
from stack.names import is_production

# CloudWatch Logs accepts these retentions and no others (PutRetentionPolicy).
LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip
RESERVED_ENVIRONMENTS = {"aws", "amazon"}
_ENVIRONMENT = re.compile(r"^[a-z](?:[a-z0-9-]{0,18}[a-z0-9])$")
# Where Timestream for LiveAnalytics is (the service's endpoints).
TIMESTREAM_REGIONS = (
    "ap-northeast-1", "ap-south-1", "ap-southeast-2", "eu-central-1", "eu-west-1", "us-east-1",
    "us-east-2", "us-west-2",
)  # fmt: skip
# The provider's default tags are two, and S3 takes the fewest: 50.
MAX_TAGS = 48
_TAG = re.compile(r"[\w\s.:/=+@-]*")
_REGION = re.compile(r"^[a-z]{2}(?:-[a-z]+)+-\d$")
TargetName = Literal["local", "aws"]


class Limit(BaseModel):
    """Bounds of a signal; a reading outside is critical."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float | None = None
    max: float | None = None


class StackConfig(BaseModel):
    """Settings of one environment of the stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    environment: str
    region: str = LOCAL_REGION
    shards: Annotated[int, Field(ge=1, le=500)] = 10
    stream_retention_hours: Annotated[int, Field(ge=24, le=8760)] = 24
    processor_memory_mb: Annotated[int, Field(ge=128, le=10240)] = 512
    processor_timeout_s: Annotated[int, Field(ge=5, le=900)] = 60
    batch_size: Annotated[int, Field(ge=1, le=10000)] = 500
    batch_window_s: Annotated[int, Field(ge=0, le=300)] = 1
    writes_at_once: Annotated[int, Field(ge=1, le=50)] = 5
    retry_attempts: Annotated[int, Field(ge=0, le=10000)] = 20
    record_age_s: Annotated[int, Field(ge=60, le=604800)] = 21600
    timeseries_memory_hours: Annotated[int, Field(ge=1, le=8766)] = 24
    timeseries_magnetic_days: Annotated[int, Field(ge=1, le=73000)] = 7
    archive_buffer_mb: Annotated[int, Field(ge=1, le=128)] = 16
    archive_buffer_s: Annotated[int, Field(ge=0, le=900)] = 60
    archive_infrequent_after_days: Annotated[int, Field(ge=30)] = 30
    archive_expire_after_days: Annotated[int, Field(ge=31)] = 365
    destroy_archive_with_stack: bool = True
    alarm_period_s: Literal[10, 30, 60, 300] = 60
    iterator_age_limit_ms: Annotated[int, Field(ge=1000)] = 60_000
    latency_limit_ms: Annotated[int, Field(ge=100)] = 30_000
    freshness_limit_s: Annotated[int, Field(ge=10)] = 300
    silent_periods: Annotated[int, Field(ge=1, le=60)] = 5
    critical_limits: dict[str, Limit] = {"temperature": Limit(max=60.0)}
    log_retention_days: int = 14
    probe_queue: bool = True
    iot_log_level: Literal["DEBUG", "INFO", "WARN", "ERROR"] | None = None
    tags: dict[str, str] = {}

    @field_validator("environment")
    @classmethod
    def _environment(cls, value: str) -> str:
        if not _ENVIRONMENT.fullmatch(value):
            raise ValueError(
                "use 2 to 20 lower-case letters, digits and hyphens, a letter first and no hyphen "
                "last: it ends the name of every resource, S3 buckets among them"
            )
        if value in RESERVED_ENVIRONMENTS or "--" in value:
            raise ValueError("AWS refuses names with 'aws', 'amazon' or '--' there: use another")
        return value

    @field_validator("region")
    @classmethod
    def _region(cls, value: str) -> str:
        if not _REGION.fullmatch(value):
            raise ValueError("write an AWS region such as us-east-1")
        if value not in TIMESTREAM_REGIONS:
            raise ValueError(
                f"Timestream for LiveAnalytics is not there: use {', '.join(TIMESTREAM_REGIONS)}"
            )
        return value

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > MAX_TAGS:
            raise ValueError(f"AWS takes {MAX_TAGS} tags beside our own")
        for key, text in value.items():
            if key.lower().startswith("aws:") or key in {"project", "environment"}:
                raise ValueError(f"the tag {key!r} is taken: use another key")
            if not 1 <= len(key) <= 128 or len(text) > 256:  # noqa: PLR2004 - AWS's limits
                raise ValueError(
                    f"the tag {key!r} is too long: 128 letters for keys, 256 for values"
                )
            if not _TAG.fullmatch(key) or not _TAG.fullmatch(text):
                raise ValueError(
                    f"the tag {key!r} has letters that AWS does not take: letters, digits, spaces "
                    "and _ . : / = + - @ are taken"
                )
        return value

    @field_validator("log_retention_days")
    @classmethod
    def _log_retention(cls, value: int) -> int:
        if value not in LOG_RETENTION_DAYS:
            raise ValueError(f"CloudWatch Logs keeps logs for one of {LOG_RETENTION_DAYS} days")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.archive_expire_after_days <= self.archive_infrequent_after_days:
            raise ValueError("archive_expire_after_days must exceed archive_infrequent_after_days")
        kept_s = self.stream_retention_hours * 3600
        if self.record_age_s > kept_s:
            raise ValueError(
                f"record_age_s={self.record_age_s} is longer than the stream keeps records "
                f"({kept_s} s): raise stream_retention_hours, or lower it"
            )
        if self.iterator_age_limit_ms >= kept_s * 1000:
            raise ValueError(
                f"iterator_age_limit_ms={self.iterator_age_limit_ms} is as long as the stream keeps "
                f"records ({kept_s} s): the alarm would come after the loss"
            )
        return self

    @property
    def is_production(self) -> bool:
        """Whether people depend on the environment, as its name says."""
        return is_production(self.environment)

    @classmethod
    def for_target(cls, target: TargetName, environment: str, **settings: Any) -> StackConfig:
        """The settings for a target: short periods and buffers locally, AWS's usual ones there.

        An environment with the name of a production keeps its archive when it is destroyed.

        Raises:
            UsageError: a setting cannot be used, in one line that names it.
        """
        quick: dict[str, Any] = {
            # What answers in a millisecond is not waited for in threads.
            "writes_at_once": 1,
            "alarm_period_s": 10,
            "archive_buffer_s": 5,
            "iterator_age_limit_ms": 30_000,
            "latency_limit_ms": 10_000,
            "freshness_limit_s": 60,
        }
        defaults = quick if target == "local" else {}
        if is_production(environment):
            defaults = {**defaults, "destroy_archive_with_stack": False}
        try:
            return cls(environment=environment, **{**defaults, **settings})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "configuration"
            text = first["msg"].removeprefix("Value error, ")
            raise UsageError(f"stack setting {name}={first['input']!r}: {text}") from error
