// Asks the page's server, and tells what is the matter in words.

export class Problem extends Error {
  constructor(told, code = "", away = false) {
    super(told);
    this.code = code;
    this.away = away;
  }
}

// Comes with the page's address, in the part that no server is told, and is kept for this tab alone.
let token = "";
try { token = sessionStorage.getItem("token") ?? ""; } catch { /* not kept then */ }

export function takeToken() {
  const told = location.hash.match(/[#&]token=([\w-]+)/);
  if (!told) return;
  token = told[1];
  try { sessionStorage.setItem("token", token); } catch { /* until the page is left */ }
  // Out of sight of whoever looks over a shoulder, and of bookmarks.
  history.replaceState(null, "", location.pathname + location.hash.replace(told[0], ""));
}
takeToken();

export async function ask(path, { params = {}, body } = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== "" && v != null));
  const headers = { Authorization: `Bearer ${token}` };
  const options = body === undefined ? { headers } : {
    method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(`/api/${path}${query.size ? `?${query}` : ""}`, options);
  } catch {
    throw new Problem("The server of this page does not answer: run fleetcast dashboard again.", "", true);
  }
  let told;
  try {
    told = await response.json();
  } catch {
    throw new Problem(`The server of this page answered ${response.status} without words: see its terminal.`);
  }
  if (!response.ok) {
    const error = told.error ?? {};
    throw new Problem(error.told ?? `answered ${response.status}`, error.code, error.away);
  }
  return told;
}
