// The page at /: buttons in, captions out.
import { captionMicrophone, captionRecording } from "./captioning.js";
import { inPlainWords } from "./failure.js";
import { listMicrophones } from "./microphone.js";
import { Readouts } from "./readouts.js";
import { Server } from "./session.js";
import { Stage } from "./stage.js";
import { srt, txt, vtt } from "./subtitles.js";
import { Transcript } from "./transcript.js";

const byId = (id) => document.getElementById(id);
const FORMATS = { srt: [srt, "application/x-subrip"], vtt: [vtt, "text/vtt"], txt: [txt, "text/plain"] };
const SILENT = "No sound comes from the microphone. Is it muted?";

const stage = new Stage();
const readouts = new Readouts();
const transcript = new Transcript();
let token = tokenOfAddress();
let captioning = null; // what goes on
let again = null; // what was refused for want of a token
let name = "captions";

// --- what goes on ----------------------------------------------------------------------------------------------------

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
  // Not disabled, which would take the keyboard's focus away.
  byId("start").setAttribute("aria-disabled", String(next === STARTING));
  const focused = document.activeElement;
  for (const id of ["microphone", "open", "pace"]) byId(id).disabled = next !== IDLE;
  if (focused.disabled) byId("start").focus();
}

/** @param {(handlers: object) => Promise<object>} begin a source and a session. */
async function caption(begin, { realtime = true } = {}) {
  complain(null);
  enter(STARTING);
  transcript.begin();
  try {
    captioning = await begin({ onEvent, onState, onEnd, onLevel: (db) => readouts.level(db) });
    readouts.begin(captioning, realtime);
    holdScreen(true);
    if (captioning.deviceId) await showMicrophones(captioning.deviceId);
  } catch (error) {
    onEnd(error);
    if (error.code === "unauthorized") askForToken(() => caption(begin, { realtime }));
  }
}

function onEvent(event) {
  if (event.type === "partial") stage.partial(transcript.placed(event));
  if (event.type === "final") stage.final(transcript.add(event));
  readouts.show(event);
  offerDownloads();
}

function onState(state) {
  if (phase !== FINISHING) enter(state === "live" ? LIVE : RECONNECTING);
  if (state === "live") readouts.connected();
}

function onEnd(error) {
  captioning = null;
  readouts.end();
  holdScreen(false);
  enter(IDLE);
  complain(error && inPlainWords(error));
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
      // Not before: a file that is no recording must not cost the captions that are here.
      clear();
      transcript.begin();
      name = file.name.replace(/\.[^.]*$/, "");
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

// --- messages and tokens ---------------------------------------------------------------------------------------------

function complain(words) {
  byId("trouble").textContent = words ?? "";
  byId("trouble").hidden = !words;
}

setInterval(() => {
  const silent = Boolean(captioning?.deviceId) && readouts.isSilent;
  if (silent) complain(SILENT);
  else if (byId("trouble").textContent === SILENT) complain(null);
}, 1000);

/** The token that the address of the page has, which is taken out of it: addresses are shown, kept and passed on. */
function tokenOfAddress() {
  const address = new URL(location);
  const given = address.searchParams.get("token");
  if (given === null) return sessionStorage.getItem("token") ?? "";
  sessionStorage.setItem("token", given);
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
  return given;
}

function askForToken(retry) {
  again = retry;
  byId("token-form").hidden = false;
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value;
  sessionStorage.setItem("token", token);
  byId("token-form").hidden = true;
  again();
});

// --- microphones, recordings, downloads ------------------------------------------------------------------------------

async function showMicrophones(chosen = byId("microphone").value) {
  const microphones = (await listMicrophones()).filter(({ deviceId, label }) => deviceId && label);
  if (!microphones.length) return;
  const options = microphones.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === chosen));
  byId("microphone").replaceChildren(...options);
}

navigator.mediaDevices?.addEventListener("devicechange", () => showMicrophones());
showMicrophones();

byId("open").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  openFile(target.files[0]);
  target.value = ""; // the same file may be chosen again
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

function offerDownloads() {
  for (const button of document.querySelectorAll("[data-format], #clear")) button.disabled = !transcript.finals.length;
}

for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => {
    const [write, type] = FORMATS[button.dataset.format];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([write(transcript.finals)], { type }));
    link.download = `${name}.${button.dataset.format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // not before the download has begun
  });
}

function clear() {
  transcript.clear();
  stage.clear();
  name = "captions";
  offerDownloads();
}

byId("clear").addEventListener("click", clear);

// --- phones ----------------------------------------------------------------------------------------------------------

let lock = null;

/** A phone that switches its screen off switches the microphone off, too. */
async function holdScreen(on) {
  await lock?.release();
  lock = on ? await navigator.wakeLock?.request("screen").catch(() => null) : null;
}
