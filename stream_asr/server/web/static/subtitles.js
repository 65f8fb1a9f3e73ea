// Finals as files: SRT, WebVTT and plain text.

const LINE_CHARACTERS = 42; // common limits of broadcasters
const CUE_CHARACTERS = 2 * LINE_CHARACTERS;
const MAX_CUE_S = 7;
const MIN_CUE_S = 1;

/** Format finals as SRT. */
export function srt(finals) {
  const blocks = cues(finals).map(
    ({ start, end, lines }, index) =>
      `${index + 1}\n${formatTime(start, ",")} --> ${formatTime(end, ",")}\n${lines.join("\n")}\n`,
  );
  return blocks.join("\n");
}

/** Format finals as WebVTT. */
export function vtt(finals) {
  const blocks = cues(finals).map(
    ({ start, end, lines }) =>
      `${formatTime(start, ".")} --> ${formatTime(end, ".")}\n${lines.map(escapeMarkup).join("\n")}\n`,
  );
  return ["WEBVTT\n", ...blocks].join("\n");
}

/** Format finals as text, one line per utterance. */
export function txt(finals) {
  return finals.map(({ text }) => `${text}\n`).join("");
}

/** Split finals into cues `{start, end, lines}` that do not overlap: one or two lines of text, times in seconds. */
export function cues(finals) {
  const result = finals.flatMap(({ words }) => splitWords(words)).map((words) => ({
    start: words[0].start,
    end: Math.max(words.at(-1).end, words[0].start + MIN_CUE_S),
    lines: splitLines(words.map(({ word }) => word)),
  }));
  result.forEach((cue, index) => (cue.end = Math.min(cue.end, result[index + 1]?.start ?? Infinity)));
  return result;
}

/** Split words into groups that fit a cue, recursively: at long pauses, into groups of similar length. */
function splitWords(words) {
  const length = words.reduce((sum, { word }) => sum + word.length + 1, -1);
  const fits = length <= CUE_CHARACTERS && words.at(-1)?.end - words[0]?.start <= MAX_CUE_S;
  if (words.length < 2 || fits) return words.length ? [words] : [];
  let best = { score: -Infinity, index: 1 };
  for (let index = 1; index < words.length; index++) {
    const pauseS = words[index].start - words[index - 1].end;
    const unevenness = Math.abs(index / words.length - 0.5);
    const score = pauseS - unevenness; // a pause of 0.5 s outweighs any unevenness
    if (score > best.score) best = { score, index };
  }
  return [...splitWords(words.slice(0, best.index)), ...splitWords(words.slice(best.index))];
}

/** Return one line, or the two lines of most similar length. */
function splitLines(words) {
  const line = words.join(" ");
  if (line.length <= LINE_CHARACTERS || words.length === 1) return [line];
  const pairs = words.slice(1).map((_, i) => [words.slice(0, i + 1).join(" "), words.slice(i + 1).join(" ")]);
  const maxLength = (pair) => Math.max(...pair.map(({ length }) => length));
  return pairs.reduce((best, pair) => (maxLength(pair) < maxLength(best) ? pair : best));
}

function formatTime(seconds, separator) {
  const ms = Math.round(seconds * 1000);
  const digits = (value, count = 2) => String(Math.floor(value)).padStart(count, "0");
  const time = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60].map((value) => digits(value)).join(":");
  return `${time}${separator}${digits(ms % 1000, 3)}`;
}

function escapeMarkup(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
