"""The estimate: what the stack costs while it stands, while it is driven, and for one run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stack.alarms import ALARM_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetcast.cost.load import Load
    from fleetcast.cost.prices import PriceList
    from stack.config import StackConfig

# AWS bills by the month of 730 hours.
MONTH_H = 730
DAY_H = 24
HOUR_S = 3600
GB = 1024**3
CALL_RECORDS = 100
KIB = 1024
OWN_METRICS = 6
EXTENDED_AFTER_H, LONG_TERM_AFTER_H = 24, 168
# Lambda polls a shard about so often where no batching window makes it wait.
POLL_S = 0.2
REFERENCE_MEMORY_MB = 512
STANDARD_PERIOD_S = 60
Kind = Literal["standing", "driven", "kept"]


@dataclass(frozen=True, slots=True)
class Line:
    """One item of the bill.

    Attributes:
        service: Of AWS.
        item: What is billed.
        price: Its name in the price list.
        kind: `standing` as long as the stack stands, `driven` by readings, `kept` for what the run
            leaves behind until its retention ends or the stack is destroyed.
        quantity_per_hour: Units in an hour, at the scenario's mean rate; 0 for what is kept.
        quantity_per_run: Units for the run.
        usd_per_hour: Cost of an hour.
        usd_per_run: Cost of the run.
    """

    service: str
    item: str
    price: str
    kind: Kind
    quantity_per_hour: float
    quantity_per_run: float
    usd_per_hour: float
    usd_per_run: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a scenario costs.

    Attributes:
        lines: The items.
        load: What the scenario puts on the stack.
        prices: What they were priced with.
    """

    lines: list[Line]
    load: Load
    prices: PriceList

    def services(self) -> dict[str, tuple[float, float]]:
        """US dollars per hour and per run by service; what is kept is not in it."""
        totals: dict[str, tuple[float, float]] = {}
        for line in self.lines:
            if line.kind != "kept":
                hour, run = totals.get(line.service, (0.0, 0.0))
                totals[line.service] = (hour + line.usd_per_hour, run + line.usd_per_run)
        return totals

    @property
    def standing_usd_per_hour(self) -> float:
        """While nothing is sent."""
        return sum(line.usd_per_hour for line in self.lines if line.kind == "standing")

    @property
    def usd_per_hour(self) -> float:
        """While the scenario's mean rate is sent."""
        return sum(line.usd_per_hour for line in self.lines if line.kind != "kept")

    @property
    def usd_per_run(self) -> float:
        """The run, if the stack stands for just as long."""
        return sum(line.usd_per_run for line in self.lines if line.kind != "kept")

    @property
    def kept_usd(self) -> float:
        """What the run's readings cost afterwards, where the stack is not destroyed."""
        return sum(line.usd_per_run for line in self.lines if line.kind == "kept")


def estimate(
    load: Load, config: StackConfig, prices: PriceList, *, connections: int = 0
) -> Estimate:
    """The bill of a load on a stack with these settings.

    Args:
        load: What is put on it.
        config: Its settings.
        prices: Prices and assumptions.
        connections: Connections over which readings come by MQTT; 0 where they go to Kinesis.
    """
    billing = _Billing(load, config, prices)
    lines = [*billing.lines(), *(billing.devices(connections) if connections else ())]
    return Estimate(lines, load, prices)


