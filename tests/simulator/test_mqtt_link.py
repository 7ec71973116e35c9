"""One MQTT connection at a broker that breaks, is silent, is slow, or takes what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter

import aiomqtt
import pytest

from simulator.batch import ACKED, FAILED, UNKNOWN
from simulator.transports import Traffic, mqttlink
from simulator.transports.mqttclient import MqttClient
from simulator.transports.mqttlink import WINDOW, Link, Shared
from simulator.transports.mqttreading import Reading, together
from tests.simulator.fake_mqtt import SOON_S, Broker, at_once, readings_of

pytestmark = pytest.mark.asyncio


class Told:
    """What became of readings."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self._new = asyncio.Event()

    def __call__(self, reading: Reading) -> None:
        self.readings.append(reading)
        self._new.set()

    async def about(self, count: int) -> None:
        async with asyncio.timeout(SOON_S):
            while len(self.readings) < count:
                self._new.clear()
                await self._new.wait()


@contextlib.asynccontextmanager
async def linked(broker: Broker, *, attempts: int = 9):
    """A connection that stands, and what it tells."""
    told = Told()
    link = Link(
        "127.0.0.1", broker.port, "d", lambda: None, Shared(Traffic(), told, at_once, attempts)
    )
    link.start()
    async with asyncio.timeout(SOON_S):
        await link.opened
    try:
        yield link, told
    finally:
        broker.break_off()
        await link.close()


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(mqttlink, "ACK_S", 0.3)
    monkeypatch.setattr(mqttlink, "BACKOFF_S", (0.001, 0.01))


async def test_what_is_sent_is_acknowledged_in_its_order_with_its_times():
    async with Broker() as broker, linked(broker) as (link, told):
        for reading in readings_of(300):
            link.send(reading)
        assert link.in_flight == WINDOW
        await told.about(300)
    assert broker.taken == [[b"%d" % place for place in range(300)]]
    rows = together(told.readings).rows
    assert set(rows["outcome"]) == {ACKED}
    assert set(rows["attempts"]) == {1}
    assert not rows["maybe"].any()
    assert (rows["sent_ns"] > 0).all()
    assert (rows["sent_ns"] <= rows["acked_ns"]).all()


async def test_no_more_than_a_window_is_on_its_way():
    async with Broker() as broker, linked(broker) as (link, _told):
        broker.acknowledges = False
        for reading in readings_of(WINDOW + 50):
            link.send(reading)
        await broker.until_taken(WINDOW)
        await asyncio.sleep(0.1)
        assert len(broker.taken[0]) == link.in_flight == WINDOW
        assert link.queued == 50


async def test_what_a_broken_connection_had_on_its_way_goes_first_and_in_its_order(hurried):
    async with Broker() as broker, linked(broker) as (link, told):
        broker.acknowledges = False
        for reading in readings_of(WINDOW + 20):
            link.send(reading)
        await broker.until_taken(WINDOW)
        broker.acknowledges = True
        broker.break_off()
        await told.about(WINDOW + 20)
    assert broker.taken[-1] == [b"%d" % place for place in range(WINDOW + 20)]
    rows = together(told.readings).rows
    assert rows["attempts"].tolist() == [2] * WINDOW + [1] * 20
    assert rows["maybe"].tolist() == [True] * WINDOW + [False] * 20
    assert set(rows["outcome"]) == {ACKED}


async def test_a_broker_that_is_silent_is_given_up_although_readings_keep_coming(hurried):
    async with Broker() as broker, linked(broker) as (link, told):
        broker.acknowledges = False
        readings = readings_of(60)
        for reading in readings:
            link.send(reading)
            await asyncio.sleep(0.02)
        assert len(broker.taken) > 1
        assert "no acknowledgement" in link._shared.traffic.last_error
        broker.acknowledges = True
        await told.about(60)
    assert {one.outcome for one in told.readings} == {ACKED}


async def test_a_reading_that_is_never_acknowledged_is_unknown_after_its_attempts(hurried):
    async with Broker() as broker, linked(broker, attempts=3) as (link, told):
        broker.acknowledges = False
        link.send(readings_of(1)[0])
        await told.about(1)
        assert link.in_flight == link._shared.in_flight == link.queued == 0
    assert [len(taken) for taken in broker.taken[:3]] == [1, 1, 1]
    (reading,) = told.readings
    assert (reading.outcome, reading.attempts, reading.maybe) == (UNKNOWN, 3, True)


async def test_what_a_run_abandons_is_unknown_where_it_was_on_its_way_and_else_failed():
    async with Broker() as broker, linked(broker) as (link, told):
        broker.acknowledges = False
        for reading in readings_of(WINDOW + 7):
            link.send(reading)
        await broker.until_taken(WINDOW)
        await link.abandon(0.1)
    assert Counter(one.outcome for one in told.readings) == {UNKNOWN: WINDOW, FAILED: 7}
    assert sum(map(len, broker.taken)) == WINDOW


async def test_what_is_acknowledged_while_a_run_is_abandoned_counts():
    async with Broker() as broker, linked(broker) as (link, told):
        link.send(readings_of(1)[0])
        await told.about(1)
        for reading in readings_of(WINDOW + 7):
            link.send(reading)
        async with asyncio.timeout(SOON_S):
            await link.abandon(SOON_S * 2)
    assert Counter(one.outcome for one in told.readings) == {ACKED: WINDOW + 1, FAILED: 7}


async def test_a_connection_that_is_cut_off_publishes_again_when_it_may_come_back(hurried):
    async with Broker() as broker, linked(broker) as (link, told):
        broker.acknowledges = False
        first, second = readings_of(2)
        link.send(first)
        await broker.until_taken(1)
        link.cut()
        await asyncio.sleep(0.1)
        link.send(second)
        await asyncio.sleep(0.1)
        assert (link.in_flight, link.queued, len(broker.taken)) == (0, 2, 1)
        broker.acknowledges = True
        link.restore()
        await told.about(2)
        assert link._shared.traffic.errors == 1
    assert broker.taken == [[b"0"], [b"0", b"1"]]


async def test_a_broker_that_reads_late_gets_all_of_it():
    async with Broker() as broker, linked(broker) as (link, told):
        broker.reads.clear()
        # More than the sockets hold.
        for reading in readings_of(WINDOW, size=100_000):
            link.send(reading)
        await asyncio.sleep(0.2)
        assert told.readings == []
        broker.reads.set()
        await told.about(WINDOW)
    assert {one.outcome for one in told.readings} == {ACKED}
    assert {one.attempts for one in told.readings} == {1}


@pytest.mark.parametrize("tls", [None, ssl.create_default_context()])
async def test_nobody_there_is_an_error_of_mqtt(tls, unused_tcp_port):
    client = MqttClient("127.0.0.1", unused_tcp_port, identifier="d", tls_context=tls)
    with pytest.raises(aiomqtt.MqttError, match="Connect call failed"):
        await client.__aenter__()
    client.discard()


async def test_a_handshake_that_is_not_answered_ends_in_time():
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass
        gone.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        tls = ssl.create_default_context()
        client = MqttClient("127.0.0.1", port, identifier="d", tls_context=tls, timeout=0.2)
        with pytest.raises(aiomqtt.MqttError, match=r"no connection within 0\.2 s"):
            await client.__aenter__()
        async with asyncio.timeout(SOON_S):
            await gone.wait()
        client.discard()
