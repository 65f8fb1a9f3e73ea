// The microphone, as blocks of float samples at the browser's sample rate.
import { PageError } from "./errors.js";

const CONSTRAINTS = {
  // These filters are made for calls and remove sound that the recognizer can use.
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: true,
};

/** List microphones as `{deviceId, label}`. Labels are empty until the user has allowed a microphone. */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind }) => kind === "audioinput");
}

/**
 * Open a microphone. It delivers no audio before `start`.
 *
 * @param {string} deviceId "" for the default microphone.
 * @throws {PageError | DOMException} there is no microphone, or the page is not allowed to use it.
 */
export async function openMicrophone(deviceId = "") {
  if (!navigator.mediaDevices) throw new PageError("insecure_page");
  const audio = deviceId ? { ...CONSTRAINTS, deviceId: { exact: deviceId } } : CONSTRAINTS;
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    return new Microphone(stream, context);
  } catch (error) {
    release(stream, context);
    throw error;
  }
}

class Microphone {
  #stream;
  #context;
  #capture;

  constructor(stream, context) {
    this.#stream = stream;
    this.#context = context;
    this.#capture = new AudioWorkletNode(context, "capture", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
  }

  get sampleRate() {
    return this.#context.sampleRate;
  }

  get deviceId() {
    return this.#stream.getAudioTracks()[0].getSettings().deviceId;
  }

  /**
   * @param {(block: Float32Array) => void} onBlock
   * @param {() => void} onLost called when the microphone is unplugged or its permission is revoked.
   */
  start(onBlock, onLost) {
    this.#capture.port.onmessage = ({ data }) => data?.length && onBlock(data);
    this.#stream.getAudioTracks()[0].onended = onLost;
    this.#context.createMediaStreamSource(this.#stream).connect(this.#capture);
    this.#context.resume();
  }

  /** Stop the microphone; resolves after the last block. */
  async stop() {
    const { port } = this.#capture;
    if (this.#context.state === "running") {
      const onMessage = port.onmessage;
      await new Promise((resolve) => {
        port.onmessage = (message) => (message.data ? onMessage?.(message) : resolve());
        port.postMessage("stop");
      });
    }
    port.onmessage = null;
    release(this.#stream, this.#context);
  }
}

function release(stream, context) {
  for (const track of stream.getTracks()) track.stop();
  if (context.state !== "closed") context.close();
}
