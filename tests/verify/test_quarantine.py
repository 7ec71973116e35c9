from __future__ import annotations

import base64
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from fleetcast.verify.quarantine import FILE_NAME, QuarantineReader
from fleetcast.verify.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")


def message(payload: bytes, reason: str) -> dict[str, str]:
    return {"reason": reason, "payload_base64": base64.b64encode(payload).decode()}


def due(run: Any) -> dict[int, str]:
    """Readings to be refused, with the true reason."""
    truth = run.truth
    return {
        k: truth.reasons[truth.refusal[k]] for k in range(len(truth.refusal)) if truth.refusal[k]
    }


def reader_of(cloud: Any, run: Any, url: str) -> QuarantineReader:
    return QuarantineReader(cloud.clients["sqs"], url, run.truth, run.folder, wait_s=0)


async def waiting(cloud: Any, url: str) -> int:
    answer = await cloud.clients["sqs"].get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest_asyncio.fixture(loop_scope="module")
async def url(cloud: Any) -> str:
    """A queue of the test's own."""
    created = await cloud.clients["sqs"].create_queue(QueueName=f"q-{uuid.uuid4().hex}")
    return str(created["QueueUrl"])


async def test_refused_readings_are_kept_with_their_reason_and_taken_from_the_queue(
    cloud: Any, make_run: Callable[..., Any], url: str
) -> None:
    run = make_run()
    wanted = due(run)
    assert len(wanted) > 3
    await cloud.send(url, [message(run.payloads[k], why) for k, why in wanted.items()])
    reader = reader_of(cloud, run, url)
    await reader.poll()
    assert reader.refused() == Refused(expected=len(wanted), quarantined=len(wanted))
    kept = [json.loads(line) for line in (run.folder / FILE_NAME).read_text().splitlines()]
    assert sorted(entry["reason"] for entry in kept) == sorted(wanted.values())
    assert await waiting(cloud, url) == 0


async def test_asked_again_it_says_the_same_from_the_file(
    cloud: Any, make_run: Callable[..., Any], url: str
) -> None:
    run = make_run()
    wanted = due(run)
    await cloud.send(url, [message(run.payloads[k], why) for k, why in wanted.items()])
    first = reader_of(cloud, run, url)
    await first.poll()
    before = (run.folder / FILE_NAME).read_text()
    second = reader_of(cloud, run, url)
    await second.poll()
    assert second.refused() == first.refused()
    assert (run.folder / FILE_NAME).read_text() == before


async def test_messages_of_others_go_back_into_the_queue(
    cloud: Any, make_run: Callable[..., Any], url: str
) -> None:
    run, other = make_run(), make_run()
    theirs = due(other)
    strangers = [{"anything": 1}, "text", message(b"unknown", "not_json")]
    await cloud.send(url, strangers)
    await cloud.send(url, [message(other.payloads[k], why) for k, why in theirs.items()])
    reader = reader_of(cloud, run, url)
    await reader.poll()
    assert reader.refused() == Refused(expected=len(due(run)), missing=len(due(run)))
    assert await waiting(cloud, url) == len(theirs) + len(strangers)


async def test_wrong_reasons_unexpected_and_repeated_messages_are_counted(
    cloud: Any, make_run: Callable[..., Any], url: str
) -> None:
    run = make_run()
    wanted = due(run)
    first, second, *rest = sorted(wanted)
    sound = next(k for k in run.payloads if k not in wanted)
    await cloud.send(
        url,
        [
            message(run.payloads[first], "another reason"),
            message(run.payloads[second], wanted[second]),
            message(run.payloads[second], wanted[second]),
            message(run.payloads[sound], "timestream_rejected"),
        ],
    )
    reader = reader_of(cloud, run, url)
    await reader.poll()
    assert reader.refused() == Refused(
        expected=len(wanted),
        quarantined=3,
        missing=len(rest),
        wrong_reason=1,
        unexpected=1,
        repeated=1,
    )
    assert sorted(k for k in range(len(reader.quarantined)) if reader.quarantined[k]) == sorted(
        [first, second, sound]
    )
