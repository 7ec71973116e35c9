"""What rules do with messages: actions into Kinesis, SQS, SNS and other topics.

Each action of a rule has a queue of its own, so that a slow target holds up no other. A target that
asks for patience is tried again; then the message has failed, and goes to the error action.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from localcloud.access.needs import Need
from localcloud.http import AwsError
from localcloud.iot.packets import Message
from localcloud.iot.sql import Template
from localcloud.iot.topics import topic_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.iot.sql.values import Context
    from localcloud.seams import CloudContext, StreamWriter

log = logging.getLogger(__name__)

ATTEMPTS = 4
BACKOFF_S = (0.1, 1.0)
AT_ONCE = 8
MAX_BATCH = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Rules that publish to each other for ever would take the machine.
MAX_HOPS = 10
_RETRIED = {
    "ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "InternalFailure",
    "ServiceUnavailable", "InternalError", "LimitExceededException", "KMSThrottlingException",
}  # fmt: skip
SERVED = ("kinesis", "sqs", "sns", "republish")


@dataclass(slots=True)
class Job:
    """One message that a rule selected.

    Attributes:
        context: The message.
        payload: What the statement made of it.
        properties: Of MQTT 5.
        hops: How many rules it came through.
        left: Actions that are not done.
        failures: Of those that are.
        ended: Is called when none is left.
    """

    context: Context
    payload: bytes
    properties: dict[int, Any]
    hops: int
    left: int
    ended: Callable[[Job], None]
    failures: list[dict[str, str]] = field(default_factory=list)

    def done(self, failure: dict[str, str] | None = None) -> None:
        """One action is done."""
        if failure is not None:
            self.failures.append(failure)
        self.left -= 1
        if not self.left:
            self.ended(self)


class Action(ABC):
    """One action of a rule; subclasses send.

    Args:
        shared: What all actions share.
        rule_arn: ARN of the rule.
        rule: Its name.
        settings: Of the action, as CreateTopicRule takes them.

    Raises:
        SqlError: a substitution template in them is not served.
    """

    kind = ""
    batch = 1

    def __init__(
        self, shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
    ) -> None:  # fmt: skip
        self.shared, self.rule = shared, rule
        self.role_arn: str = settings["roleArn"]
        self.rule_arn = rule_arn
        self._queue: list[Job] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    @property
    @abstractmethod
    def resource(self) -> str:
        """Where to, for people."""

    @abstractmethod
    async def send(self, jobs: Sequence[Job]) -> list[str]:
        """Sends once; an error code for each job, empty where it arrived.

        Raises:
            AwsError: none arrived.
        """

    def take(self, job: Job) -> None:
        """Takes a message."""
        self._queue.append(job)
        self.shared.pending += 1
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Ends it when what waits is done."""
        while self._queue or self._sending:
            if self._sending:
                await asyncio.wait(self._sending)
            await asyncio.sleep(0)
        await self.stop()

    async def stop(self) -> None:
        """Ends it; what waits is lost, as with a broker that is shut down."""
        tasks = [*self._sending, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            while self._queue:
                if len(self._sending) >= AT_ONCE:
                    await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
                    continue
                task = asyncio.create_task(self._deliver(self._next()))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
                # What comes in meanwhile goes together.
                await asyncio.sleep(0)
            self._wake.clear()

    def _next(self) -> list[Job]:
        count, size = 0, 0
        for job in self._queue[: self.batch]:
            size += len(job.payload)
            if count and size > MAX_BATCH_BYTES:
                break
            count += 1
        jobs, self._queue = self._queue[:count], self._queue[count:]
        return jobs

    async def _deliver(self, jobs: list[Job]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            why = ""
            try:
                codes = await self._send(jobs)
            except AwsError as error:
                codes, why = [error.code] * len(jobs), error.message
            except ClientError as error:
                told = error.response["Error"]
                codes, why = [str(told["Code"])] * len(jobs), str(told["Message"])
            except (BotoCoreError, OSError) as error:
                codes, why = ["ServiceUnavailable"] * len(jobs), str(error)
            except Exception as error:
                log.exception("rule %s failed", self.rule)
                codes, why = ["InternalError"] * len(jobs), str(error)
            again: list[Job] = []
            for job, code in zip(jobs, codes, strict=True):
                if code in _RETRIED and attempt < ATTEMPTS:
                    again.append(job)
                else:
                    self._settle(job, code, why)
            jobs = again
            if not jobs:
                return
            low, high = BACKOFF_S
            await asyncio.sleep(random.uniform(0, min(high, low * 2.0**attempt)))  # noqa: S311

    async def _send(self, jobs: list[Job]) -> list[str]:
        access = self.shared.context.access
        if not access.may_assume(self.role_arn, "iot.amazonaws.com", self.rule_arn):
            raise AwsError(
                "AccessDeniedException", f"iot.amazonaws.com may not assume {self.role_arn}"
            )
        with access.acting(access.role(self.role_arn, self.rule)):
            return await self.send(jobs)

    def _settle(self, job: Job, code: str, why: str) -> None:
        self.shared.pending -= 1
        failure = None
        if code:
            failure = {
                "failedAction": f"{self.kind}Action",
                "failedResource": self.resource,
                "errorMessage": f"Failed to {self.kind}: {why or code} (Error Code: {code}). "
                f"Message arrived on: {job.context.topic}, Action: {self.kind.lower()}",
            }
        self.shared.told(self, job, failure)
        job.done(failure)
        self.shared.caught_up()


@dataclass(slots=True)
class Shared:
    """What actions share.

    Attributes:
        context: The cloud.
        streams: Takes records.
        publish: Takes messages that are republished, with the rules they came through.
        told: Is told what became of a message.
        caught_up: Is called when something is done.
        pending: Messages that wait for actions.
    """

    context: CloudContext
    streams: StreamWriter
    publish: Callable[[Message, int], None]
    told: Callable[[Action, Job, dict[str, str] | None], None]
    caught_up: Callable[[], None]
    pending: int = 0


class ToKinesis(Action):
    """A record for each message."""

    kind = "Kinesis"
    batch = MAX_BATCH

    def __init__(
        self, shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(shared, rule_arn, rule, settings)
        self._stream: str = settings["streamName"]
        self._key = Template(settings.get("partitionKey") or "${newuuid()}")

    @property
    def resource(self) -> str:
        """See `Action`."""
        return self._stream

    async def send(self, jobs: Sequence[Job]) -> list[str]:
        """See `Action`."""
        records = [(self._key.fill(job.context), job.payload) for job in jobs]
        return await self.shared.streams.write(self._stream, records, self.role_arn, self.rule)


class ToQueue(Action):
    """A message in an SQS queue."""

    kind = "SQS"

    def __init__(
        self, shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(shared, rule_arn, rule, settings)
        self._url: str = settings["queueUrl"]
        self._base64 = bool(settings.get("useBase64"))

    @property
    def resource(self) -> str:
        """See `Action`."""
        return self._url

    async def send(self, jobs: Sequence[Job]) -> list[str]:
        """See `Action`."""
        sqs = await self.shared.context.client("sqs")
        for job in jobs:
            body = job.payload
            text = (
                base64.b64encode(body).decode() if self._base64 else body.decode("utf-8", "replace")
            )
            await sqs.send_message(QueueUrl=self._url, MessageBody=text)
        return [""] * len(jobs)


class ToTopic(Action):
    """A message to an SNS topic."""

    kind = "SNS"

    def __init__(
        self, shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(shared, rule_arn, rule, settings)
        self._topic: str = settings["targetArn"]
        self._structure = "json" if settings.get("messageFormat") == "JSON" else None

    @property
    def resource(self) -> str:
        """See `Action`."""
        return self._topic

    async def send(self, jobs: Sequence[Job]) -> list[str]:
        """See `Action`."""
        sns = await self.shared.context.client("sns")
        more = {"MessageStructure": self._structure} if self._structure else {}
        for job in jobs:
            text = job.payload.decode("utf-8", "replace")
            await sns.publish(TopicArn=self._topic, Message=text, **more)
        return [""] * len(jobs)


class Republish(Action):
    """A message on another topic."""

    kind = "Republish"

    def __init__(
        self, shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
    ) -> None:  # fmt: skip
        super().__init__(shared, rule_arn, rule, settings)
        self._topic = Template(settings["topic"])
        self._shown: str = settings["topic"]
        self._qos = int(settings.get("qos") or 0)

    @property
    def resource(self) -> str:
        """See `Action`."""
        return self._shown

    async def send(self, jobs: Sequence[Job]) -> list[str]:
        """See `Action`."""
        context = self.shared.context
        for job in jobs:
            topic = self._topic.fill(job.context)
            # $$aws/... in a template is the topic $aws/...
            topic = topic[1:] if topic.startswith("$$") else topic
            fault = topic_fault(topic)
            if fault is None and job.hops >= MAX_HOPS:
                fault = f"the message came through {MAX_HOPS} rules"
            if fault is not None:
                raise AwsError("InvalidRequestException", fault)
            resource = f"arn:aws:iot:{context.region}:{context.account_id}:topic/{topic}"
            acting = context.access.role(self.role_arn, self.rule)
            context.access.require("iot", Need("iot:Publish", resource), acting)
            message = Message(topic, job.payload, self._qos, properties=job.properties)
            self.shared.publish(message, job.hops + 1)
        return [""] * len(jobs)


_KINDS: dict[str, type[Action]] = {
    "kinesis": ToKinesis, "sqs": ToQueue, "sns": ToTopic, "republish": Republish,
}  # fmt: skip


def action_of(
    shared: Shared, rule_arn: str, rule: str, settings: dict[str, Any]
) -> Action:  # fmt: skip
    """An action as CreateTopicRule takes it.

    Raises:
        AwsError: it is of a kind that is not served, or lacks a member.
        SqlError: a substitution template in it is not served.
    """
    kinds = [kind for kind, value in settings.items() if value]
    if len(kinds) != 1 or kinds[0] not in _KINDS:
        raise AwsError(
            "InvalidRequestException",
            f"rule action {', '.join(kinds) or '(none)'} is not served locally: there are "
            + ", ".join(SERVED),
        )
    try:
        return _KINDS[kinds[0]](shared, rule_arn, rule, settings[kinds[0]])
    except KeyError as error:
        raise AwsError("InvalidRequestException", f"{kinds[0]} lacks {error.args[0]}") from error
