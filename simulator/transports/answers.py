"""Answers to PutRecords as columns.

When all is well, the records of an answer are alike but for their values, which are as long in all
of them: such an answer is a table, and cut as one. Any other is parsed as JSON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from simulator import columns
from simulator.columns import Column

_RECORD = re.compile(rb'\{"SequenceNumber":"(\d+)","ShardId":"([\w-]+)"\}', re.ASCII)
_BEGIN, _END, _COMMA = b"[{", b"}]", b","
_DIGITS = (ord("0"), ord("9"))
# Characters that stand for themselves in JSON are from here on, but for two.
_SPACE, _QUOTE, _BACKSLASH, _DELETE = b' "\\\x7f'


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
    answer = _as_table(text, count)
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
    cuts = [0, *(place - begin for group in (1, 2) for place in first.span(group)), -1]
    before, number, between, shard, after = (
        table[:, one:other] for one, other in zip(cuts, cuts[1:], strict=False)
    )
    alike = all((part == part[0]).all() for part in (before, between, after))
    commas = (table[:-1, -1] == ord(_COMMA)).all()
    digits = ((number >= _DIGITS[0]) & (number <= _DIGITS[1])).all()
    plain = (shard > _SPACE) & (shard < _DELETE) & (shard != _QUOTE) & (shard != _BACKSLASH)
    if not (alike and commas and digits and plain.all()) or not _is_rest(text, begin, end):
        return None
    return Answer(Column(_strings(number)), columns.with_dictionary(_strings(shard)))


def _is_rest(text: bytes, begin: int, end: int) -> bool:
    """Whether an answer without its records is one that has none."""
    try:
        rest = orjson.loads(text[:begin] + text[end:])
    except ValueError:
        return False
    return isinstance(rest, dict) and rest.get("Records") == []


def _strings(table: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> pa.Array:
    return columns.fixed(table, pa.string())

