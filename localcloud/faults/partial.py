"""Partial failures: some records of a batch are refused, the others are handled as ever.

The refused records never reach the service, so that nothing of them is stored; the answer is the
service's own, with the refusals at the places where AWS documents them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import cbor2
import orjson

from localcloud.http import AwsError, Response
from localcloud.naming import protocol_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from localcloud.faults.board import Fault
    from localcloud.http import Request


@dataclass(frozen=True, slots=True)
class Batch:
    """Where an operation has its records, and where it tells which of them failed.

    Attributes:
        entries: Member of the request with the records.
        told: `aligned`: a list as long as the request's, and a count of failures. `by_id`:
            Successful and Failed, by the entries' Id. `rejected`: Timestream's exception, which
            names the refused by their index; the others are stored.
        code: Error code of a refused record where the fault gives none.
        message: Its text.
        results: Member of the answer with the results, of `aligned`.
        count: Member of the answer with the number of failures, of `aligned`.
    """

    entries: str
    told: Literal["aligned", "by_id", "rejected"]
    code: str = "InternalError"
    message: str = "The request was refused"
    results: str = ""
    count: str = ""


BATCHES: dict[tuple[str, str], Batch] = {
    ("kinesis", "PutRecords"): Batch(
        "Records", "aligned", "ProvisionedThroughputExceededException", "Rate exceeded",
        "Records", "FailedRecordCount",
    ),
    ("firehose", "PutRecordBatch"): Batch(
        "Records", "aligned", "ServiceUnavailableException", "Slow down.",
        "RequestResponses", "FailedPutCount",
    ),
    ("events", "PutEvents"): Batch(
        "Entries", "aligned", "InternalFailure", "Internal failure", "Entries", "FailedEntryCount"
    ),
    ("sqs", "SendMessageBatch"): Batch("Entries", "by_id"),
    ("sqs", "DeleteMessageBatch"): Batch("Entries", "by_id"),
    ("sqs", "ChangeMessageVisibilityBatch"): Batch("Entries", "by_id"),
    ("timestream", "WriteRecords"): Batch("Records", "rejected", message="The record was refused"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a batch of which `refused` records were refused by a fault."""

    response: Response
    refused: int


async def answer(
    request: Request,
    operation: str,
    fault: Fault,
    handle: Callable[[Request], Awaitable[Response]],
) -> Refusal:
    """Has the records that the fault spares handled, and tells of the others.

    Raises:
        AwsError: what the service raises, or Timestream's RejectedRecordsException.
    """
    batch = BATCHES[request.service, operation]
    wire = protocol_of(request)
    body = _decode(request, wire)
    entries = body.get(batch.entries) if body else None
    if not isinstance(entries, list):
        # The query protocol, or a request that is refused as malformed: there is nothing to split.
        fault.fired -= 1
        fault.not_applied += 1
        return Refusal(await handle(request), 0)
    share = fault.spec.records or 0.0
    refused = {index for index in range(len(entries)) if fault.draws.random() < share}
    if not refused:
        return Refusal(await handle(request), 0)
    kept = [index for index in range(len(entries)) if index not in refused]
    error = (
        fault.spec.code or batch.code,
        fault.spec.message or f"{batch.message} (fault {fault.id})",
    )
    response, told = (
        Response(200, b"", {"content-type": request.headers.get("content-type", "")}),
        {},
    )
    if batch.told == "rejected":
        rejected = [{"RecordIndex": index, "Reason": error[1]} for index in sorted(refused)]
        await _write_the_rest(request, body, batch, kept, handle, rejected)
    if kept:
        response = await handle(_with(request, body, batch, [entries[at] for at in kept], wire))
        if response.status != 200:  # noqa: PLR2004 - HTTP's only code of success here
            return Refusal(response, 0)
        told = _load(response.body, wire)
    merge = _aligned if batch.told == "aligned" else _by_id
    merged = merge(batch, entries, kept, told, error)
    return Refusal(replace(response, body=_dump(merged, wire)), len(refused))


async def _write_the_rest(
    request: Request,
    body: dict[str, Any],
    batch: Batch,
    kept: list[int],
    handle: Callable[[Request], Awaitable[Response]],
    rejected: list[dict[str, Any]],
) -> None:
    entries = body[batch.entries]
    if kept:
        try:
            await handle(_with(request, body, batch, [entries[at] for at in kept], "json"))
        except AwsError as error:
            if error.code != "RejectedRecordsException":
                raise
            rejected += [
                {**one, "RecordIndex": kept[one["RecordIndex"]]}
                for one in error.extra["RejectedRecords"]
            ]
    raise AwsError(
        "RejectedRecordsException",
        "One or more records have been rejected. See RejectedRecords for details.",
        419,
        RejectedRecords=sorted(rejected, key=lambda one: int(one["RecordIndex"])),
    )


def _aligned(
    batch: Batch,
    entries: list[Any],
    kept: list[int],
    told: dict[str, Any],
    error: tuple[str, str],
) -> dict[str, Any]:
    results: list[Any] = [{"ErrorCode": error[0], "ErrorMessage": error[1]} for _ in entries]
    for index, result in zip(kept, told.get(batch.results, ()), strict=False):
        results[index] = result
    failed = sum(bool(result.get("ErrorCode")) for result in results)
    return {**told, batch.count: failed, batch.results: results}


def _by_id(
    _: Batch, entries: list[Any], kept: list[int], told: dict[str, Any], error: tuple[str, str]
) -> dict[str, Any]:
    spared = set(kept)
    failed = [
        {"Id": entry.get("Id", ""), "SenderFault": False, "Code": error[0], "Message": error[1]}
        for index, entry in enumerate(entries)
        if index not in spared and isinstance(entry, dict)
    ]
    return {
        **told,
        "Successful": told.get("Successful") or [],
        "Failed": [*(told.get("Failed") or ()), *failed],
    }


def _with(
    request: Request, body: dict[str, Any], batch: Batch, entries: list[Any], wire: str
) -> Request:
    return replace(request, body=_dump({**body, batch.entries: entries}, wire))


def _decode(request: Request, wire: str) -> dict[str, Any]:
    try:
        value = _load(request.body, wire) if wire in {"json", "cbor"} else {}
    except (orjson.JSONDecodeError, cbor2.CBORDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _load(body: bytes, wire: str) -> Any:
    return cbor2.loads(body) if wire == "cbor" else orjson.loads(body)


def _dump(value: Any, wire: str) -> bytes:
    return cbor2.dumps(value) if wire == "cbor" else orjson.dumps(value)
