"""Every setting of the recognizer, once, with its unit in its name.

The defaults are what ``benchmarks/vad.py`` and ``benchmarks/accuracy.py`` favour for live captions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stream_asr.errors import InputError

SAMPLE_RATE = 16_000
"""Samples a second everywhere inside the recognizer (mono, float32 in [-1, 1])."""

SAMPLES_PER_MS = SAMPLE_RATE // 1000


def ms_to_samples(duration_ms: int) -> int:
    return duration_ms * SAMPLES_PER_MS


def ms_to_frames(duration_ms: int, frame_samples: int) -> int:
    """Frames of that length, rounded up."""
    return -(-ms_to_samples(duration_ms) // frame_samples)


def samples_to_ms(samples: int) -> int:
    return round(samples / SAMPLES_PER_MS)


def samples_to_s(samples: int) -> float:
    return samples / SAMPLE_RATE


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """How speech is cut into utterances.

    Raises:
        InputError: a setting is outside its range; the message names the range.
    """

    aggressiveness: int = 1
    """webrtcvad's mode: 0 calls much sound speech, 3 only what is clearly speech, which loses soft onsets."""

    vad_frame_ms: int = 20
    """Length of the frames that webrtcvad judges: 10, 20 or 30. Silero's have 32."""

    silero_threshold: float = 0.5
    """Probability of speech at which Silero VAD hears voice, between 0 and 1."""

    silero_hysteresis: float = 0.15
    """How far the probability may fall below that while a voice goes on."""

    start_window_ms: int = 300
    """An utterance starts when this stretch of audio ..."""

    min_speech_ms: int = 140
    """... holds at least this much voiced audio; anything shorter is taken for a click."""

    pre_roll_ms: int = 300
    """Audio kept before the first voiced frame: soft onsets are noticed late."""

    endpoint_ms: int = 500
    """An utterance ends when this stretch of audio is silent ..."""

    endpoint_voiced_ratio: float = 0.05
    """... but for this share of its frames."""

    max_utterance_ms: int = 20_000
    """The longest utterance. From three quarters of it on, ever shorter pauses end it."""

    min_pause_ms: int = 80
    """The pause that suffices just before the longest utterance is reached."""

    def __post_init__(self) -> None:
        _require(self.aggressiveness in (0, 1, 2, 3), f"aggressiveness is {self.aggressiveness}; it takes 0, 1, 2 or 3")
        _require(
            self.vad_frame_ms in (10, 20, 30), f"vad_frame_ms is {self.vad_frame_ms}; webrtcvad takes 10, 20 or 30"
        )
        _require(
            0 <= self.silero_hysteresis < self.silero_threshold < 1,
            f"silero_threshold is {self.silero_threshold}; it must lie between silero_hysteresis, which is "
            f"{self.silero_hysteresis} and no less than 0, and 1",
        )
        _require(
            self.vad_frame_ms <= self.min_speech_ms <= self.start_window_ms,
            f"min_speech_ms is {self.min_speech_ms}; it must lie between vad_frame_ms and start_window_ms",
        )
        _require(self.pre_roll_ms >= 0, f"pre_roll_ms is {self.pre_roll_ms}; it cannot be negative")
        _require(0 <= self.endpoint_voiced_ratio < 0.5, "endpoint_voiced_ratio must be at least 0 and below 0.5")
        _require(
            self.vad_frame_ms <= self.min_pause_ms <= self.endpoint_ms,
            f"endpoint_ms is {self.endpoint_ms}; it must be at least min_pause_ms, which is {self.min_pause_ms} "
            f"and no less than vad_frame_ms",
        )
        _require(
            self.max_utterance_ms >= 2 * (self.start_window_ms + self.endpoint_ms),
            f"max_utterance_ms is {self.max_utterance_ms}; it must be at least twice start_window_ms + endpoint_ms",
        )

    @property
    def endpoint_range_ms(self) -> tuple[int, int]:
        """The shortest and the longest ``endpoint_ms`` that go with the other settings."""
        return self.min_pause_ms, self.max_utterance_ms // 2 - self.start_window_ms

    def with_endpoint(self, endpoint_ms: int) -> SegmenterConfig:
        """The same for a stream with an endpoint of its own.

        Raises:
            InputError: it is outside `endpoint_range_ms`.
        """
        shortest_ms, longest_ms = self.endpoint_range_ms
        _require(
            shortest_ms <= endpoint_ms <= longest_ms,
            f"endpoint_ms is {endpoint_ms}; {shortest_ms} to {longest_ms} are accepted",
        )
        return replace(self, endpoint_ms=endpoint_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """Which stretches of an utterance the model sees; each is rounded up to whole model frames."""

    left_context_ms: int = 4000
    """Audio before the frames that are kept."""

    commit_ms: int = 1600
    """New audio for each commit window: the frames that are kept for good."""

    right_context_ms: int = 800
    """Audio after the frames that are kept."""

    preview_left_context_ms: int = 1000
    """The same for windows whose text is shown and thrown away; no more than ``left_context_ms`` is used."""

    preview_interval_ms: int = 200
    """New audio between two preview windows, at least."""

    hold_back_ms: int = 100
    """The newest word is not shown while it ended this recently and may still go on: half a word misleads."""

    def __post_init__(self) -> None:
        _require(self.left_context_ms >= 0, f"left_context_ms is {self.left_context_ms}; it cannot be negative")
        _require(self.right_context_ms >= 0, f"right_context_ms is {self.right_context_ms}; it cannot be negative")
        _require(
            self.preview_left_context_ms >= 0,
            f"preview_left_context_ms is {self.preview_left_context_ms}; it cannot be negative",
        )
        _require(self.commit_ms > 0, f"commit_ms is {self.commit_ms}; it must be above 0")
        _require(self.preview_interval_ms > 0, f"preview_interval_ms is {self.preview_interval_ms}; it must be above 0")
        _require(self.hold_back_ms >= 0, f"hold_back_ms is {self.hold_back_ms}; it cannot be negative")


def least_buffer_ms(windows: WindowConfig, segmenter: SegmenterConfig) -> int:
    """Twice a whole window and the search for the next start: a stream with less would wait for room for ever."""
    window_ms = windows.left_context_ms + windows.commit_ms + windows.right_context_ms
    return 2 * (window_ms + segmenter.start_window_ms + segmenter.pre_roll_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How much work and audio may wait, and when a stream says that it falls behind."""

    max_batch_size: int = 16
    """Windows of one model pass, across streams."""

    buffer_ms: int = 30_000
    """Audio a stream holds; what arrives while it is full is counted, reported and heard as silence."""

    max_pending_windows: int = 8
    """Windows of one stream with partials that wait for the model; past it the audio waits in the buffer."""

    look_ahead_ms: int = 60_000
    """The same, in audio, of one without partials, so that the model can hear several utterances at a time."""

    max_unread_events: int = 1024
    """Events that a reader may leave unread; past it partials replace each other and the stream pauses."""

    overload_lag_ms: int = 4000
    """Lag at which a live stream reports `Overload`."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_pending_windows", "look_ahead_ms", "overload_lag_ms"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        _require(self.max_unread_events >= 16, f"max_unread_events is {self.max_unread_events}; it must be at least 16")
        _require(self.buffer_ms >= 2000, f"buffer_ms is {self.buffer_ms}; it must be at least 2000")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamConfig:
    """How a language model and hotwords have their say; ``benchmarks/tune_lm.py`` finds the weights for a model."""

    lm_weight: float = 0.55
    """Weight of the language model's log-probabilities against the acoustic model's."""

    word_bonus: float = 1.2
    """Nats for each word: a language model alone would have as few as possible."""

    unknown_penalty: float = 9.0
    """Nats that a word must make up for, besides, that is in no vocabulary."""

    hotword_bonus: float = 1.0
    """Nats for each letter of a hotword whose weight is 1."""

    width: int = 32
    """Texts followed at once."""

    preview_width: int = 8
    """The same in previews, whose text is thrown away soon."""

    settle_ms: int = 500
    """A word that ended this long before the frames that are kept is no longer open to question."""

    def __post_init__(self) -> None:
        _require(self.lm_weight >= 0, f"lm_weight is {self.lm_weight}; it cannot be negative")
        _require(self.unknown_penalty >= 0, f"unknown_penalty is {self.unknown_penalty}; it cannot be negative")
        _require(1 <= self.preview_width <= self.width, "preview_width must be at least 1 and at most width")
        _require(self.settle_ms >= 0, f"settle_ms is {self.settle_ms}; it cannot be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerConfig:
    """All of the above.

    Raises:
        InputError: settings that contradict each other.
    """

    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    windows: WindowConfig | None = None
    """None for those that suit the model."""

    beam: BeamConfig = field(default_factory=BeamConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)

    def __post_init__(self) -> None:
        if self.windows is None:
            return  # there is nothing yet to hold against each other
        windows, segmenter = self.windows, self.segmenter
        least_ms = least_buffer_ms(windows, segmenter)
        _require(
            self.engine.buffer_ms >= least_ms,
            f"buffer_ms is {self.engine.buffer_ms}; with these windows it must be at least {least_ms}",
        )
        _require(
            segmenter.max_utterance_ms >= 2 * windows.right_context_ms,
            f"max_utterance_ms is {segmenter.max_utterance_ms}; it must be at least twice right_context_ms",
        )
        natural_lag_ms = windows.commit_ms + windows.right_context_ms
        _require(
            self.engine.overload_lag_ms > natural_lag_ms,
            f"overload_lag_ms is {self.engine.overload_lag_ms}; "
            f"commit windows alone lag up to {natural_lag_ms} ms, so it must be above that",
        )

    def suited(self, windows: WindowConfig) -> RecognizerConfig:
        """With these windows, if none were chosen."""
        return self if self.windows is not None else replace(self, windows=windows)
