// Draws the figures in the page's colours, and again when the theme changes.
"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const theme = matchMedia("(prefers-color-scheme: dark)");

function draw() {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  for (const [id, figure] of Object.entries(figures)) {
    const layout = structuredClone(figure.layout);
    layout.font = { color: text, family: "system-ui, sans-serif", size: 12 };
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis].gridcolor = line;
      layout[axis].linecolor = line;
    }
    layout.hoverlabel = { bgcolor: style.getPropertyValue("--panel").trim(), font: { color: text } };
    Plotly.react(id, figure.data, layout, { responsive: true, displayModeBar: false });
  }
  document.documentElement.dataset.theme = theme.matches ? "dark" : "light";
  document.documentElement.dataset.drawn = "true";
}

theme.addEventListener("change", draw);
draw();
