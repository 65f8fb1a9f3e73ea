// Client of the native protocol: one session, resumed after a lost connection.
//
// How a session is resumed: the server acknowledges audio ("ack"), and the client keeps the audio that is not
// acknowledged yet and counts the events that it receives. After a lost connection, the client sends the key of the
// session and the number of events. The server answers with the number of samples that it has received. The client
// sends its audio from there, and the server sends the missing events.
import { PageError } from "./errors.js";

const CONTROL_TYPES = new Set(["ready", "ack", "done", "error"]);
const WINDOW_S = 10; // maximum audio in flight: sent but not acknowledged
const GIVE_UP_S = 30; // by default, the server keeps a session for this long
const DEAD_AFTER_S = 10; // without any message while audio is unacknowledged, the connection counts as lost
const MIN_RECONNECT_DELAY_S = 0.1;
const MAX_RECONNECT_DELAY_S = 3;

/** The server of this page. The token is never sent in a URL, because proxies log URLs. */
export class Server {
  #url = new URL("v1/stream", document.baseURI);
  #token;

  /** @param {string | null} token access token, if the server requires one. */
  constructor(token) {
    // Valid tokens are ASCII. Others are encoded so that they can be sent in a header; the server refuses them.
    this.#token = /^[ -~]*$/.test(token ?? "") ? (token ?? "") : encodeURIComponent(token);
  }

