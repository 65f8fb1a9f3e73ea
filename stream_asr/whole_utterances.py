"""Windows for audio whose captions nobody waits for: each utterance in one pass.

The model then hears all that follows a word, up to the end of the utterance, and hears nothing twice.
"""

from __future__ import annotations

from dataclasses import replace

from stream_asr.config import SAMPLES_PER_MS, RecognizerConfig, least_buffer_ms
from stream_asr.windows import WindowGeometry

_LONGEST_COMMIT_MS = 30_000
"""Utterances longer than that are not one pass: comparing all frames with each other grows with the square of it."""


def for_whole_utterances(
    config: RecognizerConfig, frame_samples: int, longest_samples: int | None = None
) -> RecognizerConfig:
    """The same settings with commit windows as long as the longest utterance, and a buffer that holds one.

    Args:
        config: with windows that the model takes. Their contexts stay: of the right one is what an utterance that was
            cut for its length is given after its end.
        frame_samples, longest_samples: of the model. Utterances longer than 30 s, or than its longest input less the
            contexts, are heard in windows that keep so much at a time.
    """
    windows, commit_ms = config.windows, min(config.segmenter.max_utterance_ms, _LONGEST_COMMIT_MS)
    assert windows is not None, "the recognizer has chosen them"
    if longest_samples is not None:
        usual = WindowGeometry.of(windows, frame_samples, longest_samples)
        room = longest_samples - usual.left - usual.right
        commit_ms = min(commit_ms, (room - room % frame_samples) // SAMPLES_PER_MS)
    windows = replace(windows, commit_ms=max(windows.commit_ms, commit_ms))
    engine = replace(
        config.engine,
        buffer_ms=max(config.engine.buffer_ms, least_buffer_ms(windows, config.segmenter)),
        # Without partials there is no Overload, but no setting may contradict another.
        overload_lag_ms=max(config.engine.overload_lag_ms, windows.commit_ms + windows.right_context_ms + 1),
    )
    return replace(config, windows=windows, engine=engine)
