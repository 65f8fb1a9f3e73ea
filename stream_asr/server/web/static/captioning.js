// A source of sound and a session, tied together: what the page and the overlay have in common.
import { openMicrophone } from "./microphone.js";
import { levelDb, toInt16 } from "./pcm.js";
import { openRecording } from "./recording.js";
import { Session } from "./session.js";

/**
 * @typedef {object} Captioning what goes on until `onEnd` is called.
 * @property {number} sampleRate
 * @property {Session} session
 * @property {string} deviceId of the microphone, "" for a recording.
 * @property {() => void} stop take no more sound in; the last captions are still to come.
 *
 * @typedef {object} Handlers those of `Session`, and
 * @property {(db: number) => void} onLevel of each block of sound.
 */

/**
 * Caption a microphone until it is stopped.
 *
 * @param {Server} server
 * @param {string} deviceId "" for the default one.
 * @param {Handlers} handlers
 * @returns {Promise<Captioning>}
 */
export async function captionMicrophone(server, deviceId, handlers) {
  await server.knock(); // nobody should be asked for their microphone in vain
  const microphone = await openMicrophone(deviceId);
  let stopping = null;
  const stopMicrophone = () => (stopping ??= microphone.stop());
  const session = new Session(server, microphone.sampleRate, {
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
 * @param {boolean} realtime as if it were spoken now; or as fast as the server takes it.
 * @param {Handlers} handlers
 * @returns {Promise<Captioning>}
 */
export async function captionRecording(server, file, realtime, handlers) {
  await server.knock();
  const recording = await openRecording(file);
  const session = new Session(server, recording.sampleRate, {
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
      return session.room();
    })
    .then(() => session.finish());
  return { sampleRate: recording.sampleRate, deviceId: "", session, stop: () => recording.stop() };
}
