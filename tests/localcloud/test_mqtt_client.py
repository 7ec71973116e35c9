"""The simulator's MQTT client when a connection ends under it: the event loop has nothing to say."""

from __future__ import annotations

import asyncio
import socket

import aiomqtt
import numpy as np
import pytest
import pytest_asyncio

from simulator.batch import ACKED, ROW, Batch
from simulator.transports import Traffic
from simulator.transports.mqttclient import MqttClient
from simulator.transports.mqttlink import Link, Shared
from simulator.transports.mqttreading import Reading
from tests.localcloud.iot import Things

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def things(cloud):
    return Things(cloud)


@pytest_asyncio.fixture(loop_scope="module")
async def told():
    """What the loop's exception handler was told."""
    found = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(None)


def client_of(device) -> MqttClient:
    return MqttClient(
        device.host, device.port, identifier=device.name, tls_context=device.tls, timeout=20
    )


def reading_of(payload: bytes) -> Reading:
    return Reading(Batch(np.zeros(1, ROW), [payload], ["k"], 99), 0, "x")


@pytest_asyncio.fixture(loop_scope="module")
async def device(things, name):
    return await things.device(name)


async def break_off(client: MqttClient, number: int | None = None) -> None:
    """Asks for a write, and reads the end of the connection in the same turn of the loop.

    Args:
        client: Whose connection ends.
        number: Of another connection's socket, which the closed one's has become.
    """
    async with client:
        paho = client._client
        paho.publish("x", b"", 1)
        gone = paho.socket()
        socket.socket.shutdown(gone, socket.SHUT_RDWR)
        while paho.socket() is not None:
            paho.loop_read()
        if number is not None:
            gone.fileno = lambda: number
        async for _ in client.messages:
            pass


async def test_a_socket_that_closes_before_the_loop_writes_to_it_is_not_given_to_the_loop(
    device, told
):
    client = client_of(device)
    with pytest.raises(aiomqtt.MqttError):
        await break_off(client)
    client.discard()
    await asyncio.sleep(0)
    assert told == []


async def test_a_number_that_is_another_connections_by_then_is_left_to_it(
    device, things, name, told
):
    other = await things.device(f"{name}-b")
    client = client_of(device)
    async with other.connected() as standing:
        await standing.subscribe("y", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            await break_off(client, standing._client.socket().fileno())
        client.discard()
        await standing.publish("y", b"through", qos=1)
        assert (await anext(standing.messages)).payload == b"through"
    assert told == []


async def test_a_connection_that_ended_unheard_is_taken_up_again_with_what_it_was_to_send(
    device, told
):
    """paho may lose its socket while nobody listens yet; each publish is refused from then on."""
    made, landed = [], asyncio.Event()

    class Watched(Link):
        def _made(self):
            made.append(super()._made())
            return made[-1]

    async def at_once():
        pass

    shared = Shared(Traffic(), lambda _reading: landed.set(), at_once, attempts=3)
    link = Watched(device.host, device.port, device.name, lambda: device.tls, shared)
    link.start()
    async with asyncio.timeout(20):
        await link.opened
    made[0]._client._sock_close()
    reading = reading_of(b"x")
    link.send(reading)
    async with asyncio.timeout(30):
        await landed.wait()
    await link.close()
    assert (reading.outcome, reading.attempts) == (ACKED, 2)
    assert len(made) == 2
    assert told == []


async def test_who_gives_up_connecting_leaves_no_socket_behind(told):
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with silent:
        port = silent.sockets[0].getsockname()[1]
        client = MqttClient("127.0.0.1", port, identifier="d", timeout=0.2)
        with pytest.raises(aiomqtt.MqttError):
            await client.__aenter__()
        assert client._client.socket() is not None
        client.discard()
        assert client._client.socket() is None
    assert told == []
