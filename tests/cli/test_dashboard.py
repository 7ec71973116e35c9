from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest


@pytest.fixture
def interruptible():
    """A shell makes what it starts in the background ignore SIGINT, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_the_page_is_served_until_it_is_interrupted(place, number):
    page = subprocess.Popen(
        [sys.executable, "-m", "fleetcast", "dashboard", "--no-open", "--page-port", "0"],
        env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert page.stdout is not None
        said = page.stdout.readline()
        assert said.startswith("dashboard on http://127.0.0.1:")
        url = said.split()[2]
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            assert b"<title>fleetcast dashboard</title>" in answer.read()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}api/state")  # noqa: S310
        told = json.loads(refused.value.read())["error"]["told"]
        assert told.startswith("no stack 'dev' on target local")
        page.send_signal(number)
        _, errors = page.communicate(timeout=60)
        assert (page.returncode, errors) == (130, "fleetcast: interrupted\n")
    finally:
        page.kill()
        page.wait()


def test_a_page_for_aws_that_has_no_stack_says_so_and_a_wrong_target_is_refused(fleetcast):
    done = fleetcast("dashboard", "--target", "moon")
    assert done.returncode == 2
    assert "unknown target 'moon'" in done.stderr
    done = fleetcast("grafana", "--set", "shards=0")
    assert done.returncode == 2
    assert "shards" in done.stderr
