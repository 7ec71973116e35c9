"""`Messages` in the place of moto's lists, for standard queues; FIFO queues are moto's own.

moto 5.2 walks through all messages of a queue, several times, for every one that is sent, received
or deleted.
"""

# What is replaced lies inside moto, which has no other way in.
# ruff: noqa: SLF001

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from moto.core.utils import unix_time_millis
from moto.sqs import models
from moto.sqs.exceptions import InvalidParameterValue, ReceiptHandleIsInvalid

from localcloud.queues.messages import Messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.queues.kept import KeptMessages
    from localcloud.queues.messages import Entry

# Nobody looks more often than this for a message that becomes visible by itself.
_TICK_S = 0.05
_NEVER_S = 3600.0
_FIFO_S = 1.0
_MAX_VISIBILITY_MS = 43_200_000

# Told of a queue, in some thread, when it has perhaps something for receivers.
listeners: set[Callable[[Any], None]] = set()
# Keeps messages, where the cloud has a folder.
_keepers: list[KeptMessages] = []

_add = models.Queue.add_message
_delete = models.Queue.delete_message
_receive = models.SQSBackend.receive_message
_change = models.SQSBackend.change_message_visibility
_purge = models.SQSBackend.purge_queue
_delete_queue = models.SQSBackend.delete_queue


@functools.cache
def mend() -> None:
    """Takes effect for the life of the process."""
    for name, state in (
        ("approximate_number_of_messages", "visible"),
        ("approximate_number_of_messages_delayed", "delayed"),
        ("approximate_number_of_messages_not_visible", "received"),
    ):
        setattr(models.Queue, name, _counted(state, getattr(models.Queue, name)))
    models.Queue.add_message = _add_message
    models.Queue.delete_message = _delete_message
    models.SQSBackend.receive_message = _receive_message
    models.SQSBackend.change_message_visibility = _change_message_visibility
    models.SQSBackend.purge_queue = _purge_queue
    models.SQSBackend.delete_queue = _delete_queue_and_messages


def keep(kept: KeptMessages | None) -> None:
    """Keeps all messages from now on; None ends that."""
    _keepers[:] = [] if kept is None else [kept]


def restore(kept: KeptMessages, account_id: str) -> None:
    """Puts messages back into their queues.

    Raises:
        TargetError: what was kept is damaged.
    """

    def put(arn: str, message: Any) -> bool:
        region, name = arn.split(":")[3], arn.rpartition(":")[2]
        found = queue(account_id, region, name)
        if found is None:
            return False
        if found.fifo_queue:
            found._messages.append(message)
        else:
            messages_of(found).add(message, unix_time_millis())
        return True

    kept.restore(put)


def queue(account_id: str, region: str, name: str) -> Any:
    """Moto's queue of a name; None where there is none."""
    return models.sqs_backends[account_id][region].queues.get(name)


def messages_of(queue: Any) -> Messages:
    """The messages of a standard queue of moto's."""
    found: Messages | None = queue.__dict__.get("messages_kept")
    if found is None:
        found = queue.__dict__["messages_kept"] = Messages()
    return found


def until_next_s(queue: Any) -> float:
    """For how long nothing becomes visible in a queue by itself."""
    if queue.fifo_queue:
        return _FIFO_S
    with queue._messages_lock:
        due_ms = messages_of(queue).next_due_ms()
    return _NEVER_S if due_ms is None else max(_TICK_S, (due_ms - unix_time_millis()) / 1000)


def _settled(queue: Any) -> Messages:
    messages = messages_of(queue)
    messages.settle(unix_time_millis())
    return messages


def _counted(state: str, original: Any) -> property:
    def count(queue: Any) -> int:
        if queue.fifo_queue:
            return int(original.fget(queue))
        with queue._messages_lock:
            return _settled(queue).counts[state]

    return property(count)


def _tell(queue: Any) -> None:
    for listener in list(listeners):
        listener(queue)


def _add_message(queue: Any, message: Any) -> None:
    kept = _keepers[0] if _keepers else None
    if kept is not None and not kept.restored:
        # What is sent while requests are made again was kept when it was sent first.
        return
    if queue.fifo_queue:
        _add(queue, message)
        taken = message in queue._messages
        if kept is not None and taken:
            kept.added(queue.queue_arn, message)
    else:
        if kept is not None:
            kept.added(queue.queue_arn, message)
        with queue._messages_lock:
            messages_of(queue).add(message, unix_time_millis())
    _tell(queue)


