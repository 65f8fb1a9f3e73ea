// Captioning: an audio source connected to a session. Shared by the page and the overlay.
import { openMicrophone } from "./microphone.js";
import { levelDb, toInt16 } from "./pcm.js";
import { openRecording } from "./recording.js";
import { SessionClient } from "./session.js";

/**
 * @typedef {object} Captioning captioning in progress, until `onEnd` is called.
 * @property {number} sampleRate in Hz.
 * @property {SessionClient} session
 * @property {string} deviceId of the microphone; "" for a recording.
 * @property {() => void} stop stop the audio; the last captions are still to come.
 *
 * @typedef {object} Handlers the handlers of `SessionClient`, and
 * @property {(db: number) => void} onLevel called with the level of each block.
 */

/**
 * Caption a microphone until it is stopped.
 *
 * @param {Server} server
 * @param {string} deviceId "" for the default microphone.
 * @param {Handlers} handlers
 * @returns {Promise<Captioning>}
 */
export async function captionMicrophone(server, deviceId, handlers) {
  await server.checkAvailability(); // before the browser asks for permission to use the microphone
  const microphone = await openMicrophone(deviceId);
  let stopping = null;
  const stopMicrophone = () => (stopping ??= microphone.stop());
  const session = new SessionClient(server, microphone.sampleRate, {
    ...handlers,
    onEnd: (error) => stopMicrophone().then(() => handlers.onEnd(error)),
  });
  const stop = () => stopMicrophone().then(() => session.finish());
  microphone.start((block) => {
    handlers.onLevel(levelDb(block));
    session.push(toInt16(block));
  }, stop);
  return { sampleRate: microphone.sampleRate, deviceId: microphone.deviceId, session, stop };
}

/**
 * Caption a recording to its end.
 *
 * @param {Server} server
 * @param {File} file
 * @param {boolean} realtime at real-time pace; otherwise as fast as the server accepts audio.
 * @param {Handlers} handlers
 * @returns {Promise<Captioning>}
 */
export async function captionRecording(server, file, realtime, handlers) {
  await server.checkAvailability();
  const recording = await openRecording(file);
  const session = new SessionClient(server, recording.sampleRate, {
    ...handlers,
    onEnd: (error) => {
      recording.stop();
      handlers.onEnd(error);
    },
  });
  recording
    .start(realtime, (block) => {
      handlers.onLevel(levelDb(block));
      session.push(toInt16(block));
      return session.waitForRoom();
    })
    .then(() => session.finish());
  return { sampleRate: recording.sampleRate, deviceId: "", session, stop: () => recording.stop() };
}
