"""The estimate against sums done by hand, its price list, and what a file of one's own may say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fleetcast.cli.root import app
from fleetcast.cost import Load, estimate, load_of, load_prices
from fleetcast.errors import UsageError
from simulator.scenario import load
from stack.config import StackConfig

if TYPE_CHECKING:
    from pathlib import Path

    from fleetcast.cost import Estimate

SCENARIO = """
name: even
fleet:
  devices: 100
  classes:
    - name: only
      share: 1
      signals: {t: {model: constant, value: 1}}
rate: [{shape: constant, rate: 500/s, duration: 1h}]
faults: [{name: broken, kind: corrupt, share: 0.1, start: 0s, duration: 30m}]
"""
# An hour of 1,000 readings a second: 200 bytes sent, 50 archived, 150 stored, 8 logged.
LOAD = Load(
    readings=3_600_000, refused=0, duration_s=3600, payload=200, kinesis_units=1,
    firehose=5120, archived=50, stored=150, logged=8,
)  # fmt: skip


def bill(of: Load = LOAD, connections: int = 0, **changed: Any) -> Estimate:
    config = StackConfig.for_target("aws", "dev", **changed)
    return estimate(of, config, load_prices(), connections=connections)


def usd(told: Estimate, price: str) -> float:
    (line,) = [line for line in told.lines if line.price == price]
    assert math.isclose(
        line.usd_per_run, line.quantity_per_run * told.prices.prices[price].each_usd
    )
    return line.usd_per_run


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("kinesis-shard-hour", 10 * 0.015),
        ("kinesis-put-unit", 3.6 * 0.014),
        # A window of a second has a hundred readings of each of ten shards.
        ("lambda-request", 3_600_000 / 100 * 0.20 / 1e6),
        ("lambda-gb-second", 3_600_000 * (0.0005 + 0.040 / 100) * 0.5 * 0.0000166667),
        # A hundred records of 150 bytes are 15 units of a KiB.
        ("timestream-write", 3.6 * 15 / 100 * 0.50),
        ("timestream-memory-gb-hour", 3_600_000 * 150 / 1024**3 * 24 * 0.036),
        ("timestream-magnetic-gb-month", 3_600_000 * 150 / 1024**3 * 7 * 24 / 730 * 0.03),
        ("firehose-gb", 3_600_000 * 5120 / 1024**3 * 0.029),
        # 16 MB take longer than the 60 s after which an object is written.
        ("s3-put", 60 * 5 / 1e6),
        ("cloudwatch-alarm-month", 13 * 0.10 / 730),
        ("cloudwatch-dashboard-month", 3 / 730),
        ("kms-key-month", 1 / 730),
    ],
)
def test_an_item_costs_what_a_sum_by_hand_says(price: str, expected: float) -> None:
    assert usd(bill(), price) == pytest.approx(expected)


def test_settings_that_aws_bills_for_change_the_bill() -> None:
    plain = bill()
    assert usd(bill(shards=20), "kinesis-shard-hour") == 2 * usd(plain, "kinesis-shard-hour")
    assert usd(bill(stream_retention_hours=48), "kinesis-extended-shard-hour") == 10 * 0.020
    assert usd(bill(stream_retention_hours=168 + 730), "kinesis-long-term-gb-month") > 0
    assert "kinesis-long-term-gb-month" not in {line.price for line in plain.lines}
    assert usd(bill(alarm_period_s=10), "cloudwatch-fast-alarm-month") == pytest.approx(
        3 * usd(plain, "cloudwatch-alarm-month")
    )
    smaller = bill(archive_buffer_mb=1)
    assert usd(smaller, "s3-put") > usd(plain, "s3-put")
    assert bill(processor_memory_mb=1024).usd_per_run > plain.usd_per_run


def test_devices_on_connections_cost_by_the_minute_and_by_the_message() -> None:
    straight, told = bill(), bill(connections=2000)
    assert "IoT Core" not in straight.services()
    costs: dict[str, float] = {}
    for line in told.lines:
        if line.service == "IoT Core":
            costs[line.item] = line.usd_per_run
    assert costs == {
        "connections": pytest.approx(2000 * 60 * 0.08 / 1e6),
        "connecting": pytest.approx(2000 / 1e6),
        "messages": pytest.approx(3.6),
        "rules triggered": pytest.approx(3.6 * 0.15),
        "actions": pytest.approx(3.6 * 0.15),
    }
    assert told.usd_per_run == pytest.approx(straight.usd_per_run + sum(costs.values()))
    # A minute that has begun is a minute.
    short = replace(LOAD, readings=1000, duration_s=61)
    (line,) = [line for line in bill(short, 10).lines if line.item == "connections"]
    assert line.quantity_per_run == 20


def test_totals_are_the_sums_of_their_lines() -> None:
    told = bill()
    services = told.services()
    assert told.usd_per_hour == pytest.approx(sum(hour for hour, _ in services.values()))
    assert told.usd_per_run == pytest.approx(sum(run for _, run in services.values()))
    # The run lasts an hour; but for the queries of its verification both are the same.
    queries = usd(told, "timestream-tcu-hour")
    assert told.usd_per_run == pytest.approx(told.usd_per_hour + queries)
    assert 0 < told.standing_usd_per_hour < told.usd_per_hour
    assert told.kept_usd > 0


@given(st.integers(1, 10_000_000), st.floats(1, 1e5), st.integers(1, 500), st.integers(1, 10_000))
@settings(max_examples=60, deadline=None)
def test_more_readings_never_cost_less(
    readings: int, duration_s: float, shards: int, batch_size: int
) -> None:
    def of(count: int) -> Estimate:
        load = Load(count, 0, duration_s, 200, 1, 5120, 50, 150, 8)
        return bill(load, shards=shards, batch_size=batch_size)

    fewer, more = of(readings), of(2 * readings)
    assert math.isfinite(more.usd_per_run)
    for price in ("firehose-gb", "kinesis-put-unit", "timestream-write", "lambda-gb-second"):
        assert usd(more, price) >= usd(fewer, price) * (1 - 1e-9)


def test_sizes_are_those_of_the_scenarios_own_readings(tmp_path: Path) -> None:
    path = tmp_path / "even.yaml"
    path.write_text(SCENARIO)
    told = load_of(load(path))
    assert (told.readings, told.duration_s, told.rate_per_s) == (1_800_000, 3600, 500)
    # A tenth of half of the run, each reading by its own draw.
    assert told.refused == pytest.approx(90_000, rel=0.02)
    assert 120 < told.payload < 220
    assert told.archived < told.payload
    assert (told.kinesis_units, told.firehose) == (1, 5120)
    # 8 for the time; names and values of dimensions; names and 8 bytes for each measure.
    dimensions = len("device" + "dev-000000" + "class" + "only" + "site" + "run")
    measures = sum(len(name) + 8 for name in ("t", "seq", "arrived_ms", "processed_ms"))
    assert told.stored > 8 + dimensions + measures
    assert (told.messages, told.devices) == (1, 100)
    refused = bill(told)
    assert usd(refused, "sqs-request") == pytest.approx(3 * told.refused * 0.40 / 1e6)


def test_every_price_has_a_page_of_aws_and_is_used_by_some_bill() -> None:
    listed = load_prices()
    assert all(p.page.startswith("https://aws.amazon.com/") for p in listed.prices.values())
    assert all(p.per for p in listed.prices.values())
    load = Load(1000, 10, 10, 200, 1, 5120, 50, 150, 8)
    used = {
        line.price
        for changed in ({"alarm_period_s": 10}, {"stream_retention_hours": 8760})
        for line in bill(load, 1, **changed).lines
    }
    assert used == listed.prices.keys()


def test_prices_of_ones_own_replace_what_they_name(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "region: eu-central-1\nas_of: 2026-01-02\n"
        "prices:\n  firehose-gb: 0.031\n  kms-key-month: {usd: 2, as_of: 2026-03-04}\n"
        "assumptions: {kms-requests-per-hour: 0}\n"
    )
    listed = load_prices(own)
    assert (listed.region, listed.prices["firehose-gb"].usd) == ("eu-central-1", 0.031)
    assert listed.prices["firehose-gb"].page == str(own)
    assert str(listed.day_of("firehose-gb")) == "2026-01-02"
    assert str(listed.day_of("kms-key-month")) == "2026-03-04"
    assert listed.prices["kms-key-month"].per == "key-month"
    assert listed.day_of("lambda-request") == load_prices().as_of
    assert listed.assumptions["kms-requests-per-hour"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prices: {firehose-bg: 1}", "there is no price 'firehose-bg': did you mean firehose-gb?"),
        ("assumptions: {x: 1}", "there is no assumption 'x': there are "),
        ("prices: {firehose-gb: -1}", "prices.firehose-gb"),
        ("prices: {firehose-gb: .nan}", "prices.firehose-gb"),
        ("colour: red", "colour: Extra inputs are not permitted"),
        ("[1", "is no YAML"),
        ("- 1", "it: "),
    ],
)
def test_prices_that_cannot_be_used_are_told_in_a_line(
    tmp_path: Path, text: str, told: str
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_prices(own)
    assert told in str(caught.value)
    assert str(caught.value).count(str(own)) == 1
    assert "\n" not in str(caught.value)


def test_a_price_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the prices .*No such file"):
        load_prices(tmp_path / "none.yaml")


def test_the_command_prints_services_totals_and_the_day_of_its_prices(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["cost", "smoke", "--region", "eu-west-1"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("smoke: ")
    assert any(line.startswith("Kinesis ") for line in lines)
    assert f"list price of {load_prices().as_of}, us-east-1" in done.stdout
    assert lines[-1].endswith("not of eu-west-1: give --prices FILE")

    own = tmp_path / "own.yaml"
    own.write_text("prices: {kinesis-shard-hour: 1}")
    asked = ["cost", "smoke", "--set", "shards=3", "--prices", str(own), "--json"]
    told = json.loads(CliRunner().invoke(app, asked).stdout)
    (shards,) = [line for line in told["lines"] if line["price"] == "kinesis-shard-hour"]
    assert (shards["usd_per_hour"], shards["page"]) == (3, str(own))
    assert told["usd_per_hour"] > 3


def test_the_command_tells_what_devices_on_mqtt_cost() -> None:
    asked = ["cost", "smoke", "--devices", "100", "--transport", "mqtt", "--json"]

    def connecting(*more: str) -> float:
        lines = json.loads(CliRunner().invoke(app, [*asked, *more]).stdout)["lines"]
        (line,) = [line for line in lines if line["item"] == "connecting"]
        return float(line["quantity_per_run"])

    assert (connecting(), connecting("--devices-per-connection", "30")) == (100, 4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--transport", "null"], "--transport 'null' costs nothing on AWS: use kinesis or mqtt"),
        (["--devices-per-connection", "0"], "--devices-per-connection 0: use 1 or more"),
        (["--set", "shards"], "write --set NAME=VALUE"),
        (["--set", "shards=1", "--set", "shards=2"], "shards is given twice"),
        (["--set", "region=x"], "use --region for it"),
        (["--set", "shards=many"], "stack setting shards='many'"),
        (["--set", "shards=[1"], "--set shards=[1: no value"),
        (["--set", "colour=red"], "stack setting colour='red'"),
    ],
)
def test_settings_that_cannot_be_used_are_told(options: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["cost", "smoke", *options])
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)
    assert "\n" not in str(done.exception)
