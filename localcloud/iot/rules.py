"""Topic rules: which are about a message, what their statements make of it, what becomes of that."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from localcloud.http import AwsError
from localcloud.iot import packets
from localcloud.iot.actions import Action, Job, Shared, action_of
from localcloud.iot.sql import SqlError, Statement, parse
from localcloud.iot.sql.values import Context
from localcloud.iot.topics import filter_fault, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.iot.meter import Meter
    from localcloud.seams import CloudContext, StreamWriter

# Publishers wait when so many messages wait for actions, until half of them are done.
MAX_PENDING = 20_000
MAX_TOPICS_KNOWN = 50_000


@dataclass(slots=True)
class Rule:
    """A rule, ready to run."""

    name: str
    statement: Statement
    actions: list[Action]
    error_action: Action | None
    source: Any


class RulesEngine:
    """Runs the rules of one account and region.

    Args:
        context: The cloud.
        streams: Takes records.
        meter: Counts, and writes lines.
    """

    def __init__(self, context: CloudContext, streams: StreamWriter, meter: Meter) -> None:
        self._account_id = context.account_id
        self._meter = meter
        self._rules: dict[str, Rule] = {}
        self._by_topic: dict[str, tuple[Rule, ...]] = {}
        self._shared = Shared(context, streams, self._republish, self._told, self._caught_up)
        self._stopping: set[asyncio.Task[None]] = set()
        # Set by the service: where republished messages go, and who waits for the rules.
        self.deliver: Callable[[packets.Message, str, str], None] = lambda *_: None
        self.caught_up: Callable[[], None] = lambda: None
        self._failures = {"action": "", "error action": ""}
        self._held_back = False
        self._hops = 0

    @property
    def behind(self) -> bool:
        """Whether too much waits for the actions."""
        most = MAX_PENDING // 2 if self._held_back else MAX_PENDING
        self._held_back = self._shared.pending >= most
        return self._held_back

    def load(self, stored: Mapping[str, Any]) -> None:
        """Takes the rules as moto keeps them; what changed starts anew."""
        kept: dict[str, Rule] = {}
        for name, source in stored.items():
            told = _told(source)
            known = self._rules.get(name)
            if known is not None and known.source == told:
                kept[name] = known
            elif not told["ruleDisabled"]:
                kept[name] = self.compiled(name, source.arn, told)
        for rule in self._rules.values():
            if rule not in kept.values():
                self._end(rule)
        self._rules = kept
        self._by_topic.clear()

    def compiled(self, name: str, arn: str, payload: Mapping[str, Any]) -> Rule:
        """A rule as CreateTopicRule takes it.

        Raises:
            AwsError: SqlParseException, or that an action is not served.
        """
        version = payload.get("awsIotSqlVersion") or "2016-03-23"
        if version not in {"2015-10-08", "2016-03-23", "beta"}:
            raise AwsError("InvalidRequestException", f"Invalid SQL version: {version}")
        try:
            statement = parse(payload["sql"])
            _check_topic(statement)
            actions = [
                action_of(self._shared, arn, name, one) for one in payload.get("actions") or ()
            ]
            told = payload.get("errorAction")
            error_action = action_of(self._shared, arn, name, told) if told else None
        except SqlError as error:
            raise AwsError("SqlParseException", f"rule {name}: {error}") from error
        return Rule(name, statement, actions, error_action, dict(payload))

    def take(
        self, message: packets.Message, client_id: str, principal: str, rule: str | None
    ) -> None:
        """See `Rules`."""
        if rule is None:
            rules = self._about(message.topic)
        else:
            found = self._rules.get(rule)
            rules = (found,) if found is not None else ()
            if found is None:
                self._meter.count("RuleNotFound", RuleName=rule)
                self._meter.line("ERROR", "RuleNotFound", "Failure", ruleName=rule,
                                 topicName=message.topic, clientId=client_id)  # fmt: skip
        if not rules:
            return
        context = Context(
            message.topic, message.payload, client_id or "n/a", principal, message.qos,
            self._account_id, str(uuid.uuid4()), time.time_ns() // 1_000_000,
            message.properties.get(packets.USER_PROPERTY, []),
        )  # fmt: skip
        for one in rules:
            self._run(one, message, context)

    def _run(self, rule: Rule, message: packets.Message, context: Context) -> None:
        self._meter.count("TopicMatch", RuleName=rule.name)
        try:
            payload = rule.statement.select(context)
        except SqlError as error:
            self._meter.count("ParseError", RuleName=rule.name)
            self._meter.line("ERROR", "RuleExecution", "Failure", ruleName=rule.name,
                             topicName=context.topic, clientId=context.client_id,
                             traceId=context.trace_id, details=str(error))  # fmt: skip
            return
        self._meter.count("RulesExecuted")
        if payload is None or not rule.actions:
            return
        job = Job(
            context, payload, message.properties, self._hops, len(rule.actions),
            lambda job: self._ended(rule, job),
        )  # fmt: skip
        for action in rule.actions:
            action.take(job)

    def _ended(self, rule: Rule, job: Job) -> None:
        """All actions of a rule are done with a message."""
        if not job.failures or rule.error_action is None:
            return
        context = job.context
        told = orjson.dumps(
            {
                "ruleName": rule.name,
                "topic": context.topic,
                "cloudwatchTraceId": context.trace_id,
                "clientId": context.client_id,
                "base64OriginalPayload": base64.b64encode(context.payload).decode(),
                "failures": job.failures,
            }
        )
        rule.error_action.take(Job(context, told, {}, job.hops, 1, lambda _job: None))

    def _told(self, action: Action, job: Job, failure: dict[str, str] | None) -> None:
        rule = self._rules.get(action.rule)
        of_errors = rule is not None and rule.error_action is action
        name = "ErrorAction" if of_errors else ""
        name += "Failure" if failure else "Success"
        self._meter.count(name, RuleName=action.rule, ActionType=action.kind)
        if failure:
            self._failures["error action" if of_errors else "action"] = failure["errorMessage"]
            self._meter.line(
                "ERROR", f"{action.kind}ActionFailure", "Failure", ruleName=action.rule,
                topicName=job.context.topic, clientId=job.context.client_id,
                traceId=job.context.trace_id, ruleAction=failure["failedAction"],
                resources={"Resource": failure["failedResource"]}, details=failure["errorMessage"],
            )  # fmt: skip

    def _caught_up(self) -> None:
        if self._held_back and not self.behind:
            self.caught_up()

    def _republish(self, message: packets.Message, hops: int) -> None:
        # What follows from the message within this call came through so many rules.
        self._hops, before = hops, self._hops
        try:
            self.deliver(message, "n/a", "n/a")
        finally:
            self._hops = before

    def _about(self, topic: str) -> tuple[Rule, ...]:
        found = self._by_topic.get(topic)
        if found is None:
            if len(self._by_topic) >= MAX_TOPICS_KNOWN:
                self._by_topic.clear()
            found = self._by_topic[topic] = tuple(
                rule for rule in self._rules.values()
                if rule.statement.topic is not None and matches(rule.statement.topic, topic)
            )  # fmt: skip
        return found

    def _end(self, rule: Rule) -> None:
        """Lets a rule that is gone finish, then ends its tasks."""

        async def end() -> None:
            actions = [*rule.actions, *([rule.error_action] if rule.error_action else [])]
            await asyncio.gather(*(action.finish() for action in actions))

        task = asyncio.create_task(end())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """Ends all tasks."""
        for task in list(self._stopping):
            task.cancel()
        await asyncio.gather(*self._stopping, return_exceptions=True)
        for rule in self._rules.values():
            for action in [*rule.actions, *([rule.error_action] if rule.error_action else [])]:
                await action.stop()

    def status(self) -> dict[str, Any]:
        """Rules, and what waits for their actions."""
        return {
            "rules": sorted(self._rules),
            "waiting_for_actions": self._shared.pending,
            "last_failures": dict(self._failures),
        }


def _check_topic(statement: Statement) -> None:
    fault = filter_fault(statement.topic) if statement.topic is not None else None
    if fault is not None:
        raise SqlError(f"FROM: {fault}")


def _told(source: Any) -> dict[str, Any]:
    """What moto keeps of a rule, as CreateTopicRule took it."""
    return {
        "sql": source.sql,
        "awsIotSqlVersion": source.aws_iot_sql_version,
        "actions": source.actions,
        "errorAction": source.error_action,
        "ruleDisabled": source.rule_disabled,
    }
