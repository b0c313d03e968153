// Drives one headless Chromium for tests/harness/browser.py. Commands come as JSON lines on stdin ({id, op, page, ...}); answers
// ({id, value} or {id, error}) and what pages write to their console ({page, console}) leave as JSON lines. Ends with its stdin.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const pages = new Map();
const browser = await chromium.launch({ executablePath: process.argv[2], chromiumSandbox: false, args: FLAGS });

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

const OPS = {
  // A context of its own for each page: no shared storage, cache or limit of connections.
  async open({ page: number, url }) {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.on("console", (message) => say({ page: number, console: `${message.type()}: ${message.text()}` }));
    page.on("pageerror", (error) => say({ page: number, console: `uncaught: ${error.message}` }));
    pages.set(number, { context, page, devtools: await context.newCDPSession(page) });
    await page.goto(url, { waitUntil: "load" });
    return null;
  },

  // Not page.evaluate(), which is an eval() inside the page: a page may forbid that by its Content-Security-Policy.
  async run({ page: number, body }) {
    const expression = `(async () => JSON.stringify((await (async () => {${body}\n})()) ?? null))()`;
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await pages.get(number).devtools.send("Runtime.evaluate", options);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return JSON.parse(result.value);
  },

  async screenshot({ page: number, path, width, height }) {
    const { page } = pages.get(number);
    await page.setViewportSize({ width, height });
    await page.screenshot({ path });
    return null;
  },

  async close({ page: number }) {
    const { context } = pages.get(number);
    pages.delete(number);
    await context.close();
    return null;
  },
};

async function obey(line) {
  const command = JSON.parse(line);
  try {
    say({ id: command.id, value: await OPS[command.op](command) });
  } catch (error) {
    say({ id: command.id, error: String(error?.message ?? error) });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", obey);
lines.on("close", async () => {
  await browser.close();
  process.exit(0);
});
say({ id: 0, value: browser.version() });
