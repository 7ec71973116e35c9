"""How a run's readings leave: which transport, and how it is set."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fleetcast.errors import UsageError
from simulator.identities import Identities
from simulator.transports.kinesis import KinesisTransport
from simulator.transports.null import NullTransport
from simulator.transports.stream import LineTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetcast.target import Target
    from simulator.transports import Done, Transport

TransportName = Literal["kinesis", "mqtt", "null", "file", "stdout"]
Ordering = Literal["relaxed", "strict"]
KEY_VARIABLE = "FLEETCAST_SIGNING_KEY"
MOST_WORKERS = 64
FASTEST_RAMP = 10_000


@dataclass(frozen=True, slots=True)
class Sending:
    """How readings leave.

    Attributes:
        transport: To where.
        aggregate: Whether many readings make one Kinesis record.
        ordering: `strict` keeps the order of each device, whatever is refused meanwhile.
        output: The file of transport `file`.
        workers: Processes that share the devices.
        identities: Keys and certificates of the devices, for transport `mqtt`.
        per_connection: Devices on a connection, for transport `mqtt`.
        ramp_per_s: Connections begun a second, for transport `mqtt`.
    """

    transport: TransportName = "kinesis"
    aggregate: bool = False
    ordering: Ordering = "relaxed"
    output: Path | None = None
    workers: int = 1
    identities: Identities | None = None
    per_connection: int = 1
    ramp_per_s: float = 100.0

    @classmethod
    def checked(
        cls,
        transport: str,
        aggregate: bool,  # noqa: FBT001
        ordering: str,
        output: Path | None,
        workers: int,
        devices: int,
    ) -> Sending:
        """The options of a command line.

        Raises:
            UsageError: they do not go together.
        """
        if transport not in get_args(TransportName):
            known = ", ".join(get_args(TransportName))
            raise UsageError(f"unknown transport {transport!r}: use one of {known}")
        if ordering not in get_args(Ordering):
            raise UsageError(f"unknown ordering {ordering!r}: use relaxed or strict")
        if transport != "kinesis" and (aggregate or ordering == "strict"):
            option = "--aggregate" if aggregate else "--ordering strict"
            raise UsageError(f"{option} is for transport kinesis, not {transport}")
        if (output is not None) != (transport == "file"):
            raise UsageError(
                "--transport file needs --output FILE"
                if output is None
                else f"--output is for transport file, not {transport}"
            )
        if not 1 <= workers <= min(MOST_WORKERS, devices):
            raise UsageError(
                f"--workers {workers}: use 1 to {min(MOST_WORKERS, devices)} for {devices:,} devices"
            )
        if workers > 1 and transport in {"file", "stdout"}:
            raise UsageError(
                f"--workers {workers}: transport {transport} is written by one process"
            )
        return cls(transport, aggregate, ordering, output, workers)  # type: ignore[arg-type]

    @property
    def to_stack(self) -> bool:
        """Whether readings go to a deployed stack."""
        return self.transport in {"kinesis", "mqtt"}

    def over_mqtt(self, identities: Identities, per_connection: int, ramp_per_s: float) -> Sending:
        """The same, with what MQTT needs.

        Args:
            identities: Keys and certificates of the devices.
            per_connection: Devices that a gateway carries; 1 is a connection for each.
            ramp_per_s: Connections that are begun a second.

        Raises:
            UsageError: a number cannot be used.
        """
        if per_connection < 1:
            raise UsageError(f"--devices-per-connection {per_connection}: use 1 or more")
        if not 0 < ramp_per_s <= FASTEST_RAMP:
            raise UsageError(f"--connect-rate {ramp_per_s:g}: use more than 0, to {FASTEST_RAMP:,}")
        return replace(
            self, identities=identities, per_connection=per_connection, ramp_per_s=ramp_per_s
        )

    def connecting_s(self, devices: int) -> float:
        """How long before its schedule a run begins to connect, seconds."""
        if self.transport != "mqtt":
            return 0.0
        return 2.0 + 1.2 * -(-devices // self.per_connection) / self.ramp_per_s

    def make(self, target: Target | None, stream: str) -> Callable[[Done], Transport]:
        """What makes the transport.

        Args:
            target: Where the stack is, where readings go to one.
            stream: Its stream.
        """

        def make(done: Done) -> Transport:
            if self.transport == "null":
                return NullTransport(done)
            if self.transport in {"file", "stdout"}:
                return LineTransport(done, self.output)
            if target is None:
                raise ValueError("no target to send to")
            if self.transport == "mqtt":
                return self._mqtt(target, done)
            return KinesisTransport(
                target,
                stream,
                done,
                aggregate=self.aggregate,
                strict=self.ordering == "strict",
            )

        return make

    def _mqtt(self, target: Target, done: Done) -> Transport:
        from simulator.transports.mqtt import MqttTransport  # noqa: PLC0415 - others need none of it

        if self.identities is None:
            raise ValueError("no identities to connect with")
        return MqttTransport(
            target, self.identities, done,
            per_connection=self.per_connection, ramp_per_s=self.ramp_per_s / self.workers,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {
            "transport": self.transport,
            "aggregate": self.aggregate,
            "ordering": self.ordering,
            "output": None if self.output is None else str(self.output),
            # Workers share the ramp.
            "ramp_per_s": self.ramp_per_s / self.workers,
            "per_connection": self.per_connection,
            "identities": None
            if self.identities is None
            else [str(self.identities.folder), self.identities.environment],
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Sending:
        """What `to_json` told."""
        output, known = told.pop("output"), told.pop("identities")
        return cls(
            **told,
            output=None if output is None else Path(output),
            identities=None if known is None else Identities(Path(known[0]), known[1]),
        )


def key_without_stack() -> bytes | None:
    """The signing key where there is no stack to ask: of the environment, or none at all."""
    key = os.environ.get(KEY_VARIABLE)
    return key.encode() if key else None
