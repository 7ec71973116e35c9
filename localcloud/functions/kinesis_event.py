"""Events of Kinesis records: their text, made once for each record, and what answers mean."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from localcloud.functions.runtime import Result
    from localcloud.seams import StreamBatch

# "The total payload cannot exceed 6 MB", of which the members around the records need some.
MAX_EVENT_BYTES = 6 * 1024 * 1024 - 1024


class Item(NamedTuple):
    """A record on its way: where it is in its shard, when it arrived, and its text in events.

    The text is ASCII, so that it has as many bytes as characters.
    """

    position: int
    sequence_number: str
    arrival_ms: int
    text: str


def encoder(shard: str, source: str, region: str, role: str) -> Callable[[StreamBatch], list[Item]]:
    """A function that gives the records of one shard the form that they have in an event."""
    start = '{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":'
    middle = f'}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"{shard}:'
    end = (
        f'","eventName":"aws:kinesis:record","invokeIdentityArn":{quoted(role)},'
        f'"awsRegion":{quoted(region)},"eventSourceARN":{quoted(source)}}}'
    )

    def encode(batch: StreamBatch) -> list[Item]:
        arrivals_ms = batch.arrivals_ms
        # Records of one call arrive together, so that there are few times.
        seconds = {arrival_ms: repr(arrival_ms / 1000) for arrival_ms in {*arrivals_ms}}
        return [
            Item(
                position,
                number,
                arrival_ms,
                f'{start}{quoted(key)},"sequenceNumber":"{number}","data":"{text}",'
                f'"approximateArrivalTimestamp":{seconds[arrival_ms]}{middle}{number}{end}',
            )
            for position, number, key, text, arrival_ms in zip(
                range(batch.position, batch.next_position),
                batch.sequence_numbers(),
                batch.keys,
                batch.texts(),
                arrivals_ms,
                strict=True,
            )
        ]

    return encode


def event(items: Sequence[Item], window: dict[str, Any] | None = None) -> bytes:
    """The event of some records, with the members of a tumbling window where there is one."""
    head = orjson.dumps(window)[:-1].decode() + "," if window else "{"
    texts = [item.text for item in items] or [""]
    # Into the first and the last, for the whole is copied often enough.
    texts[0] = f'{head}"Records":[{texts[0]}'
    texts[-1] += "]}"
    return ",".join(texts).encode()


def remaining(
    items: Sequence[Item], result: Result, *, partial: bool, stateful: bool
) -> Sequence[Item]:
    """The records that the function did not take: from the lowest reported failure on.

    Follows "Configuring partial batch response with Kinesis": an empty or null answer or list is a
    success; an identifier that is empty, null, misnamed or of no record fails the whole batch.

    Args:
        items: The batch.
        result: What the function answered.
        partial: Whether batch item failures are read.
        stateful: Whether the answer must have a state, as it must in a tumbling window.
    """
    if result.error is not None:
        return items
    if not (partial or stateful):
        return ()
    try:
        answer = orjson.loads(result.payload or b"null")
    except orjson.JSONDecodeError:
        return items
    if stateful and not (isinstance(answer, dict) and "state" in answer):
        return items
    if not partial or not answer:
        return ()
    if not isinstance(answer, dict) or not isinstance(
        failures := answer.get("batchItemFailures"), list | None
    ):
        return items
    if not failures:
        return ()
    index = {item.sequence_number: at for at, item in enumerate(items)}
    try:
        first = min(index[failure["itemIdentifier"]] for failure in failures)
    except (KeyError, TypeError):
        return items
    return items[first:]
