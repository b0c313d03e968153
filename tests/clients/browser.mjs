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
// Closed and emptied: the next page is opened there, without a process and a context of its own to be made first.
const empty = [];
const VIEWPORT = { width: 1280, height: 720 };
const browser = await chromium.launch({ executablePath: process.argv[2], chromiumSandbox: false, args: FLAGS });

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

const OPS = {
  async open({ page: number, url }) {
    const tab = empty.pop() ?? (await newTab());
    tab.number = number;
    pages.set(number, tab);
    await tab.page.goto(url, { waitUntil: "load" });
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

  // What a person has set in their system, by the names of playwright's emulateMedia().
  async prefer({ page: number, settings }) {
    await pages.get(number).page.emulateMedia(settings);
    return null;
  },

  async close({ page: number }) {
    const tab = pages.get(number);
    pages.delete(number);
    await clear(tab);
    empty.push(tab);
    return null;
  },
};

// A context of its own for each page: no shared storage, cache or limit of connections.
async function newTab() {
  const context = await browser.newContext({ viewport: VIEWPORT });
  const page = await context.newPage();
  const tab = { context, page, devtools: await context.newCDPSession(page), number: null };
  page.on("console", (message) => say({ page: tab.number, console: `${message.type()}: ${message.text()}` }));
  page.on("pageerror", (error) => say({ page: tab.number, console: `uncaught: ${error.message}` }));
  return tab;
}

// Hangs up on everything that the page reads, and leaves nothing for the next one.
async function clear({ context, page, devtools }) {
  const { origin } = new URL(page.url());
  await devtools.send("Runtime.evaluate", { expression: "sessionStorage.clear()" });
  await page.goto("about:blank");
  await devtools.send("Storage.clearDataForOrigin", { origin, storageTypes: "all" });
  await devtools.send("Network.clearBrowserCache");
  await context.clearCookies();
  await page.setViewportSize(VIEWPORT);
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

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
