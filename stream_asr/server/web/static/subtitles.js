// Finals as files: SRT, WebVTT and plain text.
//
// The cues are those of stream_asr/subtitles.py, which describes the rule. Both implementations are tested with the same
// cases, so a change of one of them is a change of both. All times are whole milliseconds.

/** The values of `SubtitleConfig` in stream_asr/config.py. */
export const CONFIG = {
  lineCharacters: 42,
  maxCueMs: 7000,
  minCueMs: 1000,
  readingCharactersPerS: 20,
  maxGapMs: 1000,
  pauseMs: 300,
  maxPendingMs: 60_000,
  shortWordCharacters: 12,
  fullLineCharacters: 21,
  cueCost: 4,
  lonelyWordCost: 20,
  pauseBreakCost: 1,
  clauseBreakCost: 2,
  phraseBreakCost: 7,
  nameBreakCost: 14,
  lineBreakWeight: 0.25,
  unevenLinesCost: 2,
};

const MAX_LINES = 2;
const SPOKEN = /[\p{L}\p{M}\p{N}\p{Sc}%‰&@#§+°]/u;
const OPENERS = /^["'“‘«([{]+/;
const CLOSERS = /["'”’»)\]}]+$/;
const SENTENCE_END = /[.!?…。！？؟।]$/;
const CLAUSE_END = /[,;:–—、，；：،]$/;
const INITIALS = /^\p{L}(\.\p{L})*$/u; // J. and U.S.
const ABBREVIATIONS = new Set(["mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc"]);

/** Format finals as SRT. */
export function srt(finals) {
  const blocks = cues(finals).map(
    ({ startMs, endMs, lines }, index) =>
      `${index + 1}\n${formatTime(startMs, ",")} --> ${formatTime(endMs, ",")}\n${lines.join("\n")}\n`,
  );
  return blocks.join("\n");
}

/** Format finals as WebVTT. */
export function vtt(finals) {
  const blocks = cues(finals).map(
    ({ startMs, endMs, lines }) =>
      `${formatTime(startMs, ".")} --> ${formatTime(endMs, ".")}\n${lines.map(escapeMarkup).join("\n")}\n`,
  );
  return ["WEBVTT\n", ...blocks].join("\n");
}

/** Format finals as text, one line per utterance. */
export function txt(finals) {
  return finals.map(({ text }) => `${text}\n`).join("");
}

/** Divide finals into cues `{startMs, endMs, lines}` that do not overlap: one or two lines of text. */
export function cues(finals) {
  const result = [];
  let pending = [];
  let lastEndMs = 0;

  function flush(nextStartMs) {
    for (const { start, stop, lines } of divideIntoCues(pending)) {
      const followingMs = pending[stop]?.startMs ?? nextStartMs;
      const readingMs = Math.floor((characters(lines.join("")) * 1000) / CONFIG.readingCharactersPerS);
      const spokenMs = pending[start].startMs;
      const shownUntilMs = Math.max(pending[stop - 1].endMs, spokenMs + CONFIG.minCueMs, spokenMs + readingMs);
      const startMs = Math.max(spokenMs, lastEndMs);
      lastEndMs = Math.max(Math.min(shownUntilMs, followingMs), startMs + 1);
      result.push({ startMs, endMs: lastEndMs, lines });
    }
    pending = [];
  }

  for (const token of finals.flatMap(tokens)) {
    const last = pending.at(-1);
    if (last && canFlush(pending, token)) flush(token.startMs);
    const joined = `${last?.text} ${token.text}`;
    // Punctuation that stands alone joins the word before it, so that no line starts with it.
    const joins = pending.length && !SPOKEN.test(token.text) && characters(joined) <= CONFIG.lineCharacters;
    if (joins) pending[pending.length - 1] = { ...token, text: joined, startMs: last.startMs };
    else pending.push(token);
  }
  flush(Infinity);
  return result;
}

/** Return whether the pending words become separate cues, independent of later words. */
function canFlush(pending, next) {
  const last = pending.at(-1);
  if (next.startMs - last.endMs >= CONFIG.maxGapMs) return true;
  return last.endsUtterance && last.endMs - pending[0].startMs > CONFIG.maxPendingMs;
}

/** Return the words of a final as `{text, startMs, endMs, endsUtterance}`; words longer than a line in parts. */
function tokens(final) {
  const words = final.words?.length ? final.words : final.text.split(/\s+/).map((word) => ({ word }));
  const spoken = words.map((word) => ({ ...word, text: word.word.split(/\s+/).filter(Boolean).join(" ") }));
  const named = spoken.filter(({ text }) => text);
  const spans = fillTimes(named, final);
  const result = named.flatMap(({ text }, index) => {
    const { startMs, endMs } = spans[index];
    const letters = [...text];
    const count = Math.ceil(letters.length / CONFIG.lineCharacters);
    const boundary = (number) => startMs + Math.floor((number * (endMs - startMs)) / count);
    return Array.from({ length: count }, (_, number) => ({
      text: letters.slice(number * CONFIG.lineCharacters, (number + 1) * CONFIG.lineCharacters).join(""),
      startMs: boundary(number),
      endMs: boundary(number + 1),
      endsUtterance: false,
    }));
  });
  if (result.length) result.at(-1).endsUtterance = true;
  return result;
}

/** Return time spans in milliseconds that never decrease. Words without times share the time around them. */
function fillTimes(words, final) {
  const spans = [];
  let untimed = 0;

  function fill(stopMs) {
    const firstMs = spans.at(-1)?.endMs ?? Math.min(toMs(final.start), stopMs);
    const durationMs = Math.max(0, stopMs - firstMs);
    const boundary = (index) => firstMs + Math.floor((index * durationMs) / untimed);
    for (let index = 0; index < untimed; index++) {
      spans.push({ startMs: boundary(index), endMs: boundary(index + 1) });
    }
    untimed = 0;
  }

  for (const { start, end } of words) {
    if (!Number.isFinite(start) || !Number.isFinite(end)) {
      untimed += 1;
      continue;
    }
    fill(toMs(start));
    const startMs = Math.max(toMs(start), spans.at(-1)?.startMs ?? 0);
    spans.push({ startMs, endMs: Math.max(startMs, toMs(end)) });
  }
  fill(toMs(final.end));
  return spans;
}

function toMs(seconds) {
  return Number.isFinite(seconds) ? Math.round(1000 * seconds) : 0;
}

/** Return the cheapest division of words into cues: the words [start, stop) and the lines of each cue. */
function divideIntoCues(words) {
  const ends = [0]; // position after each word in the text of all words, joined by spaces
  for (const { text } of words) ends.push(ends.at(-1) + characters(text) + 1);
  const breaks = [0, ...words.slice(1).map((after, index) => breakCost(words[index], after)), 0];
  const best = [{ cost: 0 }]; // for the first n words: cost, start of the last cue, and start of its second line
  for (let stop = 1; stop <= words.length; stop++) {
    best.push({ cost: Infinity });
    for (let start = stop - 1; start >= 0; start--) {
      const line = breakLine(ends, breaks, start, stop);
      const isTooLong = words[stop - 1].endMs - words[start].startMs > CONFIG.maxCueMs;
      if (!line || (isTooLong && stop - start > 1)) break;
      let cost = best[start].cost + CONFIG.cueCost + breaks[stop] + line.cost;
      const length = ends[stop] - ends[start] - 1;
      const isLonely = stop - start === 1 && length <= CONFIG.shortWordCharacters && words.length > 1;
      if (isLonely) cost += CONFIG.lonelyWordCost;
      // Cues of similar length read better than a full cue followed by a short one.
      const unused = 1 - length / (MAX_LINES * CONFIG.lineCharacters);
      cost += unused * unused;
      if (cost <= best[stop].cost) best[stop] = { cost, start, middle: line.middle };
    }
  }
  const spans = [];
  for (let stop = words.length; stop > 0; stop = spans.at(-1).start) {
    const { start, middle } = best[stop];
    const parts = [words.slice(start, middle), words.slice(middle, stop)].filter(({ length }) => length);
    spans.push({ start, stop, lines: parts.map((part) => part.map(({ text }) => text).join(" ")) });
  }
  return spans.reverse();
}

/**
 * Find the cheapest second line of a cue with the words [start, stop).
 *
 * @returns {{cost: number, middle: number} | null} the cost of the break and the index of the second line's first word,
 *   `stop` for a single line; null if the words do not fit into two lines.
 */
function breakLine(ends, breaks, start, stop) {
  const size = CONFIG.lineCharacters;
  if (ends[stop] - ends[start] - 1 <= size) return { cost: 0, middle: stop };
  let best = null;
  for (let middle = start + 1; middle < stop; middle++) {
    const first = ends[middle] - ends[start] - 1;
    const second = ends[stop] - ends[middle] - 1;
    if (Math.max(first, second) > size) continue;
    const cost = first >= CONFIG.fullLineCharacters ? breaks[middle] : CONFIG.phraseBreakCost;
    const unevenness = (first - second) / size;
    const total = CONFIG.lineBreakWeight * cost + CONFIG.unevenLinesCost * unevenness * unevenness;
    if (!best || total < best.cost) best = { cost: total, middle };
  }
  return best;
}

/** Return the cost of a break between two words. */
function breakCost(before, after) {
  const text = before.text.replace(CLOSERS, "");
  const word = text.split(" ").at(-1).slice(0, -1).replace(OPENERS, "").toLowerCase();
  const abbreviated = text.endsWith(".") && isAbbreviation(word);
  if (SENTENCE_END.test(text) && !abbreviated) return 0;
  if (before.endsUtterance || after.startMs - before.endMs >= CONFIG.pauseMs) return CONFIG.pauseBreakCost;
  if (abbreviated) return CONFIG.nameBreakCost;
  return CLAUSE_END.test(text) ? CONFIG.clauseBreakCost : CONFIG.phraseBreakCost;
}

/** Return whether a word in small letters is an abbreviation, if a period follows it. */
function isAbbreviation(word) {
  return word !== "i" && (INITIALS.test(word) || ABBREVIATIONS.has(word));
}

/** Return the number of characters; `length` counts some of them twice. */
function characters(text) {
  return [...text].length;
}

function formatTime(ms, separator) {
  const digits = (value, count = 2) => String(Math.floor(value)).padStart(count, "0");
  const time = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60].map((value) => digits(value)).join(":");
  return `${time}${separator}${digits(ms % 1000, 3)}`;
}

function escapeMarkup(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
