// What the page asks the server for.

export class Failure extends Error {}

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Failure("The studio does not answer: is it still running in its terminal?");
  }
  const body = answer.headers.get("Content-Type") === "application/json" ? await answer.json() : null;
  if (!answer.ok) throw new Failure(body?.error ?? `The studio answered ${answer.status}.`);
  return body;
}

export const get = (path) => asked(path);
export const post = (path, value = {}) =>
  asked(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
export const bring = (file, name, mask = false) =>
  asked(`api/pictures?name=${encodeURIComponent(name)}${mask ? "&mask=1" : ""}`, { method: "POST", body: file });

export const picture = (id, thumb = false) => `api/pictures/${id}${thumb ? "?thumb=1" : ""}`;
export const work = (id, what = "") => `api/works/${id}${what && `/${what}`}`;

// Calls `heard` with every event, and `lost` when there is no connection; it comes back by itself.
export function follow(heard, lost) {
  const source = new EventSource("api/events");
  source.onmessage = (event) => heard(JSON.parse(event.data));
  source.onerror = () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(heard, lost), 3000);
  };
}
