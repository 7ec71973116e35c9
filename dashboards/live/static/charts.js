// Draws series with Plotly in the colours of the theme.
import { clock, css, number } from "./dom.js";

const PALETTE = ["#3b82f6", "#f59e0b", "#10b981", "#8b5cf6", "#ec4899", "#14b8a6", "#ef4444", "#84cc16", "#6366f1", "#a16207"];
const OPTIONS = { displayModeBar: false, responsive: true };

export const colour = (series, index) => series.colour || PALETTE[index % PALETTE.length];
export const newest = (series) => series.values.findLast((value) => value != null) ?? null;

// Times and values with a hole where periods are missing: a line across would tell of what was not measured.
function holed(series) {
  const x = [], y = [], step = (series.period_s ?? Infinity) * 1000 * 1.5;
  series.times_ms.forEach((ms, at) => {
    if (at && ms - series.times_ms[at - 1] > step) { x.push(new Date(series.times_ms[at - 1] + 1)); y.push(null); }
    x.push(new Date(ms));
    y.push(series.values[at]);
  });
  return { x, y };
}

function base() {
  const text = css("--text"), grid = css("--grid");
  const axis = { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true };
  return {
    font: { color: css("--dim"), family: "system-ui, sans-serif", size: 11 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 44, r: 14, t: 8, b: 26 }, hovermode: "x unified", showlegend: true,
    legend: { orientation: "h", x: 0, y: -0.16, yanchor: "top", font: { size: 11 } },
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { color: text } },
    xaxis: { ...axis }, yaxis: { ...axis, rangemode: "tozero", exponentformat: "SI" },
    uirevision: "kept",
  };
}

const SIDES = { left: "yaxis", right: "yaxis2" };

// The range of an axis: what the body says, else from 0 to a little above what is drawn.
function ranged(axis, widget, side) {
  const told = widget.properties.yAxis?.[side] ?? {};
  const lines = widget.series.filter((series) => (series.axis === "right") === (side === "right"));
  const of = (pick) => lines.map((series) => pick(series.values.filter((v) => v != null)));
  const each = of((values) => Math.max(0, ...values));
  const highest = widget.properties.stacked ? each.reduce((a, b) => a + b, 0) : Math.max(0, ...each);
  const thresholds = widget.annotations.horizontal.flat()
    .filter((line) => typeof line?.value === "number" && (line.yAxis === "right") === (side === "right")).map((line) => line.value);
  // A threshold far above everything would press the lines flat: it is then left out.
  const top = Math.max(highest, ...thresholds.filter((value) => !highest || value <= highest * 4));
  axis.range = [told.min ?? Math.min(0, ...of((values) => Math.min(0, ...values))), told.max ?? (top * 1.12 || 1)];
  if (told.label) axis.title = { text: told.label };
}

function annotate(layout, annotations) {
  layout.shapes = [];
  layout.annotations = [];
  for (const line of annotations.horizontal.flat()) {
    if (line?.visible === false || typeof line?.value !== "number") continue;
    const of = line.color || css("--alarm"), on = line.yAxis === "right" ? "y2" : "y";
    layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, yref: on, y0: line.value, y1: line.value, line: { color: of, width: 1.2, dash: "dash" } });
    if (line.fill === "above" || line.fill === "below") {
      const [low, high] = layout[SIDES[line.yAxis === "right" ? "right" : "left"]].range ?? [0, line.value];
      layout.shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, yref: on, y0: line.value, y1: line.fill === "above" ? Math.max(high, line.value) : low, fillcolor: of, opacity: 0.06, line: { width: 0 }, layer: "below" });
    }
    if (line.label) layout.annotations.push({ xref: "paper", x: 1, xanchor: "right", yref: on, y: line.value, yanchor: "bottom", text: escaped(line.label), showarrow: false, font: { size: 10, color: of } });
  }
  for (const line of annotations.vertical.flat()) {
    const at = Date.parse(line?.value);
    if (Number.isNaN(at)) continue;
    layout.shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: new Date(at), x1: new Date(at), line: { color: line.color || css("--dim"), width: 1.2, dash: "dot" } });
    if (line.label) layout.annotations.push({ yref: "paper", y: 1, x: new Date(at), text: escaped(line.label), showarrow: false, xanchor: "left", yanchor: "top", font: { size: 10 } });
  }
}

