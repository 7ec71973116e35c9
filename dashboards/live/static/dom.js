// Small things about elements and numbers. Text is set as text: nothing of an answer becomes HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export function number(value) {
  if (value == null) return "none";
  if (Number.isInteger(value)) return Math.abs(value) < 1e7 ? whole.format(value) : compact.format(value);
  return Math.abs(value) < 1e6 ? short.format(value) : compact.format(value);
}

export function ago(ms, now = Date.now()) {
  const seconds = Math.max(0, (now - ms) / 1000);
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
export const moment = (ms) => (ms ? new Date(ms).toLocaleString("en-GB") : "");

// Rows of an answer as the body of a table.
export function fill(body, rows, none) {
  body.replaceChildren(...(rows.length ? rows : [make("tr", {}, make("td", { colspan: 9, class: "dim" }, none))]));
}

export const stored = {
  get(name) { try { return localStorage.getItem(name); } catch { return null; } },
  set(name, value) { try { localStorage.setItem(name, value); } catch { /* not kept then */ } },
};
