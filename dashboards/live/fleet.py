"""The fleet as Timestream has it: devices by last reading, one device's signals, any query.

Pages are told by a cursor of what was shown last and of the moment at which the first page was
read: readings that arrive while somebody pages do not move devices between pages.
"""

# ruff: noqa: S608 - names come from the stack's outputs, and texts are quoted

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dashboards.live.clients import ApiProblem

if TYPE_CHECKING:
    from dashboards.live.clients import Clients
    from stack.outputs import StackOutputs

PAGE_ROWS = 100
MAPPED_DEVICES = 5000
DEVICE_READINGS = 500
QUERY_ROWS = 500
MAX_QUERY_CHARS = 262_144
# What a query of the page may be; UNLOAD, for one, would write.
_READS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(select|with|show|describe|desc)\b", re.IGNORECASE | re.DOTALL
)
_LAST = "to_milliseconds(max(time))"
ORDERS = {
    "newest": ("last_ms DESC, device", f"({_LAST} < {{at}} OR ({_LAST} = {{at}} AND device > {{device}}))"),
    "oldest": ("last_ms, device", f"({_LAST} > {{at}} OR ({_LAST} = {{at}} AND device > {{device}}))"),
    "device": ("device", "(device > {device})"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a query gave: columns (name, type), rows of texts, and the token of more."""

    columns: list[tuple[str, str]]
    rows: list[list[Any]]
    token: str = ""


class Fleet:
    """Reads the table of readings of one deployment."""

    def __init__(self, clients: Clients, outputs: StackOutputs) -> None:
        self._clients = clients
        self._region = outputs.region
        self._table = f'"{outputs.timeseries_database}"."{outputs.timeseries_table}"'

    async def devices(
        self, *, order: str, within_s: int, search: str = "", cursor: str = ""
    ) -> dict[str, Any]:
        """A page of devices.

        Args:
            order: `newest` or `oldest` last reading first, or by `device`.
            within_s: How long ago a reading may be to be looked at, seconds.
            search: What a device's name, class or site must contain.
            cursor: `next` of the page before; empty for the first.

        Returns:
            `rows` (device, class, site, last_ms, readings, run), `next`, `as_of_ms`.

        Raises:
            ApiProblem: an argument is wrong, or the query failed.
        """
        if order not in ORDERS:
            raise ApiProblem(f"order is one of {', '.join(ORDERS)}, not {order}", status=400)
        sorting, beyond = ORDERS[order]
        after = _opened(cursor)
        as_of_ms = int(after["as_of"]) if after else int(time.time() * 1000)
        having = ""
        if after:
            having = "HAVING " + beyond.format(at=int(after["at"]), device=_text(after["device"]))
        matching = ""
        if search:
            like = _text(search.lower())
            matching = " AND (" + " OR ".join(
                f"strpos(lower({column}), {like}) > 0" for column in ("device", "class", "site")
            ) + ")"  # fmt: skip
        got = await self._all(
            f"SELECT device, class, site, {_LAST} AS last_ms, count(*) AS readings, "
            f"max_by(run, time) AS run FROM {self._table} "
            f"WHERE time > from_milliseconds({as_of_ms - within_s * 1000}) "
            f"AND time <= from_milliseconds({as_of_ms}){matching} "
            f"GROUP BY device, class, site {having} ORDER BY {sorting} LIMIT {PAGE_ROWS + 1}"
        )
        rows = [
            {"device": device, "class": kind, "site": site, "last_ms": int(last_ms),
             "readings": int(readings), "run": run}
            for device, kind, site, last_ms, readings, run in got.rows
        ]  # fmt: skip
        more = len(rows) > PAGE_ROWS
        rows = rows[:PAGE_ROWS]
        following = (
            _closed(as_of=as_of_ms, at=rows[-1]["last_ms"], device=rows[-1]["device"])
            if more
            else ""
        )
        return {"rows": rows, "next": following, "as_of_ms": as_of_ms}

    async def placed(self, since_ms: int) -> dict[str, Any]:
        """What the map shows: devices that sent since `since_ms`, or sites where they are many.

        Raises:
            ApiProblem: the query failed.
        """
        now_ms = int(time.time() * 1000)
        recent = f"FROM {self._table} WHERE time > from_milliseconds({int(since_ms)})"
        got = await self._all(
            f"SELECT device, site, {_LAST} AS last_ms, count(*) AS readings {recent} "
            f"GROUP BY device, site ORDER BY site, device LIMIT {MAPPED_DEVICES + 1}"
        )
        if len(got.rows) <= MAPPED_DEVICES:
            devices = [[device, site, int(at), int(n)] for device, site, at, n in got.rows]
            return {"now_ms": now_ms, "devices": devices}
        got = await self._all(
            f"SELECT site, approx_distinct(device) AS devices, {_LAST} AS last_ms, "
            f"count(*) AS readings {recent} GROUP BY site ORDER BY site LIMIT {MAPPED_DEVICES}"
        )
        sites = [[site, int(devices), int(at), int(n)] for site, devices, at, n in got.rows]
        return {"now_ms": now_ms, "sites": sites}

    async def device(self, name: str, within_s: int) -> dict[str, Any]:
        """The newest readings of a device, the oldest of them first.

        Returns:
            `device`, `times_ms`, and `signals`: values (or None) by name.

        Raises:
            ApiProblem: the query failed.
        """
        got = await self._all(
            f"SELECT * FROM {self._table} WHERE device = {_text(name)} "
            f"AND time > ago({int(within_s)}s) ORDER BY time DESC LIMIT {DEVICE_READINGS}"
        )
        rows = got.rows[::-1]
        names = [column for column, _ in got.columns]
        times = [_epoch_ms(row[names.index("time")]) for row in rows] if rows else []
        signals = {}
        for index, (column, kind) in enumerate(got.columns):
            if kind == "DOUBLE":
                values = [None if row[index] is None else float(row[index]) for row in rows]
                if any(value is not None for value in values):
                    signals[column] = values
        return {"device": name, "times_ms": times, "signals": signals}

    async def query(self, text: str, token: str = "") -> Result:
        """A page of the answer to a query of the person before the page.

        Raises:
            ApiProblem: it would do more than read, or it failed; in Timestream's words.
        """
        if len(text) > MAX_QUERY_CHARS:
            raise ApiProblem(f"a query has at most {MAX_QUERY_CHARS:,} characters", status=400)
        if not _READS.match(text):
            raise ApiProblem(
                "the page only reads: begin with SELECT, WITH, SHOW or DESCRIBE", status=400
            )
        return await self._page(text, token, QUERY_ROWS)

    async def _all(self, text: str) -> Result:
        """All rows of a query that has a LIMIT of its own."""
        got = await self._page(text, "", 1000)
        rows = got.rows
        while got.token:
            got = await self._page(text, got.token, 1000)
            rows += got.rows
        return Result(got.columns, rows)

    async def _page(self, text: str, token: str, most: int) -> Result:
        while True:
            more = {"NextToken": token} if token else {}
            answer = await self._clients.call(
                "timestream-query", "query", self._region, QueryString=text, MaxRows=most, **more
            )
            token = answer.get("NextToken", "")
            # While a query runs AWS answers with pages that have no rows yet.
            if answer["Rows"] or not token:
                break
        columns = [(one.get("Name", ""), _type(one["Type"])) for one in answer["ColumnInfo"]]
        rows = [[_value(datum) for datum in row["Data"]] for row in answer["Rows"]]
        return Result(columns, rows, token)


def _type(told: dict[str, Any]) -> str:
    if "ScalarType" in told:
        return str(told["ScalarType"])
    return "TIMESERIES" if "TimeSeriesMeasureValueColumnInfo" in told else "ARRAY or ROW"


def _value(datum: dict[str, Any]) -> Any:
    if datum.get("NullValue"):
        return None
    if "ScalarValue" in datum:
        return datum["ScalarValue"]
    return json.dumps(datum, default=str)


def _text(value: Any) -> str:
    """A text as SQL has it."""
    return "'" + str(value).replace("'", "''") + "'"


def _epoch_ms(text: str) -> int:
    """Milliseconds of Timestream's text form of a time (nanoseconds, UTC)."""
    whole, _, fraction = text.partition(".")
    seconds = dt.datetime.fromisoformat(whole).replace(tzinfo=dt.UTC).timestamp()
    return int(seconds) * 1000 + int((fraction + "000")[:3])


def _closed(**values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def _opened(cursor: str) -> dict[str, Any] | None:
    if not cursor:
        return None
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor))
        return {"as_of": int(values["as_of"]), "at": int(values["at"]), "device": values["device"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ApiProblem("the cursor is none of this page's", status=400) from error
