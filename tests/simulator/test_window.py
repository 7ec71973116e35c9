from __future__ import annotations

import asyncio

import pytest

from simulator.transports import window
from simulator.transports.window import Window


def test_throttling_takes_away_in_proportion_and_success_gives_back_slowly(monkeypatch):
    monkeypatch.setattr(window, "SETTLE_S", 0.0)
    bound = Window(16)
    assert bound.size == 16
    bound.answered(0.0)
    assert bound.size == 16
    bound.answered(1.0)
    assert bound.size == 8
    bound.answered(0.5)
    assert bound.size == 6
    for _ in range(7):
        bound.answered(0.0)
    assert bound.size == 7
    for _ in range(100):
        bound.answered(1.0)
    assert bound.size == 1
    for _ in range(1000):
        bound.answered(0.0)
    assert bound.size == 16


def test_answers_of_one_congestion_count_once(monkeypatch):
    monkeypatch.setattr(window, "SETTLE_S", 1e9)
    bound = Window(16)
    for _ in range(10):
        bound.answered(1.0)
    assert bound.size == 8


@pytest.mark.asyncio
async def test_no_more_enter_than_the_window_has_room_for():
    bound = Window(2)
    await bound.enter()
    await bound.enter()
    third = asyncio.create_task(bound.enter())
    await asyncio.sleep(0)
    assert not third.done()
    bound.leave()
    await asyncio.wait_for(third, 60)
