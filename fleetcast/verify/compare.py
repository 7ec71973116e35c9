"""Two runs side by side: what changed from the first to the second, the worst first.

What was measured is never twice the same. Times, rates and the order of readings count as changed
where they differ by more than a tenth and by more than `Number.noise`; counts of readings that are
not as they should be always do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fleetcast.verify import sending
from fleetcast.verify.quantiles import NAMES
from fleetcast.verify.verdict import read_verdict
from simulator.scenario import load_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fleetcast.verify.sending import Sending
    from fleetcast.verify.verdict import AlarmOutcome, Verdict
    from simulator.scenario import RunInfo, Scenario

Change = Literal["worse", "better", "other"]
NOISE_SHARE = 0.1
NOISE_MS = 5.0
NOISE_S = 5.0
_RANKS: dict[Change, int] = {"worse": 0, "better": 1, "other": 2}
_AMISS = ("lost", "corrupted", "phantom", "duplicated", "late")
_PLACES = {"sent": "sent", "stream": "in the stream", "timeseries": "in Timestream",
           "archive": "in the archive"}  # fmt: skip
_SPANS = {
    ("timeseries", "from_event"): "timestamp to row",
    ("timeseries", "from_ack"): "acknowledgement to row",
    ("archive", "from_event"): "timestamp to object",
    ("archive", "from_ack"): "acknowledgement to object",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the two runs, with all that is compared."""

    run: RunInfo
    scenario: Scenario
    verdict: Verdict
    sending: Sending

    @classmethod
    def of_run(cls, run_dir: Path) -> Compared:
        """A verified run in its folder.

        Raises:
            UsageError: it has no verdict, or something of it is not readable.
        """
        verdict = read_verdict(run_dir)
        scenario, run = load_run(run_dir)
        return cls(run, scenario, verdict, sending.read(run_dir, run.start_ms))


@dataclass(frozen=True, slots=True)
class Number:
    """Something that both runs have a number of.

    Attributes:
        name: What it is.
        a: In the first run; None where it has none.
        b: In the second.
        unit: Of both.
        weight: What matters more has less.
        less_is_better: None where neither is.
        noise: A difference of this much is none; None is that every difference counts.
    """

    name: str
    a: float | None
    b: float | None
    unit: str = ""
    weight: int = 9
    less_is_better: bool | None = None
    noise: float | None = None

    @property
    def change(self) -> Change | None:
        """What became of it; None where it stayed as it was."""
        if self.a == self.b:
            return None
        if self.a is None or self.b is None:
            return "other"
        apart = abs(self.b - self.a)
        if self.noise is not None and apart <= max(self.noise, NOISE_SHARE * abs(self.a)):
            return None
        if self.less_is_better is None:
            return "other"
        return "worse" if (self.b > self.a) == self.less_is_better else "better"

    @property
    def ratio(self) -> float:
        """How many times as much the larger is; 0 where that says nothing."""
        low, high = sorted((abs(self.a or 0.0), abs(self.b or 0.0)))
        return high / low if low else 0.0

    def told(self) -> str:
        """Both values, and by how many per cent they differ."""
        percent = ""
        if self.a and self.b is not None and self.noise is not None:
            percent = f" ({(self.b / self.a - 1) * 100:+,.0f} %)"
        return f"{self.name}: {_value(self.a, self.unit)} -> {_value(self.b, self.unit)}{percent}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that changed, as it is told."""

    name: str
    change: Change
    a: float | None
    b: float | None
    unit: str
    told: str


