// A recording from a file, decoded by the browser and fed as if it were spoken now, or faster.
import { Failure } from "./failure.js";

const SAMPLE_RATE = 16_000; // the recognizer's: a browser resamples while it decodes, and an hour fits into memory
const BLOCK_S = 0.1;

/**
 * @param {File} file in any format that the browser plays.
 * @throws {Failure} it cannot be decoded.
 */
export async function openRecording(file) {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  try {
    return new Recording(await context.decodeAudioData(await file.arrayBuffer()));
  } catch (error) {
    throw new Failure("unreadable_recording", file.name, { cause: error });
  }
}

class Recording {
  sampleRate = SAMPLE_RATE;
  #channels;
  #stopped = false;

  constructor(audio) {
    this.#channels = Array.from({ length: audio.numberOfChannels }, (_, at) => audio.getChannelData(at));
  }

  get seconds() {
    return this.#channels[0].length / SAMPLE_RATE;
  }

  /**
   * Resolves after the last block, or after `stop`.
   *
   * @param {boolean} realtime each block no sooner than a microphone would have it.
   * @param {(block: Float32Array) => Promise<void>} onBlock resolves when there is room for more.
   */
  async start(realtime, onBlock) {
    const size = SAMPLE_RATE * BLOCK_S;
    const startedMs = performance.now();
    for (let at = 0; at < this.#channels[0].length && !this.#stopped; at += size) {
      const block = this.#mixed(at, at + size);
      const dueMs = startedMs + ((at + block.length) / SAMPLE_RATE) * 1000;
      if (realtime) await new Promise((resolve) => setTimeout(resolve, dueMs - performance.now()));
      if (!this.#stopped) await onBlock(block);
    }
  }

  stop() {
    this.#stopped = true;
  }

  #mixed(start, end) {
    const [first, ...others] = this.#channels;
    const mixed = first.slice(start, end);
    for (const channel of others) channel.subarray(start, end).forEach((sample, at) => (mixed[at] += sample));
    return mixed.map((sample) => sample / this.#channels.length);
  }
}
