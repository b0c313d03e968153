/**
 * One answer of the API as server-sent events, joined again when its connection drops: no chunk is lost, none comes twice.
 *
 * The POST names itself by an Idempotency-Key; the server then gives each event the id `<stream>:<n>`, and whoever comes
 * back with the last one gets the rest. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html.
 * Nothing of the page may come in here.
 */

/** Keep-alives come every 15 s: a connection as silent as this is dead, whatever the network says. */
const SILENCE = 45_000;
/** For so long the server keeps what nobody has read yet (`streams.keep`). */
const KEEP = 300_000;
/** For so long a server is called that has not answered at all. */
const UNREACHED = 30_000;
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5_000;
/** What a proxy in front of the server says while the server is away; anything else is the server's own word. */
const PASSING = new Set([502, 503, 504]);

/** A refusal, or an end before its time, in words for people. */
export class AnswerError extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Reads the message out of a refused response, be it JSON or an event stream of one error event. */
export async function refusal(response) {
  const text = await response.text().catch(() => "");
  const data = text.match(/^data: ?(.*)$/m)?.[1] ?? text;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  let message = `The server answered with status ${response.status}.`;
  try {
    const { error } = JSON.parse(data);
    message = error?.message ?? message;
  } catch {
    // Some page of a proxy in between: its status says more than its text.
  }
  return new AnswerError(message, { status: response.status, retryAfter });
}

export class AnswerStream {
  #request;
  #onConnection;
  #stream = "";
  #lastId = "";
  #reached = false;
  #lostAt = 0;
  #stopped = false;
  #connection = new AbortController();
  #wake = () => {};
  #whenStopped = new Promise((resolve) => (this.#wake = resolve));

  /**
   * @param request `{url, streams, headers, body}`: where to POST the body, and below which URL streams are joined again
   * @param onConnection called with the number of the attempt to join again, and with 0 once it is joined
   */
  constructor(request, onConnection) {
    this.#request = { ...request, headers: { ...request.headers, "Idempotency-Key": randomKey() } };
    this.#onConnection = onConnection;
  }

  /** The chunks, until the answer is complete or stopped. Throws an AnswerError if it ends in any other way. */
  async *chunks() {
    for (let losses = 0; !this.#stopped; losses++) {
      try {
        for await (const data of this.#connect()) {
          losses = 0;
          if (data === "[DONE]") return;
          yield readChunk(data);
        }
        if (this.#stopped) return;
        throw new TypeError("the connection was closed early");
      } catch (error) {
        if (error instanceof Complete || this.#stopped) return;
        if (error instanceof AnswerError) throw error;
      }
      await this.#pause(losses + 1);
    }
  }

  get isStopped() {
    return this.#stopped;
  }

  /** Stop the answer, here and at the server: a connection that closes does not tell it that nobody will come back. */
  async stop() {
    this.#stopped = true;
    this.#wake();
    this.#connection.abort();
    const { streams, headers } = this.#request;
    try {
      // By its key, as an answer that has not begun has no name; kept alive, as the page may be on its way out.
      await fetch(streams, { method: "DELETE", headers, keepalive: true });
    } catch {
      // Cut off from the server: it stops by itself when nobody listens.
    }
  }

  async *#connect() {
    const { url, streams, headers, body } = this.#request;
    const joins = this.#stream !== "";
    this.#connection = new AbortController();
    const response = await fetch(joins ? streams + this.#stream : url, {
      method: joins ? "GET" : "POST",
      headers: { ...headers, Accept: "text/event-stream", ...(this.#lastId && { "Last-Event-ID": this.#lastId }) },
      body: joins ? undefined : body,
      signal: this.#connection.signal,
      cache: "no-store",
    });
    await this.#check(response, joins);
    this.#reached = true;
    this.#stream ||= streamOf(response);
    yield* this.#events(response);
  }

  async #check(response, joins) {
    if (response.status === 204) throw new Complete();
    if (joins && PASSING.has(response.status)) throw new TypeError("the server is away");
    if (joins && response.status === 404) {
      throw new AnswerError("The connection was lost, and the server no longer has the rest of this answer.");
    }
    if (!response.ok) throw await refusal(response);
    const type = response.headers.get("Content-Type") ?? "";
    if (!type.startsWith("text/event-stream")) throw new AnswerError("The server did not answer with an event stream.");
  }

  async *#events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const event = { id: this.#lastId, data: [] };
    let rest = "";
    for (;;) {
      const { done, value } = await this.#read(reader);
      if (done) return; // an event without its blank line is none
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const data = takeLine(event, line.replace(/\r$/, ""));
        if (data === undefined) continue;
        this.#lastId = event.id;
        if (data !== null) yield data;
      }
    }
  }

  async #read(reader) {
    const connection = this.#connection;
    const timer = setTimeout(() => connection.abort(), SILENCE);
    try {
      const read = await reader.read();
      if (!read.done && this.#lostAt) this.#joined();
      return read;
    } finally {
      clearTimeout(timer);
    }
  }

  #joined() {
    this.#lostAt = 0;
    this.#onConnection(0);
  }

  /** Wait before the next attempt: until it is due, the network is back, or the answer is stopped. */
  async #pause(attempt) {
    this.#lostAt ||= Date.now();
    const lostFor = Date.now() - this.#lostAt;
    if (!this.#reached && lostFor > UNREACHED) throw new AnswerError("The server cannot be reached.");
    if (this.#reached && !this.#stream) throw new AnswerError("The connection was lost before the answer was complete.");
    if (lostFor > KEEP) throw new AnswerError("The connection was lost and could not be restored.");
    this.#onConnection(attempt);
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1));
    await Promise.race([later(longest * (0.5 + Math.random() / 2)), backOnline(), this.#whenStopped]);
  }
}

/** Thrown when the server says that there is nothing more to come. */
class Complete extends Error {}

/** Takes one line into the event. Returns its data at its end, null if it had none, undefined before its end. */
function takeLine(event, line) {
  if (line === "") {
    const data = event.data.length ? event.data.join("\n") : null;
    event.data = [];
    return data;
  }
  const [, name, value] = line.match(/^([^:]*):? ?(.*)$/s);
  if (name === "data") event.data.push(value);
  if (name === "id") event.id = value;
  return undefined;
}

function readChunk(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new AnswerError("The server sent an event that is not JSON.");
  }
  if (chunk.error) throw new AnswerError(chunk.error.message ?? "The answer failed.");
  return chunk;
}

/** The server may be mounted anywhere below its host: only the last part of the path is the stream's name. */
function streamOf(response) {
  const path = response.headers.get("Content-Location") ?? response.headers.get("Location");
  return path?.match(/\/-\/streams\/([^/?#]+)$/)?.[1] ?? "";
}

/** crypto.randomUUID is missing where a page comes over plain HTTP from another machine. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function later(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function backOnline() {
  return new Promise((resolve) => addEventListener("online", resolve, { once: true }));
}
