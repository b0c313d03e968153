// Runs the JavaScript of a page, with what browsers have and Node.js lacks, and with the names that docs/clients.md takes as given.
// node browser.mjs URL BLOCK.mjs…: prints what each block has shown, by the block's number.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../clients/node.mjs", import.meta.url));
const { JSDOM } = require("jsdom");
const { EventSource } = require("eventsource");

const [url, ...blocks] = process.argv.slice(2);
const { window } = new JSDOM("", { url });
Object.assign(globalThis, { window: globalThis, document: window.document, XMLHttpRequest: window.XMLHttpRequest, EventSource });

const shown = {};
const told = (block, text) => (shown[block] = (shown[block] ?? "") + text);
Object.assign(globalThis, { url, key: "sk-demo", told });

process.on("exit", () => process.stdout.write(JSON.stringify(shown)));
await Promise.all(blocks.map((block) => import(pathToFileURL(block))));
