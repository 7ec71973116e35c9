"""To AWS IoT Core as devices do it: MQTT over TLS with a certificate each, QoS 1.

A reading is `acked` when IoT Core acknowledged it. Whether the topic rule then put it into the stream
is for the verdict to find out, and for the rule's error action and alarm to tell.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

import aiomqtt
import numpy as np

from fleetcast.errors import TargetError, UsageError
from simulator.faults.sending import ReconnectStorm
from simulator.identities import gateway_name
from simulator.transports import Traffic
from simulator.transports.mqttbroker import authority, endpoint, tls_with
from simulator.transports.mqttlink import WINDOW, Link, Shared
from simulator.transports.mqttreading import Reading, together
from stack.names import Names

if TYPE_CHECKING:
    import ssl

    from fleetcast.target import Target
    from simulator.batch import Batch
    from simulator.fleet import Fleet
    from simulator.identities import Identities
    from simulator.transports import Done

ATTEMPTS = 12
# Connections begun a second; IoT Core takes 500 of an account unless it is asked for more.
RAMP_PER_S = 100.0
# How long the whole ramp may take beyond its own length.
OPENING_S = 20.0
# What was decided within this time goes to the ledger together.
TELL_S = 0.02


class MqttTransport:
    """Sends to IoT Core's message broker.

    Args:
        target: Where the broker is.
        identities: Keys and certificates of the devices.
        done: Is told every reading when its outcome is decided.
        per_connection: Devices that a gateway carries on one connection; 1 is none.
        ramp_per_s: Connections that are begun a second.
        attempts: Most times that a reading is published.
    """

    def __init__(
        self,
        target: Target,
        identities: Identities,
        done: Done,
        *,
        per_connection: int = 1,
        ramp_per_s: float = RAMP_PER_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        self._target = target
        self._identities = identities
        self._done = done
        self._per_connection = per_connection
        self._every_s = 1 / ramp_per_s
        self._next_s = 0.0
        self._fleet: Fleet | None = None
        self._links: dict[int, Link] = {}
        self._topics: dict[int, str] = {}
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._decided: list[Reading] = []
        self._telling: asyncio.TimerHandle | None = None
        self._cutting: list[asyncio.TimerHandle] = []
        self.traffic = Traffic()
        self._shared = Shared(self.traffic, self._decide, self._turn, attempts)

    def prepare(self, fleet: Fleet) -> None:
        """See `KnowsFleet`."""
        self._fleet = fleet

    async def __aenter__(self) -> Self:
        if self._fleet is None:
            raise ValueError("an MQTT transport is told its fleet first")
        first, last = self._fleet.run.devices_slice
        numbers = sorted({device // self._per_connection for device in range(first, last)})
        self._check(numbers)
        host, port = await endpoint(self._target)
        trusted = await authority(self._target)
        for number in numbers:
            self._links[number] = self._link(number, host, port, trusted)
        self.traffic.window = len(self._links) * WINDOW
        for link in self._links.values():
            link.start()
        try:
            await self._opened()
        except BaseException:
            await self.__aexit__()
            raise
        self._plan_cuts()
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._cutting:
            timer.cancel()
        await asyncio.gather(*(link.close() for link in self._links.values()))
        self._tell()

    @property
    def in_flight(self) -> int:
        """See `Transport`."""
        return self._shared.in_flight

    @property
    def backlog(self) -> int:
        """See `Transport`."""
        return self._open - self.in_flight - len(self._decided)

    def send(self, batch: Batch) -> None:
        """See `Transport`."""
        if not len(batch):
            return
        self._open += len(batch)
        self._idle.clear()
        for place, device in enumerate(batch.rows["device"].tolist()):
            reading = Reading(batch, place, self._topic(device))
            self._links[device // self._per_connection].send(reading)

    async def drain(self) -> None:
        """See `Transport`."""
        await self._idle.wait()

    async def abandon(self, grace_s: float) -> None:
        """See `Transport`."""
        await asyncio.gather(*(link.abandon(grace_s) for link in self._links.values()))
        self._tell()

    # Connections

    def _name(self, number: int) -> str:
        """Who holds a connection."""
        if self._per_connection > 1:
            return gateway_name(number)
        return self._fleet.device_ids[number] if self._fleet is not None else ""

    def _topic(self, device: int) -> str:
        known = self._topics.get(device)
        if known is None and self._fleet is not None:
            # A gateway publishes on the topics of its devices.
            thing = self._identities.thing(self._fleet.device_ids[device])
            root = Names(self._identities.environment).topic_root
            self._topics[device] = known = f"{root}/{thing}/readings"
        return known or ""

    def _check(self, numbers: list[int]) -> None:
        missing = [n for n in numbers if not self._identities.path(self._name(n)).exists()]
        if not missing:
            return
        kind = "gateways" if self._per_connection > 1 else "devices"
        option = " --gateways" if self._per_connection > 1 else ""
        raise UsageError(
            f"{len(missing):,} {kind} of the run have no certificate, {self._name(missing[0])} the "
            f"first: run fleetcast devices enrol{option} --target {self._target.name} "
            f"--env {self._identities.environment} --count {max(numbers) + 1}"
        )

    def _link(self, number: int, host: str, port: int, trusted: str | None) -> Link:
        name = self._name(number)
        path = self._identities.path(name)

        def tls() -> ssl.SSLContext:
            return tls_with(path, trusted)

        return Link(host, port, self._identities.thing(name), tls, self._shared)

    async def _turn(self) -> None:
        """Waits for a place in the ramp; connections that come back take theirs, too."""
        now_s = time.monotonic()
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + self._every_s
        await asyncio.sleep(at_s - now_s)

    async def _opened(self) -> None:
        """Waits until all connections stand.

        Raises:
            TargetError: one was refused, or they take too long.
        """
        waits = [link.opened for link in self._links.values()]
        limit_s = len(waits) * self._every_s * 2 + OPENING_S
        done, left = await asyncio.wait(
            waits, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION
        )  # fmt: skip
        for one in done:
            try:
                one.result()
            except aiomqtt.MqttError as error:
                raise TargetError(
                    f"IoT Core refused a connection ({error}): see whether its certificate is active "
                    "and its policy attached, with fleetcast devices list"
                ) from error
        if left:
            raise TargetError(
                f"{len(left):,} of {len(waits):,} connections did not stand after {limit_s:.0f} s "
                f"({self.traffic.last_error or 'no error'}): see whether their certificates are "
                "active, with fleetcast devices list"
            )

    def _plan_cuts(self) -> None:
        """Connections that reconnect storms drop, and when they come back."""
        fleet = self._fleet
        if fleet is None:
            return
        loop, start_s = asyncio.get_running_loop(), fleet.run.start_ms / 1000
        end_s = fleet.profile.duration_s
        for index, fault in enumerate(fleet.scenario.faults):
            if not isinstance(fault, ReconnectStorm):
                continue
            devices = np.flatnonzero(fleet.picked(index))
            begun_s = fault.start
            while begun_s < end_s:
                backs = fault.back_s(fleet.scenario.seed, devices, begun_s)
                for device, back_s in zip(devices.tolist(), backs.tolist(), strict=True):
                    link = self._links.get(device // self._per_connection)
                    if link is None:
                        continue
                    for at_s, do in ((begun_s, link.cut), (back_s, link.restore)):
                        wait_s = max(0.0, start_s + at_s - time.time())
                        self._cutting.append(loop.call_later(wait_s, do))
                begun_s = end_s if fault.every is None else begun_s + fault.every

    # Outcomes

    def _decide(self, reading: Reading) -> None:
        self._decided.append(reading)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        decided, self._decided = self._decided, []
        if not decided:
            return
        self._open -= len(decided)
        self._done(together(decided))
        if not self._open:
            self._idle.set()
