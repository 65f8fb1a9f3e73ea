// The captions on the page: finished ones in a list, the one in progress below it.
import { clock } from "./readouts.js";

const AT_END_PX = 40;

export class Stage {
  #stage = document.getElementById("stage");
  #welcome = document.getElementById("welcome");
  #finals = document.getElementById("finals");
  #live = document.getElementById("live");
  #started = document.querySelector("#live time");
  #stable = document.getElementById("stable");
  #unstable = document.getElementById("unstable");
  #newest = document.getElementById("newest");
  #following = true; // until the reader scrolls back

  constructor() {
    this.#stage.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#stage;
      this.#following = scrollHeight - scrollTop - clientHeight < AT_END_PX;
      if (this.#following) this.#newest.hidden = true;
    });
    this.#newest.addEventListener("click", () => {
      this.#following = true;
      this.#follow();
      this.#stage.focus();
    });
    // A smaller window, or a message below, would hide the newest line.
    new ResizeObserver(() => this.#follow()).observe(this.#stage);
  }

  partial({ start, stable, text }) {
    this.#welcome.hidden = true;
    this.#live.hidden = !text;
    this.#started.textContent = clock(start);
    this.#stable.textContent = stable;
    this.#unstable.textContent = text.slice(stable.length).trimStart();
    this.#follow();
  }

  /** @param {object | null} final null when nothing was said after all. */
  final(final) {
    this.#live.hidden = true;
    if (final === null) return;
    this.#welcome.hidden = true;
    const [item, time, text] = ["li", "time", "p"].map((name) => document.createElement(name));
    item.className = "caption";
    time.textContent = clock(final.start);
    text.textContent = final.text;
    item.append(time, text);
    this.#finals.append(item);
    this.#follow();
  }

  clear() {
    this.#finals.replaceChildren();
    this.#live.hidden = true;
    this.#welcome.hidden = false;
    this.#newest.hidden = true;
  }

  #follow() {
    if (this.#following) this.#stage.scrollTop = this.#stage.scrollHeight;
    else this.#newest.hidden = false;
  }
}
