from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import columns
from simulator.columns import Column, of_bytes, of_maybe, of_texts, of_words

texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=20)
maybe = st.lists(st.none() | st.sampled_from(["a", "b", "shard"]), max_size=20)


@st.composite
def cut_out(draw: st.DrawFn) -> tuple[list[bytes], Column[bytes]]:
    """Texts, and a column of them that is a part of a longer one."""
    some = draw(st.lists(st.binary(max_size=9), max_size=20))
    first = draw(st.integers(0, len(some)))
    last = draw(st.integers(first, len(some)))
    return some[first:last], of_bytes(some)[first:last]


@given(texts, st.data())
def test_a_column_is_the_sequence_that_it_was_made_of(some, data):
    column = of_texts(some)
    assert len(column) == len(some)
    assert list(column) == column.tolist() == some
    assert [column[place] for place in range(len(some))] == some
    places = data.draw(st.lists(st.integers(0, max(0, len(some) - 1)), max_size=9 if some else 0))
    assert column.take(np.array(places, dtype=np.int64)).tolist() == [some[n] for n in places]
    assert of_texts(column) is column


@given(cut_out(), cut_out())
def test_parts_of_columns_are_measured_cut_and_joined_as_their_texts(one, other):
    (some, column), (others, more) = one, other
    assert column.sizes.tolist() == list(map(len, some))
    assert column.largest == max(map(len, some), default=0)
    assert columns.whole(column.array) == b"".join(some)
    ends = np.arange(0, len(some) + 1, 2)
    assert [bytes(piece) for piece in columns.pieces(column.array, ends)] == [
        b"".join(some[max(0, end - 2) : end]) for end in ends.tolist()
    ]
    assert Column.joined([column, more]).tolist() == some + others


@given(cut_out(), st.data())
def test_texts_are_put_side_by_side_and_replaced(one, data):
    some, column = one
    joined = columns.side_by_side(column.array, columns.constant(b"-"), column.array)
    assert joined.to_pylist() == [text + b"-" + text for text in some]
    others = data.draw(
        st.dictionaries(st.integers(0, len(some) - 1), st.binary(max_size=5))
        if some
        else st.just({})
    )
    changed = column.replaced(others).tolist()
    assert changed == [others.get(place, text) for place, text in enumerate(some)]


@settings(max_examples=50)
@given(maybe, st.data())
def test_strings_that_are_not_all_there_and_words_are_told_and_counted(some, data):
    first = data.draw(st.integers(0, len(some)))
    for made in (of_maybe(some), of_words(some)):
        column = made[first:]
        assert column.tolist() == some[first:]
        assert column.there.tolist() == [text is not None for text in some[first:]]
    counts = of_words(some)[first:].counts()
    assert {text: n for text, n in counts.items() if n} == {
        text: some[first:].count(text) for text in set(some[first:]) - {None}
    }


def test_repeated_strings_are_those_at_the_places():
    column = of_maybe(["one", "two"]).repeated(np.array([0, 0, 1, 0]))
    assert column.tolist() == ["one", "one", "two", "one"]
    assert column.take(np.array([2]))[0] == "two"
