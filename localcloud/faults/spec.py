"""A fault as it is asked for: which calls, when, and what happens to them."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from localcloud.faults import partial
from localcloud.naming import SIGNING_NAMES, models, operation_names

Kind = Literal["throttle", "error", "latency", "partial", "outage", "timeout"]

MAX_SECONDS = 24 * 3600.0
MAX_LATENCY_MS = 3_600_000.0
# Members that only some kinds have; each kind refuses the others instead of ignoring them.
_ONLY: dict[str, tuple[Kind, ...]] = {
    "code": ("error", "partial"),
    "status": ("error",),
    "message": ("error", "partial", "throttle"),
    "latency_ms": ("latency",),
    "records": ("partial",),
}


class FaultSpec(BaseModel):
    """One fault.

    Attributes:
        service: Signing name, such as `kinesis`; botocore's names (`timestream-write`) do as well.
        operation: API name, or `*` for every operation of the service.
        kind: What happens.
        share: Share of the matching calls that it happens to.
        calls: How many calls it happens to before it ends.
        after_s: Seconds from being added to its beginning.
        for_s: Seconds that it lasts.
        seed: Makes `share`, ranges and choices of records the same again.
        code: Error code (`error`, or of the refused records of `partial`).
        status: HTTP status of `error`.
        message: Text of the error.
        latency_ms: Milliseconds, or a range of which each call gets a uniform draw.
        records: Share of the records of a batch that `partial` refuses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    service: str
    operation: str = "*"
    kind: Kind
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    calls: Annotated[int, Field(ge=1)] | None = None
    after_s: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    for_s: Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None = None
    seed: int | None = None
    code: Annotated[str, Field(pattern=r"^[A-Za-z][\w.]{0,99}$")] | None = None
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    message: Annotated[str, Field(max_length=1000)] | None = None
    latency_ms: Annotated[float, Field(ge=0, le=MAX_LATENCY_MS)] | tuple[float, float] | None = None
    records: Annotated[float, Field(gt=0, le=1)] | None = None

    @field_validator("latency_ms", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("service")
    @classmethod
    def _signing_name(cls, value: str) -> str:
        name = SIGNING_NAMES.get(value, value)
        if not name.isascii() or not models(name):
            raise ValueError(f"{value!r} is no AWS service")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = operation_names(self.service)
        if self.operation != "*" and self.operation not in known:
            near = difflib.get_close_matches(self.operation, known, 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise ValueError(f"{self.service} has no operation {self.operation!r}{hint}")
        for name, kinds in _ONLY.items():
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(f"{name} does not belong to a fault of kind {self.kind}")
        for name, kind in (("code", "error"), ("latency_ms", "latency"), ("records", "partial")):
            if self.kind == kind and getattr(self, name) is None:
                raise ValueError(f"a fault of kind {kind} needs {name}")
        if isinstance(self.latency_ms, tuple):
            low, high = self.latency_ms
            if not 0 <= low <= high <= MAX_LATENCY_MS:
                raise ValueError(f"latency_ms from {low} to {high} is no range")
        if self.kind == "partial" and (self.service, self.operation) not in partial.BATCHES:
            served = ", ".join(f"{service}:{name}" for service, name in sorted(partial.BATCHES))
            raise ValueError(f"partial failures exist for {served}")
        return self


def parse(value: Any) -> FaultSpec:
    """The fault that a JSON value asks for.

    Raises:
        ValueError: with one line that says which member is wrong and why.
    """
    if not isinstance(value, dict):
        raise ValueError("a fault is a JSON object")  # noqa: TRY004 - a caller catches one kind
    try:
        return FaultSpec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {text}" if where else text) from error
