"""What the alarms did: their messages on SNS, through the probe queue, into the run's events."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fleetcast.verify.verdict import AlarmOutcome
from simulator.events import EventLog, read_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from simulator.scenario import AlarmExpectation, RunInfo, Scenario
    from stack.outputs import StackOutputs

BATCH = 10


@dataclass(frozen=True, slots=True)
class Transition:
    """An alarm went into a state. Epoch milliseconds."""

    t_ms: int
    alarm: str
    state: str


class Alarms(Protocol):
    """What tells what alarms did.

    Attributes:
        since_ms: What was before is left out, epoch milliseconds.
    """

    transitions: list[Transition]
    since_ms: int

    async def poll(self) -> None:
        """Takes what is new."""


class AlarmReader:
    """The alarms' messages since a run's start; may be asked again as more arrives.

    Messages from before the run are taken from the queue and left out: nothing waits for them.

    Args:
        client: An `sqs` client.
        outputs: The stack, with its probe queue and its alarms' names.
        run: Which run.
        run_dir: Its folder.
        wait_s: How long a receive waits for a first message, whole seconds.

    Attributes:
        since_ms: Messages from before it are left out, epoch milliseconds: the run's start, or
            earlier where the stream's clock says so.
    """

    def __init__(
        self, client: Any, outputs: StackOutputs, run: RunInfo, run_dir: Path, *, wait_s: int
    ) -> None:
        self._client = client
        self._queue_url = outputs.probe_queue_url
        self._shorts = {name: short for short, name in outputs.alarms.items()}
        self.since_ms = run.start_ms
        self._log = EventLog(run_dir)
        self._wait_s = wait_s
        known = _known(run_dir)
        self._seen = set(known)
        self.transitions = list(known.values())

    async def poll(self) -> None:
        """Takes what is in the queue now."""
        while self._queue_url:
            answer = await self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=self._wait_s,
            )
            messages = answer.get("Messages", ())
            if not messages:
                break
            for message in messages:
                self._take(message["Body"])
            await self._client.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
                    for i, message in enumerate(messages)
                ],
            )
        self.transitions.sort(key=lambda transition: transition.t_ms)

    def _take(self, body: str) -> None:
        try:
            envelope = json.loads(body)
            told = json.loads(envelope["Message"])
            short = self._shorts.get(told["AlarmName"])
            state = str(told["NewStateValue"])
            t_ms = round(dt.datetime.fromisoformat(told["StateChangeTime"]).timestamp() * 1000)
            message_id = str(envelope["MessageId"])
        except (ValueError, KeyError, TypeError):
            return  # not an alarm's message: AWS sends a test message when a topic is subscribed
        if short is None or t_ms < self.since_ms or message_id in self._seen:
            return
        self._seen.add(message_id)
        self._log.add("alarm", t_ms=t_ms, alarm=short, state=state, message_id=message_id)
        self.transitions.append(Transition(t_ms, short, state))


class AlarmHistory:
    """What CloudWatch remembers of alarms since a run's start: for pipelines without a probe queue.

    It shows that an alarm changed its state, and not that anybody was told.

    Args:
        client: A `cloudwatch` client.
        names: Short name to the alarm's name.
        run: Which run.
        run_dir: Its folder.
    """

    def __init__(self, client: Any, names: Mapping[str, str], run: RunInfo, run_dir: Path) -> None:
        self._client = client
        self._names = names
        self.since_ms = run.start_ms
        self._log = EventLog(run_dir)
        known = _known(run_dir)
        self._seen = set(known)
        self.transitions = list(known.values())

    async def poll(self) -> None:
        """Takes what happened until now."""
        for short, name in self._names.items():
            pages = self._client.get_paginator("describe_alarm_history").paginate(
                AlarmName=name,
                AlarmTypes=["MetricAlarm", "CompositeAlarm"],
                HistoryItemType="StateUpdate",
                StartDate=dt.datetime.fromtimestamp(self.since_ms / 1000, dt.UTC),
            )
            async for page in pages:
                for item in page["AlarmHistoryItems"]:
                    self._take(short, item)
        self.transitions.sort(key=lambda transition: transition.t_ms)

    def _take(self, short: str, item: dict[str, Any]) -> None:
        state = str(json.loads(item["HistoryData"])["newState"]["stateValue"])
        t_ms = round(item["Timestamp"].timestamp() * 1000)
        known = f"{short} {t_ms} {state}"
        if known not in self._seen:
            self._seen.add(known)
            self._log.add("alarm", t_ms=t_ms, alarm=short, state=state, message_id=known)
            self.transitions.append(Transition(t_ms, short, state))


def _known(run_dir: Path) -> dict[str, Transition]:
    """What was taken before, by the message that told it."""
    return {
        event["message_id"]: Transition(event["t_ms"], event["alarm"], event["state"])
        for event in read_events(run_dir)
        if event.get("event") == "alarm"
    }


def window_s(expectation: AlarmExpectation, scenario: Scenario) -> tuple[float, float]:
    """(start, end) of the faults that name an alarm, seconds into the run; else of the run."""
    faults = [
        fault
        for fault in (*scenario.faults, *scenario.target_faults)
        if (
            fault.name == expectation.fault
            if expectation.fault
            else fault.alarm == expectation.name
        )
    ]
    end_s = scenario.profile.duration_s
    if not faults:
        return 0.0, end_s
    return (
        min(fault.start for fault in faults),
        min(end_s, max(fault.end_s for fault in faults)),
    )


def outcomes(
    scenario: Scenario, run: RunInfo, transitions: Sequence[Transition]
) -> list[AlarmOutcome]:
    """What each expected alarm did, and the others that fired."""
    judged = [
        _outcome(expectation, scenario, run, transitions) for expectation in scenario.expect.alarms
    ]
    expected = {outcome.name for outcome in judged}
    end_s = scenario.profile.duration_s
    others = sorted({t.alarm for t in transitions if t.state == "ALARM"} - expected)
    for name in others:
        fired_s, recovered_s = _times(name, 0.0, run, transitions)
        judged.append(
            AlarmOutcome(
                name,
                expected=False,
                fired_after_s=fired_s,
                recovered_after_s=_less(recovered_s, end_s),
                ok=True,
            )
        )
    return judged


def still_due_ms(scenario: Scenario, run: RunInfo, transitions: Sequence[Transition]) -> int:
    """Until when an expected alarm may still do what is asked of it, epoch ms; 0 if nothing is."""
    due_s = 0.0
    for expectation in scenario.expect.alarms:
        start_s, end_s = window_s(expectation, scenario)
        fired_s, recovered_s = _times(expectation.name, start_s, run, transitions)
        if fired_s is None:
            due_s = max(due_s, start_s + expectation.fires_within)
        elif recovered_s is None and expectation.recovers_within is not None:
            due_s = max(due_s, end_s + expectation.recovers_within)
    return run.start_ms + round(due_s * 1000) if due_s else 0


def _outcome(
    expectation: AlarmExpectation,
    scenario: Scenario,
    run: RunInfo,
    transitions: Sequence[Transition],
) -> AlarmOutcome:
    start_s, end_s = window_s(expectation, scenario)
    fired_s, recovered_s = _times(expectation.name, start_s, run, transitions)
    fired_after, recovered_after = _less(fired_s, start_s), _less(recovered_s, end_s)
    ok = fired_after is not None and fired_after <= expectation.fires_within
    if ok and expectation.recovers_within is not None:
        ok = recovered_after is not None and recovered_after <= expectation.recovers_within
    return AlarmOutcome(
        expectation.name,
        expected=True,
        fired_after_s=fired_after,
        recovered_after_s=recovered_after,
        ok=ok,
    )


def _times(
    alarm: str, from_s: float, run: RunInfo, transitions: Sequence[Transition]
) -> tuple[float | None, float | None]:
    """When an alarm first fired after a time, and then was OK again, seconds into the run."""
    fired_s: float | None = None
    for transition in transitions:
        at_s = (transition.t_ms - run.start_ms) / 1000
        if transition.alarm != alarm or at_s < from_s:
            continue
        if fired_s is None and transition.state == "ALARM":
            fired_s = at_s
        elif fired_s is not None and transition.state == "OK":
            return fired_s, at_s
    return fired_s, None


def _less(value: float | None, zero: float) -> float | None:
    return None if value is None else round(value - zero, 3)
