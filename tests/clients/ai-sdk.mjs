// Vercel's AI SDK: streamText() and generateText() over @ai-sdk/openai-compatible.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, streamText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;

function toolsOf(body) {
  if (!body.tools) return {};
  const tools = body.tools.map(({ function: { name, description, parameters } }) => [
    name,
    { description, inputSchema: jsonSchema(parameters ?? { type: "object", properties: {} }) },
  ]);
  const choice = body.tool_choice;
  const toolChoice = choice?.function ? { type: "tool", toolName: choice.function.name } : choice;
  return { tools: Object.fromEntries(tools), toolChoice };
}

function usageOf(usage) {
  if (usage?.inputTokens === undefined && usage?.outputTokens === undefined) return null;
  return { prompt_tokens: usage.inputTokens ?? null, completion_tokens: usage.outputTokens ?? null };
}

function call({ toolCallId, toolName, input }) {
  return { id: toolCallId, name: toolName, arguments: typeof input === "string" ? input : JSON.stringify(input) };
}

async function readStream(reading, options) {
  const calls = new Map();
  const result = streamText({ ...options, onError: () => {} });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") reading.text += part.text;
    else if (part.type === "reasoning-delta") reading.reasoning += part.text;
    else if (part.type === "tool-input-start") calls.set(part.id, { id: part.id, name: part.toolName, arguments: "" });
    else if (part.type === "tool-input-delta") calls.get(part.id).arguments += part.delta;
    else if (part.type === "tool-call" && !calls.has(part.toolCallId)) calls.set(part.toolCallId, call(part));
    else if (part.type === "error") throw part.error;
    else if (part.type === "finish") {
      reading.finish_reason = part.rawFinishReason ?? part.finishReason;
      reading.usage = usageOf(part.totalUsage);
    }
  }
  reading.tool_calls = [...calls.values()];
}

export async function ai(reading, base_url, key, body, abortSignal) {
  const provider = createOpenAICompatible({ name: "sseproxy", baseURL: base_url, apiKey: key, includeUsage: Boolean(body.stream_options?.include_usage) });
  // What streamText has no word for (n, stop, demo, ...) goes along as the provider's own options.
  const { model, messages, stream, stream_options, tools, tool_choice, max_tokens, ...rest } = body;
  const options = {
    model: provider.chatModel(model),
    messages,
    allowSystemInMessages: true,
    maxOutputTokens: max_tokens,
    maxRetries: 0,
    abortSignal,
    providerOptions: { sseproxy: rest },
    ...toolsOf(body),
  };
  if (stream) return readStream(reading, options);
  const result = await generateText(options);
  reading.text = result.text;
  reading.reasoning = result.reasoningText ?? "";
  reading.tool_calls = result.toolCalls.map(call);
  reading.finish_reason = result.rawFinishReason ?? result.finishReason;
  reading.usage = usageOf(result.totalUsage);
}
