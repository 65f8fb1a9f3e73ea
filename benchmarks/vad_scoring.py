"""Comparison of detected utterances with the known speech segments of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vad_scenes import Scene

from stream_asr.acoustic.moonshine.model import StatefulMoonshine
from stream_asr.config import SAMPLE_RATE, SegmenterConfig, ms_to_samples, samples_to_ms
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.endpointer import Endpointer, UtteranceEnd, UtteranceStart

_TOLERANCE_MS = 200

FRAME_SAMPLES = 768
"""Frame length of the bundled model; utterances start and end at its frame boundaries."""

_CUT_SEARCH_SAMPLES = ms_to_samples(StatefulMoonshine.window_config.right_context_ms)
"""Audio in which the position of a forced cut is searched, as in streams of the bundled model."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of endpointing in one scene. Percentages are shares of the speech segments unless stated otherwise."""

    starts_right_percent: float
    """Detected onset (start of the utterance plus pre-roll) within 200 ms of the start of the segment."""

    ends_right_percent: float
    """Detected end of speech (end of the utterance minus endpoint silence) within 200 ms of the end of the segment."""

    missed_percent: float
    """Segments outside of all utterances."""

    speech_cut_percent: float
    """Share of the speech, by duration, outside of utterances."""

    split_percent: float
    """Segments in more than one utterance."""

    false_starts_per_minute: float
    """Utterances without speech per minute of the scene."""

    pause_kept_percent: float
    """Share of the pauses, by duration, inside utterances, including pre-roll and endpoint silence."""

    endpoint_p50_ms: float
    """Time from the end of the segment to the endpoint decision, including endpoint silence; median."""

    endpoint_p95_ms: float
    """The same; 95th percentile."""


def score_scene(scene: Scene, config: SegmenterConfig, detector: VoiceDetector) -> Quality:
    """Run the endpointer with a new voice detector over a scene and compare its utterances with the segments."""
    endpointer = Endpointer(config, FRAME_SAMPLES, _CUT_SEARCH_SAMPLES, detector)
    boundaries = [*endpointer.push(scene.audio), *endpointer.finish()]
    starts = [boundary for boundary in boundaries if isinstance(boundary, UtteranceStart)]
    ends = [boundary for boundary in boundaries if isinstance(boundary, UtteranceEnd)]
    utterances = list(zip(starts, ends, strict=True))
    in_utterance = np.zeros(len(scene.audio), dtype=bool)
    for start, end in utterances:
        in_utterance[start.position : end.position] = True
    is_speech = np.zeros(len(scene.audio), dtype=bool)
    onset_errors_ms, end_errors_ms, delays_ms, split = [], [], [], 0
    for first, stop in scene.segments:
        is_speech[first:stop] = True
        hits = [(start, end) for start, end in utterances if start.position < stop and end.position > first]
        if not hits:
            continue
        split += len(hits) > 1
        onset_errors_ms.append(samples_to_ms(hits[0][0].position - first) + config.pre_roll_ms)
        end_errors_ms.append(samples_to_ms(hits[-1][1].position - stop) - config.endpoint_ms)
        delays_ms.append(samples_to_ms(hits[-1][1].decided_at - stop))
    false_starts = sum(
        not any(start.position < stop and end.position > first for first, stop in scene.segments)
        for start, end in utterances
    )
    percent = 100 / len(scene.segments)
    p50, p95 = np.percentile(delays_ms, (50, 95)) if delays_ms else (np.nan, np.nan)
    return Quality(
        starts_right_percent=percent * int((np.abs(onset_errors_ms) <= _TOLERANCE_MS).sum()),
        ends_right_percent=percent * int((np.abs(end_errors_ms) <= _TOLERANCE_MS).sum()),
        missed_percent=percent * (len(scene.segments) - len(onset_errors_ms)),
        speech_cut_percent=100 * float((is_speech & ~in_utterance).sum() / is_speech.sum()),
        split_percent=percent * split,
        false_starts_per_minute=false_starts / (len(scene.audio) / SAMPLE_RATE / 60),
        pause_kept_percent=100 * float((in_utterance & ~is_speech).sum() / (~is_speech).sum()),
        endpoint_p50_ms=float(p50),
        endpoint_p95_ms=float(p95),
    )
