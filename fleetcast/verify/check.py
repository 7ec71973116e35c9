"""The judgement: what was asked of a run against what was found. Nothing here reads or waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetcast.verify.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetcast.verify.verdict import AlarmOutcome, Landed, Order, Rate, Refused
    from simulator.scenario import Expectations


def judge(
    expect: Expectations,
    *,
    complete: bool,
    failed: int,
    landed: Mapping[str, Landed],
    refused: Refused | None,
    unreadable: Mapping[str, str],
    latency_ms: Mapping[str, float] | None,
    rate: Rate,
    alarms: Sequence[AlarmOutcome],
    probed: bool,
    archive_latency_ms: Mapping[str, float] | None,
    order: Mapping[str, Order],
) -> list[Check]:
    """The checks of a run.

    Args:
        expect: What the scenario asks for.
        complete: Whether the whole schedule was released.
        failed: Readings that the target surely did not take.
        landed: By store, of those that were looked at.
        refused: What is in quarantine; None where that was not looked at.
        unreadable: Archive objects that cannot be read, with the reason.
        latency_ms: From device to row; None where that cannot be told.
        rate: Of the run.
        alarms: What they did.
        probed: Whether the stack has a queue through which alarms can be seen.
        archive_latency_ms: From acknowledgement to object; None where there is no archive.
        order: What came out of order, by where.
    """
    checks = [
        Check(
            "complete",
            complete,
            "every scheduled reading was released"
            if complete
            else "the run was stopped before its schedule ended",
        ),
        _at_most("failed", failed, expect.failed, "readings were not taken by the target"),
    ]
    for store, found in landed.items():
        checks += _landed_checks(store, found, expect)
    if unreadable:
        key, why = next(iter(sorted(unreadable.items())))
        checks.append(
            Check(
                "archive.readable",
                ok=False,
                detail=f"{len(unreadable)} objects, first {key}: {why}",
            )
        )
    if refused is not None:
        checks.append(_refused_check(refused))
    if expect.rate_error_pct is not None:
        checks.append(
            Check(
                "rate",
                abs(rate.error_pct) <= expect.rate_error_pct,
                f"{rate.achieved:.1f}/s of {rate.target:.1f}/s is {rate.error_pct:+.2f} %, "
                f"allowed {expect.rate_error_pct:g} %",
            )
        )
    if latency_ms is not None:
        checks += _latency_checks("landing_latency", expect, latency_ms)
    if archive_latency_ms is not None:
        checks += _latency_checks("archive_latency", expect, archive_latency_ms)
    checks += _order_checks(expect, order)
    asked = {expectation.name: expectation for expectation in expect.alarms}
    for alarm in alarms:
        if not alarm.expected:
            continue
        wanted = asked[alarm.name]
        recovers = (
            "" if wanted.recovers_within is None else f", recovered {_s(alarm.recovered_after_s)} "
            f"after its end, allowed {wanted.recovers_within:g} s"
        )  # fmt: skip
        detail = (
            f"fired {_s(alarm.fired_after_s)} after the fault's start, allowed "
            f"{wanted.fires_within:g} s{recovers}"
        )
        if not probed:
            detail = "the stack has no probe queue to see alarms through: deploy it with one"
        checks.append(Check(f"alarm.{alarm.name}", alarm.ok, detail))
    return checks


def _refused_check(refused: Refused) -> Check:
    wrong = refused.missing + refused.wrong_reason + refused.unexpected
    return Check(
        "refused",
        wrong == 0,
        f"{refused.quarantined} in quarantine, {refused.expected} expected, missing "
        f"{refused.missing}, wrong reason {refused.wrong_reason}, unexpected "
        f"{refused.unexpected}",
    )


def _latency_checks(
    prefix: str, expect: Expectations, latency_ms: Mapping[str, float]
) -> list[Check]:
    """One for each percentile that is asked for; that of p99 has the plain name."""
    checks = []
    for percentile in ("p50", "p95", "p99"):
        within_s = getattr(expect, f"{prefix}_{percentile}")
        if within_s is None:
            continue
        found_ms = latency_ms.get(percentile)
        checks.append(
            Check(
                prefix if percentile == "p99" else f"{prefix}_{percentile}",
                found_ms is not None and found_ms <= within_s * 1000,
                "nothing landed"
                if found_ms is None
                else f"{percentile} {found_ms:.0f} ms, allowed {within_s * 1000:.0f} ms",
            )
        )
    return checks


def _order_checks(expect: Expectations, order: Mapping[str, Order]) -> list[Check]:
    if expect.out_of_order is None:
        return []
    found = order.get("stream")
    if found is None:
        detail = "no reading's sequence number is known: only transport kinesis tells them"
        return [Check("out_of_order", ok=False, detail=detail)]
    what = f"of {found.compared} readings lie in the stream behind a later one of their device"
    return [_at_most("out_of_order", found.out_of_order, expect.out_of_order, what)]


def _landed_checks(store: str, found: Landed, expect: Expectations) -> list[Check]:
    return [
        _at_most(f"{store}.lost", found.lost, expect.lost, "acknowledged readings are not there"),
        _at_most(
            f"{store}.duplicated", found.duplicated, expect.duplicated, "copies beyond those sent"
        ),
        _at_most(f"{store}.phantom", found.phantom, 0, "readings that must not be there"),
        _at_most(f"{store}.corrupted", found.corrupted, 0, "readings with another content"),
        _at_most(f"{store}.late", found.late, 0, "readings after the landing deadline"),
    ]


def _at_most(name: str, found: int, allowed: int, what: str) -> Check:
    return Check(name, found <= allowed, f"{found} {what}, allowed {allowed}")


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
