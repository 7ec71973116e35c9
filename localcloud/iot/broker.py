"""The message broker: who is connected, who subscribes to what, what is retained, who may do it.

Follows "MQTT" and "Device connectivity" of the AWS IoT Core developer guide: QoS 0 and 1, and a
client that does what its policies do not allow is disconnected.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from localcloud.iot import packets
from localcloud.iot.connection import (
    MALFORMED,
    NO_QOS2,
    NOT_AUTHORIZED,
    SHUTTING_DOWN,
    TAKEN_OVER,
)  # fmt: skip
from localcloud.iot.sessions import EXPIRY_S, MAX_IN_FLIGHT, Session
from localcloud.iot.topics import (
    BASIC_INGEST,
    PROVISIONING,
    filter_fault,
    matches,
    topic_fault,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.iot.connection import Connection
    from localcloud.iot.devices import Registry
    from localcloud.iot.meter import Meter
    from localcloud.iot.packets import Connect, Message, Publish, Subscribe

MAX_CLIENT_ID_BYTES = 128
MAX_SUBSCRIPTIONS, MAX_PER_REQUEST = 50, 8
_GOOD, _REFUSED = 0, 0x80
_REFUSED_V3 = {NOT_AUTHORIZED: 5, 0x85: 2}


class Rules(Protocol):
    """Takes what is published."""

    def take(self, message: Message, client_id: str, principal: str, rule: str | None) -> None:
        """Runs the rules on a message, or the one that basic ingest names."""

    @property
    def behind(self) -> bool:
        """Whether too much waits for their actions."""


class Broker:
    """The broker of one account and region.

    Args:
        registry: Who may do what.
        rules: Take what is published.
        meter: Counts, and writes lines.
    """

    def __init__(self, registry: Registry, rules: Rules, meter: Meter) -> None:
        self._registry = registry
        # Set by the service: who answers on the topics of provisioning.
        self.provision: Callable[[Message, Callable[[Message], None]], None] = lambda *_: None
        self._rules = rules
        self._meter = meter
        self._connections: dict[str, Connection] = {}
        self._sessions: dict[str, Session] = {}
        self._retained: dict[str, Message] = {}
        # Filter to sessions; those with wildcards apart.
        self._exact: dict[str, set[str]] = {}
        self._wild: dict[str, set[str]] = {}
        self._waiting: set[Connection] = set()

    # Of a connection

    def connect(self, connection: Connection, asked: Connect) -> None:
        """CONNECT."""
        problem = self._refusal(connection, asked)
        if problem is not None:
            code, why = problem
            auth = code == NOT_AUTHORIZED
            self._meter.broker("Connect.AuthError" if auth else "Connect.ClientError")
            self._log(connection, "Connect", why, asked.client_id)
            v3 = asked.version == packets.V311
            reason = _REFUSED_V3[code] if v3 else code
            answer = packets.connack(asked.version, present=False, reason=reason, properties={})
            connection.close("AUTH_ERROR" if auth else "CLIENT_ERROR", last=answer)
            return
        name = asked.client_id
        before = self._connections.get(name)
        if before is not None:
            before.close("DUPLICATE_CLIENTID", TAKEN_OVER)
            self.ended(before)
        session, present = self._session(asked)
        keep_alive_s = connection.keep_alive(asked.keep_alive_s)
        connection.session, connection.will = session, asked.will
        self._connections[name] = connection
        session.receive_maximum = asked.properties.get(packets.RECEIVE_MAXIMUM, MAX_IN_FLIGHT)
        session.attach(asked.version, connection.write)
        told = {
            packets.RECEIVE_MAXIMUM: MAX_IN_FLIGHT,
            0x24: 1,  # maximum QoS
            0x13: keep_alive_s,
            0x2A: 0,  # no shared subscriptions
            0x29: 0,  # no subscription identifiers
        }
        connection.write(
            packets.connack(asked.version, present=present, reason=_GOOD, properties=told)
        )
        self._meter.broker("Connect.Success")
        self._meter.line("INFO", "Connect", "Success", clientId=name,
                         principalId=connection.device.certificate_id)  # fmt: skip
        session.resume()
        self._event("connected", connection, {})

    def _refusal(self, connection: Connection, asked: Connect) -> tuple[int, str] | None:
        """(code of MQTT 5, why) a client may not connect; None where it may."""
        name = asked.client_id
        if not name or len(name.encode()) > MAX_CLIENT_ID_BYTES:
            return 0x85, f"a client id has 1 to {MAX_CLIENT_ID_BYTES} bytes"
        device = connection.device
        self._registry.identify(device, name)
        if not self._registry.allows(device, "Connect", f"client/{name}"):
            return NOT_AUTHORIZED, f"its policies do not allow iot:Connect as {name}"
        will = asked.will
        if will is None:
            return None
        fault = topic_fault(will.topic)
        if fault is not None:
            return 0x85, f"its last will: {fault}"
        if not self._registry.allows(device, "Publish", f"topic/{will.topic}"):
            return NOT_AUTHORIZED, f"its policies do not allow its last will on {will.topic}"
        return None

    def _session(self, asked: Connect) -> tuple[Session, bool]:
        """The session of a client, and whether it was there."""
        name = asked.client_id
        if asked.version == packets.V5:
            expiry_s = asked.properties.get(packets.SESSION_EXPIRY, 0)
        else:
            expiry_s = 0 if asked.clean else EXPIRY_S
        found = self._sessions.get(name)
        if found is not None and (asked.clean or found.expired(time.monotonic())):
            self._forget(found)
            found = None
        present = found is not None
        session = found or Session(name, expiry_s)
        session.expiry_s = expiry_s
        self._sessions[name] = session
        return session, present

    def ended(self, connection: Connection) -> None:
        """A connection is over, or taken over."""
        self._waiting.discard(connection)
        session, connection.session = connection.session, None
        if session is None:
            return
        name = session.client_id
        if self._connections.get(name) is connection:
            del self._connections[name]
        session.detach()
        if session.expiry_s <= 0:
            self._forget(session)
        will, connection.will = connection.will, None
        self._meter.line("INFO", "Disconnect", "Success", clientId=name,
                         disconnectReason=connection.reason)  # fmt: skip
        if will is not None:
            self._publish(connection, will)
        self._event("disconnected", connection, {
            "clientInitiatedDisconnect": connection.reason == "CLIENT_INITIATED_DISCONNECT",
            "disconnectReason": connection.reason,
        })  # fmt: skip

    def refused(self, connection: Connection, status: str, why: str) -> None:
        """A client sent what cannot be taken."""
        before = connection.session is None
        self._meter.broker("Connect.ClientError" if before else "PublishIn.ClientError")
        self._log(connection, "Connect" if before else "Publish-In", why, "", status)

    def ping(self, connection: Connection) -> None:
        """PINGREQ."""
        connection.write(packets.PONG)
        self._meter.broker("Ping.Success")

    # Messages

    def publish(self, connection: Connection, told: Publish) -> None:
        """PUBLISH from a client."""
        message = told.message
        if packets.TOPIC_ALIAS in message.properties:
            self._end(connection, "topic aliases are not served", MALFORMED)
            return
        provisions = PROVISIONING.match(message.topic) is not None
        fault = None if provisions else topic_fault(message.topic)
        if message.qos > 1:
            self._end(connection, "QoS 2 is not served", NO_QOS2)
        elif fault is not None:
            self._end(connection, fault, MALFORMED)
        elif not self._may_publish(connection, message):
            self._meter.broker("PublishIn.AuthError")
            why = f"its policies do not allow iot:Publish on {message.topic}"
            self._log(connection, "Publish-In", why, topicName=message.topic)
            connection.close("AUTH_ERROR", NOT_AUTHORIZED)
        else:
            self._meter.broker("PublishIn.Success")
            if provisions:
                name = connection.device.client_id
                self.provision(message, lambda told: self.answer(name, told))
            else:
                self._publish(connection, message)
            if message.qos:
                connection.write(packets.puback(connection.version, told.packet_id))
            if self._rules.behind:
                self._waiting.add(connection)
                connection.wait()

    def answer(self, client_id: str, message: Message) -> None:
        """A message for one client alone, where it subscribes to the topic."""
        session = self._sessions.get(client_id)
        if session is None or not self._may_receive(client_id, message.topic):
            return
        wanted = [qos for one, qos in session.subscriptions.items() if matches(one, message.topic)]
        if wanted and session.deliver(message, max(wanted)):
            self._meter.broker("PublishOut.Success")

    def _may_publish(self, connection: Connection, message: Message) -> bool:
        resource = f"topic/{message.topic}"
        allows = self._registry.allows
        return allows(connection.device, "Publish", resource) and (
            not message.retain or allows(connection.device, "RetainPublish", resource)
        )

    def _publish(self, connection: Connection, message: Message) -> None:
        device = connection.device
        self.deliver(message, device.client_id, device.certificate_id)

    def deliver(self, message: Message, client_id: str, principal: str) -> None:
        """A message for subscribers, to be retained, and for the rules."""
        ingest = BASIC_INGEST.match(message.topic)
        if ingest is not None:
            # Basic ingest goes by the broker.
            plain = replace(message, topic=ingest.group(2), retain=False)
            self._rules.take(plain, client_id, principal, ingest.group(1))
            return
        if message.retain:
            if message.payload:
                self._retained[message.topic] = message
            else:
                self._retained.pop(message.topic, None)
        self._route(message)
        self._rules.take(message, client_id, principal, None)

    def _route(self, message: Message) -> None:
        qos_of: dict[str, int] = {}
        filters = [message.topic] if message.topic in self._exact else []
        filters += [one for one in self._wild if matches(one, message.topic)]
        for one in filters:
            for name in self._exact.get(one) or self._wild.get(one) or ():
                if not self._may_receive(name, message.topic):
                    continue
                qos = self._sessions[name].subscriptions[one]
                qos_of[name] = max(qos, qos_of.get(name, 0))
        if not qos_of:
            return
        live = replace(message, retain=False)
        for name, qos in qos_of.items():
            if self._sessions[name].deliver(live, qos):
                self._meter.broker("PublishOut.Success")
            elif name in self._connections:
                self._meter.broker("PublishOut.Throttle")

    def _may_receive(self, client_id: str, topic: str) -> bool:
        """What waits for a client that is away is not asked about."""
        connection = self._connections.get(client_id)
        return connection is None or self._registry.allows(
            connection.device, "Receive", f"topic/{topic}"
        )

    def go_on(self) -> None:
        """The rules have caught up: connections that wait are read again."""
        while self._waiting and not self._rules.behind:
            self._waiting.pop().go_on()

    def _event(self, kind: str, connection: Connection, more: dict[str, Any]) -> None:
        """IoT Core's lifecycle events."""
        device = connection.device
        told = {
            "clientId": device.client_id,
            "timestamp": int(time.time() * 1000),
            "eventType": kind,
            "principalIdentifier": device.certificate_id,
            **more,
        }
        topic = f"$aws/events/presence/{kind}/{device.client_id}"
        message = packets.Message(topic, orjson.dumps(told), 1)
        self._route(message)
        self._rules.take(message, device.client_id, device.certificate_id, None)

    # Subscriptions

    def subscribe(self, connection: Connection, asked: Subscribe) -> None:
        """SUBSCRIBE."""
        session = connection.session
        if session is None:
            return
        if len(asked.topics) > MAX_PER_REQUEST:
            self._end(connection, f"more than {MAX_PER_REQUEST} filters in a SUBSCRIBE", MALFORMED)
            return
        reasons, granted = [], []
        for topic, qos in asked.topics:
            reason = self._subscribe(connection, session, topic, qos)
            reasons.append(reason)
            if reason < _REFUSED:
                granted.append((topic, reason))
        connection.write(packets.suback(connection.version, asked.packet_id, reasons))
        for topic, qos in granted:
            self._meter.broker("Subscribe.Success")
            for message in [m for t, m in self._retained.items() if matches(topic, t)]:
                device = connection.device
                if self._registry.allows(device, "Receive", f"topic/{message.topic}"):
                    session.deliver(message, qos, retain=True)

    def _subscribe(self, connection: Connection, session: Session, topic: str, qos: int) -> int:
        v5 = connection.version == packets.V5
        fault = filter_fault(topic)
        if fault is None and topic not in session.subscriptions:
            over = len(session.subscriptions) >= MAX_SUBSCRIPTIONS
            fault = f"more than {MAX_SUBSCRIPTIONS} subscriptions" if over else None
        if fault is not None or qos > 1:
            self._meter.broker("Subscribe.ClientError")
            self._log(connection, "Subscribe", fault or "QoS 2 is not served", topicName=topic)
            return 0x8F if v5 and fault is not None else _REFUSED
        if not self._registry.allows(connection.device, "Subscribe", f"topicfilter/{topic}"):
            self._meter.broker("Subscribe.AuthError")
            why = f"its policies do not allow iot:Subscribe on {topic}"
            self._log(connection, "Subscribe", why, topicName=topic)
            return NOT_AUTHORIZED if v5 else _REFUSED
        session.subscriptions[topic] = qos
        wild = "+" in topic or "#" in topic
        (self._wild if wild else self._exact).setdefault(topic, set()).add(session.client_id)
        return qos

    def unsubscribe(self, connection: Connection, asked: Subscribe) -> None:
        """UNSUBSCRIBE."""
        session = connection.session
        if session is None:
            return
        reasons = []
        for topic, _ in asked.topics:
            there = session.subscriptions.pop(topic, None) is not None
            reasons.append(_GOOD if there else 0x11)
            self._unlist(topic, session.client_id)
            self._meter.broker("Unsubscribe.Success")
        connection.write(packets.unsuback(connection.version, asked.packet_id, reasons))

    def _unlist(self, topic: str, client_id: str) -> None:
        for listed in (self._exact, self._wild):
            names = listed.get(topic)
            if names is not None:
                names.discard(client_id)
                if not names:
                    del listed[topic]

    def _forget(self, session: Session) -> None:
        for topic in session.subscriptions:
            self._unlist(topic, session.client_id)
        if self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]

    # The whole

    def tend(self) -> None:
        """Forgets sessions that are over, and ends connections whose certificates were taken back."""
        now_s = time.monotonic()
        for session in [s for s in self._sessions.values() if s.expired(now_s)]:
            self._forget(session)

    def check_certificates(self) -> None:
        """Ends connections whose certificate is active no more."""
        statuses = self._registry.certificate_status
        for connection in list(self._connections.values()):
            if statuses(connection.device.certificate_id) != "ACTIVE":
                self._log(connection, "Disconnect", "its certificate is not active any more")
                connection.close("FORBIDDEN_ACCESS", NOT_AUTHORIZED)

    async def close(self) -> None:
        """Ends all connections."""
        for connection in list(self._connections.values()):
            connection.will = None
            connection.close("SERVER_INITIATED_DISCONNECT", SHUTTING_DOWN)
        await asyncio.sleep(0)

    def status(self) -> dict[str, Any]:
        """Counts."""
        return {
            "connections": len(self._connections),
            "sessions": len(self._sessions),
            "subscriptions": sum(len(s.subscriptions) for s in self._sessions.values()),
            "retained": len(self._retained),
            "waiting_for_rules": len(self._waiting),
        }

    def _end(self, connection: Connection, why: str, code: int) -> None:
        self.refused(connection, "CLIENT_ERROR", why)
        connection.close("CLIENT_ERROR", code)

    def _log(
        self, connection: Connection, event: str, why: str, client_id: str = "",
        status: str = "Failure", **more: Any,
    ) -> None:  # fmt: skip
        self._meter.line(
            "ERROR", event, "Failure", reason=status, details=why,
            clientId=client_id or connection.device.client_id,
            principalId=connection.device.certificate_id, **more,
        )  # fmt: skip
