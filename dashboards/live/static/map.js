// The map: a cell for each device, by site, as bright as its last reading is new. Drawn on a canvas,
// for thousands of elements would not keep up with a thousand updates a second.
import { $, ago, css } from "./dom.js";

const CELL = 13, GAP = 3, LABEL = 96, ROW_GAP = 9, FLASH_MS = 450;
const FRESH_MS = 15_000, QUIET_MS = 60_000;
const still = matchMedia("(prefers-reduced-motion: reduce)");

const devices = new Map();
let placed = [], sites = null, chosen = -1, frameAsked = false, opened = () => {}, skew = 0;
export const drawing = { frames: 0 };

export function start(open) {
  opened = open;
  const canvas = $("map");
  canvas.addEventListener("keydown", keys);
  canvas.addEventListener("mousemove", (event) => choose(at(event)));
  canvas.addEventListener("click", (event) => { choose(at(event)); if (placed[chosen]) opened(placed[chosen].name); });
  canvas.addEventListener("focus", () => { if (chosen < 0 && placed.length) choose(0); });
  new ResizeObserver(() => { layOut(); ask(); }).observe(canvas.parentElement);
}

// Takes an answer of the API in. Returns since when the next one has to tell.
export function update(told, whole) {
  skew = told.now_ms - Date.now();
  if (told.sites) {
    sites = told.sites;
    devices.clear();
    layOut();
    ask();
    return 0;
  }
  sites = null;
  let fresh = false, newest = 0;
  const seen = new Set();
  for (const [name, site, at_ms, count] of told.devices) {
    seen.add(name);
    newest = Math.max(newest, at_ms);
    const known = devices.get(name);
    if (!known) { devices.set(name, { name, site, at_ms, flashed: 0, count }); fresh = true; }
    else if (known.at_ms < at_ms) { known.at_ms = at_ms; known.flashed = performance.now(); }
  }
  if (whole) for (const name of devices.keys()) if (!seen.has(name)) { devices.delete(name); fresh = true; }
  if (fresh) layOut();
  summary();
  ask();
  return newest;
}

function summary() {
  const now = Date.now() + skew;
  let fresh = 0;
  for (const device of devices.values()) if (now - device.at_ms <= FRESH_MS) fresh += 1;
  const told = sites
    ? `${sites.reduce((sum, [, count]) => sum + count, 0).toLocaleString("en")} devices at ${sites.length} sites`
    : `${devices.size.toLocaleString("en")} devices, ${fresh.toLocaleString("en")} heard from in the last 15 s`;
  $("map-summary").textContent = devices.size || sites ? told : "no readings in the last 15 minutes";
  $("map").setAttribute("aria-label", `Fleet: ${$("map-summary").textContent}. The table below has the same devices.`);
}

function layOut() {
  const canvas = $("map"), width = Math.max(220, canvas.parentElement.clientWidth - 32);
  const step = CELL + GAP, across = Math.max(1, Math.floor((width - LABEL) / step));
  placed = [];
  let y = 4;
  if (sites) {
    const most = Math.max(1, ...sites.map(([, count]) => count));
    for (const [site, count, at_ms, readings] of sites) {
      placed.push({ name: site, site, at_ms, count, readings, x: LABEL, y, width: Math.max(6, ((width - LABEL) * count) / most), label: true, many: true });
      y += step + 4;
    }
  } else {
    const bySite = Map.groupBy ? Map.groupBy([...devices.values()].sort((a, b) => a.name.localeCompare(b.name)), (d) => d.site) : grouped();
    for (const [site, list] of [...bySite].sort(([a], [b]) => a.localeCompare(b))) {
      list.forEach((device, index) => {
        device.x = LABEL + (index % across) * step;
        device.y = y + Math.floor(index / across) * step;
        device.width = CELL;
        device.label = index === 0;
        device.site = site;
        placed.push(device);
      });
      y += Math.ceil(list.length / across) * step + ROW_GAP;
    }
  }
  const height = Math.max(40, y), ratio = devicePixelRatio || 1;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  if (chosen >= placed.length) chosen = -1;
}

