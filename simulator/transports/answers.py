"""Answers to PutRecords as columns.

When all is well, the records of an answer are alike but for their values, which are as long in all
of them: such an answer is a table, and cut as one. Any other is parsed as JSON, and one of few records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa

from simulator import columns
from simulator.columns import Column

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So many records are cut as fast as they are parsed.
FEW = 100
_RECORD = re.compile(rb'\{"SequenceNumber":"(\d+)","ShardId":"([\w-]+)"\}', re.ASCII)
_BEGIN, _END, _BACKSLASH = b"[{", b"}]", b"\\"
# Between the quote and the last one, all characters but the backslash stand for themselves in JSON.
_COMMA, _ZERO, _NINE, _QUOTE, _DELETE = b',09"\x7f'


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the records of a request, in their order.

    Attributes:
        numbers: Sequence numbers; None of records that were not taken.
        shards: Where they landed, as an array with a dictionary; None where that is not told.
        codes: Error codes, empty of records that were taken; no code at all if all were.
    """

    numbers: Column[str | None]
    shards: Column[str | None]
    codes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers)


def read(text: bytes, count: int) -> Answer:
    """What an answer tells of `count` records.

    Raises:
        ValueError: it is not an answer of PutRecords, or tells of another number of records.
    """
    answer = _as_table(text, count) if count >= FEW else None
    return _as_json(text, count) if answer is None else answer


def _as_json(text: bytes, count: int) -> Answer:
    try:
        records = orjson.loads(text)["Records"]
        numbers = [record.get("SequenceNumber") or None for record in records]
        shards = columns.of_words([record.get("ShardId") or None for record in records])
        codes = [] if all(numbers) else [str(r.get("ErrorCode", "")) for r in records]
        answer = Answer(columns.of_maybe(numbers), shards, codes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("the answer is not one of PutRecords") from error
    if not isinstance(records, list) or len(records) != count:
        raise ValueError("the answer has other records than the request")
    return answer


def _as_table(text: bytes, count: int) -> Answer | None:
    """The same of an answer whose records were all taken and are equally long; else None."""
    begin, end = text.find(_BEGIN) + 1, text.rfind(_END) + 1
    first = _RECORD.match(text, begin)
    if not first or first.end() - begin + 1 != (end - begin + 1) / count:
        return None
    table = np.frombuffer(text, np.uint8, end - begin + 1, begin).reshape(count, -1)
    least, most = table.min(axis=0), table.max(axis=0)
    (number, number_end), (shard, shard_end) = (
        (first.start(group) - begin, first.end(group) - begin) for group in (1, 2)
    )
    alike = least == most
    alike[number:number_end] = (least >= _ZERO)[number:number_end] & (most <= _NINE)[
        number:number_end
    ]
    alike[shard:shard_end] = (least > _QUOTE)[shard:shard_end] & (most < _DELETE)[shard:shard_end]
    # Behind the last record is no comma.
    alike[-1] = (table[:-1, -1] == _COMMA).all()
    if not alike.all() or _BACKSLASH in text or not _is_rest(text, begin, end):
        return None
    return Answer(
        Column(_strings(table[:, number:number_end])),
        columns.with_dictionary(_strings(table[:, shard:shard_end])),
    )


def _is_rest(text: bytes, begin: int, end: int) -> bool:
    """Whether an answer without its records is one that has none."""
    try:
        rest = orjson.loads(text[:begin] + text[end:])
    except ValueError:
        return False
    return isinstance(rest, dict) and rest.get("Records") == []


def _strings(table: NDArray[np.uint8]) -> pa.Array:
    """The rows of a table as strings."""
    count, size = table.shape
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(size)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(table.tobytes()))
