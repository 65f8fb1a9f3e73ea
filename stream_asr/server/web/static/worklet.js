// Runs in the browser's audio thread: collects the microphone's samples into blocks and posts them to the page.
const BLOCK_S = 0.04;

class Capture extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate * BLOCK_S)); // sampleRate is a global of this thread
  #filled = 0;
  #running = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#post(); // the last samples before the stop
      this.port.postMessage(null);
      this.#running = false;
    };
  }

  /** Called for every 128 samples; the node has mixed all channels down to mono. */
  process([[samples]]) {
    if (!this.#running) return false;
    for (const sample of samples ?? []) {
      this.#block[this.#filled++] = sample;
      if (this.#filled === this.#block.length) this.#post();
    }
    return true;
  }

  #post() {
    this.port.postMessage(this.#block.slice(0, this.#filled));
    this.#filled = 0;
  }
}

registerProcessor("capture", Capture);
