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

  /** @returns {object | null} the final as it was kept; null when nothing was said in it. */
  add({ text, start, end, words }) {
    if (!text) return null;
    const shifted = (times) => ({ ...times, start: times.start + this.#offsetS, end: times.end + this.#offsetS });
    const final = { ...shifted({ start, end }), text, words: words.map(shifted) };
    this.finals.push(final);
    return final;
  }
}
