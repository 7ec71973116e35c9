from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

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
        url, _, token = said.split()[2].partition("#token=")
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            assert b"<title>fleetcast dashboard</title>" in answer.read()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}api/state")  # noqa: S310
        assert refused.value.code == 401
        asked = urllib.request.Request(  # noqa: S310
            f"{url}api/state", headers={"Authorization": f"Bearer {token}"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked)  # noqa: S310
        told = json.loads(refused.value.read())["error"]["told"]
        assert told.startswith("no stack 'dev' on target local")
        page.send_signal(number)
        _, errors = page.communicate(timeout=60)
        assert (page.returncode, errors) == (130, "fleetcast: interrupted\n")
    finally:
        page.kill()
        page.wait()


@pytest.mark.usefixtures("interruptible")
def test_the_token_is_no_argument_of_the_browser_and_in_a_file_for_its_owner_alone(place, tmp_path):
    told, browser = tmp_path / "told", tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nfile="${{1#file://}}"\n'
        f'{{ echo "$@"; ls -l "$file"; cat "$file"; }} > {told}.part\nmv {told}.part {told}\n'
    )
    browser.chmod(0o755)
    page = subprocess.Popen(
        [sys.executable, "-m", "fleetcast", "dashboard", "--page-port", "0"],
        env={**place, "BROWSER": f"{browser} %s"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert page.stdout is not None
        address = page.stdout.readline().split()[2]
        token = address.partition("#token=")[2]
        give_up_s = time.monotonic() + 60
        while not told.exists():
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        arguments, listed, content = told.read_text().splitlines()
        assert len(token) >= 32
        assert token not in arguments
        assert listed.startswith("-rw------- ")
        assert address in content
        page.send_signal(signal.SIGINT)
        page.communicate(timeout=60)
        assert not list(Path(place["FLEETCAST_HOME"]).glob("dashboard-*.html"))
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
