// Puts the page together: tabs, themes, and loops that ask for what is shown.
import * as alarms from "./alarms.js";
import { ask, Problem, takeToken } from "./api.js";
import * as board from "./board.js";
import { $, clock, make, stored } from "./dom.js";
import * as fleet from "./fleet.js";
import * as map from "./map.js";
import * as query from "./query.js";
import * as runs from "./runs.js";

const TABS = ["board", "alarms", "fleet", "query", "runs"];
const every = { board: 5, alarms: 2, map: 1, runs: 1, state: 10 };
const problems = new Map();
let state = null, paused = false, stateKnown = false, seenAt = 0;

function told(name, problem) {
  if (problem) problems.set(name, problem);
  else problems.delete(name);
  const worst = [...problems.values()].find((p) => p.away) ?? [...problems.values()][0];
  const banner = $("banner"), since = seenAt ? ` Shown is what was there at ${clock(seenAt)}.` : "";
  banner.hidden = !worst;
  if (worst) {
    const text = worst.message + since;
    if (banner.textContent !== text) banner.textContent = text;
    for (const tab of TABS) if (tab !== "query") $(tab).classList.add("stale");
  } else for (const tab of TABS) $(tab).classList.remove("stale");
  const status = $("status");
  status.className = worst ? "away" : stateKnown ? "live" : "";
  const words = worst ? (worst.away ? "not reachable, trying again" : "needs attention") : paused ? "paused" : stateKnown ? `live, ${state.target}${state.region ? ` ${state.region}` : ""}` : "connecting";
  if (status.lastElementChild.textContent !== words) status.lastElementChild.textContent = words;
}

// Runs `work` again and again: often while it is seen, and soon again after an error.
function loop(name, work) {
  let timer, running = false, again = false;
  const turn = async () => {
    clearTimeout(timer);
    if (running) { again = true; return; }
    running = true;
    let wait = every[name];
    try {
      if (!document.hidden && (!paused || again)) {
        again = false;
        await work();
        if (name !== "runs" && stateKnown) seenAt = Date.now();
        told(name, null);
      }
    } catch (problem) {
      told(name, problem instanceof Problem ? problem : new Problem(`The page failed: ${problem.message}`));
      if (!(problem instanceof Problem)) console.error(problem);
      wait = Math.min(wait, 2);
    }
    running = false;
    timer = setTimeout(turn, again ? 0 : wait * 1000);
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
  turn();
  return () => { again = true; turn(); };
}

async function readState() {
  state = await ask("state");
  Object.assign(every, state.every_s);
  stateKnown = true;
  $("environment").textContent = state.environment;
  $("version").textContent = `fleetcast ${state.version}`;
  document.title = `fleetcast ${state.environment}`;
  query.offer(state.table);
  const names = state.dashboards, select = $("boards");
  select.closest(".bar").hidden = names.length < 2;
  if ([...select.options].map((o) => o.value).join() !== names.join()) {
    const chosen = select.value || state.dashboard;
    select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    select.value = names.includes(chosen) ? chosen : names[0] ?? "";
  }
}

let rangeGiven = stored.get("range");

async function readBoard() {
  if ($("board").hidden) return;
  const got = await board.refresh(state, { name: $("boards").value, range_s: rangeGiven ?? "" });
  if (!rangeGiven && [...$("range").options].some((o) => Number(o.value) === got.range_s)) $("range").value = got.range_s;
  $("asof").textContent = `as of ${clock(got.end_ms)}`;
}

function choose(name, focus) {
  for (const tab of TABS) {
    const on = tab === name;
    $(tab).hidden = !on;
    $(`tab-${tab}`).setAttribute("aria-selected", String(on));
    $(`tab-${tab}`).tabIndex = on ? 0 : -1;
  }
  if (focus) $(`tab-${name}`).focus();
  if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
}

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  stored.set("theme", name);
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
  redraw();
}

function redraw() {
  board.draw();
  map.recolour();
}

function begin() {
  choose(TABS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "board");
  $("range").value = rangeGiven ?? "900";
  $("theme").textContent = `Theme: ${document.documentElement.dataset.theme ?? "auto"}`;
  const failed = (problem) => told("asked", problem);
  alarms.start(failed);
  fleet.start(failed);
  query.start();
  const again = {
    state: loop("state", readState), board: loop("board", readBoard), alarms: loop("alarms", alarms.refresh),
    fleet: loop("map", fleet.refresh), runs: loop("runs", runs.refresh),
  };
  const open = (name, focus) => { choose(name, focus); told("asked", null); again[name]?.(); redraw(); };
  for (const tab of TABS) $(`tab-${tab}`).addEventListener("click", () => open(tab));
  document.querySelector("nav").addEventListener("keydown", (event) => {
    const here = TABS.findIndex((tab) => !$(tab).hidden);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1 + TABS.length, Home: 0, End: TABS.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); open(TABS[to % TABS.length], true); }
  });
  addEventListener("hashchange", () => { takeToken(); if (TABS.includes(location.hash.slice(1))) open(location.hash.slice(1)); });
  $("range").addEventListener("change", () => { rangeGiven = $("range").value; stored.set("range", rangeGiven); again.board(); });
  $("boards").addEventListener("change", again.board);
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    $("pause").textContent = paused ? "Resume" : "Pause";
    told("asked", null);
    if (!paused) for (const turn of Object.values(again)) turn();
  });
  $("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % 3]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

begin();
