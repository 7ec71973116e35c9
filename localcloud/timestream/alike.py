"""Records of a call taken as columns, where each is like one that the table has already.

To read records one by one, as `write.py` does, tells what is wrong with each, and costs more than all
else of a call. Here a call is read by columns under the same rules, and is left alone as soon as
something of it is new or wrong: a series or a composition of measures that the table does not have,
a time that is there already, a value that cannot be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from localcloud.timestream.columns import pairs_of
from localcloud.timestream.values import MAX_VERSION, integers, values
from localcloud.timestream.window import UNITS_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from localcloud.timestream.columns import Call
    from localcloud.timestream.store import Pairs, Series, Shape, Store, TableStore
    from localcloud.timestream.window import Window

Record = dict[str, Any]
Key = TypeVar("Key")

_DIMENSION = itemgetter("Name", "Value")
_MEASURE = itemgetter("Name", "Type")
_VALUE = itemgetter("Value")


class _UnlikeError(Exception):
    """A call that is to be read record by record."""


@dataclass(slots=True)
class _Group:
    """Records of one shape.

    Attributes:
        at: Where they are in the call.
        columns: The values of each measure, in the order of the shape's columns.
    """

    measures: Pairs
    shape: Shape
    at: Sequence[int]
    columns: list[list[Any]]


@dataclass(slots=True)
class _Taken:
    """Records of one measure name that may all be stored."""

    name: str
    times: list[int]
    versions: list[int]
    series: list[Series]
    groups: list[_Group]


def take(
    store: Store,
    data: TableStore,
    window: Window,
    common: Mapping[str, Any],
    records: Sequence[Record],
) -> int | None:
    """Stores the records of a call, all of them; or none, and gives None.

    Args:
        store: Where to.
        data: The table.
        window: What it takes.
        common: The call's CommonAttributes.
        records: The call's records as they were given, one at least.

    Returns:
        How many of them are in the memory store.
    """
    try:
        name = _name(common, records)
        times = _times(window, common, records, [record["Time"] for record in records])
        versions = _versions(common, records)
        series = _series(data, window, name, common, records)
        groups = _groups(data, records)
    except (AttributeError, KeyError, TypeError, _UnlikeError):
        return None
    return _put(store, data, window, _Taken(name, times, versions, series, groups))


def take_call(store: Store, data: TableStore, window: Window, call: Call) -> int | None:
    """Stores the records of a call that was taken apart, as `take` does."""
    try:
        common = call.members.get("CommonAttributes") or {}
        # What is left of the records is in the call's common attributes.
        records: Sequence[Record] = ({},)
        name = _name(common, records)
        times = _times(window, common, records, call.times)
        versions = _versions(common, records) * len(times)
        series = _series_of(data, window, name, common, call.dimensions)
        groups = [_group(data, part.measures, part.at, part.rows) for part in call.parts]
    except (AttributeError, KeyError, TypeError, _UnlikeError):
        return None
    return _put(store, data, window, _Taken(name, times, versions, series, groups))


def _put(store: Store, data: TableStore, window: Window, taken: _Taken) -> int | None:
    times, versions, series = taken.times, taken.versions, taken.series
    first = data.claim(series, times)
    if first is None:
        return None
    fingerprints = [0] * len(times)
    for group in taken.groups:
        data.add_shape(group.measures, group.shape, taken.name)
        hashes = map(hash, zip(repeat(group.shape.token), *group.columns))
        for at, fingerprint in zip(group.at, hashes, strict=True):
            fingerprints[at] = fingerprint
    data.versions.extend(versions)
    data.fingerprints.extend(fingerprints)
    for group in taken.groups:
        rows = [first + at for at in group.at]
        store.extend(
            data, group.shape, rows, _of(group.at, series), _of(group.at, times),
            _of(group.at, versions), group.columns,
        )  # fmt: skip
    if min(times) >= window.memory_ns:
        return len(times)
    return sum(time_ns >= window.memory_ns for time_ns in times)


def _one(field: str, common: Mapping[str, Any], records: Sequence[Record]) -> Any:
    """What all records have in a field."""
    if field not in records[0]:
        return common.get(field)
    found = {record[field] for record in records}
    if len(found) > 1:
        raise _UnlikeError
    return found.pop()


def _name(common: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The measure name of all records, after a look at what they are made of."""
    if len(set(map(tuple, records))) > 1 or "MeasureValue" in records[0]:
        raise _UnlikeError
    name = _one("MeasureName", common, records)
    if (
        not isinstance(name, str)
        or common.get("MeasureValue") is not None
        or _one("MeasureValueType", common, records) != "MULTI"
    ):
        raise _UnlikeError
    return name


