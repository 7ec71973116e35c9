// States of the stack's alarms, and what they did before.
import { ask } from "./api.js";
import { $, ago, fill, make, moment } from "./dom.js";

const before = new Map();
let of = "", after = "", historyOpen = false;

export async function refresh() {
  const { alarms } = await ask("alarms");
  const firing = alarms.filter((alarm) => alarm.state === "ALARM");
  $("firing").hidden = !firing.length;
  $("firing").textContent = firing.length;
  $("firing").setAttribute("aria-label", `${firing.length} in alarm`);
  let changed = false;
  for (const alarm of alarms) {
    const was = before.get(alarm.name);
    if (was !== undefined && was !== alarm.state) {
      changed = true;
      $("announce").textContent = alarm.state === "ALARM" ? `Alarm ${alarm.name} fired` : `Alarm ${alarm.name} is ${alarm.state}`;
    }
    before.set(alarm.name, alarm.state);
  }
  if ($("alarms").hidden) return;
  $("alarm-list").replaceChildren(...(alarms.length ? alarms.map(card) : [make("p", { class: "empty" }, "The stack has no alarms here: deploy it again.")]));
  if (changed || !historyOpen) await history();
}

function card(alarm) {
  return make("article", { class: `card ${alarm.state}`, "data-alarm": alarm.name },
    make("div", { class: "head" }, make("h3", {}, alarm.name), make("span", { class: `state ${alarm.state}` }, alarm.state.replace("_", " "))),
    make("p", {}, alarm.description), make("p", {}, alarm.rule),
    make("p", { title: alarm.reason }, `${alarm.state === "ALARM" ? alarm.reason : "in this state since"} ${ago(alarm.since_ms)}. `, make("button", { type: "button", class: "link", onclick: () => { of = alarm.name; history(); } }, "History")));
}

async function history(more = false) {
  const got = await ask("history", { params: { name: of, after: more ? after : "" } });
  historyOpen = true;
  after = got.next;
  const rows = got.items.map((item) => make("tr", {}, make("td", {}, moment(item.at_ms)), make("td", {}, item.name),
    make("td", {}, make("span", { class: `state ${item.from}` }, item.from)), make("td", {}, make("span", { class: `state ${item.to}` }, item.to)), make("td", { class: "why" }, item.reason || item.summary)));
  const body = $("history").tBodies[0];
  if (more) body.append(...rows);
  else fill(body, rows, "No alarm has changed its state yet.");
  $("history-of").textContent = of ? `of ${of}` : "";
  $("history-all").hidden = !of;
  $("history-more").hidden = !after;
}

export function start(failed) {
  const guarded = (work) => () => work().catch(failed);
  $("history-all").addEventListener("click", guarded(() => { of = ""; return history(); }));
  $("history-more").addEventListener("click", guarded(() => history(true)));
}
