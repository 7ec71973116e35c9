// Runs of this machine: the newest with its progress, all with their verdicts and reports.
import { ask } from "./api.js";
import { lines } from "./charts.js";
import { $, fill, make, moment, number } from "./dom.js";

let shownRun = "";

export async function refresh() {
  if ($("runs").hidden) return;
  const told = await ask("runs");
  $("runs-said").textContent = told.count > told.runs.length ? `newest ${told.runs.length} of ${told.count} in ${told.folder}` : `in ${told.folder}`;
  fill($("run-list").tBodies[0], told.runs.map(row), "No run yet: fleetcast simulate SCENARIO makes one.");
  current(told.runs.find((run) => run.state === "running") ?? told.runs[0]);
}

function row(run) {
  return make("tr", { "data-run": run.id }, make("td", {}, run.id), make("td", {}, moment(run.started_ms)), make("td", {}, run.state),
    make("td", { class: "n" }, number(run.sent)), make("td", { class: `n${run.failed ? " fail" : ""}` }, number(run.failed)),
    make("td", { class: run.verdict, title: run.failed_checks.join(", ") }, run.verdict || "not verified"),
    make("td", {}, run.report ? make("a", { href: run.report, target: "_blank", rel: "noopener" }, "Report", make("span", { class: "unseen" }, ` of ${run.id}`)) : ""));
}

function current(run) {
  const panel = $("run-now");
  if (!run) {
    shownRun = "";
    panel.replaceChildren(make("h2", {}, "No run yet"), make("p", { class: "dim" }, "A run that is being sent shows here with its rate."));
    return;
  }
  if (shownRun !== run.id) {
    panel.replaceChildren(make("h2", {}, `${run.id} `, make("span", { class: "said" })), make("progress", { "aria-label": `Progress of ${run.id}`, max: 1 }), make("p", { class: "dim facts" }), make("div", { class: "signal" }));
    shownRun = run.id;
  }
  const done = run.total ? run.sent / run.total : 0;
  panel.querySelector(".said").textContent = run.state;
  const bar = panel.querySelector("progress");
  if (run.total) bar.value = Math.min(1, done); else bar.removeAttribute("value");
  panel.querySelector(".facts").textContent = [
    `sent ${number(run.sent)}${run.total ? ` of ${number(run.total)}` : ""}`, `acknowledged ${number(run.acked)}`, `failed ${number(run.failed)}`,
    run.state === "running" && run.rate != null ? `${number(run.rate)}/s of ${number(run.target_rate)}/s` : "", run.lag_p99_ms != null ? `schedule lag p99 ${number(run.lag_p99_ms)} ms` : "",
  ].filter(Boolean).join(" · ");
  const chart = panel.querySelector(".signal");
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `Rate of run ${run.id}`);
  if (run.rates.length) lines(chart, "readings per second", run.rates.map(([t]) => t), run.rates.map(([, rate]) => rate), "readings per second, by second of the run");
}
