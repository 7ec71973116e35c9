"""IoT Core's message broker: what MQTT promises, for both of its versions, over mutual TLS."""

from __future__ import annotations

import asyncio
import ssl

import aiomqtt
import pytest
import pytest_asyncio
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.localcloud.iot import ALL, Things, allow

pytestmark = pytest.mark.asyncio(loop_scope="module")

V3, V5 = aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5
CONNECT = bytes.fromhex("10 0d 0004 4d515454 04 02 003c 0001 64".replace(" ", ""))


@pytest_asyncio.fixture(loop_scope="module")
async def things(cloud):
    return Things(cloud)


@pytest.mark.parametrize("version", [V3, V5])
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_message_reaches_whoever_subscribed(things, name, version, qos):
    one, other = await things.device(name), await things.device(f"{name}-b")
    async with one.connected(protocol=version) as sender, other.connected(protocol=V3) as receiver:
        granted = await receiver.subscribe(f"{name}/+/x", qos=qos)
        assert [int(getattr(g, "value", g)) for g in granted] == [qos]
        await sender.publish(f"{name}/a/x", b"\x00\xff", qos=1)
        await sender.publish(f"{name}/a/y", b"not this one", qos=1)
        await sender.publish(f"{name}/a/x", b"last", qos=1)
        got = [await anext(receiver.messages) for _ in range(2)]
    assert [(m.payload, m.qos) for m in got] == [(b"\x00\xff", qos), (b"last", qos)]


async def test_properties_of_mqtt_5_go_with_a_message(things, name):
    device = await things.device(name)
    told = Properties(PacketTypes.PUBLISH)
    told.UserProperty = [("a", "1"), ("a", "2")]
    told.ContentType = "text/plain"
    async with device.connected(protocol=V5) as client:
        await client.subscribe(f"{name}/x", qos=1)
        await client.publish(f"{name}/x", b"m", qos=1, properties=told)
        got = await anext(client.messages)
    assert got.properties.UserProperty == [("a", "1"), ("a", "2")]
    assert got.properties.ContentType == "text/plain"


async def test_what_is_retained_is_there_for_who_comes_later_until_it_is_cleared(things, name):
    device = await things.device(name)
    async with device.connected() as client:
        await client.publish(f"{name}/state", b"on", qos=1, retain=True)
        await client.subscribe(f"{name}/#", qos=1)
        first = await anext(client.messages)
        assert (first.payload, first.retain) == (b"on", True)
        await client.publish(f"{name}/state", b"", qos=1, retain=True)
        assert (await anext(client.messages)).payload == b""
    async with device.connected() as client:
        await client.subscribe(f"{name}/#", qos=1)
        await client.publish(f"{name}/other", b"live", qos=1)
        assert (await anext(client.messages)).payload == b"live"


async def test_a_session_that_is_resumed_has_what_came_meanwhile(things, name):
    sleeper, sender = await things.device(name), await things.device(f"{name}-s")
    async with sleeper.connected(clean_session=False) as client:
        await client.subscribe(f"{name}/#", qos=1)
    async with sender.connected() as client:
        for n in range(250):
            await client.publish(f"{name}/{n}", str(n).encode(), qos=1)
        await client.publish(f"{name}/lossy", b"at most once", qos=0)
    async with sleeper.connected(clean_session=False) as client:
        got = [await anext(client.messages) for _ in range(250)]
        await client.publish(f"{name}/end", b"end", qos=1)
        assert (await anext(client.messages)).payload == b"end"
    assert [m.payload for m in got] == [str(n).encode() for n in range(250)]
    async with sleeper.connected(clean_session=True) as client:
        await client.publish(f"{name}/x", b"nobody hears it", qos=1)
        await client.subscribe(f"{name}/y", qos=1)
        await client.publish(f"{name}/y", b"y", qos=1)
        assert (await anext(client.messages)).payload == b"y"


async def test_a_last_will_is_published_when_a_connection_breaks_and_not_when_it_ends(things, name):
    watcher, device = await things.device(f"{name}-w"), await things.device(name)
    will = aiomqtt.Will(f"{name}/will", b"gone", qos=1)
    async with watcher.connected() as seen:
        await seen.subscribe(f"{name}/#", qos=1)
        async with device.connected(will=will):
            pass
        async with device.connected(will=will) as client:
            await client.publish(f"{name}/hello", b"hello", qos=1)
            client._client.socket().shutdown(2)
            got = [await anext(seen.messages) for _ in range(2)]
    assert [m.payload for m in got] == [b"hello", b"gone"]


