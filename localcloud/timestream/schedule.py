"""When a scheduled query is due: `rate(5 minutes)` and `cron(0/15 8-18 ? * MON-FRI *)`, in UTC.

Follows "Schedule expressions for scheduled queries"; of cron's signs L, W and # are not served.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from localcloud.http import AwsError

_RATE = re.compile(r"rate\(\s*(\d+)\s+(minute|hour|day)(s?)\s*\)")
_CRON = re.compile(r"cron\(\s*(.*?)\s*\)")
_UNITS_S = {"minute": 60, "hour": 3600, "day": 86_400}
_MONTHS = dict(
    zip(
        ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
        range(1, 13),
        strict=True,
    )
)
_DAYS = dict(zip(["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"], range(1, 8), strict=True))
# Lowest, highest and names of each field.
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minutes", 0, 59, {}), ("hours", 0, 23, {}), ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS), ("day of week", 1, 7, _DAYS), ("year", 1970, 2199, {}),
)  # fmt: skip
_HORIZON_DAYS = 366 * 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to run: either every so many seconds from a start, or at the times of a cron expression."""

    every_s: int | None
    fields: tuple[frozenset[int], ...] = ()

    @classmethod
    def parse(cls, expression: str) -> Schedule:
        """The schedule of an expression.

        Raises:
            AwsError: ValidationException.
        """
        rate = _RATE.fullmatch(expression)
        if rate:
            count, unit, plural = int(rate[1]), rate[2], rate[3]
            if count < 1 or (count == 1) == bool(plural):
                raise _invalid(expression, "write rate(1 minute) or rate(2 minutes)")
            return cls(count * _UNITS_S[unit])
        cron = _CRON.fullmatch(expression)
        parts = cron[1].split() if cron else []
        if len(parts) != len(_FIELDS):
            raise _invalid(expression, "write rate(value unit) or cron() of six fields")
        if (parts[2] == "?") == (parts[4] == "?"):
            raise _invalid(expression, "one of day of month and day of week must be ?")
        return cls(
            None,
            tuple(
                _values(expression, part, field) for part, field in zip(parts, _FIELDS, strict=True)
            ),
        )

    def next_after(self, moment_s: float, start_s: float) -> float | None:
        """The first time after `moment_s`, in seconds since the epoch; None if there is none.

        Args:
            moment_s: After when.
            start_s: From when on a rate counts.
        """
        if self.every_s is not None:
            passed = max(0, int((moment_s - start_s) // self.every_s))
            due = start_s + passed * self.every_s
            return due if due > moment_s else due + self.every_s
        minutes, hours, days, months, weekdays, years = self.fields
        begin = dt.datetime.fromtimestamp(moment_s // 60 * 60 + 60, dt.UTC)
        for away in range(_HORIZON_DAYS):
            day = begin.date() + dt.timedelta(days=away)
            weekday = day.isoweekday() % 7 + 1
            if not (day.year in years and day.month in months and day.day in days
                    and weekday in weekdays):  # fmt: skip
                continue
            for hour in sorted(hours):
                for minute in sorted(minutes):
                    at = dt.datetime.combine(day, dt.time(hour, minute), dt.UTC)
                    if at >= begin:
                        return at.timestamp()
        return None


def _values(
    expression: str, part: str, field: tuple[str, int, int, dict[str, int]]
) -> frozenset[int]:
    name, low, high, names = field
    found: set[int] = set()
    for item in part.upper().split(","):
        span, _, step = item.partition("/")
        ends = span.split("-")
        try:
            if span in {"*", "?"}:
                first, last = low, high
            else:
                first = names.get(ends[0]) or int(ends[0])
                last = names.get(ends[-1]) or int(ends[-1])
                if step and len(ends) == 1:
                    last = high
            wide = int(step) if step else 1
        except ValueError as error:
            raise _invalid(expression, f"{item} is no value of the {name}") from error
        if not (low <= first <= last <= high and wide > 0):
            raise _invalid(expression, f"{item} is not in the {name}'s {low} to {high}")
        found.update(range(first, last + 1, wide))
    return frozenset(found)


def _invalid(expression: str, why: str) -> AwsError:
    return AwsError("ValidationException", f"Invalid schedule expression {expression!r}: {why}.")
