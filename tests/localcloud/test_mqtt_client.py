"""The simulator's MQTT client when a connection ends under it: the event loop has nothing to say."""

from __future__ import annotations

import asyncio
import socket

import aiomqtt
import pytest
import pytest_asyncio

from simulator.transports.mqttclient import MqttClient
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