async def test_who_connects_under_the_same_name_takes_over(things, name):
    device, watcher = await things.device(name), await things.device(f"{name}-w")
    topic = f"$aws/events/presence/disconnected/{name}"
    async with watcher.connected() as seen, device.connected() as first:
        await seen.subscribe(topic, qos=1)
        async with device.connected() as second:
            await second.publish(f"{name}/x", b"x", qos=1)
            with pytest.raises(aiomqtt.MqttError):
                await anext(first.messages)
            told = await anext(seen.messages)
    assert b"DUPLICATE_CLIENTID" in told.payload


async def test_a_filter_of_subscription_may_not_be_anything(things, name, monkeypatch):
    # paho refuses some of these itself.
    monkeypatch.setattr("paho.mqtt.client.Client._filter_wildcard_len_check", lambda *_: 0)
    device = await things.device(name)
    async with device.connected() as client:
        for bad in ("a/#/b", "a/b+", "$share/g/a", "a/" * 9, "x" * 257):
            assert list(await client.subscribe(bad, qos=1)) == [0x80]
        assert list(await client.subscribe("a/b", qos=2)) == [0x80]
        for n in range(50):
            assert list(await client.subscribe(f"{name}/{n}", qos=0)) == [0]
        assert list(await client.subscribe(f"{name}/more", qos=0)) == [0x80]


async def test_an_unsubscribed_topic_is_silent(things, name):
    device = await things.device(name)
    async with device.connected() as client:
        await client.subscribe([(f"{name}/a", 1), (f"{name}/b", 1)])
        await client.unsubscribe(f"{name}/a")
        await client.publish(f"{name}/a", b"a", qos=1)
        await client.publish(f"{name}/b", b"b", qos=1)
        assert (await anext(client.messages)).payload == b"b"


@pytest.mark.parametrize(
    ("topic", "payload", "qos"),
    [
        ("a/#", b"", 1),
        ("$aws/things/x", b"", 1),
        ("a/" * 9, b"", 1),
        ("t" * 257, b"", 1),
        ("{name}/large", bytes(200_000), 1),
        ("{name}/two", b"", 2),
    ],
    ids=["wildcard", "reserved", "deep", "long", "200 KB", "QoS 2"],
)
async def test_what_may_not_be_published_ends_its_connection_alone(
    things, name, topic, payload, qos, eventually
):
    device, other = await things.device(name), await things.device(f"{name}-b")
    before = things.counts().get("PublishIn.ClientError", 0)
    async with other.connected() as standing:
        with pytest.raises((aiomqtt.MqttError, ValueError)):
            async with device.connected() as client:
                sending = asyncio.create_task(
                    _raw_publish(client, topic.format(name=name), payload, qos)
                )
                await anext(client.messages)
        await sending
        await standing.publish(f"{name}/still", b"here", qos=1)
    assert things.counts()["PublishIn.ClientError"] == before + 1


async def _raw_publish(client, topic, payload, qos):
    # paho would refuse some of these itself.
    paho = client._client
    paho._send_publish(7, topic.encode(), payload, qos=qos)


async def test_bytes_that_are_no_mqtt_end_their_connection_alone(things, name):
    device = await things.device(name)
    frames = [
        b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\x7f", b"\x30\x03\x00\x01a",
        CONNECT[:2] + b"\x00\x04MQTX" + CONNECT[8:], CONNECT.replace(b"\x04\x02", b"\x03\x02", 1),
        CONNECT[:9] + b"\x03" + CONNECT[10:],
    ]  # fmt: skip
    async with device.connected() as standing:
        for frame in frames:
            reader, writer = await device.raw()
            writer.write(frame)
            assert await asyncio.wait_for(reader.read(), 20) in {b"", b"\x20\x02\x00\x02"}
            writer.close()
        await standing.publish(f"{name}/x", b"still here", qos=1)


async def test_a_client_may_come_in_pieces_and_pings_are_answered(things):
    device = await things.device("d")
    reader, writer = await device.raw()
    for byte in CONNECT + b"\xc0\x00":
        writer.write(bytes([byte]))
        await writer.drain()
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    assert await reader.readexactly(2) == b"\xd0\x00"
    writer.write(b"\xe0\x00")
    assert await reader.read() == b""


