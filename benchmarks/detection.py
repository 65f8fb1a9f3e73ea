"""What a segmenter made of a scene, held against what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scenes import Scene

from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.config import SAMPLE_RATE, SegmenterConfig, samples_to_ms
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.endpointer import Endpointer, UtteranceEnd, UtteranceStart

_TOLERANCE_MS = 200

FRAME_SAMPLES = 768
"""Of the embedded model: utterances begin and end on its frames."""

_CUT_SEARCH_MS = StatefulMoonshine.window_config.right_context_ms
"""A forced cut may look back as far as streams of the embedded model do."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares are of the stretches of speech unless they say otherwise."""

    starts_right_percent: float
    """The onset heard, which is the start of the utterance plus its pre-roll, is within 200 ms of the speech's."""

    ends_right_percent: float
    """The end of the utterance, less the silence that ends it, is within 200 ms of the speech's."""

    missed_percent: float
    """In no utterance at all."""

    speech_cut_percent: float
    """Of the speech, what lies in no utterance."""

    split_percent: float
    """In more utterances than one."""

    false_starts_per_minute: float
    """Utterances without speech, in a minute of the scene."""

    pause_kept_percent: float
    """Of the pauses, what lies in utterances: pre-roll and the silence that ends them as well."""

    endpoint_p50_ms: float
    """From the end of speech to the decision that the utterance is over, its silence included."""

    endpoint_p95_ms: float


def judge(scene: Scene, config: SegmenterConfig, detector: VoiceDetector) -> Quality:
    segmenter = Endpointer(config, FRAME_SAMPLES, _CUT_SEARCH_MS, detector)
    boundaries = [*segmenter.push(scene.audio), *segmenter.finish()]
    starts = [boundary for boundary in boundaries if isinstance(boundary, UtteranceStart)]
    ends = [boundary for boundary in boundaries if isinstance(boundary, UtteranceEnd)]
    found = list(zip(starts, ends, strict=True))
    inside = np.zeros(len(scene.audio), dtype=bool)
    for start, end in found:
        inside[start.position : end.position] = True
    truth = np.zeros(len(scene.audio), dtype=bool)
    onsets_ms, offsets_ms, delays_ms, split = [], [], [], 0
    for first, last in scene.places:
        truth[first:last] = True
        hits = [(start, end) for start, end in found if start.position < last and end.position > first]
        if not hits:
            continue
        split += len(hits) > 1
        onsets_ms.append(samples_to_ms(hits[0][0].position - first) + config.pre_roll_ms)
        offsets_ms.append(samples_to_ms(hits[-1][1].position - last) - config.endpoint_ms)
        delays_ms.append(samples_to_ms(hits[-1][1].decided_at - last))
    false_starts = sum(
        not any(start.position < last and end.position > first for first, last in scene.places) for start, end in found
    )
    percent = 100 / len(scene.places)
    p50, p95 = np.percentile(delays_ms, (50, 95)) if delays_ms else (np.nan, np.nan)
    return Quality(
        starts_right_percent=percent * int((np.abs(onsets_ms) <= _TOLERANCE_MS).sum()),
        ends_right_percent=percent * int((np.abs(offsets_ms) <= _TOLERANCE_MS).sum()),
        missed_percent=percent * (len(scene.places) - len(onsets_ms)),
        speech_cut_percent=100 * float((truth & ~inside).sum() / truth.sum()),
        split_percent=percent * split,
        false_starts_per_minute=false_starts / (len(scene.audio) / SAMPLE_RATE / 60),
        pause_kept_percent=100 * float((inside & ~truth).sum() / (~truth).sum()),
        endpoint_p50_ms=float(p50),
        endpoint_p95_ms=float(p95),
    )