def _forget(queue: Any, *messages: Any) -> None:
    """Keeps messages no longer."""
    for kept in _keepers:
        kept.removed(queue.queue_arn, [message.id for message in messages])


def _delete_message(queue: Any, receipt_handle: str) -> None:
    if queue.fifo_queue:
        doomed = [one for one in queue._messages if one.had_receipt_handle(receipt_handle)]
        _delete(queue, receipt_handle)
        _forget(queue, *doomed)
        return
    with queue._messages_lock:
        messages = _settled(queue)
        entry = messages.by_handle(receipt_handle)
        if entry is not None:
            _forget(queue, entry.message)
        if not messages.delete(receipt_handle):
            raise ReceiptHandleIsInvalid


def _receive_message(
    backend: Any, queue_name: str, count: int, wait_seconds_timeout: int,
    visibility_timeout: int, message_attribute_names: list[str] | None = None,
) -> list[Any]:  # fmt: skip
    queue = backend.get_queue(queue_name)
    if queue.fifo_queue:
        fifo: list[Any] = _receive(
            backend, queue_name, count, wait_seconds_timeout, visibility_timeout,
            message_attribute_names,
        )  # fmt: skip
        return fifo
    with queue._messages_lock:
        result, dead = _received(queue, count, int(visibility_timeout))
        # A receiver sees the message as it was received, whatever becomes of it.
        copies = [copy.copy(message) for message in result]
    for message in dead:
        queue.dead_letter_queue.add_message(message)
    _forget(queue, *dead)
    for message in copies:
        message.message_attributes = dict(message.message_attributes)
        models._filter_message_attributes(message, message_attribute_names or [])
    return copies


def _received(queue: Any, count: int, visibility_s: int) -> tuple[list[Any], list[Any]]:
    """(messages for the receiver, messages for the dead-letter queue)."""
    messages = _settled(queue)
    policy = queue.redrive_policy if queue.dead_letter_queue is not None else None
    kept_since_ms = unix_time_millis() - int(queue.message_retention_period) * 1000
    taken: list[Entry] = []
    dead: list[Any] = []
    while len(taken) < count and (entry := messages.take()) is not None:
        message = entry.message
        if message.sent_timestamp <= kept_since_ms:
            messages.drop(entry)
            _forget(queue, message)
        elif policy and message.approximate_receive_count >= int(policy["maxReceiveCount"]):
            messages.drop(entry)
            dead.append(message)
        else:
            taken.append(entry)
    for entry in taken:
        messages.receive(entry, visibility_s)
    return [entry.message for entry in taken], dead


def _change_message_visibility(
    backend: Any, queue_name: str, receipt_handle: str, visibility_timeout: int
) -> None:
    queue = backend.get_queue(queue_name)
    if queue.fifo_queue:
        _change(backend, queue_name, receipt_handle, visibility_timeout)
        return
    with queue._messages_lock:
        messages = _settled(queue)
        entry = messages.by_handle(receipt_handle)
        if entry is None:
            raise ReceiptHandleIsInvalid
        now_ms = unix_time_millis()
        due_ms = now_ms + int(visibility_timeout) * 1000
        if due_ms - entry.message.sent_timestamp > _MAX_VISIBILITY_MS:
            raise InvalidParameterValue(
                f"Value {visibility_timeout} for parameter VisibilityTimeout is invalid. Reason: "
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
            )
        entry.message.visible_at = due_ms
        messages.show_at(entry, due_ms, now_ms)
    _tell(queue)


def _purge_queue(backend: Any, queue_name: str) -> None:
    _purge(backend, queue_name)
    queue = backend.get_queue(queue_name)
    for kept in _keepers:
        kept.cleared(queue.queue_arn)
    with queue._messages_lock:
        messages_of(queue).clear()


def _delete_queue_and_messages(backend: Any, queue_name: str) -> None:
    arn = backend.get_queue(queue_name).queue_arn
    _delete_queue(backend, queue_name)
    for kept in _keepers:
        if kept.restored:
            kept.cleared(arn)
