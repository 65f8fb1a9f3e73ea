// Finals as files: SRT, WebVTT and plain text.

const LINE_CHARACTERS = 42; // limits that broadcasters set themselves
const CUE_CHARACTERS = 2 * LINE_CHARACTERS;
const LONGEST_CUE_S = 7;
const SHORTEST_CUE_S = 1;

export function srt(finals) {
  const blocks = cues(finals).map(
    ({ start, end, lines }, at) => `${at + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines.join("\n")}\n`,
  );
  return blocks.join("\n");
}

export function vtt(finals) {
  const blocks = cues(finals).map(
    ({ start, end, lines }) => `${clock(start, ".")} --> ${clock(end, ".")}\n${lines.map(escaped).join("\n")}\n`,
  );
  return ["WEBVTT\n", ...blocks].join("\n");
}

/** One utterance a line. */
export function txt(finals) {
  return finals.map(({ text }) => `${text}\n`).join("");
}

/** `{start, end, lines}`: text in one or two lines, times in seconds. They do not overlap. */
export function cues(finals) {
  const made = finals.flatMap(({ words }) => phrases(words)).map((words) => ({
    start: words[0].start,
    end: Math.max(words.at(-1).end, words[0].start + SHORTEST_CUE_S),
    lines: lines(words.map(({ word }) => word)),
  }));
  made.forEach((cue, at) => (cue.end = Math.min(cue.end, made[at + 1]?.start ?? Infinity)));
  return made;
}

/** `words` in runs that fit a cue: cut in two where the pause is long and both sides are even, and again. */
function phrases(words) {
  const length = words.reduce((sum, { word }) => sum + word.length + 1, -1);
  const fits = length <= CUE_CHARACTERS && words.at(-1)?.end - words[0]?.start <= LONGEST_CUE_S;
  if (words.length < 2 || fits) return words.length ? [words] : [];
  let best = { value: -Infinity, at: 1 };
  for (let at = 1; at < words.length; at++) {
    const pauseS = words[at].start - words[at - 1].end;
    const unevenness = Math.abs(at / words.length - 0.5);
    const value = pauseS - unevenness; // a pause of half a second may be anywhere
    if (value > best.value) best = { value, at };
  }
  return [...phrases(words.slice(0, best.at)), ...phrases(words.slice(best.at))];
}

/** One line, or the two most even ones. */
function lines(words) {
  const whole = words.join(" ");
  if (whole.length <= LINE_CHARACTERS || words.length === 1) return [whole];
  const pairs = words.slice(1).map((_, at) => [words.slice(0, at + 1).join(" "), words.slice(at + 1).join(" ")]);
  const longest = (pair) => Math.max(...pair.map((line) => line.length));
  return pairs.reduce((best, pair) => (longest(pair) < longest(best) ? pair : best));
}

function clock(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const digits = (value, count = 2) => String(Math.floor(value)).padStart(count, "0");
  return `${digits(ms / 3_600_000)}:${digits((ms / 60_000) % 60)}:${digits((ms / 1000) % 60)}${point}${digits(ms % 1000, 3)}`;
}

function escaped(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
