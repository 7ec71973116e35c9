from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.verify.alarms import AlarmReader, Transition, outcomes, still_due_ms
from simulator.events import read_events
from simulator.scenario import RunInfo, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

T0 = 1_700_000_000_000
RUN = RunInfo("r", T0, "local", "t", "kinesis", (0, 10))


def scenario(**expectation: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "alarmed",
            "fleet": {
                "devices": 10,
                "classes": [
                    {"name": "a", "share": 1, "signals": {"t": {"model": "constant", "value": 1}}}
                ],
            },
            "rate": [{"shape": "constant", "rate": "10/s", "duration": "60s"}],
            "faults": [
                {"name": "hot", "kind": "overheat", "signal": "t", "offset": 1, "share": 1,
                 "start": "10s", "duration": "20s", "alarm": "critical-readings"}
            ],
            "expect": {
                "alarms": [
                    {"name": "critical-readings", "fires_within": "15s", "recovers_within": "30s",
                     **expectation}
                ]
            },
        }
    )  # fmt: skip


def at(seconds: float, state: str, alarm: str = "critical-readings") -> Transition:
    return Transition(T0 + round(seconds * 1000), alarm, state)


@pytest.mark.parametrize(
    ("transitions", "fired", "recovered", "ok"),
    [
        ([at(20, "ALARM"), at(50, "OK")], 10.0, 20.0, True),
        ([at(25, "ALARM"), at(60, "OK")], 15.0, 30.0, True),
        ([at(25.001, "ALARM"), at(50, "OK")], 15.001, 20.0, False),
        ([at(20, "ALARM"), at(60.001, "OK")], 10.0, 30.001, False),
        ([at(20, "ALARM")], 10.0, None, False),
        ([at(5, "ALARM"), at(9, "OK")], None, None, False),
        ([at(20, "ALARM"), at(25, "OK")], 10.0, -5.0, True),
        ([at(12, "OK"), at(20, "ALARM"), at(31, "INSUFFICIENT_DATA"), at(40, "OK")], 10.0, 10.0,
         True),
        ([at(20, "ALARM", "silent-fleet"), at(22, "OK", "silent-fleet")], None, None, False),
        ([], None, None, False),
    ],
)  # fmt: skip
def test_an_alarm_fires_after_the_start_and_recovers_after_the_end_of_its_fault(
    transitions: list[Transition], fired: float | None, recovered: float | None, ok: Any
) -> None:
    outcome = outcomes(scenario(), RUN, transitions)[0]
    assert (outcome.fired_after_s, outcome.recovered_after_s, outcome.ok) == (fired, recovered, ok)


def test_an_alarm_need_not_recover_where_that_is_not_asked() -> None:
    assert outcomes(scenario(recovers_within=None), RUN, [at(20, "ALARM")])[0].ok


def test_other_alarms_are_told_and_not_judged() -> None:
    told = outcomes(scenario(), RUN, [at(30, "ALARM", "iterator-age")])
    assert [(a.name, a.expected, a.ok) for a in told] == [
        ("critical-readings", True, False),
        ("iterator-age", False, True),
    ]


def test_waiting_ends_when_all_that_is_asked_has_happened_or_may_not_happen_any_more() -> None:
    assert still_due_ms(scenario(), RUN, []) == T0 + 25_000
    assert still_due_ms(scenario(), RUN, [at(20, "ALARM")]) == T0 + 60_000
    assert still_due_ms(scenario(), RUN, [at(20, "ALARM"), at(40, "OK")]) == 0


def notice(name: str, state: str, t_ms: int) -> dict[str, Any]:
    when = dt.datetime.fromtimestamp(t_ms / 1000, dt.UTC)
    told = {
        "AlarmName": name,
        "NewStateValue": state,
        "StateChangeTime": f"{when:%Y-%m-%dT%H:%M:%S}.{t_ms % 1000:03d}+0000",
    }
    return {"Type": "Notification", "MessageId": str(uuid.uuid4()), "Message": json.dumps(told)}


@pytest.mark.asyncio(loop_scope="module")
async def test_messages_become_events_once_and_those_from_before_the_run_do_not(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    start_ms = run.info.start_ms
    full = "fleetcast-critical-readings-t"
    url = cloud.outputs.probe_queue_url
    await cloud.send(
        url,
        [
            notice(full, "ALARM", start_ms - 1),
            notice(full, "OK", start_ms + 2345),
            notice(full, "ALARM", start_ms + 1234),
            notice("somebody-elses", "ALARM", start_ms + 1),
            {"Type": "SubscriptionConfirmation"},
            "no envelope",
        ],
    )
    sqs = cloud.clients["sqs"]
    for _ in range(2):
        reader = AlarmReader(sqs, cloud.outputs, run.info, run.folder, wait_s=0)
        await reader.poll()
        assert reader.transitions == [
            Transition(start_ms + 1234, "critical-readings", "ALARM"),
            Transition(start_ms + 2345, "critical-readings", "OK"),
        ]
    assert [e["state"] for e in read_events(run.folder) if e["event"] == "alarm"] == [
        "OK",
        "ALARM",
    ]
