// The finals on the page, from one session or several consecutive sessions.

export class Transcript {
  /** Finals that have text. Times count from the start of the first session. */
  finals = [];
  #offsetS = 0;

  /** Start a session, whose times follow those of the finals so far. */
  startSession() {
    this.#offsetS = this.finals.at(-1)?.end ?? 0;
  }

  clear() {
    this.finals = [];
  }

  /** Return a copy of an event or a word with its times shifted to those of the transcript. */
  shift(item) {
    return { ...item, start: item.start + this.#offsetS, end: item.end + this.#offsetS };
  }

  /** @returns {object | null} the final with shifted times; null if it has no text. */
  add(event) {
    if (!event.text) return null;
    const final = { ...this.shift(event), words: event.words.map((word) => this.shift(word)) };
    this.finals.push(final);
    return final;
  }
}
