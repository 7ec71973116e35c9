from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetcast.verify import exceptions
from fleetcast.verify.archive import ArchivePlace, ArchiveReader
from fleetcast.verify.verdict import Landed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.asyncio(loop_scope="module")


def reader_of(cloud: Any, run: Any, *, late_after_s: float = 3600) -> ArchiveReader:
    deadline_ms = int((time.time() + late_after_s) * 1000)
    return ArchiveReader(
        cloud.clients["s3"], ArchivePlace.of_stack(cloud.outputs), run.truth, deadline_ms
    )


async def look(cloud: Any, run: Any, **more: Any) -> Landed:
    reader = reader_of(cloud, run, **more)
    await reader.poll()
    return reader.landed()


async def test_every_payload_as_it_was_sent_even_a_refused_one_has_landed(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = list(run.payloads.values())
    await cloud.put_object(lines[:50])
    await cloud.put_object(lines[50:])
    assert await look(cloud, run) == Landed(unique=len(lines))


async def test_objects_that_arrive_later_are_added_and_none_is_read_twice(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = list(run.payloads.values())
    reader = reader_of(cloud, run)
    await cloud.put_object(lines[:7])
    await reader.poll()
    assert reader.landed() == Landed(unique=7, lost=len(lines) - 7)
    await cloud.put_object(lines[7:])
    await reader.poll()
    await reader.poll()
    assert reader.landed() == Landed(unique=len(lines))


async def test_gzip_members_one_after_another_are_all_read(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = list(run.payloads.values())
    body = b"".join(gzip.compress(line + b"\n") for line in lines)
    await cloud.put_object([], body=body)
    assert await look(cloud, run) == Landed(unique=len(lines))


async def test_an_object_that_is_cut_off_is_told_and_its_readings_are_lost(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = list(run.payloads.values())
    whole = gzip.compress(b"\n".join(lines))
    key = await cloud.put_object([], body=whole[:-20])
    reader = reader_of(cloud, run)
    await reader.poll()
    assert reader.landed() == Landed(lost=len(lines))
    assert key in reader.unreadable


async def test_a_changed_byte_is_a_corrupted_reading(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    good = next(k for k in sorted(run.payloads) if not run.truth.refusal[k])
    changed = run.payloads[good].replace(b'"v":1', b'"v":2')
    assert changed != run.payloads[good]
    lines = [p for k, p in run.payloads.items() if k != good]
    await cloud.put_object([*lines, changed])
    assert await look(cloud, run) == Landed(unique=len(run.payloads), corrupted=1)


async def test_lines_of_others_are_counted_and_not_judged(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run, other = make_run(), make_run()
    await cloud.put_object([*run.payloads.values(), b"not JSON", *other.payloads.values()])
    reader = reader_of(cloud, run)
    await reader.poll()
    assert reader.landed() == Landed(unique=len(run.payloads))
    assert reader.foreign >= 1 + len(other.payloads)


async def test_a_line_of_the_run_that_was_never_sent_is_phantom(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    stranger = f'{{"device":"dev-000001","run":"{run.info.id}","seq":777}}'.encode()
    torn = f'{{"run":"{run.info.id}",'.encode()
    await cloud.put_object([*run.payloads.values(), stranger, torn])
    assert await look(cloud, run) == Landed(unique=len(run.payloads), phantom=2)


async def test_unknown_readings_may_be_there_or_not_and_failed_ones_must_not(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run({0: "unknown", 1: "unknown", 2: "failed", 3: "failed"})
    await cloud.put_object([p for k, p in run.payloads.items() if k not in (1, 3)])
    assert await look(cloud, run) == Landed(unique=len(run.payloads) - 3, phantom=1)


async def test_an_object_written_after_the_deadline_is_late(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run(start_ms=int(time.time() * 1000) - 120_000)
    lines = list(run.payloads.values())
    await cloud.put_object(lines, arrived_ms=run.info.start_ms)
    assert await look(cloud, run, late_after_s=-60) == Landed(unique=len(lines), late=len(lines))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_planted_copies_and_losses_are_counted_exactly(
    cloud: Any, make_run: Callable[..., Any], data: st.DataObject
) -> None:
    run = make_run()
    numbers = st.sets(st.sampled_from(sorted(run.payloads)), max_size=20)
    lost = data.draw(numbers, "lost")
    copies = data.draw(st.lists(st.sampled_from(sorted(set(run.payloads) - lost)), max_size=20))
    await cloud.put_object(
        [*(p for k, p in run.payloads.items() if k not in lost), *(run.payloads[k] for k in copies)]
    )
    assert await look(cloud, run) == Landed(
        unique=len(run.payloads) - len(lost), lost=len(lost), duplicated=len(copies)
    )


async def test_objects_as_they_lie_are_read_and_a_broken_one_is_named(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run()
    lines = list(run.payloads.values())
    packed = gzip.compress(b"\n".join(lines[:40]))
    await cloud.put_object([], body=packed)
    await cloud.put_object([], body=b"\n".join(lines[40:80]) + b"\n\n", name="plain.json")
    await cloud.put_object([], body=b"\xff\x00 a picture of a cat", name="cat.png")
    broken = await cloud.put_object([], body=b"no GZIP at all")
    await cloud.put_object(lines[80:])
    reader = reader_of(cloud, run)
    await reader.poll()
    assert reader.landed() == Landed(unique=len(lines))
    assert list(reader.unreadable) == [broken]
    assert reader.foreign >= 1


async def test_exceptions_name_the_readings_behind_the_numbers(
    cloud: Any, make_run: Callable[..., Any]
) -> None:
    run = make_run({4: "failed"})
    lines = dict(run.payloads)
    lost = lines.pop(0)
    damaged = lines[1].replace(b'"v":1', b'"v":2')
    strange = b'{"run":"%s","device":"dev-99"}' % run.info.id.encode()
    lines[1] = damaged
    await cloud.put_object([*lines.values(), lines[2], strange])
    reader = reader_of(cloud, run)
    await reader.poll()
    found = reader.exceptions().resolved(run.truth, run.folder)
    told = {(one.kind, one.seq, one.found) for one in found}
    text = damaged.decode()
    assert told == {
        ("lost", 0, ""),
        ("corrupted", 0, text),
        ("duplicated", 0, ""),
        ("phantom", 0, ""),
        ("phantom", -1, strange.decode()),
    }
    (gone,) = [one for one in found if one.kind == "lost"]
    assert f'"device":"{gone.device}"'.encode() in lost
    assert f'"ts":{gone.ts_ms}'.encode() in lost
    assert (gone.outcome, gone.shard, gone.sequence_number) == (
        "acked",
        "shardId-000000000000",
        "0",
    )
    exceptions.save(run.folder, found)
    assert exceptions.read(run.folder) == found
