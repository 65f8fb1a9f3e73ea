// The captions on the page: a list of finals, and below it the caption in progress.
import { formatClock } from "./readouts.js";

const END_TOLERANCE_PX = 40;

export class CaptionView {
  #scroller = document.getElementById("captions");
  #welcome = document.getElementById("welcome");
  #finals = document.getElementById("finals");
  #live = document.getElementById("live");
  #startTime = document.querySelector("#live time");
  #stable = document.getElementById("stable");
  #unstable = document.getElementById("unstable");
  #toLatest = document.getElementById("to-latest");
  #following = true; // false while the user has scrolled back

  constructor() {
    this.#scroller.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
      this.#following = scrollHeight - scrollTop - clientHeight < END_TOLERANCE_PX;
      if (this.#following) this.#toLatest.hidden = true;
    });
    this.#toLatest.addEventListener("click", () => {
      this.#following = true;
      this.#follow();
      this.#scroller.focus();
    });
    // Without this, a smaller window or a message below would hide the newest line.
    new ResizeObserver(() => this.#follow()).observe(this.#scroller);
  }

  showPartial({ start, stable, text }) {
    this.#welcome.hidden = true;
    this.#live.hidden = !text;
    this.#startTime.textContent = formatClock(start);
    this.#stable.textContent = stable;
    this.#unstable.textContent = text.slice(stable.length); // begins with a space, unless nothing is stable
    this.#follow();
  }

  /** @param {object | null} final null if the utterance has no text. */
  showFinal(final) {
    this.#live.hidden = true;
    if (final === null) return;
    this.#welcome.hidden = true;
    const [item, time, text] = ["li", "time", "p"].map((name) => document.createElement(name));
    item.className = "caption";
    time.textContent = formatClock(final.start);
    text.textContent = final.text;
    item.append(time, text);
    this.#finals.append(item);
    this.#follow();
  }

  clear() {
    this.#finals.replaceChildren();
    this.#live.hidden = true;
    this.#welcome.hidden = false;
    this.#toLatest.hidden = true;
  }

  #follow() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#toLatest.hidden = false;
  }
}
