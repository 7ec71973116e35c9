"""The page in a real browser: what is drawn, what turns red, what is said, by whom it is served."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from dashboards.live import serve
from fleetcast.cli.dashboard import way_to
from fleetcast.home import runs_dir
from fleetcast.target import Target
from tests.dashboards.browser import Browser, chromium
from tests.dashboards.conftest import DEVICES, ENVIRONMENT, Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIVE = "document.getElementById('status').className === 'live'"
DRAWN = "document.documentElement.dataset.drawn === 'true'"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def window(tmp_path_factory) -> AsyncIterator[Browser]:
    async with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(deployed, window) -> AsyncIterator[str]:
    async with serve(deployed.target, ENVIRONMENT) as served:
        # The tab keeps the token: a reload, or another view, needs no other.
        await window.open(served.address)
        yield served.url


@pytest_asyncio.fixture(loop_scope="module")
async def browser(window: Browser, request) -> AsyncIterator[Browser]:
    """A clean slate; what the page showed at the end is kept where FLEETCAST_SCREENSHOTS says."""
    window.errors.clear()
    window.requested.clear()
    await window.size(1280, 1000)
    yield window
    folder = os.environ.get("FLEETCAST_SCREENSHOTS")
    if folder:
        await asyncio.to_thread(Path(folder).mkdir, parents=True, exist_ok=True)
        await window.picture(Path(folder) / f"{request.node.name}.png")


async def test_charts_draw_the_values_of_the_api_without_an_error_or_a_foreign_request(
    browser, url
):
    await browser.open(url)
    await browser.until(f"{LIVE} && {DRAWN}")
    # Values go on arriving: what is drawn is that of a moment ago until it is drawn again.
    filled = await browser.until(
        """(async () => {
          const { ask } = await import('/static/api.js');
          const told = await ask('dashboard', { params: { range_s: 900 } });
          const lines = told.widgets.filter((w) => w.view === 'timeSeries').map((widget) => {
            const chart = document.querySelector(`[data-widget=${widget.id}] .chart`);
            const drawn = (chart.data ?? []).map((line) => line.y.filter((y) => y != null));
            return [JSON.stringify(drawn), JSON.stringify(widget.series.map((s) => s.values))];
          });
          const same = lines.every(([drawn, values]) => drawn === values);
          return same && lines.filter(([, values]) => /\\d/.test(values)).length;
        })()"""
    )
    assert filled >= 12
    assert browser.errors == []
    assert {one.split("/")[2] for one in browser.requested if one.startswith("http")} == {
        url.split("/")[2]
    }


async def test_an_alarm_that_fires_turns_red_is_counted_and_announced(browser, deployed, url):
    name = deployed.outputs.alarms["timeseries-rejections"]
    async with deployed.target.client("cloudwatch") as client:
        await client.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="calm")
        await browser.open(f"{url}#alarms")
        card = f"document.querySelector('#alarms [data-alarm={name}]')"
        await browser.until(f"{card}?.classList.contains('OK')")
        calm = await browser.run(f"getComputedStyle({card}).borderRightColor")
        # Two metric periods of ten seconds have something to see.
        for _ in range(2):
            await client.put_metric_data(
                Namespace="Fleetcast",
                MetricData=[
                    {
                        "MetricName": "TimestreamRejected", "Value": 1,
                        "Dimensions": [{"Name": "Environment", "Value": ENVIRONMENT}],
                    }
                ],
            )  # fmt: skip
    await browser.until(f"{card}.classList.contains('ALARM')", timeout_s=60)
    red = await browser.run(f"getComputedStyle({card}).borderRightColor")
    assert red != calm
    assert red == "rgb(185, 28, 28)"
    assert int(await browser.run("document.getElementById('firing').textContent")) >= 1
    assert await browser.until(
        "document.getElementById('announce').textContent.includes('timeseries-rejections')"
    )
    row = await browser.until("document.querySelector('#history tbody tr').innerText")
    assert "ALARM" in row
    await browser.run("document.getElementById('tab-board').click()")
    assert await browser.until(
        f"document.querySelector('#grid [data-alarm={name}].ALARM') !== null"
    )
    assert browser.errors == []


async def test_the_token_leaves_the_address_and_without_it_the_page_says_what_to_do(
    browser, deployed
):
    shown = "!document.getElementById('banner').hidden"
    async with serve(deployed.target, ENVIRONMENT) as served:
        await browser.open(f"{served.url}#fleet")
        banner = await browser.until(f"{shown} && document.getElementById('banner').textContent")
        assert "open the address that fleetcast dashboard printed" in banner
        # In the same tab, as somebody does who reads that.
        await browser.run(f"location.href = {json.dumps(served.address)}")
        await browser.until(f"{LIVE} && document.getElementById('banner').hidden")
        assert served.token not in await browser.run("location.href")
        await browser.open(f"{served.url}#fleet")
        await browser.until(f"{LIVE} && document.getElementById('banner').hidden")
    assert all(" 401 " in one for one in browser.errors)
    assert not [one for one in browser.requested if served.token in one.partition("#")[0]]


async def test_the_file_that_is_opened_leads_to_the_page(browser, deployed):
    async with serve(deployed.target, ENVIRONMENT) as served:
        with way_to(served.address) as way:
            await browser.send("Page.navigate", url=way.as_uri())
            await browser.until(f"location.origin + '/' === {json.dumps(served.url)} && {LIVE}")
    assert browser.errors == []


async def test_the_query_box_shows_rows_errors_and_more_rows(browser, url):
    await browser.open(f"{url}#query")
    await browser.until("document.getElementById('query-text').value.includes('FROM')")
    await browser.run("document.getElementById('query-text').focus()")
    await browser.press("Enter", modifiers=2)
    await browser.until("document.querySelectorAll('#answer tbody tr').length > 0")

    async def run(text: str) -> None:
        await browser.run(f"document.getElementById('query-text').value = {json.dumps(text)}")
        await browser.run("document.querySelector('#query-form button').click()")

    await run("SELECT nothing FROM a.b")
    error = await browser.until(
        "!document.getElementById('query-error').hidden && "
        "document.getElementById('query-error').textContent"
    )
    assert error == "ValidationException: Database 'a' does not exist."
    assert await browser.run("document.querySelectorAll('#answer tr').length") == 0
    await run("DROP TABLE x")
    await browser.until("document.getElementById('query-error').textContent.includes('only reads')")
    await run("SELECT '<b id=\"owned\">' AS text, CAST(NULL AS BIGINT) AS none")
    cells = "[...document.querySelectorAll('#answer td')].map((cell) => cell.textContent)"
    await browser.until(f"{cells}.length === 2")
    assert await browser.run(cells) == ['<b id="owned">', "null"]
    assert await browser.run("document.getElementById('owned')") is None
    assert all(" 502 " in one or " 400 " in one for one in browser.errors)


async def test_the_fleet_is_drawn_by_pages_and_by_keys(browser, deployed, url):
    await deployed.write([f"zone-{n:04d}" for n in range(150)], at_ms=int(time.time() * 1000))
    await browser.open(f"{url}#fleet")
    await browser.until("document.querySelectorAll('#devices tbody tr').length === 100")
    first = await browser.run("document.querySelector('#devices tbody tr').innerText")
    await browser.run("document.getElementById('devices-next').click()")
    await browser.until("document.getElementById('devices-said').textContent.startsWith('page 2')")
    assert await browser.run("document.querySelector('#devices tbody tr').innerText") != first
    await browser.until(
        "document.getElementById('map').getAttribute('aria-label').includes('devices')"
    )
    await browser.run("document.getElementById('map').focus()")
    await browser.press("Home")
    at = "document.getElementById('map-at').textContent"
    one = await browser.until(f"{at}.includes('last reading') && {at}")
    await browser.press("ArrowRight")
    await browser.until(f"{at} !== {json.dumps(one)}")
    await browser.press("Enter")
    await browser.until("document.getElementById('device').open")
    await browser.until("document.querySelectorAll('#device .js-plotly-plot').length > 0")
    assert browser.errors == []


async def test_the_map_is_coloured_by_age(browser, deployed, url):
    await deployed.write(["age-0001"], at_ms=int(time.time() * 1000))
    await browser.open(f"{url}#fleet")
    seen = """(() => {
      const canvas = document.getElementById('map');
      if (!canvas.width) return 0;
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let fresh = 0;
      for (let at = 0; at < data.length; at += 4)
        if (data[at] < 60 && data[at + 1] > 150 && data[at + 2] > 90 && data[at + 3] > 90) fresh += 1;
      return fresh;
    })()"""
    assert await browser.until(f"{seen} > 40")


async def test_runs_show_their_progress_and_end(browser, deployed, url):
    await browser.open(f"{url}#runs")
    row = f"document.querySelector('[data-run={deployed.run_id}]')"
    text = await browser.until(f"{row}?.innerText")
    assert "ended" in text
    assert "300" in text
    await browser.until("document.querySelector('#run-now progress') !== null")
    assert browser.errors == []


async def test_a_cloud_that_goes_away_is_told_and_the_page_stays_and_goes_on(browser, deployed):
    there = int(deployed.target.endpoint_url.rpartition(":")[2])
    line = Line(there)
    await line.mend()
    async with serve(Target.named("local", port=line.port), ENVIRONMENT) as served:
        await browser.open(served.address)
        await browser.until(f"{LIVE} && {DRAWN}")
        before = await browser.run("document.querySelectorAll('#grid .widget').length")
        await line.cut()
        banner = await browser.until(
            "!document.getElementById('banner').hidden && "
            "document.getElementById('banner').textContent"
        )
        assert "run fleetcast cloud start" in banner
        assert "Shown is what was there at" in banner
        assert await browser.run("document.getElementById('status').className") == "away"
        assert await browser.run("document.querySelectorAll('#grid .widget').length") == before
        await line.mend()
        await browser.until(f"{LIVE} && document.getElementById('banner').hidden")
    banner = await browser.until(
        "!document.getElementById('banner').hidden && document.getElementById('banner').textContent"
    )
    assert "run fleetcast dashboard again" in banner
    assert await browser.run("document.querySelectorAll('#grid .widget').length") == before
    await line.cut()


async def test_without_a_stack_the_page_says_how_to_get_one(browser, deployed):
    async with serve(deployed.target, "nobody") as served:
        await browser.open(served.address)
        banner = await browser.until(
            "!document.getElementById('banner').hidden && "
            "document.getElementById('banner').textContent"
        )
        assert "run fleetcast deploy --target local --env nobody" in banner


@pytest.mark.parametrize("tab", ["board", "alarms", "fleet", "query", "runs"])
async def test_a_narrow_screen_shows_everything_without_a_sideways_scroll(
    browser, deployed, url, tab
):
    (runs_dir() / deployed.run_id / "report.html").write_text("<p>the report</p>")
    await browser.size(360, 740, dark=True)
    await browser.open(f"{url}#{tab}")
    await browser.until(LIVE)
    if tab == "board":
        await browser.until(DRAWN)
        sizes = await browser.run(
            "[...document.querySelectorAll('.widget')].map((w) => w.getBoundingClientRect().width)"
        )
        assert min(sizes) > 300
    wide = await browser.run(
        """[...document.querySelectorAll('main *')].filter(
          (e) => e.getBoundingClientRect().right > 361 && !e.closest('.wide')
        ).map((e) => `${e.tagName} ${e.id} ${e.className.baseVal ?? e.className}`)"""
    )
    assert wide == []
    if tab == "runs":
        await browser.until("document.querySelector('#run-list a') !== null")
    assert await browser.run("document.documentElement.scrollWidth") <= 360


async def test_tabs_and_themes_work_from_the_keyboard(browser, url):
    await browser.open(url)
    await browser.until(LIVE)
    await browser.run("document.getElementById('tab-board').focus()")
    await browser.press("ArrowRight")
    assert await browser.run("document.activeElement.id") == "tab-alarms"
    assert await browser.run("document.getElementById('alarms').hidden") is False
    unnamed = await browser.run(
        """[...document.querySelectorAll('button, select, input, textarea, canvas')].filter(
          (e) => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))
        ).map((e) => e.id || e.outerHTML)"""
    )
    assert [one for one in unnamed if one != "map"] == []
    light = await browser.run("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        await browser.run("document.getElementById('theme').click()")
    assert await browser.run("document.documentElement.dataset.theme") == "dark"
    assert await browser.run("getComputedStyle(document.body).backgroundColor") != light
    await browser.run("document.getElementById('theme').click()")


async def test_a_chart_shows_its_values_as_a_table(browser, url):
    await browser.open(url)
    await browser.until(f"{LIVE} && {DRAWN}")
    words = await browser.run("document.querySelector('.widget.metric .chart').ariaLabel")
    assert "Readings" in words or "none" in words or ":" in words
    await browser.run("document.querySelector('.widget.metric .values').click()")
    heads = (
        "[...document.querySelectorAll('.widget.metric.open th')].map((cell) => cell.textContent)"
    )
    assert await browser.run(heads) == ["", "Last", "Min", "Mean", "Max", "At"]


async def test_many_devices_that_update_keep_the_map_moving(browser, url, deployed):
    """A thousand devices: every update asks for frames, and the page goes on answering."""
    devices = [f"many-{n:05d}" for n in range(1000)]
    await deployed.write(devices, at_ms=int(time.time() * 1000) - 500)
    await browser.open(f"{url}#fleet")
    label = "document.getElementById('map-summary').textContent"
    await browser.until(f"parseInt({label}.replace(',', '')) >= {1000 + DEVICES}")
    frames = "import('/static/map.js').then((map) => map.drawing.frames)"
    before = await browser.run(frames)
    await deployed.write(devices, at_ms=int(time.time() * 1000))
    await browser.until(f"{frames}.then((now) => now > {before} + 5)")
    assert browser.errors == []
