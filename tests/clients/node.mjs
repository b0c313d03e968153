// Runs code in Node.js for tests/harness/browser.py as browser.mjs runs it in pages, with the clients of readers.mjs as `read(options)`.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import { JSDOM } from "jsdom";
import { SSE } from "sse.js";
import RNEventSource from "react-native-sse/src/EventSource.js";
import { EventSource as UndiciEventSource } from "undici";
import { open } from "./readers.mjs";

const require = createRequire(import.meta.url);
// What these packages take for granted. jsdom's XMLHttpRequest asks for CORS as a browser's does, of this origin.
const { window } = new JSDOM("", { url: "http://localhost:5173/" });
Object.assign(globalThis, { window: globalThis, document: window.document, XMLHttpRequest: window.XMLHttpRequest });
const { EventSourcePolyfill } = require("event-source-polyfill");
const { fetchEventSource } = require("@microsoft/fetch-event-source");
const libraries = { EventSource, EventSourcePolyfill, fetchEventSource, SSE, RNEventSource };
globalThis.read = (options) => open(options.undici ? { ...libraries, EventSource: UndiciEventSource } : libraries, options);

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

const AsyncFunction = (async () => {}).constructor;
const OPS = { open: () => null, close: () => null, run: ({ body }) => new AsyncFunction(body)() };

async function obey(line) {
  const command = JSON.parse(line);
  try {
    say({ id: command.id, value: (await OPS[command.op](command)) ?? null });
  } catch (error) {
    say({ id: command.id, error: String(error?.stack ?? error) });
  }
}

process.on("unhandledRejection", (error) => say({ page: 0, console: `uncaught: ${error?.message ?? error}` }));
const lines = createInterface({ input: process.stdin });
lines.on("line", obey);
lines.on("close", () => process.exit(0));
say({ id: 0, value: process.version });
