"""What Kinesis publishes about itself: the AWS/Kinesis tables of its developer guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.kinesis.shard import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localcloud.kinesis.stream import Stream
    from localcloud.seams import MetricSink

NAMESPACE = "AWS/Kinesis"
SHARD_METRICS = (
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
)


def unit_of(name: str) -> str:
    """The unit of a metric, which its name tells."""
    if name.endswith("Bytes"):
        return "Bytes"
    return "Milliseconds" if name.endswith(("Latency", "Milliseconds", "Latest")) else "Count"


class Meter:
    """Publishes metrics of streams, and once a second those of shards.

    Args:
        sink: Where metrics go.
    """

    def __init__(self, sink: MetricSink) -> None:
        self._sink = sink

    def stream(self, stream: Stream, values: Mapping[str, float]) -> None:
        """Publishes one sample of each metric of a stream."""
        self._sink.put_each(NAMESPACE, values, unit=unit_of, dimensions=stream.dimensions)

    def consumer(self, stream: Stream, consumer: str, values: Mapping[str, float]) -> None:
        """Publishes one sample of each metric of an enhanced fan-out consumer."""
        where = {**stream.dimensions, "ConsumerName": consumer}
        self._sink.put_each(NAMESPACE, values, unit=unit_of, dimensions=where)

    def publish_shards(self, streams: Iterable[Stream]) -> None:
        """Publishes what happened to shards since the last time, where it was asked for."""
        for stream in streams:
            if not stream.shard_metrics:
                continue
            for shard in stream.shards:
                where = {**stream.dimensions, "ShardId": shard.shard_id}
                values = _values(shard.tally)
                shard.tally = Tally()
                for name in stream.shard_metrics:
                    if name in values:
                        self._sink.put(
                            NAMESPACE, name, values[name], unit=unit_of(name), dimensions=where
                        )


def _values(tally: Tally) -> dict[str, float]:
    values: dict[str, float] = {}
    if tally.in_records or tally.write_throttled:
        values["IncomingBytes"] = tally.in_bytes
        values["IncomingRecords"] = tally.in_records
        values["WriteProvisionedThroughputExceeded"] = tally.write_throttled
    if tally.age_ms is not None or tally.read_throttled:
        values["OutgoingBytes"] = tally.out_bytes
        values["OutgoingRecords"] = tally.out_records
        values["ReadProvisionedThroughputExceeded"] = tally.read_throttled
    if tally.age_ms is not None:
        values["IteratorAgeMilliseconds"] = tally.age_ms
    return values