async def test_a_client_that_is_silent_beyond_its_keep_alive_is_dropped(things, name, monkeypatch):
    monkeypatch.setattr("localcloud.iot.connection.KEEP_ALIVE_S", (0.2, 1200))
    device = await things.device("d2")
    reader, writer = await device.raw()
    writer.write(CONNECT.replace(b"\x00\x3c", b"\x00\x01").replace(b"\x00\x01d", b"\x00\x02d2")
                 .replace(b"\x10\x0d", b"\x10\x0e"))  # fmt: skip
    assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
    assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_tls_1_1_and_clients_without_a_certificate_are_refused(things, name):
    device = await things.device(name)
    bare = ssl.create_default_context(cadata=things.ca_pem)
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        reader, writer = await asyncio.open_connection(device.host, device.port, ssl=bare)
        writer.write(CONNECT)
        assert await reader.readexactly(4)
    old = ssl.create_default_context(cadata=things.ca_pem)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(device.host, device.port, ssl=old)


# What policies allow


async def test_a_policy_with_thing_variables_lets_a_device_be_itself_alone(
    things, name, eventually
):
    thing = "${iot:Connection.Thing.ThingName}"
    own = [
        allow("Connect", f"client/{thing}"),
        allow("Publish", f"topic/{name}/{thing}/readings"),
        allow("Subscribe", f"topicfilter/{name}/{thing}/commands"),
        allow("Receive", f"topic/{name}/{thing}/commands"),
    ]
    device = await things.device(f"{name}-d", own)
    other = await things.device(f"{name}-e", ALL)
    async with device.connected() as client, other.connected() as boss:
        await client.publish(f"{name}/{name}-d/readings", b"mine", qos=1)
        assert list(await client.subscribe(f"{name}/#", qos=1)) == [0x80]
        assert list(await client.subscribe(f"{name}/{name}-d/commands", qos=1)) == [1]
        await boss.publish(f"{name}/{name}-d/commands", b"go", qos=1)
        assert (await anext(client.messages)).payload == b"go"
        with pytest.raises(aiomqtt.MqttError):
            await asyncio.gather(
                _raw_publish(client, f"{name}/{name}-e/readings", b"not mine", 1),
                anext(client.messages),
            )
        await boss.publish(f"{name}/x", b"nobody else is touched", qos=1)
    with pytest.raises(MqttConnectError):
        async with device.connected(identifier=f"{name}-e"):
            pass


async def test_a_certificate_without_a_thing_has_no_thing_variables(things, name):
    own = [allow("Connect", "client/${iot:Connection.Thing.ThingName}")]
    device = await things.device(name, own, thing=False)
    before = things.counts().get("Connect.AuthError", 0)
    with pytest.raises(MqttConnectError):
        async with device.connected():
            pass
    assert things.counts()["Connect.AuthError"] == before + 1


async def test_policies_of_a_thing_group_and_its_parents_count(things, cloud, name):
    device = await things.device(name, [allow("Connect", "client/*")])
    iot = await cloud.client("iot")
    await iot.create_thing_group(thingGroupName=f"{name}-top")
    group = await iot.create_thing_group(thingGroupName=name, parentGroupName=f"{name}-top")
    assert group["thingGroupName"] == name
    await iot.add_thing_to_thing_group(thingGroupName=name, thingName=name)
    top = await iot.describe_thing_group(thingGroupName=f"{name}-top")
    await things.policy(f"{name}-top", [allow("Publish", "topic/allowed")])
    await iot.attach_policy(policyName=f"{name}-top", target=top["thingGroupArn"])
    async with device.connected() as client:
        await client.publish("allowed", b"", qos=1)


async def test_a_policy_that_changes_counts_at_once(things, cloud, name):
    device = await things.device(name)
    iot = await cloud.client("iot")
    async with device.connected() as client:
        await client.publish(f"{name}/x", b"", qos=1)
        policy = (await iot.list_attached_policies(target=device.arn))["policies"][0]["policyName"]
        await iot.detach_policy(policyName=policy, target=device.arn)
        with pytest.raises(aiomqtt.MqttError):
            await asyncio.gather(_raw_publish(client, f"{name}/x", b"", 1), anext(client.messages))


async def test_a_will_or_a_retained_message_needs_its_own_leave(things, name):
    own = [allow("Connect", "client/*"), allow("Publish", f"topic/{name}/x")]
    device = await things.device(name, own)
    with pytest.raises(MqttConnectError):
        async with device.connected(will=aiomqtt.Will(f"{name}/will", b"")):
            pass
    async with device.connected() as client:
        await client.publish(f"{name}/x", b"", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            client._client.publish(f"{name}/x", b"", 1, retain=True)
            await anext(client.messages)
