from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleetcast.errors import TargetError
from fleetcast.target import Target
from fleetcast.verify import verify_run
from fleetcast.verify.readers import Patience

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline passes two seconds after the last acknowledgement."""
    monkeypatch.setattr(Patience, "of", lambda *_: Patience(2.0, 0.0, 0.05, 0))


async def land(cloud: Any, run: Any, lose: int = 0) -> None:
    truth = run.truth
    rows = [r for r in truth.rows(range(12)) if not truth.refusal[r.k]]
    await cloud.write_rows(run, rows[lose:])
    await cloud.put_object(run.payloads.values())
    await cloud.send(
        cloud.outputs.quarantine_queue_url,
        [
            {
                "reason": truth.reasons[truth.refusal[k]],
                "payload_base64": base64.b64encode(payload).decode(),
            }
            for k, payload in run.payloads.items()
            if truth.refusal[k]
        ],
    )


async def test_a_run_that_landed_passes_and_passes_again(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    await land(cloud, run)
    said: list[str] = []
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=said.append)
    assert [check for check in verdict.checks if not check.ok] == []
    assert verdict.verdict == "pass"
    assert verdict.landed["archive"].unique == verdict.sent == 120
    assert verdict.refused.quarantined == verdict.refused.expected > 0
    assert verdict.rate.error_pct == pytest.approx(0.0, abs=0.5)
    assert verdict.lines()[-1].startswith("verdict     pass (")
    again = await verify_run(run.folder, cloud.outputs, cloud.target, progress=said.append)
    assert again == verdict


@pytest.mark.usefixtures("impatient")
async def test_a_reading_that_never_lands_is_lost_after_the_deadline(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    await land(cloud, run, lose=1)
    verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    assert verdict.verdict == "fail"
    assert [check.name for check in verdict.checks if not check.ok] == ["timeseries.lost"]
    assert verdict.landed["timeseries"].lost == 1
    assert json.loads((run.folder / "verdict.json").read_text())["verdict"] == "fail"
    assert time.time() * 1000 > run.truth.last_acked_ms + 2000


@pytest.mark.usefixtures("impatient")
async def test_another_key_makes_everything_a_stranger_in_the_archive(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    await land(cloud, run)
    secrets = cloud.clients["secretsmanager"]
    arn = cloud.outputs.signing_secret_arn
    before = (await secrets.get_secret_value(SecretId=arn))["SecretString"]
    await secrets.put_secret_value(SecretId=arn, SecretString="another key")
    try:
        verdict = await verify_run(run.folder, cloud.outputs, cloud.target, progress=lambda _: None)
    finally:
        await secrets.put_secret_value(SecretId=arn, SecretString=before)
    assert verdict.verdict == "fail"
    assert verdict.landed["archive"].corrupted > 100


async def test_a_target_that_is_gone_is_told_in_one_line(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    gone = Target("local", "us-east-1", "http://127.0.0.1:9")
    with pytest.raises(TargetError, match=r"cannot read the signing key on http://127.0.0.1:9"):
        await verify_run(run.folder, cloud.outputs, gone, progress=lambda _: None)