function grouped() {
  const found = new Map();
  for (const device of devices.values()) found.set(device.site, [...(found.get(device.site) ?? []), device]);
  return found;
}

export function ask() {
  if (frameAsked || $("fleet").hidden) return;
  frameAsked = true;
  requestAnimationFrame(draw);
}

let known = null, knownAt = -Infinity;

// The theme's colours; looked up now and then, for a look-up makes the browser compute styles.
function palette(now) {
  if (now - knownAt > 250) {
    known = { fresh: css("--fresh"), quiet: css("--quiet"), silent: css("--silent"), text: css("--dim"), strong: css("--text") };
    knownAt = now;
  }
  return known;
}

export function recolour() {
  knownAt = -Infinity;
  ask();
}

function draw(now) {
  frameAsked = false;
  drawing.frames += 1;
  const canvas = $("map"), context = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
  const colours = palette(now);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "top";
  const wall = Date.now() + skew;
  let moving = false;
  context.fillStyle = colours.text;
  for (const one of placed) if (one.label) context.fillText(one.site, 0, one.y, LABEL - 8);
  // Squares, each filled by itself: round corners, or many cells in one path, take the browser five times as long.
  for (const one of placed) {
    const age = wall - one.at_ms;
    const colour = age <= FRESH_MS ? colours.fresh : age <= QUIET_MS ? colours.quiet : colours.silent;
    const flash = one.flashed && !still.matches ? Math.max(0, 1 - (now - one.flashed) / FLASH_MS) : 0;
    if (flash) moving = true;
    // Fades while it ages, so that a beat is seen; a reading makes it whole again.
    const alpha = age <= FRESH_MS ? 1 - 0.55 * Math.min(1, age / FRESH_MS) * (1 - flash) : 1;
    const grow = flash * 1.5;
    context.fillStyle = colour;
    context.globalAlpha = alpha;
    context.fillRect(one.x - grow, one.y - grow, one.width + 2 * grow, CELL + 2 * grow);
  }
  context.globalAlpha = 1;
  const here = placed[chosen];
  if (here) { context.strokeStyle = colours.strong; context.lineWidth = 2; context.strokeRect(here.x - 2, here.y - 2, here.width + 4, CELL + 4); }
  if (moving) ask();
}

function at(event) {
  const box = $("map").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  return placed.findIndex((one) => x >= one.x && x <= one.x + one.width + GAP && y >= one.y && y <= one.y + CELL + GAP);
}

function choose(index) {
  if (index === chosen) return;
  chosen = index;
  const one = placed[index];
  const what = one?.many ? `${one.count.toLocaleString("en")} devices, ${one.readings.toLocaleString("en")} readings` : one?.site;
  $("map-at").textContent = one ? `${one.name}, ${what}: last reading ${ago(one.at_ms, Date.now() + skew)}` : "\u00a0";
  ask();
}

function keys(event) {
  const here = placed[chosen] ?? placed[0];
  if (!here) return;
  const row = (down) => {
    const rows = placed.map((one, index) => [one, index]).filter(([one]) => (down ? one.y > here.y : one.y < here.y));
    if (!rows.length) return chosen;
    const y = down ? Math.min(...rows.map(([one]) => one.y)) : Math.max(...rows.map(([one]) => one.y));
    return rows.filter(([one]) => one.y === y).sort(([a], [b]) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x))[0][1];
  };
  const moves = { ArrowRight: () => Math.min(placed.length - 1, chosen + 1), ArrowLeft: () => Math.max(0, chosen - 1), ArrowDown: () => row(true), ArrowUp: () => row(false), Home: () => 0, End: () => placed.length - 1 };
  if (event.key === "Enter" && placed[chosen] && !placed[chosen].many) opened(placed[chosen].name);
  else if (moves[event.key]) choose(moves[event.key]());
  else return;
  event.preventDefault();
}
