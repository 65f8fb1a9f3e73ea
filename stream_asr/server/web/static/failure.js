// What can go wrong, in plain words.

/** An error with a `code` for programs; those of the server have its `message`, too. */
export class Failure extends Error {
  constructor(code, message = "", options = undefined) {
    super(message, options);
    this.code = code;
  }
}

const WORDS = {
  // The server's codes.
  unauthorized: ({ message }) =>
    message.includes("not accepted") ? "The server does not accept this token." : "This server wants a token.",
  foreign_origin: () => "The server does not let this page connect. Its --allow-origin names the pages that may.",
  too_many_sessions: () => "The server is full. Try again in a moment.",
  shutting_down: () => "The server is shutting down. What was said so far is on this page.",
  idle_timeout: () => "The server heard nothing for too long and has ended the session.",
  taken_over: () => "Another window has continued this session.",
  unknown_session: () => "The connection was lost, and the server no longer knows the session. Start again.",
  // This page's own.
  unreachable: () => "The server cannot be reached.",
  no_websocket: () => "The server answers, but no websocket could be opened. Does a proxy in between allow them?",
  connection_lost: () => "The connection was lost and did not come back. What was said so far is on this page.",
  insecure_page: () =>
    "Browsers give the microphone only to pages from https:// or from localhost. Recordings work here, too.",
  unreadable_recording: ({ message }) => `The browser cannot decode “${message}”. WAV, MP3, FLAC, Ogg and M4A mostly work.`,
  no_such_microphone: ({ message }) => `There is no such microphone. There are: ${message}.`,
  // What browsers throw.
  NotAllowedError: () => "The microphone is blocked. Allow it for this page, in the address bar or in the system's settings.",
  NotFoundError: () => "No microphone was found.",
  NotReadableError: () => "The microphone cannot be opened. Perhaps another program is using it.",
  OverconstrainedError: () => "This microphone is gone. Choose another one.",
};

/** A sentence for people about an error of any kind. */
export function inPlainWords(error) {
  const words = WORDS[error.code] ?? WORDS[error.name];
  return words ? words(error) : error.message || String(error);
}