def _times(
    window: Window, common: Mapping[str, Any], records: Sequence[Record], texts: list[str]
) -> list[int]:
    unit = UNITS_NS[_one("TimeUnit", common, records) or "MILLISECONDS"]
    times = integers(texts)
    if times is None:
        raise _UnlikeError
    if unit != 1:
        times = [time * unit for time in times]
    if min(times) < window.oldest_ns or max(times) >= window.newest_ns:
        raise _UnlikeError
    return times


def _versions(common: Mapping[str, Any], records: Sequence[Record]) -> list[int]:
    if "Version" in records[0]:
        versions = [record["Version"] for record in records]
    else:
        versions = [common.get("Version", 1)] * len(records)
    if set(map(type, versions)) != {int} or not 1 <= min(versions) <= max(versions) <= MAX_VERSION:
        raise _UnlikeError
    return versions


def _series(
    data: TableStore,
    window: Window,
    name: str,
    common: Mapping[str, Any],
    records: Sequence[Record],
) -> list[Series]:
    """The series of each record; a series that the table has was checked when it came."""
    shared = tuple(map(_DIMENSION, common.get("Dimensions") or ()))
    if "Dimensions" in records[0]:
        given = [shared + tuple(map(_DIMENSION, record["Dimensions"])) for record in records]
    else:
        given = [shared] * len(records)
    known = data.known.setdefault(name, {})
    return _looked_up(
        window, known, given, lambda pairs: data.series[name, data.dimension_sets[pairs]]
    )


def _series_of(
    data: TableStore,
    window: Window,
    name: str,
    common: Mapping[str, Any],
    dimensions: Sequence[str],
) -> list[Series]:
    """As `_series`, of the texts of dimensions."""
    shared = tuple(map(_DIMENSION, common.get("Dimensions") or ()))
    written = data.written.setdefault((name, shared), {})
    return _looked_up(
        window,
        written,
        dimensions,
        lambda text: data.series[name, data.dimension_sets[shared + pairs_of(text)]],
    )


def _looked_up(
    window: Window, known: dict[Key, Series], keys: Sequence[Key], find: Callable[[Key], Series]
) -> list[Series]:
    """The series of each key; those that are not known yet are found, and known from then on."""
    try:
        series = [known[key] for key in keys]
    except KeyError:
        for key in keys:
            if key not in known:
                known[key] = find(key)
        series = [known[key] for key in keys]
    if window.required and any(window.required not in one.labels for one in series):
        raise _UnlikeError
    return series


def _groups(data: TableStore, records: Sequence[Record]) -> list[_Group]:
    """The records by their shapes; a shape that the table has was checked when it came."""
    given = [record["MeasureValues"] for record in records]
    kinds = [tuple(map(_MEASURE, measures)) for measures in given]
    rows = [tuple(map(_VALUE, measures)) for measures in given]
    if not set(map(type, chain.from_iterable(rows))) <= {str}:
        raise _UnlikeError
    if kinds.count(kinds[0]) == len(kinds):
        return [_group(data, kinds[0], range(len(kinds)), rows)]
    places: dict[Pairs, list[int]] = {}
    for at, measures in enumerate(kinds):
        places.setdefault(measures, []).append(at)
    return [
        _group(data, measures, at, [rows[one] for one in at]) for measures, at in places.items()
    ]


def _group(
    data: TableStore, measures: Pairs, at: Sequence[int], rows: Sequence[tuple[str, ...]]
) -> _Group:
    shape = data.shapes[measures]
    texts = list(zip(*rows, strict=True))
    columns: dict[int, list[Any]] = {}
    places: dict[str, list[int]] = {}
    for place, (_, kind) in enumerate(measures):
        places.setdefault(kind, []).append(place)
    count = len(rows)
    for kind, those in places.items():
        # Those of one type at once: what it costs to begin is what a column costs.
        found = values(kind, list(chain.from_iterable([texts[place] for place in those])))
        if found is None:
            raise _UnlikeError
        for number, place in enumerate(those):
            columns[place] = found[number * count : (number + 1) * count]
    return _Group(measures, shape, at, [columns[place] for place in shape.order])


def _of(places: Sequence[int], column: list[Any]) -> list[Any]:
    return column if len(places) == len(column) else [column[at] for at in places]
