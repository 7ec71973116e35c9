from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from simulator import columns, numbers
from simulator.numbers import Member

finite = st.floats(allow_nan=False, allow_infinity=False)
# What signals give: rounded, near to one another, and never a negative zero.
near = st.tuples(st.integers(0, 6), st.floats(-1e5, 1e5), st.lists(st.floats(-50, 50), max_size=30))


def told(member: Member, values: np.ndarray) -> list[bytes]:
    parts = member.texts(values)
    return columns.side_by_side(*parts, pa.array([b""] * len(values), columns.BINARY)).to_pylist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_whole_numbers_are_written_as_python_does(some):
    column = numbers.whole(np.array(some, dtype=np.int64))
    assert column.to_pylist() == [b":%d" % number for number in some]


@given(st.lists(finite, max_size=20))
@example([1e-5, 0.5])
@example([1e16, 1e22])
@example([0.0, -0.0])
def test_decimals_are_written_as_python_does(some):
    column = numbers.decimal(np.array(some, dtype=np.float64))
    assert column.to_pylist() == [f":{number!r}".encode() for number in some]


@given(st.lists(near, max_size=6))
def test_a_members_values_are_the_same_text_block_after_block(blocks):
    members = {decimals: Member(b',"m"', decimals) for decimals in range(7)}
    for decimals, middle, off in blocks:
        values = np.round(middle + np.array(off, dtype=np.float64), decimals) + 0.0
        expected = [f',"m":{value!r}'.encode() for value in values.tolist()]
        assert told(members[decimals], values) == expected


@given(st.integers(0, 6), st.lists(finite, min_size=1, max_size=9))
@example(2, [1.0, -0.0])
@example(2, [1.005, 1.0])
@example(0, [2.0**53, 2.0**53 + 2])
@example(2, [1e300, 0.0])
def test_values_that_were_not_rounded_are_written_whole(decimals, some):
    member = Member(b',"m"', decimals)
    expected = [f',"m":{value!r}'.encode() for value in some]
    for _ in range(2):
        assert told(member, np.array(some)) == expected


def test_values_far_apart_are_not_kept():
    member = Member(b',"m"', 2)
    assert len(member.texts(np.array([0.0, 5.0]))) == 1
    assert len(member.texts(np.array([0.0, numbers.MOST_KEPT / 100]))) == 2
    assert len(member.texts(np.array([0.0, 5.0]))) == 1
