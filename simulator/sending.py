"""How a run's readings leave: which transport, and how it is set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fleetcast.errors import UsageError
from simulator.transports.kinesis import KinesisTransport
from simulator.transports.null import NullTransport
from simulator.transports.stream import LineTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetcast.target import Target
    from simulator.transports import Done, Transport

TransportName = Literal["kinesis", "null", "file", "stdout"]
Ordering = Literal["relaxed", "strict"]
KEY_VARIABLE = "FLEETCAST_SIGNING_KEY"
MOST_WORKERS = 64


@dataclass(frozen=True, slots=True)
class Sending:
    """How readings leave.

    Attributes:
        transport: To where.
        aggregate: Whether many readings make one Kinesis record.
        ordering: `strict` keeps the order of each device, whatever is refused meanwhile.
        output: The file of transport `file`.
        workers: Processes that share the devices.
    """

    transport: TransportName = "kinesis"
    aggregate: bool = False
    ordering: Ordering = "relaxed"
    output: Path | None = None
    workers: int = 1

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
        if transport == "mqtt":
            raise UsageError(
                "transport 'mqtt' is not there: the simulator sends to kinesis, null, file or stdout"
            )
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
        return self.transport == "kinesis"

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
            return KinesisTransport(
                target,
                stream,
                done,
                aggregate=self.aggregate,
                strict=self.ordering == "strict",
            )

        return make

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return {
            "transport": self.transport,
            "aggregate": self.aggregate,
            "ordering": self.ordering,
            "output": None if self.output is None else str(self.output),
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Sending:
        """What `to_json` told."""
        output = told.pop("output")
        return cls(**told, output=None if output is None else Path(output))


def key_without_stack() -> bytes | None:
    """The signing key where there is no stack to ask: of the environment, or none at all."""
    key = os.environ.get(KEY_VARIABLE)
    return key.encode() if key else None
