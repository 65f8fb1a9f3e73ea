"""Every setting of the recognizer, with its unit in its name.

The defaults are chosen for live captions with ``benchmarks/vad.py`` and ``benchmarks/accuracy.py``. The settings of the
server are in ``server/settings.py``, those of fine-tuning in ``training/settings.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stream_asr.errors import InputError

SAMPLE_RATE = 16_000
"""Sampling rate inside the recognizer, in Hz (mono, float32 in [-1, 1])."""

SAMPLES_PER_MS = SAMPLE_RATE // 1000


def ms_to_samples(duration_ms: int) -> int:
    """Convert milliseconds to samples."""
    return duration_ms * SAMPLES_PER_MS


def ms_to_frames(duration_ms: int, frame_samples: int) -> int:
    """Convert milliseconds to frames of ``frame_samples``, rounded up."""
    return -(-ms_to_samples(duration_ms) // frame_samples)


def samples_to_ms(samples: int) -> int:
    """Convert samples to milliseconds, rounded to the nearest."""
    return round(samples / SAMPLES_PER_MS)


def samples_to_s(samples: int) -> float:
    """Convert samples to seconds."""
    return samples / SAMPLE_RATE


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0, f"{name} is {value}; it must be above 0")


def _require_not_negative(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= 0, f"{name} is {value}; it cannot be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """How speech is divided into utterances.

    Raises:
        InputError: a setting is out of range; the message states the range.
    """

    aggressiveness: int = 1
    """Mode of webrtcvad, 0 to 3: higher modes reject more noise and miss soft onsets."""

    vad_frame_ms: int = 20
    """Frame length of webrtcvad: 10, 20 or 30. Silero VAD always uses 32 ms."""

    silero_threshold: float = 0.5
    """Speech probability at which Silero VAD starts to report voice, between 0 and 1."""

    silero_hysteresis: float = 0.15
    """How far below ``silero_threshold`` the probability must fall before Silero VAD reports silence."""

    start_window_ms: int = 300
    """Length of the window in which ``min_speech_ms`` of voiced audio start an utterance."""

    min_speech_ms: int = 140
    """Voiced audio that starts an utterance. Anything shorter counts as a click."""

    pre_roll_ms: int = 300
    """Audio included before the first voiced frame, since soft onsets are detected late."""

    endpoint_ms: int = 500
    """Silence that ends an utterance."""

    endpoint_voiced_ratio: float = 0.05
    """Share of voiced frames that still counts as silence."""

    max_utterance_ms: int = 20_000
    """Length at which an utterance is cut."""

    min_pause_ms: int = 80
    """Silence that ends an utterance just before it reaches ``max_utterance_ms``."""

    shrink_from_ratio: float = 0.75
    """Share of ``max_utterance_ms`` from which the required silence shrinks from endpoint_ms to min_pause_ms."""

    cut_smoothing_frames: int = 3
    """VAD frames on each side over which energy is averaged to place a cut; plosives have short closures."""

    def __post_init__(self) -> None:
        _require(self.aggressiveness in (0, 1, 2, 3), f"aggressiveness is {self.aggressiveness}; it takes 0, 1, 2 or 3")
        _require(
            self.vad_frame_ms in (10, 20, 30), f"vad_frame_ms is {self.vad_frame_ms}; webrtcvad takes 10, 20 or 30"
        )
        _require_not_negative(self, "silero_hysteresis", "pre_roll_ms", "cut_smoothing_frames")
        _require(
            self.silero_hysteresis < self.silero_threshold < 1,
            f"silero_threshold is {self.silero_threshold}; it must be between silero_hysteresis, which is "
            f"{self.silero_hysteresis}, and 1",
        )
        _require(
            self.vad_frame_ms <= self.min_speech_ms <= self.start_window_ms,
            f"min_speech_ms is {self.min_speech_ms}; it must be between vad_frame_ms and start_window_ms",
        )
        _require(0 <= self.endpoint_voiced_ratio < 0.5, "endpoint_voiced_ratio must be at least 0 and below 0.5")
        _require(0 <= self.shrink_from_ratio < 1, "shrink_from_ratio must be at least 0 and below 1")
        _require(
            self.min_pause_ms >= self.vad_frame_ms,
            f"min_pause_ms is {self.min_pause_ms}; it must be at least vad_frame_ms, which is {self.vad_frame_ms}",
        )
        _require(
            self.endpoint_ms >= self.min_pause_ms,
            f"endpoint_ms is {self.endpoint_ms}; it must be at least min_pause_ms, which is {self.min_pause_ms}",
        )
        _require(
            self.max_utterance_ms >= 2 * (self.start_window_ms + self.endpoint_ms),
            f"max_utterance_ms is {self.max_utterance_ms}; it must be at least twice start_window_ms + endpoint_ms",
        )

    @property
    def endpoint_range_ms(self) -> tuple[int, int]:
        """Smallest and largest ``endpoint_ms`` that the other settings allow."""
        return self.min_pause_ms, self.max_utterance_ms // 2 - self.start_window_ms

    def with_endpoint(self, endpoint_ms: int) -> SegmenterConfig:
        """Return a copy with another ``endpoint_ms``.

        Raises:
            InputError: ``endpoint_ms`` is outside `endpoint_range_ms`.
        """
        min_ms, max_ms = self.endpoint_range_ms
        _require(min_ms <= endpoint_ms <= max_ms, f"endpoint_ms is {endpoint_ms}; {min_ms} to {max_ms} are accepted")
        return replace(self, endpoint_ms=endpoint_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """Which parts of an utterance the model gets in one pass. Lengths are rounded up to whole model frames."""

    left_context_ms: int = 4000
    """Audio before the committed part of a commit window."""

    state_context_ms: int | None = None
    """Audio before a window that a model with a state remembers; None for ``left_context_ms``."""

    commit_ms: int = 1600
    """Committed part of a commit window: its frames decide the final text."""

    right_context_ms: int = 800
    """Audio after the committed part of a commit window."""

    preview_left_context_ms: int = 1000
    """Audio before the new part of a preview window; at most ``left_context_ms`` is used."""

    preview_right_context_ms: int | None = None
    """Right context of a frame from which on previews do not encode it again, for a model with a state: previews then
    encode only newer audio. None to encode everything after the committed part again."""

    preview_interval_ms: int = 200
    """Minimum new audio between two preview windows."""

    hold_back_ms: int = 100
    """The last word is hidden while it is incomplete and ended less than this before the newest audio."""

    fragment_hold_back_factor: int = 3
    """Multiple of ``hold_back_ms`` for a last word that is not in the vocabulary and so probably continues."""

    silence_margin_ms: int = 100
    """Previews pause once they show this much silence in addition to the longest hold-back."""

    end_silence_ms: int = 400
    """Silence that follows the end of an utterance, in which the model finishes the last word."""

    max_whole_window_ms: int = 30_000
    """Committed part of the longest window for whole utterances; attention cost grows with the square of its length."""

    def __post_init__(self) -> None:
        _require_not_negative(self, "left_context_ms", "right_context_ms", "preview_left_context_ms")
        for name in ("state_context_ms", "preview_right_context_ms"):
            if getattr(self, name) is not None:
                _require_not_negative(self, name)
        _require_positive(self, "commit_ms", "preview_interval_ms", "fragment_hold_back_factor", "max_whole_window_ms")
        _require_not_negative(self, "hold_back_ms", "silence_margin_ms", "end_silence_ms")


MOONSHINE_WINDOWS = WindowConfig(
    left_context_ms=4000, commit_ms=384, right_context_ms=384, preview_interval_ms=192, hold_back_ms=160
)
"""Windows for models with Moonshine's encoder: a trade-off between WER, latency and stability; see the model card.

