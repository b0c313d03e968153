// One answer, read by each client that pages and apps use, into the same few fields; runs in a browser and in Node.js alike.
// `open(libraries, options)` begins and returns a Reading. Options: client (a key of CLIENTS), url, format (text, openai, plain),
// message, key, headers, form (send a form instead of JSON), close (false: do not hang up at the end mark).

class Reading {
  constructor({ format, close = true }) {
    Object.assign(this, { format, text: "", events: 0, opens: 0, statuses: [], errors: [], names: [], end: null, lastEventId: "" });
    this.hangUp = () => {};
    this.closes = close;
    this.whole = new Promise((resolve) => (this.resolve = resolve));
    this.hasGivenUp = new Promise((resolve) => (this.giveUp = resolve));
    this.waiting = [];
    this.refused = false;
  }

  // The client's own event: its end mark, its error mark or text.
  take({ data, lastEventId, id, type = "message" }) {
    this.events++;
    this.names.push(type);
    this.lastEventId = lastEventId ?? id ?? "";
    if (this.refused) this.fail(JSON.parse(data).error.message);
    else if (data === "[DONE]") this.finish("done");
    else if (this.format === "text" && data.startsWith("[ERROR] ")) this.fail(data);
    else if (this.format === "text" && data === "[ENTRY]") this.text += "\n";
    else if (this.format === "openai") this.takeChunk(JSON.parse(data));
    else this.text += data;
    this.waiting.forEach((check) => check());
  }

  takeChunk({ choices, error }) {
    if (error) this.fail(error.message, error.code);
    else this.text += choices[0]?.delta?.content ?? "";
  }

  fail(message, code = null) {
    this.errors.push({ message: String(message), code });
    this.finish("failed");
  }

  finish(end) {
    this.end ??= end;
    if (this.closes) this.hangUp();
    this.resolve(this);
  }

  // As a person who presses "stop": the connection goes; and where it could come back, the stream too.
  async stop(options) {
    this.closes = true;
    this.finish("stopped");
    const stream = this.lastEventId.split(":")[0];
    if (!stream) return null;
    const headers = options.key ? { Authorization: `Bearer ${options.key}` } : {};
    return (await fetch(new URL(`/-/streams/${stream}`, options.url), { method: "DELETE", headers })).status;
  }

  has(events) {
    return new Promise((resolve) => {
      const check = () => this.events >= events && resolve(this);
      this.waiting.push(check);
      check();
    });
  }

  toJSON() {
    const { text, events, opens, statuses, errors, names, end, lastEventId } = this;
    return { text, events, opens, statuses, errors, names: [...new Set(names)], end, lastEventId };
  }
}

function query({ url, message }) {
  const asked = new URL(url);
  asked.searchParams.set("prompt", message);
  return asked.href;
}

function headersOf({ key, headers = {} }) {
  return { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...headers };
}

function post({ message, form, ...options }) {
  if (form) {
    const body = new FormData();
    body.append("prompt", message);
    return { method: "POST", headers: headersOf(options), body };
  }
  const headers = { "Content-Type": "application/json", ...headersOf(options) };
  return { method: "POST", headers, body: JSON.stringify({ prompt: message }) };
}

function follow(reading, source) {
  reading.hangUp = () => source.close();
  source.onopen = () => reading.opens++;
  source.onmessage = (event) => reading.take(event);
  source.onerror = ({ status, code }) => {
    reading.statuses.push(status ?? code ?? null);
    // CLOSED: it has given up. Else it comes back by itself.
    if (source.readyState !== 2) return;
    reading.finish("closed");
    reading.giveUp();
  };
}

async function* pieces(response) {
  const decoder = new TextDecoder();
  for (const reader = response.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    yield decoder.decode(value, { stream: true });
  }
}

async function fetched(reading, options) {
  const controller = new AbortController();
  reading.hangUp = () => controller.abort();
  const response = await fetch(options.url, { ...post(options), signal: controller.signal });
  reading.opens++;
  reading.statuses.push(response.status);
  if (response.ok) return response;
  reading.fail((await response.json()).error.message);
  return null;
}

export const CLIENTS = {
  eventsource({ EventSource }, reading, options) {
    follow(reading, new EventSource(query(options)));
  },

  async "respond-async"({ EventSource }, reading, options) {
    const asked = post(options);
    const response = await fetch(options.url, { ...asked, headers: { ...asked.headers, Prefer: "respond-async" } });
    reading.statuses.push(response.status);
    if (response.status !== 202) return reading.fail((await response.json()).error.message);
    follow(reading, new EventSource(new URL(response.headers.get("Location"), options.url)));
  },

  "event-source-polyfill"({ EventSourcePolyfill }, reading, options) {
    follow(reading, new EventSourcePolyfill(query(options), { headers: headersOf(options) }));
  },

  async "fetch-event-source"({ fetchEventSource }, reading, options) {
    const controller = new AbortController();
    reading.hangUp = () => controller.abort();
    await fetchEventSource(options.url, {
      ...post(options),
      signal: controller.signal,
      openWhenHidden: true,
      async onopen(response) {
        reading.opens++;
        reading.statuses.push(response.status);
        reading.refused = !response.ok;
      },
      // Its example for keep-alives and `retry:` blocks: events without data are none.
      onmessage: ({ data, id, event }) => reading.take({ data, id, type: event || "message" }),
      onclose: () => reading.finish("closed"),
      // No onerror: it comes back by itself.
    });
  },

  "sse.js"({ SSE }, reading, options) {
    const { body: payload, ...rest } = post(options);
    const source = new SSE(options.url, { ...rest, payload, start: false });
    follow(reading, source);
    source.onerror = ({ responseCode, data }) => {
      reading.statuses.push(responseCode);
      reading.fail(data);
    };
    source.stream();
  },

  "react-native-sse"({ RNEventSource }, reading, options) {
    const { body, headers, method } = post(options);
    const source = new RNEventSource(options.url, { method, headers, body, timeoutBeforeConnection: 0, pollingInterval: 0 });
    reading.hangUp = () => source.close();
    source.addEventListener("open", () => reading.opens++);
    source.addEventListener("message", (event) => reading.take(event));
    source.addEventListener("error", ({ message, xhrStatus }) => {
      reading.statuses.push(xhrStatus);
      reading.fail(message);
    });
  },

  // A reader as many write it: whole network chunks, split at the blank line.
  async fetch(_, reading, options) {
    const response = await fetched(reading, options);
    if (!response) return;
    let rest = "";
    for await (const piece of pieces(response)) {
      const blocks = (rest + piece).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) reading.take({ data: lines.map((line) => line.slice(line[5] === " " ? 6 : 5)).join("\n") });
      }
    }
    reading.finish("closed");
  },

  async "fetch-plain"(_, reading, options) {
    const response = await fetched(reading, options);
    if (!response) return;
    for await (const piece of pieces(response)) reading.take({ data: piece });
    reading.finish("closed");
  },
};

export function open(libraries, options) {
  const reading = new Reading(options);
  Promise.resolve()
    .then(() => CLIENTS[options.client](libraries, reading, options))
    .catch((error) => reading.fail(`${error.name}: ${error.message}`));
  return reading;
}
