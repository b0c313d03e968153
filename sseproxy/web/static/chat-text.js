/**
 * The text of one answer, as it is shown: in blocks of whole lines, so that what is added costs the layout of the last
 * one alone, however long the answer is. Nothing of the page may come in here.
 */

/** Characters after which the next line begins a block. */
const BLOCK = 2_000;

export class AnswerText {
  #element;
  #shown = 0;
  /** The text node of the last block, while that takes more. */
  #open = null;

  /** @param element is emptied */
  constructor(element) {
    this.#element = element;
    element.textContent = "";
  }

  /** @param text all of the answer so far */
  show(text) {
    // Anywhere but behind a line's end, a block would break the line.
    const lines = text.slice(this.#shown).match(/[^\n]*\n|[^\n]+/g) ?? [];
    this.#shown = text.length;
    for (const line of lines) {
      this.#open ??= this.#begin();
      this.#open.appendData(line);
      if (line.endsWith("\n") && this.#open.length >= BLOCK) this.#open = null;
    }
  }

  #begin() {
    const block = document.createElement("span");
    block.append("");
    this.#element.append(block);
    return block.firstChild;
  }
}
