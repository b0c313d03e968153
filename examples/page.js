/** What the example pages have in common: where the API is, and what they show. How each client reads stands in its page. */

export const api = new URLSearchParams(location.search).get("api") ?? "http://127.0.0.1:8080";

export function at(id) {
  return document.getElementById(id);
}

/** @param running whether an answer is on its way, which can be stopped */
export function show(status, running = false) {
  at("status").textContent = status;
  at("send").disabled = running;
  at("stop").disabled = !running;
}

/** What a refusal says: one error event to who reads events, else JSON. It may be a page of some proxy in between, too. */
export function reason(text) {
  try {
    return JSON.parse(text.replace(/^data: /, "")).error.message;
  } catch {
    return "refused";
  }
}
