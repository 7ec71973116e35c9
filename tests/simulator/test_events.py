from __future__ import annotations

from simulator.events import EventLog, read_events


def test_a_line_of_events_that_was_cut_off_is_left_out(tmp_path):
    assert read_events(tmp_path) == []
    log = EventLog(tmp_path)
    log.add("one", t_ms=5, detail="x")
    log.add("two", t_ms=6)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"t_ms": 7, "ev')
    assert read_events(tmp_path) == [
        {"t_ms": 5, "event": "one", "detail": "x"},
        {"t_ms": 6, "event": "two"},
    ]
