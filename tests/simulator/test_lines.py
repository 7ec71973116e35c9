from __future__ import annotations

import asyncio
import os
import select

import numpy as np
import pytest

from fleetcast.errors import TargetError
from simulator.batch import ACKED, FAILED, UNKNOWN, Batch
from simulator.transports.stream import LineTransport

pytestmark = pytest.mark.asyncio


class Finished:
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def rows(self):
        return np.concatenate([batch.rows for batch in self.batches])


async def test_every_reading_is_a_line_of_the_file_in_its_order(tmp_path, readings_of):
    done, path = Finished(), tmp_path / "readings.jsonl"
    path.write_text("what was there before")
    payloads = [f'{{"n":{n}}}'.encode() for n in range(100)]
    async with LineTransport(done, path) as transport:
        transport.send(readings_of(payloads[:30]))
        transport.send(readings_of(payloads[30:], first=30))
        await transport.drain()
        assert (transport.backlog, transport.in_flight) == (0, 0)
        assert transport.traffic.bytes == path.stat().st_size
    assert path.read_bytes().splitlines() == payloads
    assert (done.rows["outcome"] == ACKED).all()
    assert done.rows["k"].tolist() == list(range(100))
    assert (done.rows["acked_ns"] >= done.rows["sent_ns"]).all()


async def test_a_file_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path):
    with pytest.raises(TargetError) as caught:
        async with LineTransport(Finished(), tmp_path / "none" / "file"):
            pytest.fail("it opened")
    path = tmp_path / "none" / "file"
    assert str(caught.value) == f"{path} cannot be written: No such file or directory"


async def test_a_reader_that_does_not_read_makes_a_backlog_and_is_given_up(
    tmp_path, readings_of, eventually
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = Finished()
    # More than a pipe holds.
    async with LineTransport(done, pipe) as transport:
        transport.send(readings_of([b"x" * 300_000]))
        transport.send(readings_of([b"y" * 10] * 50, first=1))
        await eventually(lambda: select.select([reader], [], [], 0)[0])
        assert (transport.in_flight, transport.backlog) == (1, 50)
        await transport.abandon(0.01)
        assert (transport.in_flight, transport.backlog) == (0, 0)
    rows = done.rows[np.argsort(done.rows["k"])]
    assert rows["outcome"].tolist() == [UNKNOWN] + [FAILED] * 50
    os.close(reader)


async def test_a_reader_that_goes_away_is_counted(tmp_path, readings_of):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = Finished()
    async with LineTransport(done, pipe) as transport:
        os.close(reader)
        transport.send(readings_of([b"x"]))
        await asyncio.wait_for(transport.drain(), 60)
        assert transport.traffic.errors == 1
        assert "Broken pipe" in transport.traffic.last_error
    assert done.rows["outcome"].tolist() == [UNKNOWN]
