/** The chat page: what is asked, what is shown. Text goes in by textContent alone; reading is done by chat-stream.js. */

import { Meter, countTokens, formatUsd } from "./chat-meter.js";
import { AnswerStream, refusal } from "./chat-stream.js";
import { AnswerText } from "./chat-text.js";

// Relative, so that the page works below any mount point: it stands at /-/chat itself.
const MODELS = new URL("../v1/models", location.href).href;
const CHAT = new URL("../v1/chat/completions", location.href).href;
const STREAMS = new URL("./streams/", location.href).href;
const KEY = "sseproxy.key";
/** Pixels from the end of the page within which a reader is taken to be reading along. */
const READING_ALONG = 60;
const ENDS = { length: "Ended at the limit of tokens.", content_filter: "Ended by the content filter." };

const at = (id) => document.getElementById(id);
/** Safari has ended a composition before it tells of the key that did, by this code alone: https://webkit.org/b/165004 */
const isComposing = (event) => event.isComposing || event.keyCode === 229;
const page = Object.fromEntries(
  ["model", "model-name", "show-key", "new", "access", "key", "welcome", "log", "status", "composer", "prompt", "send",
    "stop", "total", "turn"].map((id) => [id, at(id)]),
);

/** Prices by the names of models, as far as they are known. */
const prices = new Map();
/** The conversation: `{question, text, end, element, shown, frame, meter}` each. */
let turns = [];
/** The answer that is being read now. */
let running = null;

function headers() {
  const key = page.key.value.trim();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function model() {
  return (page.model.hidden ? page["model-name"] : page.model).value.trim();
}

// ---- the key

/** `#key=…` in the address fills the field and is taken out of the address bar and the history. */
function takeKeyFromAddress() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  useKey(key);
  showAccess(false);
}

function useKey(key) {
  page.key.value = key;
  try {
    sessionStorage.setItem(KEY, key.trim());
  } catch {
    // A browser that lets no page keep anything: the field holds it until the page is left.
  }
}

function keptKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function showAccess(shown) {
  page.access.hidden = !shown;
  page["show-key"].setAttribute("aria-expanded", String(shown));
  if (shown) page.key.focus();
}

// ---- the models

async function loadModels() {
  tell("");
  try {
    const response = await fetch(MODELS, { headers: headers() });
    if (!response.ok) throw await refusal(response);
    offerModels((await response.json()).data ?? []);
  } catch (error) {
    if (error.status === 401) askForKey();
    else offerModels([]);
  }
}

/** With no list to choose from, as around an application that has none, a name can be typed. */
function offerModels(rows) {
  prices.clear();
  for (const { id, pricing } of rows) prices.set(id, pricing);
  const chosen = page.model.value;
  page.model.replaceChildren(...rows.map(({ id }) => new Option(id, id, false, id === chosen)));
  page.model.disabled = rows.length === 0;
  page.model.hidden = rows.length === 0;
  page["model-name"].hidden = rows.length > 0;
  refresh();
}

function askForKey() {
  tell(page.key.value ? "This API key is not accepted here." : "Enter your API key to begin.");
  showAccess(true);
}

// ---- the conversation

/** What the model is told: questions that were never answered are left out. */
function messagesBefore(turn) {
  const answered = turns.slice(0, turns.indexOf(turn)).filter(({ text }) => text);
  const messages = answered.flatMap(({ question, text }) => [
    { role: "user", content: question },
    { role: "assistant", content: text },
  ]);
  return [...messages, { role: "user", content: turn.question }];
}

function ask(question) {
  const element = page.turn.content.firstElementChild.cloneNode(true);
  element.querySelector(".question").append(question);
  const turn = { question, text: "", end: null, element, shown: null, frame: 0, meter: null };
  element.querySelector(".again").addEventListener("click", () => answer(turn));
  turns.push(turn);
  page.log.append(element);
  scrollTo(0, document.documentElement.scrollHeight);
  return answer(turn);
}

async function answer(turn) {
  const messages = messagesBefore(turn);
  const body = JSON.stringify({ model: model(), messages, stream: true, stream_options: { include_usage: true } });
  const fields = { ...headers(), "Content-Type": "application/json" };
  const stream = new AnswerStream({ url: CHAT, streams: STREAMS, headers: fields, body }, showConnection);
  turn.meter = new Meter(prices.get(model()), messages);
  begin(turn, stream);
  try {
    for await (const chunk of stream.chunks()) take(turn, chunk);
    finish(turn, stream.isStopped ? "Stopped." : (ENDS[turn.end] ?? (turn.text ? "" : "The answer is empty.")));
  } catch (error) {
    finish(turn, sentence(error, turn), true);
    if (error.status === 401) showAccess(true);
  }
}

function begin(turn, stream) {
  running = stream;
  turn.text = "";
  turn.end = null;
  turn.shown = new AnswerText(part(turn, ".text"));
  part(turn, ".answer").setAttribute("aria-busy", "true");
  part(turn, ".notice").hidden = true;
  for (const { element } of turns) element.querySelector(".again").hidden = true;
  tell("");
  refresh();
}

