// The overlay at /captions: begins by itself, comes back by itself, and shows nothing but captions. Options are in the
// README, under "The page and the overlay".
import { captionMicrophone } from "./captioning.js";
import { Failure, inPlainWords } from "./failure.js";
import { listMicrophones, openMicrophone } from "./microphone.js";
import { Server } from "./session.js";

const AGAIN_MS = 3000;

const options = new URLSearchParams(location.search);
const box = document.getElementById("captions");
const trouble = document.getElementById("trouble");
const lines = Math.min(20, Math.max(1, parseInt(options.get("lines") ?? "2") || 2));
const holdMs = 1000 * Math.max(0, parseFloat(options.get("hold") ?? "6") || 0);
const unstable = options.get("unstable") !== "0";

// --- looks -----------------------------------------------------------------------------------------------------------

function style(property, value, accepted) {
  if (value !== null && accepted) document.documentElement.style.setProperty(property, value);
}

const size = parseFloat(options.get("size"));
const isColor = (name) => CSS.supports("color", options.get(name) ?? "");
style("--lines", String(lines), true);
style("--size", `${size}px`, size > 0);
style("--color", options.get("color"), isColor("color"));
style("--background", options.get("background"), isColor("background"));
style("--shadow", "none", options.get("shadow") === "0");
style("--align", options.get("align"), ["left", "center", "right"].includes(options.get("align")));

// --- captions --------------------------------------------------------------------------------------------------------

let current = null; // the paragraph of the utterance in progress
let hiding = 0;

function show(stable, rest) {
  current ??= box.appendChild(document.createElement("p"));
  const faint = document.createElement("span");
  faint.className = "unstable";
  faint.textContent = rest;
  current.replaceChildren(stable, faint);
  // Every utterance begins a line of its own, so taking old ones away moves nothing that can be seen.
  while (box.children.length > lines + 1) box.firstChild.remove();
  box.classList.remove("gone");
  clearTimeout(hiding);
  if (holdMs) hiding = setTimeout(() => box.classList.add("gone"), holdMs);
}

function onEvent({ type, stable, text }) {
  if (type === "partial") {
    const shown = unstable ? text : stable;
    if (shown) show(stable, shown.slice(stable.length));
  } else if (type === "final") {
    if (text) show(text, "");
    else current?.remove();
    current = null;
  }
}

// --- a session, and another one when it ends -------------------------------------------------------------------------

function tell(words) {
  trouble.textContent = words;
  trouble.hidden = !words;
}

function onState(state) {
  tell(state === "live" ? "" : "Reconnecting…");
}

function onEnd(error) {
  current = null;
  tell(error ? inPlainWords(error) : "");
  setTimeout(begin, AGAIN_MS);
}

async function begin() {
  try {
    const deviceId = await microphoneNamed(options.get("microphone"));
    await captionMicrophone(new Server(options.get("token")), deviceId, {
      onEvent,
      onState,
      onEnd,
      onLevel: () => {},
    });
  } catch (error) {
    onEnd(error);
  }
}

/** The id of the first microphone whose label has `name` in it; that of the default one without a name. */
async function microphoneNamed(name) {
  if (!name) return "";
  const opened = await openMicrophone(); // labels are shown only to pages that were allowed to use one
  await opened.stop();
  const microphones = await listMicrophones();
  const found = microphones.find(({ label }) => label.toLowerCase().includes(name.toLowerCase()));
  if (!found) throw new Failure("no_such_microphone", microphones.map(({ label }) => label).join(", "));
  return found.deviceId;
}

begin();