  /**
   * Check over HTTP that a session is available, because browsers do not report why a websocket was refused.
   *
   * @throws {PageError} no session is available.
   */
  async checkAvailability() {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    let response;
    try {
      response = await fetch(this.#url, { headers });
    } catch (error) {
      throw new PageError("unreachable", "", { cause: error });
    }
    if (response.ok) return;
    const { code, message } = await response.json().catch(() => ({ code: "unreachable" }));
    throw new PageError(code, message);
  }

  /** Open a websocket. The token is sent as a subprotocol, because browsers cannot set headers. */
  connect() {
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace("http", "ws");
    // Parentheses are not allowed in subprotocols, but encodeURIComponent leaves them as they are.
    const encoded = encodeURIComponent(this.#token).replaceAll("(", "%28").replaceAll(")", "%29");
    return new WebSocket(url, this.#token ? ["token", encoded] : []);
  }
}

export class SessionClient {
  /** Number of samples given to `push` so far. */
  pushed = 0;

  #server;
  #start;
  #handlers;
  #websocket = null;
  #key = null; // key of the session, once it has started
  #blocks = []; // {start, samples}: audio not acknowledged yet
  #acknowledged = 0;
  #sent = 0; // samples sent on this connection or received by the server before
  #events = 0; // number received
  #ready = false; // whether the server accepts audio on this connection
  #finishing = false;
  #finishSent = false;
  #ended = false;
  #waiting = []; // resolve functions of waitForRoom
  #lostMs = null; // when the connection was lost; null while connected
  #delayS = MIN_RECONNECT_DELAY_S;
  #lastMessageMs = performance.now();
  #watchdog = setInterval(() => this.#replaceDeadConnection(), 1000);

  /**
   * @param {Server} server
   * @param {number} sampleRate of the mono audio, in Hz.
   * @param {object} handlers
   * @param {(event: object) => void} handlers.onEvent called with each event of the server.
   * @param {(state: "live" | "reconnecting") => void} handlers.onState called when the connection is ready or lost.
   * @param {(error: Error | null) => void} handlers.onEnd called once; with null after the last event.
   */
  constructor(server, sampleRate, handlers) {
    this.#server = server;
    this.#start = { type: "start", sample_rate: sampleRate, encoding: "pcm_s16le" };
    this.#handlers = handlers;
    this.#connect();
  }

  /**
   * Send audio. It is kept until the server has acknowledged it.
   *
   * @param {Int16Array} samples
   */
  push(samples) {
    if (this.#ended) return;
    this.#blocks.push({ start: this.pushed, samples });
    this.pushed += samples.length;
    this.#sendAudio();
  }

  /** For sources that can wait: resolves when more audio can be sent, or the session has ended. */
  async waitForRoom() {
    while (!this.#ended && this.pushed - this.#acknowledged >= WINDOW_S * this.#start.sample_rate) {
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  /** End the audio; the last captions are still to come. */
  finish() {
    this.#finishing = true;
    this.#sendAudio();
  }

  /** Request a `pong` once all samples sent so far have been recognized; its `id` is their number. */
  ping() {
    if (this.#ready && !this.#finishing) this.#sendMessage({ type: "ping", id: this.#sent });
  }

  /** End the session at once, without the last captions. */
  close(error = null) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watchdog);
    this.#disconnect();
    this.#resolveWaiting();
    this.#handlers.onEnd(error);
  }

  #connect() {
    const websocket = (this.#websocket = this.#server.connect());
    websocket.onopen = () => {
      const resume = { type: "resume", session: this.#key, events: this.#events };
      this.#sendMessage(this.#key === null ? this.#start : resume);
    };
    websocket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
    websocket.onclose = () => this.#reconnect();
  }

  #disconnect() {
    const websocket = this.#websocket;
    this.#ready = this.#finishSent = false;
    // Remove the handlers: a dead connection may report its close much later.
    websocket.onopen = websocket.onmessage = websocket.onclose = null;
    websocket.close();
  }

  #reconnect() {
    this.#disconnect();
    if (this.#key === null) return this.close(new PageError("no_websocket"));
    this.#lostMs ??= performance.now();
    if (performance.now() - this.#lostMs > GIVE_UP_S * 1000) return this.close(new PageError("connection_lost"));
    this.#handlers.onState("reconnecting");
    setTimeout(() => this.#ended || this.#connect(), this.#delayS * 1000);
    this.#delayS = Math.min(2 * this.#delayS, MAX_RECONNECT_DELAY_S);
  }

  #replaceDeadConnection() {
    const silenceS = (performance.now() - this.#lastMessageMs) / 1000;
    if (this.#ready && this.#sent > this.#acknowledged && !this.#finishSent && silenceS > DEAD_AFTER_S) {
      this.#reconnect();
    }
  }

  #onMessage(message) {
    this.#lastMessageMs = performance.now();
    if (!CONTROL_TYPES.has(message.type)) {
      this.#events += 1;
      this.#handlers.onEvent(message);
    } else if (message.type === "ack") {
      this.#discardAcknowledged(message.received);
    } else if (message.type === "ready") {
      this.#key = message.session;
      this.#lostMs = null;
      this.#delayS = MIN_RECONNECT_DELAY_S;
      this.#ready = true;
      this.#sent = message.received ?? 0;
      this.#discardAcknowledged(this.#sent);
      this.#handlers.onState("live");
      this.#sendAudio();
    } else {
      this.close(message.type === "error" ? new PageError(message.code, message.message) : null);
    }
  }

  #sendAudio() {
    if (!this.#ready || this.#finishSent) return;
    const limit = this.#acknowledged + WINDOW_S * this.#start.sample_rate;
    for (const { start, samples } of this.#blocks) {
      const end = start + samples.length;
      if (end <= this.#sent) continue;
      if (end > limit) break;
      this.#websocket.send(samples.subarray(this.#sent - start));
      this.#sent = end;
    }
    if (this.#finishing && this.#sent === this.pushed) {
      this.#sendMessage({ type: "finish" });
      this.#finishSent = true;
    }
  }

  #discardAcknowledged(received) {
    this.#acknowledged = received;
    const firstKept = this.#blocks.findIndex(({ start, samples }) => start + samples.length > received);
    this.#blocks.splice(0, firstKept === -1 ? this.#blocks.length : firstKept);
    this.#resolveWaiting();
    this.#sendAudio();
  }

  #resolveWaiting() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #sendMessage(message) {
    this.#websocket.send(JSON.stringify(message));
  }
}