// Plotly reads some HTML in labels; what a dashboard says is shown as it is.
const escaped = (text) => String(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

export function timeSeries(element, widget, from, to) {
  const properties = widget.properties, layout = base();
  layout.xaxis.range = [new Date(from), new Date(to)];
  layout.xaxis.type = "date";
  layout.xaxis.tickformat = to - from > 86_400_000 ? "%d %b %H:%M" : "%H:%M";
  layout.xaxis.nticks = 6;
  ranged(layout.yaxis, widget, "left");
  const right = widget.series.some((series) => series.axis === "right");
  if (right) {
    layout.yaxis2 = { ...base().yaxis, tickmode: "auto", overlaying: "y", side: "right", showgrid: false };
    ranged(layout.yaxis2, widget, "right");
  }
  annotate(layout, widget.annotations);
  if (properties.legend?.position === "hidden") layout.showlegend = false;
  const data = widget.series.map((series, index) => ({
    type: "scatter", mode: "lines+markers", marker: { size: series.times_ms.length < 90 ? 3.5 : 2 }, name: escaped(series.label),
    ...holed(series), line: { color: colour(series, index), width: 1.8 },
    yaxis: series.axis === "right" ? "y2" : "y", fill: properties.stacked ? "tonexty" : undefined,
    stackgroup: properties.stacked ? series.axis : undefined, hovertemplate: "%{y:,.6~g}",
  }));
  if (widget.series.every((series) => !series.values.length)) {
    layout.annotations.push({ xref: "paper", yref: "paper", x: 0.5, y: 0.5, text: "no data in this time", showarrow: false, font: { size: 12 } });
  }
  return Plotly.react(element, data, layout, OPTIONS);
}

export function bars(element, widget) {
  const layout = { ...base(), showlegend: false, hovermode: "closest" };
  annotate(layout, { ...widget.annotations, vertical: [] });
  return Plotly.react(element, [{
    type: "bar", x: widget.series.map((s) => escaped(s.label)), y: widget.series.map(newest),
    marker: { color: widget.series.map(colour) },
  }], layout, OPTIONS);
}

export function pie(element, widget) {
  return Plotly.react(element, [{
    type: "pie", hole: 0.55, labels: widget.series.map((s) => escaped(s.label)), values: widget.series.map(newest),
    marker: { colors: widget.series.map(colour) }, textinfo: "percent", hovertemplate: "%{label}: %{value:,.6~g}<extra></extra>",
  }], { ...base(), legend: { orientation: "v" } }, OPTIONS);
}

export function gauge(element, widget) {
  const { min = 0, max = 100 } = widget.properties.yAxis?.left ?? {};
  const count = widget.series.length;
  return Plotly.react(element, widget.series.map((series, index) => ({
    type: "indicator", mode: "gauge+number", value: newest(series), title: { text: escaped(series.label), font: { size: 12 } },
    domain: { x: [index / count, (index + 0.94) / count], y: [0, 1] },
    number: { font: { color: css("--text"), size: 26 } },
    gauge: { axis: { range: [min, max] }, bar: { color: colour(series, index) }, bgcolor: css("--raised"), borderwidth: 0 },
  })), { ...base(), margin: { l: 26, r: 26, t: 30, b: 8 } }, OPTIONS);
}

export function lines(element, name, times, values, title) {
  const layout = { ...base(), showlegend: false, title: title ? { text: escaped(title), font: { size: 12 }, x: 0, xref: "paper" } : undefined };
  layout.margin.t = title ? 26 : 8;
  layout.yaxis.rangemode = "normal";
  return Plotly.react(element, [{ type: "scatter", mode: "lines+markers", name: escaped(name), x: times, y: values, marker: { size: 4 }, line: { color: PALETTE[0], width: 1.6 }, hovertemplate: "%{y:,.6~g}" }], layout, OPTIONS);
}

// What somebody hears who does not see the chart.
export const inWords = (widget) => widget.series.length
  ? widget.series.map((series) => `${series.label}: ${number(newest(series))}${series.times_ms.length ? ` at ${clock(series.times_ms.at(-1))}` : ""}`).join("; ")
  : "no data in this time";
