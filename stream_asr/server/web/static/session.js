// One session with the server: audio in, captions out, resumed when the connection is lost.
//
// How resuming works. The server acknowledges audio ("ack"), and we keep what it has not acknowledged. We count the
// events that have arrived. After a lost connection we say which session it was and how many events we have; the server
// says how many samples it has, we send from there, and it sends the events that we lack.
import { Failure } from "./failure.js";

const NOT_EVENTS = new Set(["ready", "ack", "done", "error"]);
const WINDOW_S = 10; // audio on its way that the server has not acknowledged, at most
const GIVE_UP_S = 30; // the server keeps sessions for so long unless it was told otherwise
const SILENT_S = 10; // a server that says nothing for so long while we send is behind a dead connection
const LONGEST_DELAY_S = 3;

/** The server that the page is from. The token never enters an address: proxies log those. */
export class Server {
  #address = new URL("v1/stream", document.baseURI);
  #token;

  /** @param {string | null} token that the server wants, if any. */
  constructor(token) {
    // Headers have no other characters, nor has any token: encoded, a wrong one is as wrong as before.
    this.#token = /^[ -~]*$/.test(token ?? "") ? (token ?? "") : encodeURIComponent(token);
  }

  /**
   * Ask by plain HTTP whether a session could begin: browsers do not say why a websocket was refused.
   *
   * @throws {Failure} why not.
   */
  async knock() {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    let response;
    try {
      response = await fetch(this.#address, { headers });
    } catch (error) {
      throw new Failure("unreachable", "", { cause: error });
    }
    if (response.ok) return;
    const { code, message } = await response.json().catch(() => ({ code: "unreachable" }));
    throw new Failure(code, message);
  }

  /** @returns {WebSocket} with the token as a subprotocol, for want of headers. */
  connect() {
    const address = new URL(this.#address);
    address.protocol = address.protocol.replace("http", "ws");
    const encoded = encodeURIComponent(this.#token).replace(/[()]/g, (bracket) => (bracket === "(" ? "%28" : "%29"));
    return new WebSocket(address, this.#token ? ["token", encoded] : []);
  }
}

export class Session {
  /** Samples given to `push` so far. */
  pushed = 0;

  #server;
  #start;
  #handlers;
  #socket = null;
  #key = null; // the server's name for the session, once it has begun
  #blocks = []; // {start, samples}: what is not acknowledged yet
  #acknowledged = 0;
  #sent = 0; // on this connection, or before it
  #events = 0;
  #ready = false; // to send audio on this connection
  #finishing = false;
  #finishSent = false;
  #ended = false;
  #waiting = []; // those who wait for room
  #lostMs = null; // when the connection was lost; null while there is one
  #delayS = 0.1;
  #heardMs = performance.now();
  #watch = setInterval(() => this.#leaveDeadConnection(), 1000);

  /**
   * @param {Server} server
   * @param {number} sampleRate of the mono audio that will come.
   * @param {object} handlers
   * @param {(event: object) => void} handlers.onEvent captions, as the server sends them.
   * @param {(state: "live" | "reconnecting") => void} handlers.onState
   * @param {(error: Error | null) => void} handlers.onEnd called once; null after the last caption.
   */
  constructor(server, sampleRate, handlers) {
    this.#server = server;
    this.#start = { type: "start", sample_rate: sampleRate, encoding: "pcm_s16le" };
    this.#handlers = handlers;
    this.#connect();
  }

  /** @param {Int16Array} samples kept until they are acknowledged. */
  push(samples) {
    if (this.#ended) return;
    this.#blocks.push({ start: this.pushed, samples });
    this.pushed += samples.length;
    this.#send();
  }

  /** For sources that can wait: resolves when there is room for more, or the session is over. */
  async room() {
    while (!this.#ended && this.pushed - this.#acknowledged >= WINDOW_S * this.#start.sample_rate) {
      await new Promise((resolve) => this.#waiting.push(resolve));
    }
  }

  /** There is no more audio; the last captions are still to come. */
  finish() {
    this.#finishing = true;
    this.#send();
  }

  /** Ask for a pong, with the number of samples sent so far as its `id`, once they have been recognised. */
  ping() {
    if (this.#ready && !this.#finishing) this.#say({ type: "ping", id: this.#sent });
  }

  /** End now, without the last captions. */
  close(error = null) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watch);
    this.#disconnect();
    this.#wakeWaiting();
    this.#handlers.onEnd(error);
  }

  #connect() {
    const socket = (this.#socket = this.#server.connect());
    socket.onopen = () => {
      const resume = { type: "resume", session: this.#key, events: this.#events };
      this.#say(this.#key === null ? this.#start : resume);
    };
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = () => this.#reconnect();
  }

  #disconnect() {
    const socket = this.#socket;
    this.#ready = this.#finishSent = false;
    socket.onopen = socket.onmessage = socket.onclose = null; // a dead one closes much later
    socket.close();
  }

  #reconnect() {
    this.#disconnect();
    if (this.#key === null) return this.close(new Failure("no_websocket"));
    this.#lostMs ??= performance.now();
    if (performance.now() - this.#lostMs > GIVE_UP_S * 1000) return this.close(new Failure("connection_lost"));
    this.#handlers.onState("reconnecting");
    setTimeout(() => this.#ended || this.#connect(), this.#delayS * 1000);
    this.#delayS = Math.min(2 * this.#delayS, LONGEST_DELAY_S);
  }

  #leaveDeadConnection() {
    const silentS = (performance.now() - this.#heardMs) / 1000;
    if (this.#ready && this.#sent > this.#acknowledged && !this.#finishSent && silentS > SILENT_S) {
      this.#reconnect();
    }
  }

  #hear(message) {
    this.#heardMs = performance.now();
    if (!NOT_EVENTS.has(message.type)) {
      this.#events += 1;
      this.#handlers.onEvent(message);
    } else if (message.type === "ack") {
      this.#forget(message.received);
    } else if (message.type === "ready") {
      this.#key = message.session;
      this.#lostMs = null;
      this.#delayS = 0.1;
      this.#ready = true;
      this.#sent = message.received ?? 0;
      this.#forget(this.#sent);
      this.#handlers.onState("live");
      this.#send();
    } else {
      this.close(message.type === "error" ? new Failure(message.code, message.message) : null);
    }
  }

  #send() {
    if (!this.#ready || this.#finishSent) return;
    const limit = this.#acknowledged + WINDOW_S * this.#start.sample_rate;
    for (const { start, samples } of this.#blocks) {
      const end = start + samples.length;
      if (end <= this.#sent) continue;
      if (end > limit) break;
      this.#socket.send(samples.subarray(this.#sent - start));
      this.#sent = end;
    }
    if (this.#finishing && this.#sent === this.pushed) {
      this.#say({ type: "finish" });
      this.#finishSent = true;
    }
  }

  #forget(received) {
    this.#acknowledged = received;
    const kept = this.#blocks.findIndex(({ start, samples }) => start + samples.length > received);
    this.#blocks.splice(0, kept === -1 ? this.#blocks.length : kept);
    this.#wakeWaiting();
    this.#send();
  }

  #wakeWaiting() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #say(message) {
    this.#socket.send(JSON.stringify(message));
  }
}
