// Level meter, clock, latency and lag.

const FLOOR_DB = -60;
const SILENCE_DB = -85; // quieter than any microphone that is on
const SILENCE_MS = 4000;
const PING_EVERY_MS = 1000;
const RECENT = 9; // partials of which the median is shown

export class Readouts {
  #meter = document.getElementById("meter");
  #time = document.getElementById("time");
  #latency = document.getElementById("latency");
  #lag = document.getElementById("lag");
  #captioning = null;
  #realtime = true;
  #recent = [];
  #heardMs = 0;
  #nextPing = 0;

  /** @param {boolean} realtime whether sound comes at the pace of time; without it, latencies say nothing. */
  begin(captioning, realtime) {
    this.#captioning = captioning;
    this.#realtime = realtime;
    this.#recent = [];
    this.#latency.textContent = this.#lag.textContent = "–";
    this.#heardMs = performance.now();
  }

  end() {
    this.#captioning = null;
    this.#lag.textContent = "–";
    this.level(-Infinity);
  }

  /** Of the newest block of sound. */
  level(db) {
    const share = Math.max(0, Math.min(1, 1 - db / FLOOR_DB));
    this.#meter.style.setProperty("--level", share.toFixed(3));
    this.#meter.setAttribute("aria-valuenow", Math.max(FLOOR_DB, Math.min(0, Math.round(db))));
    if (db > SILENCE_DB) this.#heardMs = performance.now();
    if (this.#captioning) this.#time.textContent = clock(this.#takenInS);
  }

  /** A source that is on and gives nothing but zeros is most likely muted. */
  get isSilent() {
    return performance.now() - this.#heardMs > SILENCE_MS;
  }

  /** The connection is there, perhaps again: measure how far recognition is behind what was sent. */
  connected() {
    this.#captioning?.session.ping();
  }

  show(event) {
    if (!this.#captioning) return;
    if (event.type === "pong") {
      this.#lag.textContent = inSeconds(this.#takenInS - event.id / this.#captioning.sampleRate);
      clearTimeout(this.#nextPing); // of a ping before a lost connection
      this.#nextPing = setTimeout(() => this.connected(), PING_EVERY_MS);
    } else if (event.type === "partial" && this.#realtime) {
      this.#recent = [...this.#recent, this.#takenInS - event.end].slice(-RECENT);
      this.#latency.textContent = inSeconds([...this.#recent].sort((a, b) => a - b)[this.#recent.length >> 1]);
    }
  }

  get #takenInS() {
    return this.#captioning.session.pushed / this.#captioning.sampleRate;
  }
}

/** Like 0:07 or 1:02:33. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const digits = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${digits(minutes)}` : minutes}:${digits(whole % 60)}`;
}

function inSeconds(seconds) {
  return `${Math.max(0, seconds).toFixed(1)} s`;
}
