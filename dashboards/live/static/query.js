// The query box: an answer by pages, or what Timestream says is wrong.
import { ask } from "./api.js";
import { $, make } from "./dom.js";

let asked = "", after = "", rows = 0;

const examples = (table) => ({
  "Readings a minute": `SELECT bin(time, 1m) AS minute, count(*) AS readings\nFROM ${table}\nWHERE time > ago(1h)\nGROUP BY bin(time, 1m)\nORDER BY minute DESC`,
  "Sites": `SELECT site, approx_distinct(device) AS devices, count(*) AS readings, max(time) AS last\nFROM ${table}\nWHERE time > ago(1h)\nGROUP BY site\nORDER BY site`,
  "Newest readings": `SELECT *\nFROM ${table}\nWHERE time > ago(15m)\nORDER BY time DESC\nLIMIT 20`,
  "Runs": `SELECT run, min(time) AS began, max(time) AS ended, count(*) AS readings\nFROM ${table}\nWHERE time > ago(1d)\nGROUP BY run\nORDER BY began DESC`,
  "Columns": `DESCRIBE ${table}`,
});

export function offer(table) {
  if (!table || $("examples").options.length) return;
  const all = examples(table);
  $("examples").replaceChildren(...Object.keys(all).map((name) => make("option", {}, name)));
  if (!$("query-text").value) $("query-text").value = Object.values(all)[0];
  $("examples").addEventListener("change", () => { $("query-text").value = all[$("examples").value]; });
}

async function run(more) {
  if (!more) { asked = $("query-text").value.trim(); after = ""; rows = 0; }
  if (!asked) return;
  const began = performance.now();
  $("query-said").textContent = "running";
  $("query-error").hidden = true;
  try {
    const got = await ask("query", { body: { query: asked, after } });
    const body = got.rows.map((row) => make("tr", {}, ...row.map((value, index) => make("td", { class: numeric(got.columns[index][1]) ? "n" : "" }, value === null ? make("span", { class: "dim" }, "null") : value))));
    if (more) $("answer").querySelector("tbody").append(...body);
    else $("answer").replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...got.columns.map(([name, type]) => make("th", { class: numeric(type) ? "n" : "", title: type }, name)))), make("tbody", {}, ...body)));
    rows += got.rows.length;
    after = got.next;
    $("query-more").hidden = !after;
    $("query-said").textContent = `${rows.toLocaleString("en")} ${rows === 1 ? "row" : "rows"}${after ? ", more to come" : ""} in ${Math.round(performance.now() - began)} ms`;
  } catch (problem) {
    $("query-said").textContent = "";
    $("query-error").textContent = problem.code ? `${problem.code}: ${problem.message}` : problem.message;
    $("query-error").hidden = false;
    if (!more) { $("answer").replaceChildren(); $("query-more").hidden = true; }
  }
}

const numeric = (type) => ["BIGINT", "DOUBLE", "INTEGER"].includes(type);

export function start() {
  $("query-form").addEventListener("submit", (event) => { event.preventDefault(); run(false); });
  $("query-more").addEventListener("click", () => run(true));
  $("query-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(false); }
  });
}
