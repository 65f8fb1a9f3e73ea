// Errors, and how the page describes them to its user.

/** Error with a `code` for programs. Errors from the server also have the server's `message`. */
export class PageError extends Error {
  constructor(code, message = "", options = undefined) {
    super(message, options);
    this.code = code;
  }
}

const DESCRIPTIONS = {
  // Codes of the server.
  unauthorized: ({ message }) =>
    message.includes("not accepted") ? "The server does not accept this token." : "This server requires a token.",
  foreign_origin: () => "The server does not allow this page to connect. See its option --allow-origin.",
  too_many_sessions: () => "The server is full. Try again in a moment.",
  shutting_down: () => "The server is shutting down. The captions so far are still on this page.",
  idle_timeout: () => "The server ended the session because it received no audio for too long.",
  taken_over: () => "The session was resumed in another window.",
  unknown_session: () => "The connection was lost, and the session has expired on the server. Start again.",
  // Codes of this page.
  unreachable: () => "The server cannot be reached.",
  no_websocket: () => "The server answers, but websockets do not work. Is a proxy blocking them?",
  connection_lost: () => "The connection was lost. The captions so far are still on this page.",
  insecure_page: () =>
    "Browsers allow microphones only on pages from https:// or localhost. You can still caption recordings.",
  unreadable_recording: ({ message }) =>
    `The browser cannot decode “${message}”. Most WAV, MP3, FLAC, Ogg and M4A files work.`,
  unknown_microphone: ({ message }) => `There is no such microphone. Available microphones: ${message}.`,
  // Names of DOMException.
  NotAllowedError: () =>
    "The microphone is blocked. Allow it for this page in the address bar or in the system settings.",
  NotFoundError: () => "No microphone was found.",
  NotReadableError: () => "The microphone cannot be opened. Another program may be using it.",
  OverconstrainedError: () => "This microphone is no longer connected. Choose another one.",
};

/** Describe any error in a sentence for the user. */
export function describeError(error) {
  const describe = DESCRIPTIONS[error.code] ?? DESCRIPTIONS[error.name];
  return describe ? describe(error) : error.message || String(error);
}
