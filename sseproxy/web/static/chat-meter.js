/**
 * What an answer amounts to: tokens, cost and pace. Estimated from what has arrived, exact once the server has told.
 * Nothing of the page may come in here.
 */

/** Of plain text, in every large tokenizer, about. */
const CHARACTERS_PER_TOKEN = 4;
/** Upstreams send a token an event; those whose events are longer than this put several into one. */
const LONGEST_TOKEN = 8;

export class Meter {
  #pricing;
  #inputTokens;
  #asked = performance.now();
  #first = 0;
  #last = 0;
  #pieces = 0;
  #characters = 0;
  #usage = null;

  /**
   * @param pricing USD per token, `{prompt, completion}` as /v1/models tells it; undefined if nobody knows
   * @param messages what is sent
   */
  constructor(pricing, messages) {
    this.#pricing = pricing;
    const characters = messages.reduce((sum, message) => sum + message.content.length, 0);
    this.#inputTokens = Math.ceil(characters / CHARACTERS_PER_TOKEN);
  }

  /** Count a piece of text, thought or said. */
  add(text) {
    this.#last = performance.now();
    this.#first ||= this.#last;
    this.#pieces += 1;
    this.#characters += text.length;
  }

  /** Take the server's own count. */
  settle(usage) {
    this.#usage = usage;
  }

  get isExact() {
    return this.#usage !== null;
  }

  get outputTokens() {
    if (this.#usage) return this.#usage.completion_tokens ?? 0;
    const batched = this.#characters > this.#pieces * LONGEST_TOKEN;
    return batched ? Math.ceil(this.#characters / CHARACTERS_PER_TOKEN) : this.#pieces;
  }

  /** USD; undefined if nobody knows a price. */
  get cost() {
    const told = this.#usage?.cost;
    // A model without a price is booked at 0: that is no cost to show.
    if (told !== undefined && (told > 0 || this.#pricing)) return told;
    if (!this.#pricing) return undefined;
    const input = this.#usage?.prompt_tokens ?? this.#inputTokens;
    return input * this.#pricing.prompt + this.outputTokens * this.#pricing.completion;
  }

  /** One line for people. */
  describe() {
    if (!this.#first && !this.#usage) return "";
    const about = this.isExact ? "" : "≈ ";
    const parts = [about + countTokens(this.outputTokens)];
    if (this.#usage?.prompt_tokens) parts[0] = `${this.#usage.prompt_tokens} in, ${this.outputTokens} out`;
    if (this.cost !== undefined) parts.push(about + formatUsd(this.cost));
    if (this.#first) parts.push(`first after ${seconds(this.#first - this.#asked)}`);
    const pace = ((this.outputTokens - 1) * 1000) / (this.#last - this.#first);
    if (this.#pieces > 2 && Number.isFinite(pace)) parts.push(`${pace < 10 ? pace.toFixed(1) : Math.round(pace)} tokens/s`);
    return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");
  }
}

export function countTokens(count) {
  return `${count.toLocaleString("en")} ${count === 1 ? "token" : "tokens"}`;
}

/** Small sums keep the digits that matter: `$0.0000345`, but `$12.40`. */
export function formatUsd(usd) {
  const digits = usd >= 1 || usd === 0 ? { minimumFractionDigits: 2 } : { maximumSignificantDigits: 3 };
  return usd.toLocaleString("en-US", { style: "currency", currency: "USD", ...digits });
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(2)} s`;
}
