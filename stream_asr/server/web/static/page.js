// The caption page at /.
import { CaptionView } from "./caption_view.js";
import { captionMicrophone, captionRecording } from "./captioning.js";
import { describeError } from "./errors.js";
import { listMicrophones } from "./microphone.js";
import { Readouts } from "./readouts.js";
import { Server } from "./session.js";
import { srt, txt, vtt } from "./subtitles.js";
import { Transcript } from "./transcript.js";

const byId = (id) => document.getElementById(id);
const FORMATS = { srt: [srt, "application/x-subrip"], vtt: [vtt, "text/vtt"], txt: [txt, "text/plain"] };
const MUTED = "No sound comes from the microphone. Is it muted?";

const view = new CaptionView();
const readouts = new Readouts();
const transcript = new Transcript();
let token = takeTokenFromAddress();
let captioning = null; // in progress
let retry = null; // repeats what was refused without a valid token
let downloadName = "captions";

// --- captioning ------------------------------------------------------------------------------------------------------

const IDLE = { state: "idle", label: "Ready", button: "Start microphone" };
const STARTING = { state: "busy", label: "Starting…", button: "Starting…" };
const LIVE = { state: "live", label: "Live", button: "Stop" };
const RECONNECTING = { state: "reconnecting", label: "Reconnecting… nothing is lost", button: "Stop" };
const FINISHING = { state: "busy", label: "Finishing…", button: "Stop now" };

let phase = IDLE;

function enter(next) {
  phase = next;
  byId("state").dataset.state = next.state;
  byId("state").textContent = next.label;
  byId("start").textContent = next.button;
  // Not disabled, because a disabled button loses the keyboard focus.
  byId("start").setAttribute("aria-disabled", String(next === STARTING));
  const focused = document.activeElement;
  for (const id of ["microphone", "open", "pace"]) byId(id).disabled = next !== IDLE;
  if (focused.disabled) byId("start").focus();
}

/**
 * @param {(handlers: object) => Promise<object>} start starts captioning.
 * @param {{realtime: boolean}} options whether audio comes at real-time pace.
 */
async function caption(start, { realtime = true } = {}) {
  showError(null);
  enter(STARTING);
  transcript.startSession();
  try {
    captioning = await start({ onEvent, onState, onEnd, onLevel: (db) => readouts.showLevel(db) });
    readouts.start(captioning, realtime);
    keepScreenOn(true);
    if (captioning.deviceId) await showMicrophones(captioning.deviceId);
  } catch (error) {
    onEnd(error);
    if (error.code === "unauthorized") askForToken(() => caption(start, { realtime }));
  }
}

function onEvent(event) {
  if (event.type === "partial") view.showPartial(transcript.shift(event));
  if (event.type === "final") view.showFinal(transcript.add(event));
  readouts.showEvent(event);
  updateDownloads();
}

function onState(state) {
  if (phase !== FINISHING) enter(state === "live" ? LIVE : RECONNECTING);
  if (state === "live") readouts.measureLag();
}

function onEnd(error) {
  captioning = null;
  readouts.stop();
  keepScreenOn(false);
  enter(IDLE);
  showError(error && describeError(error));
}

function startMicrophone() {
  return caption((handlers) => captionMicrophone(new Server(token), byId("microphone").value, handlers));
}

function openFile(file) {
  if (phase !== IDLE || !file) return;
  if (transcript.finals.length && !confirm(`Replace the captions on this page with those of “${file.name}”?`)) return;
  const realtime = byId("pace").value === "realtime";
  caption(
    async (handlers) => {
      const started = await captionRecording(new Server(token), file, realtime, handlers);
      // Cleared only now, so that a file that cannot be decoded does not cost the captions on the page.
      clear();
      transcript.startSession();
      downloadName = file.name.replace(/\.[^.]*$/, "");
      return started;
    },
    { realtime },
  );
}

byId("start").addEventListener("click", () => {
  if (phase === IDLE) startMicrophone();
  else if (phase === FINISHING) captioning.session.close();
  else if (phase !== STARTING) {
    enter(FINISHING);
    captioning.stop();
  }
});

// --- errors and tokens -----------------------------------------------------------------------------------------------

function showError(text) {
  byId("error").textContent = text ?? "";
  byId("error").hidden = !text;
}

setInterval(() => {
  const muted = Boolean(captioning?.deviceId) && readouts.isSilent;
  if (muted) showError(MUTED);
  else if (byId("error").textContent === MUTED) showError(null);
}, 1000);

/** Remove the token from the address of the page, because addresses are displayed, stored and shared; return it. */
function takeTokenFromAddress() {
  const address = new URL(location);
  const fromAddress = address.searchParams.get("token");
  if (fromAddress === null) return sessionStorage.getItem("token") ?? "";
  sessionStorage.setItem("token", fromAddress);
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
  return fromAddress;
}

function askForToken(onToken) {
  retry = onToken;
  byId("token-form").hidden = false;
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("token", token);
  byId("token-form").hidden = true;
  retry();
});

// --- microphones, recordings, downloads ------------------------------------------------------------------------------

async function showMicrophones(selected = byId("microphone").value) {
  const microphones = (await listMicrophones()).filter(({ deviceId, label }) => deviceId && label);
  if (!microphones.length) return;
  const options = microphones.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === selected));
  byId("microphone").replaceChildren(...options);
}

navigator.mediaDevices?.addEventListener("devicechange", () => showMicrophones());
showMicrophones();

byId("open").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  openFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});

addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dragging"));
addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  document.body.classList.remove("dragging");
  openFile(event.dataTransfer.files[0]);
});

function updateDownloads() {
  for (const button of document.querySelectorAll("[data-format], #clear")) button.disabled = !transcript.finals.length;
}

for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => {
    const [format, type] = FORMATS[button.dataset.format];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([format(transcript.finals)], { type }));
    link.download = `${downloadName}.${button.dataset.format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // after the download has started
  });
}

function clear() {
  transcript.clear();
  view.clear();
  downloadName = "captions";
  updateDownloads();
}

byId("clear").addEventListener("click", clear);

// --- screen ----------------------------------------------------------------------------------------------------------

let wakeLock = null;

/** Keep the screen on while captioning: phones stop the microphone when the screen turns off. */
async function keepScreenOn(on) {
  await wakeLock?.release();
  wakeLock = on ? await navigator.wakeLock?.request("screen").catch(() => null) : null;
}
