// The overlay at /captions: starts by itself, reconnects by itself, and shows nothing but captions. Its options are
// described in docs/server.md.
import { captionMicrophone } from "./captioning.js";
import { PageError, describeError } from "./errors.js";
import { listMicrophones, openMicrophone } from "./microphone.js";
import { Server } from "./session.js";

const RESTART_DELAY_MS = 3000;
const NOTICE_MS = 10_000; // how long the notice about unusable options is shown

const options = new URLSearchParams(location.search);
const box = document.getElementById("captions");
const message = document.getElementById("message");
const APPEARANCE_OPTIONS = ["size", "lines", "color", "background", "shadow", "align", "hold", "unstable"];
const OPTION_NAMES = [...APPEARANCE_OPTIONS, "microphone", "token"];
const unusable = [...options.keys()].filter((name) => !OPTION_NAMES.includes(name));
const lines = Math.min(20, Math.max(1, parseInt(options.get("lines") ?? "2") || 2));
const holdMs = 1000 * Math.max(0, parseFloat(options.get("hold") ?? "6") || 0);
const unstable = options.get("unstable") !== "0";

// --- appearance ------------------------------------------------------------------------------------------------------

/** Set a CSS property from an option. An option with an unusable value is ignored and reported. */
function setProperty(property, name, accepted, value = options.get(name)) {
  if (!options.has(name)) return;
  if (accepted) document.documentElement.style.setProperty(property, value);
  else unusable.push(name);
}

const size = parseFloat(options.get("size"));
const isColor = (name) => CSS.supports("color", options.get(name) ?? "");
setProperty("--lines", "lines", parseInt(options.get("lines")) > 0, String(lines));
setProperty("--size", "size", size > 0, `${size}px`);
setProperty("--color", "color", isColor("color"));
setProperty("--background", "background", isColor("background"));
const shadow = options.get("shadow");
setProperty("--shadow", "shadow", ["0", "1"].includes(shadow), shadow === "0" ? "none" : "");
setProperty("--align", "align", ["left", "center", "right"].includes(options.get("align")));
if (options.has("hold") && !(parseFloat(options.get("hold")) >= 0)) unusable.push("hold");

// --- captions --------------------------------------------------------------------------------------------------------

let current = null; // paragraph of the utterance in progress
let hideTimer = 0;

function show(stable, unstableText) {
  current ??= box.appendChild(document.createElement("p"));
  const span = document.createElement("span");
  span.className = "unstable";
  span.textContent = unstableText;
  current.replaceChildren(stable, span);
  // Each utterance starts a new line, so removing old lines does not move the visible ones.
  while (box.children.length > lines + 1) box.firstChild.remove();
  box.classList.remove("hidden");
  clearTimeout(hideTimer);
  if (holdMs) hideTimer = setTimeout(() => box.classList.add("hidden"), holdMs);
}

function onEvent({ type, stable, text }) {
  if (type === "partial") {
    const visible = unstable ? text : stable;
    if (visible) show(stable, visible.slice(stable.length));
  } else if (type === "final") {
    if (text) show(text, "");
    else current?.remove();
    current = null;
  }
}

// --- sessions: a new one starts when one ends ------------------------------------------------------------------------

let notice = unusable.length ? `Unknown or invalid options in the address: ${unusable.join(", ")}.` : "";
if (notice) setTimeout(() => showMessage((notice = "")), NOTICE_MS);

function showMessage(text) {
  message.textContent = text || notice;
  message.hidden = !message.textContent;
}

function onState(state) {
  showMessage(state === "live" ? "" : "Reconnecting…");
}

function onEnd(error) {
  current = null;
  const hint = error?.code === "unauthorized" ? " Add token=… to the address." : "";
  showMessage(error ? describeError(error) + hint : "");
  setTimeout(start, RESTART_DELAY_MS);
}

async function start() {
  try {
    const deviceId = await findMicrophone(options.get("microphone"));
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

/** Return the id of the first microphone whose label contains `name`; "" (the default) without a name. */
async function findMicrophone(name) {
  if (!name) return "";
  const microphone = await openMicrophone(); // labels are available only after the user has allowed a microphone
  await microphone.stop();
  const microphones = await listMicrophones();
  const found = microphones.find(({ label }) => label.toLowerCase().includes(name.toLowerCase()));
  if (!found) throw new PageError("unknown_microphone", microphones.map(({ label }) => label).join(", "));
  return found.deviceId;
}

start();