class _Billing:
    def __init__(self, load: Load, config: StackConfig, prices: PriceList) -> None:
        self._load, self._config, self._prices = load, config, prices
        self._run_h = load.duration_s / HOUR_S

    def lines(self) -> Iterator[Line]:
        yield from self._kinesis()
        yield from self._processor()
        yield from self._timestream()
        yield from self._archive()
        yield from self._watching()
        yield from self._secrets_and_queues()

    def devices(self, connections: int) -> Iterator[Line]:
        """What IoT Core takes: connections by the minute, messages, and a rule with one action.

        Of a connection CONNECT is metered, and of the acknowledgements of QoS 1 none.
        """
        service, load = "IoT Core", self._load
        each = self._prices.prices["iot-connection-minute"].each_usd
        hour, run = connections * HOUR_S / 60, connections * math.ceil(load.duration_s / 60)
        yield Line(
            service, "connections", "iot-connection-minute", "driven", hour, run,
            hour * each, run * each,
        )  # fmt: skip
        yield self._once(service, "connecting", "iot-message", connections)
        yield self._driven(service, "messages", "iot-message", load.messages)
        yield self._driven(service, "rules triggered", "iot-rule", load.messages)
        yield self._driven(service, "actions", "iot-action", load.messages)

    def _standing(self, service: str, item: str, price: str, units: float) -> Line:
        """Units that are billed by the hour."""
        usd = units * self._prices.prices[price].each_usd
        return Line(
            service, item, price, "standing", units, units * self._run_h, usd, usd * self._run_h
        )

    def _monthly(self, service: str, item: str, price: str, units: float) -> Line:
        """Units that are billed by the month, for the part of it that they are there."""
        return self._standing(service, item, price, units / MONTH_H)

    def _driven(self, service: str, item: str, price: str, per_reading: float) -> Line:
        """Units that a reading takes."""
        each = self._prices.prices[price].each_usd
        run = per_reading * self._load.readings
        hour = per_reading * self._load.rate_per_s * HOUR_S
        return Line(service, item, price, "driven", hour, run, hour * each, run * each)

    def _once(self, service: str, item: str, price: str, units: float) -> Line:
        """Units that a run takes once, however long it is."""
        usd = units * self._prices.prices[price].each_usd
        return Line(service, item, price, "driven", 0, units, 0, usd)

    def _kept(self, service: str, item: str, price: str, units: float) -> Line:
        usd = units * self._prices.prices[price].each_usd
        return Line(service, item, price, "kept", 0, units, 0, usd)

    def _gb(self, bytes_each: float) -> float:
        """GB of all readings of the run."""
        return bytes_each * self._load.readings / GB

    def _kinesis(self) -> Iterator[Line]:
        service, config, load = "Kinesis", self._config, self._load
        yield self._standing(service, "shards", "kinesis-shard-hour", config.shards)
        hours = config.stream_retention_hours
        if hours > EXTENDED_AFTER_H:
            yield self._standing(
                service, "extended retention", "kinesis-extended-shard-hour", config.shards
            )
        if hours > LONG_TERM_AFTER_H:
            months = (hours - LONG_TERM_AFTER_H) / MONTH_H
            gb_months = self._gb(load.payload) * months
            yield self._kept(
                service, "long-term retention", "kinesis-long-term-gb-month", gb_months
            )
        yield self._driven(service, "payload units", "kinesis-put-unit", load.kinesis_units)

    def _batch(self) -> float:
        """Readings of an invocation: each shard's are collected for the window, or until enough."""
        per_shard = self._load.rate_per_s / self._config.shards
        collected = per_shard * max(self._config.batch_window_s, POLL_S)
        return min(max(collected, 1.0), float(self._config.batch_size))

    def _processor(self) -> Iterator[Line]:
        assumed, config, batch = self._prices.assumptions, self._config, self._batch()
        yield self._driven("Lambda", "requests", "lambda-request", 1 / batch)
        # Processing power goes with memory: readings take as many GB-seconds with more of it, in
        # less time. An invocation mostly waits, and waiting costs more with more memory.
        works_s = assumed["processor-ms-per-reading"] / 1000
        waits_s = assumed["processor-ms-per-invocation"] / 1000 / batch
        gb_s = works_s * REFERENCE_MEMORY_MB + waits_s * config.processor_memory_mb
        yield self._driven("Lambda", "compute", "lambda-gb-second", gb_s / 1024)

    def _timestream(self) -> Iterator[Line]:
        service, load, config = "Timestream", self._load, self._config
        good = 1 - load.refused / load.readings
        # A call is rounded up to a KiB; it has the readings of one batch, a hundred at most.
        batch = self._batch()
        calls = math.ceil(batch / CALL_RECORDS)
        units = calls * math.ceil(batch / calls * load.stored / KIB) / batch
        yield self._driven(service, "writes of 1 KB", "timestream-write", units * good)
        yield self._once(
            service,
            "queries of a verification",
            "timestream-tcu-hour",
            self._prices.assumptions["verification-tcu-hours"],
        )
        gb = self._gb(load.stored) * good
        yield self._kept(
            service,
            "memory store",
            "timestream-memory-gb-hour",
            gb * config.timeseries_memory_hours,
        )
        months = config.timeseries_magnetic_days * DAY_H / MONTH_H
        yield self._kept(service, "magnetic store", "timestream-magnetic-gb-month", gb * months)

    def _archive(self) -> Iterator[Line]:
        load, config = self._load, self._config
        yield self._driven("Firehose", "records in 5 KB", "firehose-gb", load.firehose / GB)
        per_s = load.rate_per_s * load.payload
        seconds = min(max(config.archive_buffer_s, 1), config.archive_buffer_mb * 1024**2 / per_s)
        yield self._driven("S3", "objects", "s3-put", 1 / (seconds * load.rate_per_s))
        gb = self._gb(load.archived)
        standard = config.archive_infrequent_after_days
        infrequent = config.archive_expire_after_days - standard
        for item, price, days in (
            ("standard storage", "s3-standard-gb-month", standard),
            ("infrequent access storage", "s3-infrequent-gb-month", infrequent),
        ):
            yield self._kept("S3", item, price, gb * days * DAY_H / MONTH_H)

    def _watching(self) -> Iterator[Line]:
        service, config, load = "CloudWatch", self._config, self._load
        fast = config.alarm_period_s < STANDARD_PERIOD_S
        price = "cloudwatch-fast-alarm-month" if fast else "cloudwatch-alarm-month"
        yield self._monthly(service, "alarms", price, len(ALARM_NAMES))
        yield self._monthly(service, "own metrics", "cloudwatch-metric-month", OWN_METRICS)
        yield self._monthly(service, "dashboard", "cloudwatch-dashboard-month", 1)
        yield self._driven(service, "logs", "cloudwatch-logs-gb", load.logged / GB)
        months = config.log_retention_days * DAY_H / MONTH_H
        yield self._kept(
            service, "logs kept", "cloudwatch-logs-gb-month", self._gb(load.logged) * months
        )

    def _secrets_and_queues(self) -> Iterator[Line]:
        yield self._monthly("KMS", "key", "kms-key-month", 1)
        requests = self._prices.assumptions["kms-requests-per-hour"]
        yield self._standing("KMS", "requests", "kms-request", requests)
        yield self._monthly("Secrets Manager", "signing key", "secret-month", 1)
        if self._load.refused:
            # Sent, received and deleted.
            refused = 3 * self._load.refused / self._load.readings
            yield self._driven("SQS", "refused readings", "sqs-request", refused)
