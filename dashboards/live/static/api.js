// Asks the page's server, and tells what is the matter in words.

export class Problem extends Error {
  constructor(told, code = "", away = false) {
    super(told);
    this.code = code;
    this.away = away;
  }
}

export async function ask(path, { params = {}, body } = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== "" && v != null));
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
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
