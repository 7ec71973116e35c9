from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fleetcast.verify import verify_run
from fleetcast.verify.readers import Patience
from simulator.scenario import Scenario
from stack.processor.quarantine import message

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("impatient"),
]

WINDOW = {"start": "1s", "duration": "1s"}
SCENARIO = Scenario.model_validate(
    {
        "name": "faulty",
        "seed": 5,
        "fleet": {
            "devices": 12,
            "classes": [
                {
                    "name": "a",
                    "share": 1,
                    "signals": {"t": {"model": "normal", "mean": 1, "sigma": 1}},
                }
            ],
        },
        "rate": [{"shape": "constant", "rate": "60/s", "duration": "2s"}],
        "faults": [
            {"name": "twice", "kind": "duplicate", "share": 0.3, **WINDOW},
            {"name": "gone", "kind": "dropout", "share": 0.2, **WINDOW},
            {"name": "old", "kind": "late", "by": "3d", "share": 0.2, **WINDOW},
            {"name": "skewed", "kind": "clock_skew", "offset": "5m", "share": 0.3, **WINDOW},
            {"name": "broken", "kind": "corrupt", "share": 0.1, **WINDOW},
            {"name": "big", "kind": "oversize", "share": 0.05, "size_bytes": 160000, **WINDOW},
        ],
    }
)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline passes two seconds after the last acknowledgement."""
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(2.0, 0.0, 0.05, 0))


async def land(
    cloud: Any,
    run: Any,
    *,
    copies: Callable[[int, int], int] = lambda _, sends: sends,
    also: tuple[int, ...] = (),
) -> None:
    """All that must land; `copies` gives the lines in the archive, `also` more rows."""
    truth = run.truth
    rows = [
        row
        for row in truth.rows(range(12))
        if (truth.sends[row.k] and not truth.refusal[row.k]) or row.k in also
    ]
    await cloud.write_rows(run, rows)
    lines = [
        payload
        for k, payload in run.payloads.items()
        for _ in range(copies(k, int(truth.sends[k])))
    ]
    await cloud.put_object(lines)
    refused = {k: p for k, p in run.payloads.items() if truth.refusal[k]}
    for k, payload in refused.items():
        told = message({"reason": truth.reasons[truth.refusal[k]]}, payload)
        await cloud.clients["sqs"].send_message(
            QueueUrl=cloud.outputs.quarantine_queue_url, MessageBody=told
        )


async def verdict_of(cloud: Any, run: Any) -> Any:
    return await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)


def failing(verdict: Any) -> list[str]:
    # Whether the machine was quick enough for the deadline is not what is asked here.
    return [c.name for c in verdict.checks if not c.ok and not c.name.endswith(".late")]


async def test_a_run_with_faults_passes_where_each_comes_to_what_it_must(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(scenario=SCENARIO)
    truth = run.truth
    assert {0, 1, 2} == set(truth.sends.tolist())
    reasons = {truth.reasons[reason] for reason in truth.refusal.tolist()}
    assert {"timestream_rejected", "out_of_range", "not_json"} <= reasons
    await land(cloud, run)
    verdict = await verdict_of(cloud, run)
    assert failing(verdict) == []
    sent = int(truth.sends.sum())
    assert (verdict.sent, verdict.acked) == (sent, sent)
    assert verdict.landed["archive"].unique == int((truth.sends > 0).sum())
    assert verdict.landed["timeseries"].unique == int(truth.must_land.sum())
    assert verdict.rate.error_pct == pytest.approx(0, abs=0.5)
    assert verdict.complete


async def test_a_copy_too_few_is_lost_and_one_too_many_duplicated(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(scenario=SCENARIO)
    twice = np.flatnonzero(run.truth.sends == 2).tolist()
    await land(cloud, run, copies=lambda k, sends: sends - (k == twice[0]) + (k == twice[1]))
    verdict = await verdict_of(cloud, run)
    assert failing(verdict) == ["archive.lost", "archive.duplicated"]
    assert (verdict.landed["archive"].lost, verdict.landed["archive"].duplicated) == (1, 1)


async def test_a_reading_that_was_never_sent_or_had_to_be_rejected_is_a_phantom(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(scenario=SCENARIO)
    truth = run.truth
    gone = int(np.flatnonzero(truth.sends == 0)[0])
    reason = truth.reasons.index("out_of_range")
    taken = int(np.flatnonzero(truth.refusal == reason)[0])
    await land(cloud, run, also=(gone, taken))
    verdict = await verdict_of(cloud, run)
    assert failing(verdict) == ["timeseries.phantom"]
    assert verdict.landed["timeseries"].phantom == 2


async def test_copies_of_unknown_outcome_may_be_there_or_not(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(scenario=SCENARIO)
    twice = np.flatnonzero((run.truth.sends == 2) & (run.truth.refusal == 0)).tolist()
    open_run = make_run(dict.fromkeys(twice, "unknown"), scenario=SCENARIO)
    assert open_run.truth.open_copies[twice].tolist() == [2] * len(twice)
    for times in (0, 1, 2):
        again = make_run(dict.fromkeys(twice, "unknown"), scenario=SCENARIO)
        await land(cloud, again, copies=lambda k, sends, n=times: n if k in twice else sends)
        assert failing(await verdict_of(cloud, again)) == []


async def test_a_payload_too_long_for_a_message_is_known_by_its_hash(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(scenario=SCENARIO)
    long = {k: p for k, p in run.payloads.items() if len(p) > 150_000}
    assert long
    for k, payload in long.items():
        assert "payload_sha256" in message({}, payload)
        assert base64.b64encode(payload).decode() not in message({}, payload)
        assert run.truth.find_sha256(hashlib.sha256(payload).hexdigest()) == k
    assert run.truth.find_sha256("0" * 64) == -1
