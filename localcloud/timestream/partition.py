"""Customer-defined partition keys: what a table's schema may be, and what it asks of records."""

from __future__ import annotations

from typing import Any

from localcloud.http import AwsError

MEASURE_KEY = {"Type": "MEASURE"}


def checked(schema: dict[str, Any], before: dict[str, Any] | None, *, new: bool) -> dict[str, Any]:
    """A schema as the table keeps it.

    Args:
        schema: As it is given.
        before: What the table has, or None for the default.
        new: Whether the table is being made; afterwards only the enforcement may change.

    Raises:
        AwsError: ValidationException.
    """
    keys = schema.get("CompositePartitionKey") or [MEASURE_KEY]
    if len(keys) != 1:
        raise _invalid("CompositePartitionKey must have exactly one partition key.")
    key = keys[0]
    if key["Type"] == "MEASURE":
        if key.get("Name") or key.get("EnforcementInRecord"):
            raise _invalid(
                "A partition key of type MEASURE has neither Name nor EnforcementInRecord."
            )
    elif not key.get("Name"):
        raise _invalid("A partition key of type DIMENSION needs a Name.")
    else:
        key = {"EnforcementInRecord": "OPTIONAL", **key}
    if not new:
        had = _key(before)
        if (key["Type"], key.get("Name")) != (had["Type"], had.get("Name")):
            raise _invalid("The partition key of a table cannot be changed, only its enforcement.")
    return {"CompositePartitionKey": [key]}


def required_dimension(schema: dict[str, Any] | None) -> str | None:
    """The dimension that each record of a table must have."""
    key = _key(schema)
    return str(key["Name"]) if key.get("EnforcementInRecord") == "REQUIRED" else None


def _key(schema: dict[str, Any] | None) -> dict[str, Any]:
    keys: list[dict[str, Any]] = (schema or {}).get("CompositePartitionKey") or [MEASURE_KEY]
    return keys[0]


def _invalid(why: str) -> AwsError:
    return AwsError("ValidationException", why)
