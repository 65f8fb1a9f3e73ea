"""Windows for recordings whose captions nobody waits for: each utterance in one pass.

The model then hears all that follows a word, up to the end of the utterance, and hears nothing twice.
"""

from __future__ import annotations

from dataclasses import replace

from stream_asr.config import SAMPLES_PER_MS, RecognizerConfig, WindowConfig, least_buffer_ms
from stream_asr.windows import WindowGeometry

_LONGEST_MS = 30_000
"""What a model compares each frame with grows with the square of this, so utterances may be longer, but no window."""


def for_whole_utterances(
    config: RecognizerConfig, frame_samples: int, longest_samples: int | None = None
) -> RecognizerConfig:
    """The same settings with commit windows as long as the longest utterance, and a buffer that holds one.

    Args:
        config: with windows that the model takes. Their right context stays: it is what an utterance that was cut for
            its length is given after its end.
        frame_samples, longest_samples: of the model. Where its longest input, or 30 s, is less than the longest
            utterance, the windows are as long as that.
    """
    windows, commit_ms = config.windows or WindowConfig(), min(config.segmenter.max_utterance_ms, _LONGEST_MS)
    if longest_samples is not None:
        usual = WindowGeometry.of(windows, frame_samples, longest_samples)
        room = longest_samples - usual.left - usual.right
        commit_ms = min(commit_ms, (room - room % frame_samples) // SAMPLES_PER_MS)
    windows = replace(windows, commit_ms=max(windows.commit_ms, commit_ms))
    engine = replace(
        config.engine,
        buffer_ms=max(config.engine.buffer_ms, least_buffer_ms(windows, config.segmenter)),
        # Recordings do not report lag, but no setting may contradict another.
        overload_lag_ms=max(config.engine.overload_lag_ms, windows.commit_ms + windows.right_context_ms + 1),
    )
    return replace(config, windows=windows, engine=engine)
