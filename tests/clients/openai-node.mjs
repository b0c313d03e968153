// openai-node, as its README uses it: create() with stream, and the stream() helper.
import OpenAI from "openai";

function connect(base_url, key) {
  return new OpenAI({ baseURL: base_url, apiKey: key, maxRetries: 0 });
}

function addMessage(reading, message) {
  reading.text = message.content ?? "";
  reading.reasoning = message.reasoning_content ?? "";
  reading.tool_calls = (message.tool_calls ?? []).map(({ id, function: { name, arguments: text } }) => ({ id, name, arguments: text }));
}

function addDelta(reading, delta) {
  reading.text += delta.content ?? "";
  reading.reasoning += delta.reasoning_content ?? "";
  for (const { index, id, function: { name, arguments: text } = {} } of delta.tool_calls ?? []) {
    const call = (reading.tool_calls[index] ??= { id: null, name: "", arguments: "" });
    call.id ??= id ?? null;
    call.name += name ?? "";
    call.arguments += text ?? "";
  }
}

export async function create(reading, base_url, key, body, signal) {
  const answer = await connect(base_url, key).chat.completions.create(body, { signal });
  if (!body.stream) {
    addMessage(reading, answer.choices[0].message);
    reading.finish_reason = answer.choices[0].finish_reason;
    reading.usage = answer.usage ?? null;
    return;
  }
  for await (const chunk of answer) {
    if (chunk.usage) reading.usage = chunk.usage;
    const choice = chunk.choices.find(({ index }) => index === 0);
    if (!choice) continue;
    addDelta(reading, choice.delta);
    reading.finish_reason = choice.finish_reason ?? reading.finish_reason;
  }
}

export async function helper(reading, base_url, key, body, signal) {
  const stream = connect(base_url, key).chat.completions.stream(body, { signal });
  const answer = await stream.finalChatCompletion();
  addMessage(reading, answer.choices[0].message);
  reading.finish_reason = answer.choices[0].finish_reason;
  reading.usage = answer.usage ?? null;
}
