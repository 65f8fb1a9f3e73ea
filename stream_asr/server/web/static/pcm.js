// Blocks of float samples: as the bytes that are sent, and as a level.

/** @returns {Int16Array} what is too loud is clipped. */
export function toInt16(block) {
  return Int16Array.from(block, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}

/** Root mean square in dB below full scale; -Infinity for digital silence. */
export function levelDb(block) {
  return 10 * Math.log10(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length);
}