function take(turn, chunk) {
  const { delta = {}, finish_reason } = chunk.choices?.[0] ?? {};
  const said = delta.content ?? delta.refusal ?? "";
  const thought = delta.reasoning_content ?? delta.reasoning ?? "";
  if (said || thought) turn.meter.add(said || thought);
  if (!turn.text && (said || thought)) tell(said ? "" : "Thinking …");
  turn.text += said;
  turn.end = finish_reason ?? turn.end;
  if (chunk.usage) turn.meter.settle(chunk.usage);
  turn.frame ||= requestAnimationFrame(() => show(turn));
}

/** What has come since the last frame, with one layout for all of it. */
function show(turn) {
  const follows = isReadingAlong();
  cancelAnimationFrame(turn.frame);
  turn.frame = 0;
  turn.shown.show(turn.text);
  part(turn, ".meter").textContent = turn.meter.describe();
  if (follows) scrollTo(0, document.documentElement.scrollHeight);
}

function finish(turn, notice, failed = false) {
  show(turn);
  const follows = isReadingAlong();
  running = null;
  tell("");
  part(turn, ".notice").textContent = notice;
  part(turn, ".notice").hidden = !notice;
  part(turn, ".notice").classList.toggle("failed", failed);
  part(turn, ".again").hidden = !failed;
  part(turn, ".answer").setAttribute("aria-busy", "false");
  showTotal();
  refresh();
  if (follows) scrollTo(0, document.documentElement.scrollHeight);
  if (document.activeElement === document.body || turn.element.contains(document.activeElement)) page.prompt.focus();
}

/** @param attempt of joining the answer again; 0: it is joined */
function showConnection(attempt) {
  tell(attempt ? `Connection lost. Joining again (attempt ${attempt}) …` : "");
}

function tell(status) {
  if (page.status.textContent !== status) page.status.textContent = status;
}

function sentence(error, turn) {
  if (error.status === 401) return page.key.value ? "This API key is not accepted here." : "An API key is needed.";
  const again = error.retryAfter ? ` You may try again in ${duration(error.retryAfter)}.` : "";
  const kept = turn.text ? " What had arrived is kept." : "";
  return `${error.message}${kept}${again}`;
}

function duration(seconds) {
  const units = [[86400, "days"], [3600, "hours"], [60, "minutes"]];
  const [size, name] = units.find(([size]) => seconds >= 2 * size) ?? [1, "seconds"];
  return `${Math.ceil(seconds / size)} ${name}`;
}

function showTotal() {
  const meters = turns.map(({ meter }) => meter).filter((meter) => meter.describe());
  const about = meters.every((meter) => meter.isExact) ? "" : "≈ ";
  const parts = [countTokens(meters.reduce((sum, meter) => sum + meter.outputTokens, 0))];
  const costs = meters.map((meter) => meter.cost).filter((cost) => cost !== undefined);
  if (costs.length) parts.push(formatUsd(costs.reduce((sum, cost) => sum + cost)));
  page.total.textContent = meters.length > 1 ? `This chat: ${about}${parts.join(" · ")}` : "";
}

// ---- the page

function part(turn, selector) {
  return turn.element.querySelector(selector);
}

function isReadingAlong() {
  const { scrollHeight } = document.documentElement;
  return scrollHeight - innerHeight - scrollY < READING_ALONG;
}

function refresh() {
  page.welcome.hidden = turns.length > 0;
  page.stop.hidden = running === null;
  page.send.hidden = running !== null;
  page.send.disabled = !page.prompt.value.trim() || !model();
  page.new.disabled = turns.length === 0;
}

function grow() {
  page.prompt.style.height = "auto";
  const border = page.prompt.offsetHeight - page.prompt.clientHeight;
  page.prompt.style.height = `${page.prompt.scrollHeight + border}px`;
}

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = page.prompt.value.trim();
  if (running || !question || !model()) return;
  page.prompt.value = "";
  grow();
  page.prompt.focus();
  ask(question);
});
page.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
  event.preventDefault();
  page.composer.requestSubmit();
});
page.prompt.addEventListener("input", () => {
  grow();
  refresh();
});
page["model-name"].addEventListener("input", refresh);
page.stop.addEventListener("click", () => running?.stop());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isComposing(event)) running?.stop();
});
page["show-key"].addEventListener("click", () => showAccess(page.access.hidden));
page.access.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(page.key.value);
  showAccess(false);
  page.prompt.focus();
  loadModels();
});
page.new.addEventListener("click", () => {
  running?.stop();
  turns = [];
  page.log.replaceChildren();
  page.total.textContent = "";
  page.prompt.focus();
  refresh();
});
// A page that is left for good takes its answer with it; one that may come back joins it again.
addEventListener("pagehide", (event) => event.persisted || running?.stop());
addEventListener("hashchange", () => {
  takeKeyFromAddress();
  loadModels();
});

page.key.value = keptKey();
takeKeyFromAddress();
loadModels();
