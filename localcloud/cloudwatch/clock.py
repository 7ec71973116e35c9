"""The schedule of alarms: when they are evaluated, how they change, and what that brings about."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from localcloud.cloudwatch.alarms import Alarm, CompositeAlarm, MetricAlarm, alarm_name
from localcloud.cloudwatch.evaluation import next_state, reason
from localcloud.cloudwatch.messages import (
    action_history,
    composite_reason_data,
    iso,
    long_time,
    notification,
    short_time,
    state_history,
    subject,
)
from localcloud.http import AwsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.cloudwatch.evaluation import State
    from localcloud.cloudwatch.metrics import MetricStore
    from localcloud.seams import CloudContext

log = logging.getLogger(__name__)

# Periods end at multiples of ten seconds; a period is evaluated this long after its end, when what
# belongs to it has arrived.
TICK_S = 10
SETTLE_S = 2
HISTORY_LENGTH = 5000


class AlarmClock:
    """Evaluates alarms on schedule, keeps their history, and carries out their actions."""

    def __init__(self, context: CloudContext, store: MetricStore) -> None:
        self._context = context
        self._store = store
        self.alarms: dict[str, Alarm] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        self._task: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Starts the schedule."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops it."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for task in list(self._working):
            task.cancel()

    async def _run(self) -> None:
        last_s = int(time.time())
        while True:
            await asyncio.sleep(TICK_S - (time.time() - SETTLE_S) % TICK_S)
            now_s = int(time.time())
            for second in range(last_s + 1, now_s + 1):
                if (second - SETTLE_S) % TICK_S == 0:
                    self.evaluate_due(second)
            last_s = now_s

    def evaluate_due(self, now_s: int) -> None:
        """Evaluates every metric alarm whose turn comes at the whole second `now_s`."""
        for alarm in list(self.alarms.values()):
            if isinstance(alarm, MetricAlarm) and (now_s - SETTLE_S) % alarm.interval_s == 0:
                try:
                    self.evaluate(alarm, now_s - SETTLE_S)
                except AwsError as error:
                    log.warning("alarm %s cannot be evaluated: %s", alarm.name, error)

    def evaluate(self, alarm: MetricAlarm, now_s: float) -> None:
        """Evaluates one alarm on the periods that ended by `now_s`."""
        rule = alarm.rule
        points = alarm.points(self._store, now_s)
        state = next_state(rule, [value for _, value in points], alarm.state)
        if state == alarm.state:
            return
        counts = alarm.sample_counts(self._store, now_s)
        if alarm.too_few_samples(counts, now_s):
            return
        known = [(begin, value) for begin, value in reversed(points) if value is not None]
        recent = known[: rule.evaluation_periods]
        shown = [(short_time(begin), value) for begin, value in recent]
        data: dict[str, Any] = {
            "version": "1.0",
            "queryDate": iso(time.time()),
            "startDate": iso(known[-1][0] if known else alarm.range_s(now_s)[0]),
            "period": alarm.period_s,
            "recentDatapoints": [value for _, value in reversed(recent)],
            "threshold": rule.threshold,
            "evaluatedDatapoints": [
                {
                    "timestamp": iso(begin),
                    **({"sampleCount": counts[begin]} if begin in counts else {}),
                    "value": value,
                }
                for begin, value in known
            ],
        }
        if "Metrics" not in alarm.settings:
            settings = alarm.settings
            data["statistic"] = settings.get("Statistic") or settings["ExtendedStatistic"]
        self.set_state(alarm, state, reason(rule, shown, state), json.dumps(data))

    # Composite alarms

    def evaluate_composite(
        self, alarm: CompositeAlarm, why: str, triggers: Sequence[Alarm]
    ) -> None:
        """Evaluates a composite alarm; `why` is the reason of a change, if there is one."""
        state: State = "ALARM" if alarm.rule.holds(self._state_of) else "OK"
        if state != alarm.state:
            self.set_state(alarm, state, why, composite_reason_data(triggers), triggers)

    def created(self, alarm: CompositeAlarm, what: str) -> None:
        """Evaluates a composite alarm that was just created or updated (`what`)."""
        if alarm.suppressor is None and alarm.suppression.lifted():
            self._act(alarm, alarm.state, ())
        state = "ALARM" if alarm.rule.holds(self._state_of) else "OK"
        why = f"{alarm.arn} was {what} and its alarm rule evaluates to {state}"
        triggers = [self.alarms[n] for n in self._children(alarm) if n in self.alarms]
        self.evaluate_composite(alarm, why, triggers)

    def _children(self, alarm: CompositeAlarm) -> list[str]:
        return [alarm_name(child) for child in alarm.rule.children]

    def _state_of(self, child: str) -> str:
        alarm = self.alarms.get(alarm_name(child))
        return "" if alarm is None else alarm.state

    def _tell_parents(self, changed: Alarm) -> None:
        """Evaluates the composite alarms that watch an alarm or are suppressed by it."""
        why = f"{changed.arn} transitioned to {changed.state} at {long_time(changed.updated)}"
        for alarm in list(self.alarms.values()):
            if not isinstance(alarm, CompositeAlarm):
                continue
            if alarm.suppressor == changed.name:
                extension_s = float(alarm.settings["ActionsSuppressorExtensionPeriod"])
                if alarm.suppression.suppressor_changed(
                    in_alarm=changed.state == "ALARM", extension_s=extension_s, now_s=time.time()
                ):
                    self._act(alarm, alarm.state, ())
                self._wait_for_suppression(alarm)
            if changed.name in self._children(alarm):
                self.evaluate_composite(alarm, why, [changed])

    def _suppressed(self, alarm: Alarm) -> bool:
        """Whether the actions of a transition that just happened are held back."""
        if not isinstance(alarm, CompositeAlarm) or alarm.suppressor is None:
            return False
        act_now = alarm.suppression.entered(
            alarm.state,
            suppressor_in_alarm=self._state_of(alarm.suppressor) == "ALARM",
            wait_s=float(alarm.settings["ActionsSuppressorWaitPeriod"]),
            now_s=time.time(),
        )
        self._wait_for_suppression(alarm)
        return not act_now

    def _wait_for_suppression(self, alarm: CompositeAlarm) -> None:
        """Acts when the period ends that now holds actions back, if nothing comes between."""
        suppression = alarm.suppression
        if suppression.by not in {"WaitPeriod", "ExtensionPeriod"}:
            return
        by, until_s = suppression.by, suppression.until_s

        async def wait() -> None:
            await asyncio.sleep(max(0.0, until_s - time.time()))
            same = (suppression.by, suppression.until_s) == (by, until_s)
            if same and suppression.passed(until_s) and self.alarms.get(alarm.name) is alarm:
                self._act(alarm, alarm.state, ())

        self._work(wait())

    # Transitions

    def set_state(
        self, alarm: Alarm, state: State, why: str, data: str = "", triggers: Sequence[Alarm] = ()
    ) -> None:
        """Moves an alarm to a state, records it, and carries out the actions of a transition."""
        before = (alarm.state, alarm.reason, alarm.reason_data)
        now = dt.datetime.now(dt.UTC)
        alarm.state, alarm.reason, alarm.reason_data, alarm.updated = state, why, data, now
        if before[0] == state:
            return
        alarm.transitioned = now
        suppressed = self._suppressed(alarm)
        summary = f"Alarm updated from {before[0]} to {state}"
        self.record(alarm, "StateUpdate", summary, state_history(before, alarm))
        if not suppressed:
            self._act(alarm, before[0], triggers)
        self._tell_parents(alarm)

    def _act(self, alarm: Alarm, before: State, triggers: Sequence[Alarm]) -> None:
        """Carries out the actions of the state that an alarm is in."""
        if not alarm.settings.get("ActionsEnabled", True):
            return
        message = notification(self._context, alarm, before, triggers)
        for action in alarm.actions():
            self._work(self._deliver(alarm, action, subject(self._context, alarm), message))

    def _work(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _deliver(self, alarm: Alarm, action: str, title: str, message: str) -> None:
        moment, error = alarm.updated, ""
        if action.split(":")[2:3] != ["sns"]:
            error = "only SNS topics are served locally"
        else:
            try:
                sns = await self._context.client("sns")
                access = self._context.access
                with access.acting(access.service("cloudwatch.amazonaws.com", alarm.arn)):
                    await sns.publish(TopicArn=action, Subject=title, Message=message)
            except Exception as problem:  # noqa: BLE001 - recorded, as AWS records it
                error = str(problem)
        summary = f"Successfully executed action {action}"
        if error:
            summary = f'Failed to execute action {action}. Received error: "{error}"'
            log.warning("alarm %s: %s", alarm.name, summary)
        self.record(alarm, "Action", summary, action_history(action, message, moment, error))

    def record(self, alarm: Alarm, kind: str, summary: str, data: dict[str, Any]) -> None:
        """Adds an item to the history."""
        self.history.appendleft(
            {
                "AlarmName": alarm.name,
                "AlarmType": alarm.kind,
                "Timestamp": dt.datetime.now(dt.UTC),
                "HistoryItemType": kind,
                "HistorySummary": summary,
                "HistoryData": json.dumps(data),
            }
        )
