// The map's data, the table of devices by pages, and one device's signals.
import { ask } from "./api.js";
import { lines } from "./charts.js";
import { $, ago, fill, make } from "./dom.js";
import * as map from "./map.js";

// The map asks for what is new; now and then for everything, for readings that came late.
const WHOLE_EVERY_MS = 30_000, BACK_MS = 900_000, OVERLAP_MS = 5_000;
// Where devices are so many that their sites are shown, each answer is a look at all of them.
const SITES_EVERY_MS = 15_000;
let since = 0, wholeAt = 0, bySite = false, next = "", page = 0, listed = false;

export async function refresh() {
  if ($("fleet").hidden || (bySite && Date.now() - wholeAt < SITES_EVERY_MS)) return;
  const whole = !since || Date.now() - wholeAt > WHOLE_EVERY_MS;
  const told = await ask("map", { params: { since_ms: whole ? Date.now() - BACK_MS : since } });
  if (whole) wholeAt = Date.now();
  bySite = Boolean(told.sites);
  const newest = map.update(told, whole);
  since = newest ? newest - OVERLAP_MS : since;
  if (!listed) await devices();
}

async function devices(after = "") {
  $("devices-said").textContent = "reading";
  try {
    const got = await ask("devices", { params: { order: $("order").value, within_s: $("within").value, search: $("search").value.trim(), after } });
    listed = true;
    next = got.next;
    page = after ? page + 1 : 1;
    fill($("devices").tBodies[0], got.rows.map(row), "No device has sent a reading in this time.");
    $("devices-said").textContent = got.rows.length ? `page ${page}: ${got.rows.length} devices as of ${new Date(got.as_of_ms).toLocaleTimeString("en-GB")}` : "";
    $("devices-next").disabled = !next;
    $("devices-first").disabled = page === 1;
  } catch (problem) {
    $("devices-said").textContent = problem.message;
    throw problem;
  }
}

function row(one) {
  return make("tr", {}, make("td", {}, make("button", { type: "button", class: "link", onclick: () => open(one.device) }, one.device)),
    make("td", {}, one.class ?? ""), make("td", {}, one.site ?? ""), make("td", { title: new Date(one.last_ms).toISOString() }, ago(one.last_ms)),
    make("td", { class: "n" }, one.readings.toLocaleString("en")), make("td", {}, one.run ?? ""));
}

async function open(name) {
  $("device-name").textContent = name;
  $("device-said").textContent = "reading";
  $("device-charts").replaceChildren();
  if (!$("device").open) $("device").showModal();
  try {
    const got = await ask("device", { params: { name, within_s: $("within").value } });
    const names = Object.keys(got.signals);
    $("device-said").textContent = got.times_ms.length ? `${got.times_ms.length} readings, the last ${ago(got.times_ms.at(-1))}` : "No readings in this time.";
    for (const signal of names) {
      const element = make("div", { class: "signal", role: "img", "aria-label": `${signal}: last ${got.signals[signal].at(-1)}` });
      $("device-charts").append(element);
      lines(element, signal, got.times_ms.map((ms) => new Date(ms)), got.signals[signal], signal);
    }
  } catch (problem) {
    $("device-said").textContent = problem.message;
  }
}

export function start(failed) {
  map.start(open);
  const first = () => devices().catch(failed);
  for (const id of ["order", "within"]) $(id).addEventListener("change", first);
  let waiting;
  $("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(first, 300); });
  $("devices-again").addEventListener("click", first);
  $("devices-first").addEventListener("click", first);
  $("devices-next").addEventListener("click", () => devices(next).catch(failed));
  $("device-close").addEventListener("click", () => $("device").close());
}
