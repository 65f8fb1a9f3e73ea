// Level meter, clock, latency and lag.

const FLOOR_DB = -60;
const SILENCE_DB = -85; // lower than the noise of any microphone that is not muted
const SILENCE_MS = 4000;
const PING_INTERVAL_MS = 1000;
const MEDIAN_COUNT = 9; // number of partials whose median latency is shown

export class Readouts {
  #meter = document.getElementById("meter");
  #time = document.getElementById("time");
  #latency = document.getElementById("latency");
  #lag = document.getElementById("lag");
  #captioning = null;
  #realtime = true;
  #latenciesS = [];
  #lastSoundMs = 0;
  #pingTimer = 0;

  /**
   * @param {Captioning} captioning
   * @param {boolean} realtime whether audio comes at real-time pace; otherwise, latencies are not shown.
   */
  start(captioning, realtime) {
    this.#captioning = captioning;
    this.#realtime = realtime;
    this.#latenciesS = [];
    this.#latency.textContent = this.#lag.textContent = "–";
    this.#lastSoundMs = performance.now();
  }

  stop() {
    this.#captioning = null;
    this.#lag.textContent = "–";
    this.showLevel(-Infinity);
  }

  /** Show the level of the newest block. */
  showLevel(db) {
    const fraction = Math.max(0, Math.min(1, 1 - db / FLOOR_DB));
    this.#meter.style.setProperty("--level", fraction.toFixed(3));
    this.#meter.setAttribute("aria-valuenow", Math.max(FLOOR_DB, Math.min(0, Math.round(db))));
    if (db > SILENCE_DB) this.#lastSoundMs = performance.now();
    if (this.#captioning) this.#time.textContent = formatClock(this.#pushedS);
  }

  /** Whether there has been no sound for some time; a microphone is then probably muted. */
  get isSilent() {
    return performance.now() - this.#lastSoundMs > SILENCE_MS;
  }

  /** Measure how far recognition is behind the audio sent. Called after every connection. */
  measureLag() {
    this.#captioning?.session.ping();
  }

  /** Update the lag and the latency from an event. */
  showEvent(event) {
    if (!this.#captioning) return;
    if (event.type === "pong") {
      this.#lag.textContent = formatSeconds(this.#pushedS - event.id / this.#captioning.sampleRate);
      clearTimeout(this.#pingTimer); // set by a ping before a lost connection
      this.#pingTimer = setTimeout(() => this.measureLag(), PING_INTERVAL_MS);
    } else if (event.type === "partial" && this.#realtime) {
      this.#latenciesS = [...this.#latenciesS, this.#pushedS - event.end].slice(-MEDIAN_COUNT);
      const sorted = [...this.#latenciesS].sort((a, b) => a - b);
      this.#latency.textContent = formatSeconds(sorted[sorted.length >> 1]);
    }
  }

  get #pushedS() {
    return this.#captioning.session.pushed / this.#captioning.sampleRate;
  }
}

/** Format a time as 0:07 or 1:02:33. */
export function formatClock(seconds) {
  const whole = Math.floor(seconds);
  const digits = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${digits(minutes)}` : minutes}:${digits(whole % 60)}`;
}

function formatSeconds(seconds) {
  return `${Math.max(0, seconds).toFixed(1)} s`;
}
