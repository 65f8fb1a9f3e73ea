// A recording from a file, decoded by the browser and played back in blocks, at real-time pace or faster.
import { PageError } from "./errors.js";

const SAMPLE_RATE = 16_000; // that of the recognizer; an hour of audio at this rate fits into memory
const BLOCK_S = 0.1;

/**
 * Decode a recording.
 *
 * @param {File} file in any format that the browser can play.
 * @throws {PageError} the file cannot be decoded.
 */
export async function openRecording(file) {
  const context = new OfflineAudioContext(1, 1, SAMPLE_RATE);
  try {
    return new Recording(await context.decodeAudioData(await file.arrayBuffer()));
  } catch (error) {
    throw new PageError("unreadable_recording", file.name, { cause: error });
  }
}

class Recording {
  sampleRate = SAMPLE_RATE;
  #channels;
  #stopped = false;

  constructor(audio) {
    this.#channels = Array.from({ length: audio.numberOfChannels }, (_, index) => audio.getChannelData(index));
  }

  get seconds() {
    return this.#channels[0].length / SAMPLE_RATE;
  }

  /**
   * Play back the recording; resolves after the last block, or after `stop`.
   *
   * @param {boolean} realtime delay each block until a microphone would have recorded it.
   * @param {(block: Float32Array) => Promise<void>} onBlock resolves when more audio can be sent.
   */
  async start(realtime, onBlock) {
    const blockSamples = SAMPLE_RATE * BLOCK_S;
    const startedMs = performance.now();
    for (let start = 0; start < this.#channels[0].length && !this.#stopped; start += blockSamples) {
      const block = this.#mixDown(start, start + blockSamples);
      const dueMs = startedMs + ((start + block.length) / SAMPLE_RATE) * 1000;
      if (realtime) await new Promise((resolve) => setTimeout(resolve, dueMs - performance.now()));
      if (!this.#stopped) await onBlock(block);
    }
  }

  stop() {
    this.#stopped = true;
  }

  /** Mix all channels down to mono. */
  #mixDown(start, end) {
    const [first, ...others] = this.#channels;
    const mixed = first.slice(start, end);
    for (const channel of others) channel.subarray(start, end).forEach((sample, index) => (mixed[index] += sample));
    return mixed.map((sample) => sample / this.#channels.length);
  }
}
