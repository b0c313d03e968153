// Reads one answer per case with one SDK: cases come as JSON lines on stdin, readings leave as JSON lines in the same order.
// A case: {client, base_url, key, body}. A reading: {text, texts, reasoning, refusal, tool_calls, finish_reason, finish_reasons, usage, error}.
import { createInterface } from "node:readline";
import { ai } from "./ai-sdk.mjs";
import { create, helper } from "./openai-node.mjs";

const CLIENTS = { "openai-node": create, "openai-node-stream": helper, "ai-sdk": ai };
const AT_ONCE = 8;
const SECONDS = 30;

function blank() {
  return { text: "", texts: {}, reasoning: "", refusal: "", tool_calls: [], finish_reason: null, finish_reasons: {}, usage: null, error: null };
}

function timeout(controller) {
  return new Promise((_, reject) => {
    setTimeout(() => {
      reject(new Error(`no end after ${SECONDS} s`));
      controller.abort();
    }, SECONDS * 1000).unref();
  });
}

async function read(line) {
  const { client, base_url, key, body } = JSON.parse(line);
  const reading = blank();
  const controller = new AbortController();
  try {
    await Promise.race([CLIENTS[client](reading, base_url, key, body, controller.signal), timeout(controller)]);
  } catch (error) {
    reading.error ??= { name: error?.name ?? "Error", message: String(error?.message ?? error), status: error?.status ?? error?.statusCode ?? null };
  }
  return reading;
}

const lines = [];
for await (const line of createInterface({ input: process.stdin })) if (line.trim()) lines.push(line);
const readings = new Array(lines.length);
let next = 0;
async function work() {
  while (next < lines.length) {
    const mine = next++;
    readings[mine] = await read(lines[mine]);
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, work));
process.stdout.write(readings.map((reading) => JSON.stringify(reading) + "\n").join(""), () => process.exit(0));