@dataclass(frozen=True, slots=True)
class CheckChange:
    """A check that held in one run and fails in the other, or that one of them alone has.

    `a` and `b` are whether it holds; None where it was not asked for, or could not be.
    """

    name: str
    change: Change
    a: bool | None
    b: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from run `a` to run `b`.

    Attributes:
        a: Id of the first run.
        b: Id of the second.
        verdicts: Of both.
        worse: Whether the second's verdict is worse: it fails, and the first passes or holds a
            check that the second fails.
        checks: Those that changed, what got worse first.
        differences: Numbers that changed, the worst first.
        same: Names of the numbers that did not.
        scenario: What was asked for otherwise, a line for each field.
    """

    a: str
    b: str
    verdicts: tuple[str, str]
    worse: bool
    checks: list[CheckChange]
    differences: list[Difference]
    same: list[str]
    scenario: list[str]

    def lines(self) -> list[str]:
        """The comparison for a person."""
        first, second = self.verdicts
        lines = [f"{check.change:<11} check {check.name}: {check.detail}" for check in self.checks]
        lines += [f"{one.change:<11} {one.told}" for one in self.differences]
        lines += [f"scenario    {line}" for line in self.scenario]
        lines.append(
            f"same        {len(self.same)} other numbers, as far as they can be told apart"
        )
        judged = "worse" if self.worse else "not worse"
        lines.append(f"verdict     {self.a} {first}, {self.b} {second}: {judged}")
        return lines


def compare(a: Compared, b: Compared) -> Comparison:
    """Compares two verified runs."""
    checks = _checks(a.verdict, b.verdict)
    found = [(one, change) for one in _numbers(a, b) if (change := one.change)]
    found.sort(key=lambda pair: (_RANKS[pair[1]], pair[0].weight, -pair[0].ratio, pair[0].name))
    fell = any(check.a and check.b is False for check in checks)
    fails = b.verdict.verdict == "fail"
    return Comparison(
        a=a.run.id,
        b=b.run.id,
        verdicts=(a.verdict.verdict, b.verdict.verdict),
        worse=fails and (a.verdict.verdict == "pass" or fell),
        checks=checks,
        differences=[
            Difference(one.name, change, one.a, one.b, one.unit, one.told())
            for one, change in found
        ],
        same=[one.name for one in _numbers(a, b) if not one.change],
        scenario=list(_scenario(a, b)),
    )


def _checks(a: Verdict, b: Verdict) -> list[CheckChange]:
    first, second = ({check.name: check for check in verdict.checks} for verdict in (a, b))
    changed = []
    for name in dict.fromkeys((*second, *first)):
        was, now = first.get(name), second.get(name)
        if was and now and was.ok != now.ok:
            change: Change = "better" if now.ok else "worse"
            said = "failed, now holds" if now.ok else "held, now fails"
            changed.append(CheckChange(name, change, was.ok, now.ok, f"{said}: {now.detail}"))
        elif now and not was:
            said = "asked of the second run alone, and " + ("holds" if now.ok else "fails")
            changed.append(CheckChange(name, "other", None, now.ok, f"{said}: {now.detail}"))
        elif was and not now:
            said = "asked of the first run alone, and " + ("held" if was.ok else "failed")
            changed.append(CheckChange(name, "other", was.ok, None, f"{said}: {was.detail}"))
    blind, now_blind = ({one.name: one.why for one in verdict.not_checked} for verdict in (a, b))
    for which, those, others in (("first", blind, now_blind), ("second", now_blind, blind)):
        for name in those.keys() - others.keys():
            said = f"could not be asked of the {which} run: {those[name]}"
            changed.append(CheckChange(name, "other", None, None, said))
    return sorted(changed, key=lambda check: (_RANKS[check.change], check.name))


def _numbers(a: Compared, b: Compared) -> Iterator[Number]:
    """Everything that both verdicts and ledgers have numbers of."""
    one, two = a.verdict, b.verdict
    for store in dict.fromkeys((*one.landed, *two.landed)):
        for weight, kind in enumerate(_AMISS):
            was, now = (_attribute(v.landed.get(store), kind) for v in (one, two))
            yield Number(f"{store} {kind}", was, now, weight=weight, less_is_better=True)
    for kind in ("missing", "wrong_reason", "unexpected"):
        was, now = (getattr(v.refused, kind) for v in (one, two))
        yield Number(f"refused, {kind.replace('_', ' ')}", was, now, "", 1, less_is_better=True)
    for kind in ("failed", "unknown"):
        was, now = getattr(one, kind), getattr(two, kind)
        yield Number(f"{kind} readings", was, now, "", 2, less_is_better=True)
    yield from _alarms(one, two)
    error = (abs(one.rate.error_pct), abs(two.rate.error_pct))
    yield Number("rate error", *error, "%", 4, less_is_better=True, noise=0.1)
    retried = (a.sending.retried, b.sending.retried)
    yield Number("readings tried again", *retried, "", 5, less_is_better=True, noise=NOISE_MS)
    yield from _times(a, b)
    for place, what in _PLACES.items():
        was, now = (_attribute(v.order.get(place), "out_of_order") for v in (one, two))
        yield Number(f"out of order {what}", was, now, "", 7, less_is_better=True, noise=NOISE_MS)
    for kind in ("sent", "acked", "devices"):
        yield Number(kind, getattr(one, kind), getattr(two, kind))
    for store in dict.fromkeys((*one.landed, *two.landed)):
        was, now = (_attribute(v.landed.get(store), "unique") for v in (one, two))
        yield Number(f"{store} landed", was, now)
    yield Number("refused, in quarantine", one.refused.quarantined, two.refused.quarantined)
    yield Number("rate", one.rate.achieved, two.rate.achieved, "/s", noise=0.0)


def _times(a: Compared, b: Compared) -> Iterator[Number]:
    one, two = a.verdict, b.verdict
    lag = (one.rate.schedule_lag_ms, two.rate.schedule_lag_ms)
    yield from _percentiles("schedule lag", *lag)
    yield from _percentiles("sent to acknowledged", a.sending.answer_ms, b.sending.answer_ms)
    for (store, since), what in _SPANS.items():
        was, now = (verdict.latency_ms.get(store, {}).get(since, {}) for verdict in (one, two))
        if (store, since) == ("timeseries", "from_event"):
            # This one is of all rows, and older verdicts have it as well.
            was, now = one.landing_latency_ms, two.landing_latency_ms
        yield from _percentiles(what, was, now)


def _percentiles(what: str, a: Mapping[str, float], b: Mapping[str, float]) -> Iterator[Number]:
    for percentile in NAMES:
        was, now = a.get(percentile), b.get(percentile)
        if was is not None or now is not None:
            yield Number(
                f"{what}, {percentile}", was, now, "ms", 6, less_is_better=True, noise=NOISE_MS
            )


def _alarms(a: Verdict, b: Verdict) -> Iterator[Number]:
    first, second = ({alarm.name: alarm for alarm in verdict.alarms} for verdict in (a, b))
    for name in dict.fromkeys((*first, *second)):
        was, now = first.get(name), second.get(name)
        asked = any(alarm and alarm.expected for alarm in (was, now))
        for what, attribute in (("fired", "fired_after_s"), ("recovered", "recovered_after_s")):
            times = (_seconds(was, attribute), _seconds(now, attribute))
            better = True if asked else None
            yield Number(
                f"alarm {name} {what} after", *times, "s", 3, less_is_better=better, noise=NOISE_S
            )


def _seconds(alarm: AlarmOutcome | None, attribute: str) -> float | None:
    return None if alarm is None else getattr(alarm, attribute)


def _attribute(value: Any, name: str) -> float | None:
    return None if value is None else getattr(value, name)


def _scenario(a: Compared, b: Compared) -> Iterator[str]:
    """Fields of the two scenarios that differ."""
    first, second = (
        dict(_flat({"transport": one.run.transport, "target": one.run.target,
                    **one.scenario.model_dump(mode="json")}))
        for one in (a, b)
    )  # fmt: skip
    for field in dict.fromkeys((*first, *second)):
        was, now = (str(fields.get(field, "not there")) for fields in (first, second))
        if was != now:
            yield f"{field}: {was} -> {now}"


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every leaf."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from _flat(inner, f"{at}.{name}" if at else str(name))
    else:
        yield at, value


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    text = f"{value:,.0f}" if unit in ("", "ms") else f"{value:,.2f}"
    return f"{text}{'' if unit.startswith('/') or not unit else ' '}{unit}"
