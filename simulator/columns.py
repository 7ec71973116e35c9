"""Texts of many readings as one Arrow array: made, cut and put together without an object for each.

A `Column` reads as a sequence of Python's own texts, for whoever wants one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

T_co = TypeVar("T_co", covariant=True)
# Of 64-bit offsets: a block of readings that a fault makes large has more than 2 GB.
BINARY, STRING = pa.large_binary(), pa.large_string()
_NOTHING = pa.scalar(b"", BINARY)
# Called as they are: the functions around them cost more than a request's worth of readings.
_JOIN, _TAKE = pc.get_function("binary_join_element_wise"), pc.get_function("take")


class Column(Sequence[T_co]):
    """Texts, or what there is instead of them, as an Arrow array that does not change.

    Args:
        array: The array: of bytes, or of strings.
    """

    __slots__ = ("array",)

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    @overload
    def __getitem__(self, place: int) -> T_co: ...
    @overload
    def __getitem__(self, place: slice) -> Column[T_co]: ...
    def __getitem__(self, place: int | slice) -> T_co | Column[T_co]:
        if isinstance(place, slice):
            return Column(self.array[place])
        value: T_co = self.array[int(place)].as_py()
        return value

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.tolist())

    def tolist(self) -> list[T_co]:
        """All of them, as Python's own."""
        texts: list[T_co] = self.array.to_pylist()
        return texts

    def take(self, places: NDArray[Any]) -> Column[T_co]:
        """The texts at some places, in that order."""
        return Column(taken(self.array, places))

    def repeated(self, places: NDArray[Any]) -> Column[T_co]:
        """The same as `take` of texts that are all there; each is held once, however often it is."""
        return Column(pa.DictionaryArray.from_arrays(pa.array(places), self.array))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each, shape (n,)."""
        return sizes(self.array)

    @property
    def largest(self) -> int:
        """Bytes of the largest; 0 of none."""
        return int(self.sizes.max(initial=0))

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which are not None, shape (n,)."""
        valid: NDArray[np.bool_] = self.array.is_valid().to_numpy(zero_copy_only=False)
        return valid

    @property
    def known(self) -> list[T_co]:
        """What an array with a dictionary can have, whether or not it does."""
        texts: list[T_co] = self.array.dictionary.to_pylist()
        return texts

    def counts(self) -> dict[T_co, int]:
        """How often each of `known` is there."""
        numbers = np.bincount(self.array.indices.drop_null(), minlength=len(self.known))
        return dict(zip(self.known, numbers.tolist(), strict=True))

    def replaced(self, others: dict[int, T_co]) -> Column[T_co]:
        """The same with others at some places."""
        if not others:
            return self
        places = np.arange(len(self))
        places[list(others)] = len(self) + np.arange(len(others))
        more = pa.array(list(others.values()), self.array.type)
        return Column(taken(pa.concat_arrays([self.array, more]), places))

    @staticmethod
    def joined(columns: Iterable[Column[T_co]]) -> Column[T_co]:
        """Columns of one kind one after the other."""
        arrays = [column.array for column in columns]
        return Column(arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays))


def of_bytes(texts: Iterable[bytes]) -> Column[bytes]:
    """A column of bytes."""
    return texts if isinstance(texts, Column) else Column(pa.array(texts, BINARY))


def of_texts(texts: Iterable[str]) -> Column[str]:
    """A column of strings."""
    return texts if isinstance(texts, Column) else Column(pa.array(texts, STRING))


def of_maybe(texts: Sequence[str | None]) -> Column[str | None]:
    """A column of strings that are not all there."""
    return Column(pa.array(texts, pa.string()))


def of_words(texts: Sequence[str | None]) -> Column[str | None]:
    """A column of few strings, each of them many times, or not there."""
    return with_dictionary(pa.array(texts, pa.string()))


def with_dictionary(array: pa.Array) -> Column[str | None]:
    """The same of an array of strings."""
    return Column(array.dictionary_encode())


def taken(array: pa.Array, places: NDArray[Any]) -> pa.Array:
    """What an array has at some places, in that order."""
    return _TAKE.call([array, pa.array(places)])


def side_by_side(*parts: pa.Array | pa.Scalar) -> pa.Array:
    """Of bytes, each reading's parts put together; a scalar is the same in all of them."""
    return _JOIN.call([*parts, _NOTHING])


def constant(text: bytes) -> pa.Scalar:
    """A part that is the same in all readings."""
    return pa.scalar(text, BINARY)


def as_bytes(array: pa.Array) -> pa.Array:
    """Strings as the bytes that they are."""
    return array.view(BINARY)


def bounds(array: pa.Array) -> NDArray[np.int64]:
    """Where each text begins in the array's memory, and the last one ends; shape (n + 1,)."""
    offsets = array.buffers()[1]
    if offsets is None or not offsets.size:
        return np.zeros(1, dtype=np.int64)
    return np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)


def sizes(array: pa.Array) -> NDArray[np.int64]:
    """Bytes of each text, shape (n,)."""
    at = bounds(array)
    return at[1:] - at[:-1]


def pieces(array: pa.Array, ends: NDArray[np.int64]) -> list[memoryview]:
    """The texts as one, cut behind some of them; what comes after the last cut is left out."""
    held = array.buffers()[2]
    # Signed, as Arrow hands it out, it is not equal to the bytes that it holds.
    whole = memoryview(b"" if held is None else held).cast("B")
    at = bounds(array)
    cuts = [int(at[0]), *at[ends].tolist()]
    return [whole[first:last] for first, last in pairwise(cuts)]


def whole(array: pa.Array) -> memoryview:
    """All texts as one."""
    (text,) = pieces(array, np.array([len(array)]))
    return text


def cut(text: bytes | bytearray, ends: NDArray[np.int64]) -> pa.Array:
    """Bytes that lie one after the other, by where each ends; the first begins at 0."""
    offsets = np.zeros(len(ends) + 1, dtype=np.int64)
    offsets[1:] = ends
    return pa.Array.from_buffers(
        BINARY, len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )


def fixed(table: NDArray[np.uint8]) -> pa.Array:
    """The rows of a table as bytes; shape (n, size)."""
    count, size = table.shape
    return cut(table.tobytes(), np.arange(1, count + 1) * size)