A smaller ``commit_ms`` costs more where many streams share a CPU: under load, previews are skipped but commit windows
are not.
"""


MOONSHINE_SECOND_PASS_WINDOWS = WindowConfig(
    state_context_ms=60_000,
    commit_ms=768,
    right_context_ms=1152,
    preview_right_context_ms=576,
    preview_interval_ms=288,
    hold_back_ms=96,
    fragment_hold_back_factor=1,
)
"""The same for models with an attention decoder as second pass. It needs the whole utterance as left context and about
a second of right context."""


def min_buffer_ms(windows: WindowConfig, segmenter: SegmenterConfig) -> int:
    """Return the smallest buffer with which a stream cannot stall.

    It holds a window, and the audio in which the endpointer looks for the next start, twice.
    """
    window_ms = windows.left_context_ms + windows.commit_ms + windows.right_context_ms
    return 2 * (window_ms + segmenter.start_window_ms + segmenter.pre_roll_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits on queued work and audio, and on batches."""

    max_batch_size: int = 16
    """Maximum windows in one model pass, across streams."""

    min_batch_length_ratio: float = 0.75
    """Minimum ratio of the lengths of two windows in a batch that is padded: padding costs as much as audio."""

    buffer_ms: int = 30_000
    """Audio that a stream can buffer. Audio that arrives while the buffer is full is dropped and reported."""

    step_ms: int = 100
    """Audio that a stream reads from its buffer in one step; the queue of windows is checked after each."""

    max_pending_windows: int = 8
    """Queued windows of a stream with partials at which it stops reading from its buffer."""

    look_ahead_ms: int = 60_000
    """Queued audio of a stream without partials at which it stops reading; more fills larger batches."""

    max_unread_events: int = 1024
    """Unread events at which a stream pauses; from half of this on, a partial replaces the one before it."""

    overload_lag_ms: int = 4000
    """Lag above which a live stream reports `Overload`."""

    overload_interval_ms: int = 1000
    """Audio between two `Overload` events of a stream that stays behind."""

    def __post_init__(self) -> None:
        _require_positive(self, "max_batch_size", "max_pending_windows", "look_ahead_ms", "overload_lag_ms", "step_ms")
        _require(0 < self.min_batch_length_ratio <= 1, "min_batch_length_ratio must be above 0 and at most 1")
        _require_not_negative(self, "overload_interval_ms")
        _require(self.max_unread_events >= 16, f"max_unread_events is {self.max_unread_events}; it must be at least 16")
        _require(self.buffer_ms >= 2000, f"buffer_ms is {self.buffer_ms}; it must be at least 2000")


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamConfig:
    """Beam search with a language model and hotwords; ``benchmarks/tune_lm.py`` finds the weights for a model."""

    lm_weight: float = 0.55
    """Weight of the language model's log-probabilities relative to the acoustic model's."""

    word_bonus: float = 1.2
    """Score of each word, in nats; it offsets the language model's preference for few words."""

    unknown_penalty: float = 9.0
    """Penalty for an out-of-vocabulary word, in nats."""

    hotword_bonus: float = 1.0
    """Score of each letter of a hotword of weight 1, in nats."""

    max_hotword_weight: float = 10.0
    """Largest weight that a hotword may have."""

    width: int = 32
    """Hypotheses kept after each frame of a commit window."""

    preview_width: int = 8
    """Hypotheses kept after each frame of a preview window."""

    settle_ms: int = 500
    """Age at which a word becomes stable although other hypotheses disagree with it."""

    min_token_log_prob: float = -5.0
    """Log-probability below which a token is not considered in a frame."""

    max_score_gap: float = 12.0
    """Distance from the best score, in nats, at which a hypothesis is dropped."""

    max_token_gain: float = 8.0
    """Upper bound, in nats, on what one token can add to a score; used to skip the lookup of hopeless tokens."""

    max_graph_nodes: int = 100_000
    """Nodes of the token graph above which it is rebuilt before the next utterance."""

    max_foreign_letters_ratio: float = 0.25
    """Largest share of a language model's letters that the acoustic model may lack."""

    def __post_init__(self) -> None:
        _require_not_negative(self, "lm_weight", "unknown_penalty", "settle_ms", "max_score_gap", "max_token_gain")
        _require(1 <= self.preview_width <= self.width, "preview_width must be at least 1 and at most width")
        _require_positive(self, "max_graph_nodes", "max_hotword_weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPassConfig:
    """The attention decoder's hypotheses: which words are accepted, and when they become stable."""

    agreement: int = 2
    """Successive hypotheses that have to agree on a word."""

    confirmation_score: float = -0.1
    """Mean log-probability of the CTC model's tokens from which on it confirms a word without a second hypothesis."""

    show_score: float = -4.0
    """Mean log-probability of the CTC model's tokens from which on a word is shown at once. Other words are shown, with
    those after them, once they are in two successive hypotheses."""

    stable_margin_ms: int = 384
    """A word becomes stable only if the next word started at least this long before the newest audio."""

    max_tokens_per_s: float = 6.5
    """Largest number of tokens in a second of speech: on incomplete words, a decoder may repeat itself endlessly."""

    extra_tokens: int = 3
    """Tokens that a hypothesis may have in addition."""

    min_blank_log_prob: float = -0.9
    """Nothing is decoded if the log-probability of the CTC blank is at least this in all frames."""

    veto_score: float = -5.0
    """Mean log-probability of the CTC model's tokens up to which a word may be vetoed."""

    veto_non_blank: float = 0.05
    """A word is vetoed if no token of the CTC model reaches this probability in its frames."""

    max_loop_words: int = 4
    """Longest repetition at the end of a hypothesis that is looked for, in words."""

    min_loop_repeats: int = 3
    """How often words have to be repeated to be cut."""

    loop_score: float = -1.5
    """Mean log-probability of the CTC model's tokens from which on a repetition is not cut, because it was spoken."""

    def __post_init__(self) -> None:
        _require(self.agreement >= 2, f"agreement is {self.agreement}; it must be at least 2")
        _require_positive(self, "max_tokens_per_s", "max_loop_words", "min_loop_repeats")
        _require_not_negative(self, "stable_margin_ms", "extra_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasingConfig:
    """How hotwords change the hypotheses of an attention decoder. All scores are in nats."""

    ctc_weight: float = 0.5
    """Weight of the log-probability of the CTC model, relative to that of the attention decoder."""

    letter_bonus: float = 2.6
    """Score of each letter of a hotword of weight 1."""

    min_letter_score: float = -5.0
    """Lowest mean score of a letter, relative to the best CTC path, at which a hotword is considered."""

    min_gain_ratio: float = 0.4
    """Smallest gain of a hypothesis that the attention decoder scores, as a fraction of the bonus of its hotword."""

    max_occurrences: int = 16
    """Places at which hotwords may have been spoken that are aligned for each replacement."""

    max_alternatives: int = 4
    """Alternative hypotheses that the attention decoder scores for each replacement."""

    max_replacements: int = 4
    """Largest number of replacements in a hypothesis."""

    def __post_init__(self) -> None:
        _require_positive(self, "max_alternatives", "max_replacements", "max_occurrences")
        _require_not_negative(self, "ctc_weight", "letter_bonus", "min_gain_ratio")
        _require(self.min_letter_score > float("-inf"), "min_letter_score must be finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcousticConfig:
    """How acoustic models are loaded and run."""

    one_per_core_max_parameters: int = 30_000_000
    """Largest model that runs one window per CPU core: a window takes less time than passes between two previews."""

    hub_timeout_s: float = 5.0
    """Timeout of a request to the Hugging Face hub."""

    max_second_pass_batch: int = 8
    """Requests of a seq2seq model that share a pass on a GPU."""

    graph_length_ms: int = 200
    """Windows are padded to a multiple of this length, so that CUDA graphs can be reused."""

    graph_warm_ups: int = 3
    """Passes before a CUDA graph is captured."""

    max_graphs: int = 128
    """Captured CUDA graphs. Each holds device memory and takes longer to capture than many passes."""

    max_seen_shapes: int = 1024
    """Input shapes that are remembered; a CUDA graph is captured when a shape occurs for the second time."""

    max_graph_difference: float = 0.05
    """Mean absolute difference of log-probabilities at which a CUDA graph is rejected; rounding stays far below."""

    def __post_init__(self) -> None:
        _require_positive(self, "hub_timeout_s", "max_second_pass_batch", "graph_length_ms", "max_graph_difference")
        _require_not_negative(self, "one_per_core_max_parameters", "graph_warm_ups", "max_graphs", "max_seen_shapes")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConfig:
    """How audio is read and captured.

    Unlike the other settings, these are not passed to a recognizer: the process uses one instance, `AUDIO`.

    Raises:
        InputError: a setting is out of range; the message states the range.
    """

    file_block_ms: int = 500
    """Length of the blocks that are decoded from a file."""

    paced_block_ms: int = 20
    """Length of a block of a recording that is played in real time, as a sound card delivers it."""

    pipe_read_bytes: int = 1 << 14
    """Largest read from a pipe."""

    pipe_max_queued_reads: int = 64
    """Capacity of the queue of reads. A full queue stops the reading, which is backpressure for the writer."""

    pipe_poll_s: float = 0.02
    """Interval at which a pipe yields an empty block while no data arrives."""

    microphone_buffer_s: int = 10
    """Capacity of the buffer between the audio callback and its reader, which normally empties it every 20 ms."""

    microphone_poll_s: float = 0.02
    """Interval at which the reader checks for new samples."""

    microphone_stall_s: float = 3.0
    """A device that delivers nothing for this long counts as disconnected: not every driver reports it."""

    microphone_fallback_rates: tuple[int, ...] = (48_000, 44_100, 16_000, 32_000, 96_000, 8_000)
    """Sample rates in Hz to try, in this order, if the device does not open at its default rate."""

    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000
    """Range of accepted sample rates in Hz."""

    max_channels: int = 64

    max_amplitude: float = 4.0
    """Decoders may overshoot full scale a little. Larger values are integers that were not divided by full scale."""

    def __post_init__(self) -> None:
        _require_positive(self, "file_block_ms", "paced_block_ms", "pipe_read_bytes", "pipe_max_queued_reads")
        _require_positive(self, "pipe_poll_s", "microphone_buffer_s", "microphone_poll_s", "microphone_stall_s")
        _require_positive(self, "min_sample_rate", "max_channels")
        _require(
            self.max_sample_rate >= self.min_sample_rate,
            f"max_sample_rate is {self.max_sample_rate}; it must be at least min_sample_rate, which is "
            f"{self.min_sample_rate}",
        )
        for rate in self.microphone_fallback_rates:
            _require(
                self.min_sample_rate <= rate <= self.max_sample_rate,
                f"microphone_fallback_rates contains {rate}; rates must be between min_sample_rate and max_sample_rate",
            )
        _require(self.max_amplitude >= 1, f"max_amplitude is {self.max_amplitude}; it must be at least 1, full scale")


AUDIO = AudioConfig()
"""Audio settings of the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleConfig:
    """Layout and timing of subtitles, after the guidelines of the BBC and Netflix.

    The costs weigh the ways to divide words into cues and lines: a reader minds what costs more. The page has the same
    values in ``server/web/static/subtitles.js``.
    """

    line_characters: int = 42
    """Maximum characters in a line."""

    max_cue_ms: int = 7000
    """Maximum duration of the speech in a cue with more than one word."""

    min_cue_ms: int = 1000
    """Minimum duration of a cue, unless the next one starts earlier."""

    reading_characters_per_s: int = 20
    """Reading speed. A cue with more text stays longer, unless the next one starts earlier."""

    max_gap_ms: int = 1000
    """Words with a pause of this length or longer between them never share a cue."""

    pause_ms: int = 300
    """Pause between words at which a break does not divide a phrase."""

    max_pending_ms: int = 60_000
    """Speech without a long pause after which cues are fixed at the end of an utterance."""

    short_word_characters: int = 12
    """Longest word that looks lost as the only word of a cue."""

    full_line_characters: int = 21
    """Characters of the first line of a cue from which on it may end early, at punctuation or a pause."""

    cue_cost: float = 4.0
    """Cost of each cue."""

    lonely_word_cost: float = 20.0
    """Cost of a cue with a single short word."""

    pause_break_cost: float = 1.0
    """Cost of a break between cues at a pause, or at the end of an utterance; the end of a sentence costs nothing."""

    clause_break_cost: float = 2.0
    """Cost of a break between cues after a comma or other punctuation inside a sentence."""

    phrase_break_cost: float = 7.0
    """Cost of a break between cues anywhere else, inside a phrase."""

    name_break_cost: float = 14.0
    """Cost of a break between cues after an abbreviation, such as a title before a name."""

    line_break_weight: float = 0.25
    """Cost of a break between the lines of a cue, relative to one between cues."""

    uneven_lines_cost: float = 2.0
    """Cost of two lines of which one is full and the other empty; it grows with the square of the difference."""

    def __post_init__(self) -> None:
        _require_positive(self, "line_characters", "max_cue_ms", "max_pending_ms", "reading_characters_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerConfig:
    """The settings of a recognizer.

    Raises:
        InputError: settings contradict each other.
    """

    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    windows: WindowConfig | None = None
    """None for the windows that suit the model."""

    beam: BeamConfig = field(default_factory=BeamConfig)
    second_pass: SecondPassConfig = field(default_factory=SecondPassConfig)
    biasing: BiasingConfig = field(default_factory=BiasingConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    acoustic: AcousticConfig = field(default_factory=AcousticConfig)

    def __post_init__(self) -> None:
        if self.windows is None:
            return  # checked once the windows are known
        windows, segmenter = self.windows, self.segmenter
        min_ms = min_buffer_ms(windows, segmenter)
        _require(
            self.engine.buffer_ms >= min_ms,
            f"buffer_ms is {self.engine.buffer_ms}; with these windows it must be at least {min_ms}",
        )
        _require(
            segmenter.max_utterance_ms >= 2 * windows.right_context_ms,
            f"max_utterance_ms is {segmenter.max_utterance_ms}; it must be at least twice right_context_ms",
        )
        window_lag_ms = windows.commit_ms + windows.right_context_ms
        _require(
            self.engine.overload_lag_ms > window_lag_ms,
            f"overload_lag_ms is {self.engine.overload_lag_ms}; "
            f"commit windows alone lag up to {window_lag_ms} ms, so it must be above that",
        )

    def with_default_windows(self, windows: WindowConfig) -> RecognizerConfig:
        """Return the same settings, with these windows if none are set."""
        return self if self.windows is not None else replace(self, windows=windows)
