"""`fleetcast cloud fault`, as it is typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def cloud(fleetcast: Callable[..., Any]) -> Callable[..., Any]:
    """`fleetcast cloud fault ...` on a cloud that runs."""
    assert fleetcast("cloud", "start").returncode == 0
    return lambda *words: fleetcast("cloud", "fault", *words)


def test_a_fault_is_added_listed_and_cleared(
    cloud: Callable[..., Any], fleetcast: Callable[..., Any]
) -> None:
    added = cloud("add", "kinesis:PutRecords", "partial", "--records", "0.3", "--for", "5m",
                  "--share", "0.5", "--seed", "7", "--json")  # fmt: skip
    assert added.returncode == 0, added.stderr
    made = json.loads(added.stdout)
    assert (made["records"], made["share"], made["seed"], made["for_s"]) == (0.3, 0.5, 7, 300)
    slow = cloud("add", "timestream-query", "latency", "--latency", "100ms-2s")
    assert "latency on timestream:*, latency_ms 100.0-2000.0, active, fired 0" in slow.stdout

    listed = cloud("list")
    assert listed.stdout.splitlines()[0].startswith(
        f"{made['id']}: partial on kinesis:PutRecords, records 0.3, share 0.5, ends in "
    )
    assert f"fault {made['id']}: partial on kinesis" in fleetcast("cloud", "status").stdout
    assert cloud("clear", made["id"]).stdout == f"cleared {made['id']}\n"
    assert len(json.loads(cloud("clear", "--json").stdout)["cleared"]) == 1
    assert cloud("list").stdout == "no faults\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("add", "kinesis:PutRecordsX", "throttle"), "did you mean PutRecords?"),
        (("add", "kinesis", "storm"), "kind: Input should be"),
        (("add", "kinesis", "throttle", "--for", "soon"), "--for: 'soon' is not a duration"),
        (("add", "kinesis", "latency", "--latency", "5s-1s"), "is no range"),
        (("clear", "f-99"), "no fault f-99"),
        (("add", "kinesis"), "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    cloud: Callable[..., Any], words: tuple[str, ...], text: str
) -> None:
    refused = cloud(*words)
    assert refused.returncode == 2
    assert text in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("add", "kinesis", "throttle"), ("list",), ("clear",)], ids=lambda words: words[0]
)
def test_without_a_cloud_the_target_is_missing(
    fleetcast: Callable[..., Any], words: tuple[str, ...]
) -> None:
    refused = fleetcast("cloud", "fault", *words, "--port", "1")
    assert refused.returncode == 3
    assert "no local cloud on 127.0.0.1:1: run fleetcast cloud start" in refused.stderr


@pytest.mark.parametrize("command", ["add", "list", "clear"])
def test_help_has_an_example(fleetcast: Callable[..., Any], command: str) -> None:
    assert "Example: fleetcast cloud fault" in fleetcast("cloud", "fault", command, "-h").stdout
