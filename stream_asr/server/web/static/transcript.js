// The finals of a page, also of several sessions one after the other.

export class Transcript {
  /** With text; their times count from the beginning of the first session. */
  finals = [];
  #offsetS = 0;

  /** A session begins; its times follow those that are here. */
  begin() {
    this.#offsetS = this.finals.at(-1)?.end ?? 0;
  }

  clear() {
    this.finals = [];
  }

  /** An event, or a word, with its times as they are counted here. */
  placed(timed) {
    return { ...timed, start: timed.start + this.#offsetS, end: timed.end + this.#offsetS };
  }

  /** @returns {object | null} the final as it was kept; null when nothing was said in it. */
  add(event) {
    if (!event.text) return null;
    const final = { ...this.placed(event), words: event.words.map((word) => this.placed(word)) };
    this.finals.push(final);
    return final;
  }
}
