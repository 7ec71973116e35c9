// The deployed CloudWatch dashboard: a grid of widgets, each drawn by its kind.
import { ask } from "./api.js";
import * as charts from "./charts.js";
import { $, clock, make, number } from "./dom.js";

const drawn = new Map();
let last = null;

export async function refresh(state, { name, range_s }) {
  const board = await ask("dashboard", { params: { name, range_s } });
  last = { board, name: board.name };
  draw();
  return board;
}

export function draw() {
  if (!last || $("board").hidden) return;
  const { board } = last, grid = $("grid");
  if (!board.widgets.length) {
    grid.replaceChildren(make("p", { class: "empty" }, `Dashboard ${board.name} has no widgets.`));
    drawn.clear();
    return;
  }
  const seen = new Set();
  for (const widget of board.widgets) {
    const key = `${board.name} ${widget.id} ${widget.kind} ${widget.view ?? ""}`;
    seen.add(key);
    let shown = drawn.get(key);
    if (!shown) drawn.set(key, (shown = frame(widget, board)));
    place(shown.element, widget);
    shown.title.textContent = widget.title || named(widget);
    show(shown, widget, board);
  }
  for (const [key, shown] of drawn) if (!seen.has(key)) { shown.element.remove(); drawn.delete(key); }
  const wanted = board.widgets.map((w) => drawn.get(`${board.name} ${w.id} ${w.kind} ${w.view ?? ""}`).element);
  if (grid.children.length !== wanted.length || wanted.some((element, at) => grid.children[at] !== element)) {
    grid.replaceChildren(...wanted);
    // Charts measure themselves: what was drawn before it stood in the page is drawn again.
    for (const widget of board.widgets) show(drawn.get(`${board.name} ${widget.id} ${widget.kind} ${widget.view ?? ""}`), widget, board);
  }
  document.documentElement.dataset.drawn = "true";
}

const named = (widget) => ({ text: "", metric: "Metrics", alarm: "Alarms", log: "Log" })[widget.kind] ?? widget.kind;

function place(element, widget) {
  element.style.gridColumn = `${widget.x + 1} / span ${widget.width}`;
  element.style.gridRow = `${widget.y + 1} / span ${widget.height}`;
}

function frame(widget, board) {
  const title = make("h3"), head = make("div", { class: "head" }, title), body = make("div", { class: widget.kind === "metric" ? "chart" : "body" });
  const small = widget.view === "singleValue" || widget.view === "table" ? " small" : "";
  const element = make("article", { class: `widget ${widget.kind}${small}`, "data-widget": widget.id }, widget.kind === "text" ? null : head, body);
  const shown = { element, title, head, body, table: null };
  if (widget.kind === "metric" && widget.view !== "table") {
    const button = make("button", { type: "button", class: "values", "aria-pressed": "false", onclick: () => {
      const open = element.classList.toggle("open");
      button.setAttribute("aria-pressed", String(open));
      draw();
    } }, "Values");
    head.append(button);
  }
  if (widget.kind === "log") {
    const run = make("button", { type: "button", onclick: () => readLog(shown, widget, board, run) }, "Run");
    head.append(run);
    body.append(make("pre", {}, widget.properties.query ?? ""));
  }
  return shown;
}

function show(shown, widget, board) {
  const { body, element } = shown;
  if (widget.error) {
    purge(body);
    body.replaceChildren(make("div", { class: "error" }, widget.error));
    return;
  }
  if (widget.kind === "metric") showMetric(shown, widget, board);
  else if (widget.kind === "text") {
    // Made by the server of the page, which lets no HTML of the body through.
    if (shown.html !== widget.html) body.innerHTML = shown.html = widget.html;
    for (const link of body.querySelectorAll("a")) { link.target = "_blank"; link.rel = "noreferrer"; }
  } else if (widget.kind === "alarm") {
    body.replaceChildren(make("div", { class: "chips" }, ...widget.alarms.map((alarm) => make("span", { class: `chip ${alarm.state}`, title: alarm.reason, "data-alarm": alarm.name }, alarm.name, make("span", { class: "unseen" }, `: ${alarm.state}`)))));
  } else if (widget.kind === "unknown" || widget.kind === "broken") {
    const said = widget.kind === "broken" ? `This widget cannot be read: ${widget.told}` : widget.told;
    body.replaceChildren(make("p", { class: "dim" }, said), make("pre", {}, JSON.stringify(widget.properties, null, 1)));
  }
  element.classList.toggle("noted", Boolean(widget.note));
  if (widget.note) element.title = widget.note;
}

function purge(body) {
  if (body.classList.contains("js-plotly-plot")) Plotly.purge(body);
}

function showMetric(shown, widget, board) {
  const { body, element } = shown;
  const open = element.classList.contains("open");
  const empty = widget.series.every((series) => !series.values.length);
  const wanted = open || widget.view === "table" ? "table" : widget.view === "singleValue" ? "numbers" : empty && widget.view !== "timeSeries" ? "none" : "chart";
  if (shown.how !== wanted) {
    purge(body);
    body.replaceChildren();
    body.style.overflow = wanted === "table" ? "auto" : "";
    shown.how = wanted;
  }
  body.removeAttribute("role");
  body.removeAttribute("aria-label");
  if (wanted === "table") return body.replaceChildren(values(widget));
  if (wanted === "none") return body.replaceChildren(make("p", { class: "dim" }, "No data in this time."));
  if (wanted === "numbers") {
    return body.replaceChildren(make("div", { class: "numbers" }, ...widget.series.map((series) => make("div", { "data-series": series.id }, make("b", {}, number(charts.newest(series))), make("span", {}, series.label)))));
  }
  body.setAttribute("role", "img");
  body.setAttribute("aria-label", `${widget.title}. ${charts.inWords(widget)}`);
  if (!element.isConnected) return;
  if (widget.view === "bar") charts.bars(body, widget);
  else if (widget.view === "pie") charts.pie(body, widget);
  else if (widget.view === "gauge") charts.gauge(body, widget);
  else charts.timeSeries(body, widget, board.start_ms, board.end_ms);
}

function values(widget) {
  const rows = widget.series.map((series) => {
    const numbers = series.values.filter((value) => value != null);
    const of = (f) => (numbers.length ? number(f(numbers)) : "none");
    return make("tr", {}, make("td", {}, series.label), make("td", { class: "n" }, number(charts.newest(series))),
      make("td", { class: "n" }, of((v) => Math.min(...v))), make("td", { class: "n" }, of((v) => v.reduce((a, b) => a + b, 0) / v.length)), make("td", { class: "n" }, of((v) => Math.max(...v))),
      make("td", {}, series.times_ms.length ? clock(series.times_ms.at(-1)) : ""));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, ""), ...["Last", "Min", "Mean", "Max"].map((t) => make("th", { class: "n" }, t)), make("th", {}, "At"))), make("tbody", {}, ...rows));
}

async function readLog(shown, widget, board, button) {
  button.disabled = true;
  try {
    const got = await ask("log", { body: { name: board.name, widget: widget.id, range_s: board.range_s } });
    const rows = got.rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text))));
    shown.body.replaceChildren(rows.length
      ? make("table", {}, make("thead", {}, make("tr", {}, ...got.columns.map((c) => make("th", {}, c)))), make("tbody", {}, ...rows))
      : make("p", { class: "dim" }, "No log lines in this time."));
  } catch (problem) {
    shown.body.replaceChildren(make("div", { class: "error", role: "alert" }, problem.message), make("pre", {}, widget.properties.query ?? ""));
  } finally {
    button.disabled = false;
  }
}
