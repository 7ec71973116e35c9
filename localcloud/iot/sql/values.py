"""Values of the rules' SQL: JSON's, and Undefined; how one type becomes another."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson


class _Undefined:
    """No value: it stands in no JSON."""

    def __repr__(self) -> str:
        return "Undefined"


UNDEFINED = _Undefined()


@dataclass
class Context:
    """One message that a rule looks at.

    Attributes:
        topic: Its topic, without the prefix of basic ingest.
        payload: Its bytes.
        client_id: Who published it; `n/a` where it came over HTTP.
        principal: Id of the certificate, or of whoever sent it over HTTP.
        qos: Its QoS.
        account_id: The account.
        trace_id: Tells this message from others in logs.
        received_ms: When it came, epoch milliseconds.
        properties: Of MQTT 5: user properties by name, others under `mqtt_` names.
    """

    topic: str
    payload: bytes
    client_id: str = "n/a"
    principal: str = ""
    qos: int = 0
    account_id: str = ""
    trace_id: str = ""
    received_ms: int = 0
    user_properties: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def document(self) -> Any:
        """The payload as JSON; Undefined where it is none."""
        try:
            return orjson.loads(self.payload)
        except orjson.JSONDecodeError:
            return UNDEFINED


def is_number(value: Any) -> bool:
    """Whether it is an Int or a Decimal; a Boolean is neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any) -> Any:
    """As a function that wants a number takes it: a number, or a text that is one."""
    if is_number(value):
        return whole(value)
    if isinstance(value, str):
        try:
            found = float(value)
        except ValueError:
            return UNDEFINED
        return whole(found)
    return UNDEFINED


def whole(value: float) -> Any:
    """Whole numbers are Ints, as the SQL of 2016-03-23 has it; what is no number is Undefined."""
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return UNDEFINED
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def text(value: Any) -> Any:
    """As a function that wants a text takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_number(value):
        return str(value)
    if isinstance(value, (dict, list)):
        return orjson.dumps(plain(value)).decode()
    return UNDEFINED


def cast(value: Any, kind: str) -> Any:
    """CAST(value AS kind)."""
    if kind in {"string", "nvarchar", "text", "varchar"}:
        return text(value)
    if kind in {"bool", "boolean"}:
        if isinstance(value, bool):
            return value
        if is_number(value):
            return value != 0
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        return UNDEFINED
    if isinstance(value, bool):
        return int(value)
    found = number(value)
    if found is UNDEFINED or kind == "decimal":
        return found
    return round_half_even(found)


def round_half_even(value: float) -> int:
    """To the nearest whole number."""
    return round(value)


def plain(value: Any) -> Any:
    """A value without what JSON has no word for."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not UNDEFINED}
    if isinstance(value, list):
        return [None if v is UNDEFINED else plain(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is UNDEFINED else value
