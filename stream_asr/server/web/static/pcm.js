// Conversion and level of float samples.

/** Convert samples in [-1, 1] to 16 bits; louder samples are clipped. */
export function toInt16(block) {
  return Int16Array.from(block, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}

/** Return the root mean square in dBFS; -Infinity for digital silence. */
export function levelDb(block) {
  return 10 * Math.log10(block.reduce((sum, sample) => sum + sample * sample, 0) / block.length);
}
