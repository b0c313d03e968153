// openai-node, as its README uses it: create() with stream, and the stream() helper.
import OpenAI from "openai";

function connect(base_url, key) {
  return new OpenAI({ baseURL: base_url, apiKey: key, maxRetries: 0 });
}

function addAnswer(reading, { choices, usage }) {
  const { message, finish_reason } = choices[0];
  reading.text = message.content ?? "";
  reading.reasoning = message.reasoning_content ?? "";
  reading.refusal = message.refusal ?? "";
  reading.tool_calls = (message.tool_calls ?? []).map(({ id, function: called, custom }) =>
    custom ? { id, name: custom.name, arguments: custom.input } : { id, name: called.name, arguments: called.arguments },
  );
  reading.finish_reason = finish_reason;
  reading.usage = usage ?? null;
  for (const choice of choices) {
    reading.texts[choice.index] = choice.message.content ?? "";
    reading.finish_reasons[choice.index] = choice.finish_reason;
  }
}

function addDelta(reading, delta) {
  reading.text += delta.content ?? "";
  reading.reasoning += delta.reasoning_content ?? "";
  reading.refusal += delta.refusal ?? "";
  for (const { index, id, function: called, custom } of delta.tool_calls ?? []) {
    const call = (reading.tool_calls[index] ??= { id: null, name: "", arguments: "" });
    call.id ??= id ?? null;
    call.name += called?.name ?? custom?.name ?? "";
    call.arguments += called?.arguments ?? custom?.input ?? "";
  }
}

export async function create(reading, base_url, key, body, signal) {
  const answer = await connect(base_url, key).chat.completions.create(body, { signal });
  if (!body.stream) {
    addAnswer(reading, answer);
    return;
  }
  for await (const chunk of answer) {
    if (chunk.usage) reading.usage = chunk.usage;
    for (const { index, delta, finish_reason } of chunk.choices) {
      reading.texts[index] = (reading.texts[index] ?? "") + (delta.content ?? "");
      if (finish_reason) reading.finish_reasons[index] = finish_reason;
      if (index !== 0) continue;
      addDelta(reading, delta);
      reading.finish_reason = finish_reason ?? reading.finish_reason;
    }
  }
}

export async function helper(reading, base_url, key, body, signal) {
  const stream = connect(base_url, key).chat.completions.stream(body, { signal });
  let reasoning = "";
  // The answer it gathers has only the last piece of a field that is not OpenAI's.
  stream.on("chunk", ({ choices }) => (reasoning += choices.find(({ index }) => index === 0)?.delta.reasoning_content ?? ""));
  addAnswer(reading, await stream.finalChatCompletion());
  reading.reasoning = reasoning;
}
