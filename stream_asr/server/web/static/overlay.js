// The overlay at /captions: begins by itself, comes back by itself, and shows nothing but captions. Options are in the
// README, under "The page and the overlay".
import { captionMicrophone } from "./captioning.js";
import { Failure, inPlainWords } from "./failure.js";
import { listMicrophones, openMicrophone } from "./microphone.js";
import { Server } from "./session.js";

const AGAIN_MS = 3000;
const READ_MS = 10_000;

const options = new URLSearchParams(location.search);
const box = document.getElementById("captions");
const trouble = document.getElementById("trouble");
const KNOWN = ["size", "lines", "color", "background", "shadow", "align", "hold", "unstable", "microphone", "token"];
const unusable = [...options.keys()].filter((name) => !KNOWN.includes(name));
const lines = Math.min(20, Math.max(1, parseInt(options.get("lines") ?? "2") || 2));
const holdMs = 1000 * Math.max(0, parseFloat(options.get("hold") ?? "6") || 0);
const unstable = options.get("unstable") !== "0";

// --- looks -----------------------------------------------------------------------------------------------------------

/** Set a property to what an option says; one that cannot be used is left as it is, and told. */
function style(property, name, accepted, value = options.get(name)) {
  if (!options.has(name)) return;
  if (accepted) document.documentElement.style.setProperty(property, value);
  else unusable.push(name);
}

const size = parseFloat(options.get("size"));
const isColor = (name) => CSS.supports("color", options.get(name) ?? "");
style("--lines", "lines", parseInt(options.get("lines")) > 0, String(lines));
style("--size", "size", size > 0, `${size}px`);
style("--color", "color", isColor("color"));
style("--background", "background", isColor("background"));
style("--shadow", "shadow", ["0", "1"].includes(options.get("shadow")), options.get("shadow") === "0" ? "none" : "");
style("--align", "align", ["left", "center", "right"].includes(options.get("align")));
if (options.has("hold") && !(parseFloat(options.get("hold")) >= 0)) unusable.push("hold");

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

let note = unusable.length ? `Not understood in the address: ${unusable.join(", ")}. See the README.` : "";
if (note) setTimeout(() => tell((note = "")), READ_MS);

function tell(words) {
  trouble.textContent = words || note;
  trouble.hidden = !trouble.textContent;
}

function onState(state) {
  tell(state === "live" ? "" : "Reconnecting…");
}

function onEnd(error) {
  current = null;
  const where = error?.code === "unauthorized" ? " Put token=… into the address." : "";
  tell(error ? inPlainWords(error) + where : "");
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
