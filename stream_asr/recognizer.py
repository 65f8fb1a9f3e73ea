"""The public interface: load a model once, then transcribe recordings and open live streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stream_asr.acoustic.base import AcousticModel, SecondPassModel, StatefulModel
from stream_asr.acoustic.catalog import BUNDLED_LMS, EMBEDDED, SECOND_PASS_MODEL, locate
from stream_asr.audio.files import AudioFile
from stream_asr.audio.pcm import AudioBlock, AudioConverter
from stream_asr.config import AUDIO, SAMPLE_RATE, RecognizerConfig, WindowConfig
from stream_asr.decoding.attention import AttentionDecoder
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.biasing import BiasedSecondPass, Biasing
from stream_asr.decoding.casing import CasedDecoder, Casing, choose_casing, raw_words
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.hotwords import HotwordList, hotword_weights, read_hotwords
from stream_asr.errors import InputError
from stream_asr.events import Event, Final, Transcript
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.storage import load as load_lm
from stream_asr.stream import Stream
from stream_asr.streaming.engine import Engine, EngineStats
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.second_pass import SecondPass
from stream_asr.streaming.windows import WindowGeometry, whole_utterance_config
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.detectors import detector_factory

if TYPE_CHECKING:
    from types import TracebackType

_NO_SECOND_PASS = "none"

Progress = Callable[[float, "float | None"], None]
"""Called with the seconds read so far and the duration of the recording in seconds, or None if it is unknown."""


class Recognizer:
    """A model and the engine that runs it for any number of streams. Close it, or use it in a ``with`` statement.

    Args:
        model: a model from `stream_asr.acoustic.loading.load_model`, or any other `AcousticModel`.
        config: durations, thresholds and limits.
        detector: makes a voice detector for each stream; webrtcvad by default.
        lm: a language model. Without it and without hotwords, decoding is greedy.
        hotwords: words and phrases to prefer.
        casing: how words of the CTC model are capitalized; None to leave them as they are.
        second_pass: an attention decoder that decodes utterances again while they grow, such as
            ``model.second_pass``; None for the words of the CTC model alone.
        raw: write the words of the second pass as a CTC model would: without punctuation and in one case.

    Raises:
        InputError: windows or utterances are longer than a model accepts, or the model lacks letters of the language
            model or of the hotwords.
    """

    def __init__(
        self,
        model: AcousticModel,
        config: RecognizerConfig | None = None,
        *,
        detector: Callable[[], VoiceDetector] | None = None,
        lm: NgramModel | None = None,
        hotwords: HotwordList = (),
        casing: Casing | None = None,
        second_pass: SecondPassModel | None = None,
        raw: bool = False,
    ) -> None:
        self.model = model
        self.second_pass = second_pass
        windows = WindowConfig()
        if isinstance(model, StatefulModel):
            windows = model.window_config if second_pass is None else model.second_pass_window_config
        self.config = (config or RecognizerConfig()).with_default_windows(windows)
        self._make_detector = detector or detector_factory("webrtc", self.config.segmenter)
        self.lm = lm
        self._casing = casing
        self._raw = raw
        weights = hotword_weights(hotwords)
        self.decoder = self._make_decoder(weights)
        self._attention = None if second_pass is None else self._make_attention_decoder(second_pass)
        self._make_second_pass = self._second_pass_factory(weights)
        try:
            WindowGeometry.from_config(self.config.windows or windows, model.frame_samples, model.max_window_samples)
        except ValueError as error:
            raise InputError(f"the windows do not suit the model {model.name!r}: {error}") from error
        biased = None if second_pass is None else BiasedSecondPass(second_pass, self.config.biasing)
        self._engine = Engine(model, self.config.engine, biased)
        self._engine.start()

    def _make_decoder(self, hotwords: Mapping[str, float]) -> Decoder:
        """Return the decoder of the first pass."""
        model = self.model
        decoder = make_decoder(model.labels, model.frame_samples, self.config.beam, self.lm, hotwords)
        return CasedDecoder(decoder, self._casing) if self._casing and self.second_pass is None else decoder

    def _make_attention_decoder(self, model: SecondPassModel) -> AttentionDecoder:
        max_ms = self.config.segmenter.max_utterance_ms
        if model.max_samples is not None and max_ms > model.max_samples * 1000 // SAMPLE_RATE:
            raise InputError(
                f"max_utterance_ms is {max_ms}, but the second pass {model.name!r} accepts at most "
                f"{model.max_samples * 1000 // SAMPLE_RATE}"
            )
        return AttentionDecoder(model.vocabulary, self.model.labels, self.model.frame_samples, self.config.second_pass)

    def _second_pass_factory(self, hotwords: Mapping[str, float]) -> Callable[[int], SecondPass] | None:
        """Return what creates the second pass of an utterance from the sample at which it starts; None for none."""
        model, decoder = self.second_pass, self._attention
        if model is None or decoder is None:
            return None
        rewrite = partial(raw_words, uppercase=self.model.labels.uppercase) if self._raw else None
        biasing = None
        if hotwords:
            biasing = Biasing(hotwords, model.vocabulary, decoder.aligner, self.config.biasing) or None
        return lambda start: SecondPass(decoder, model, start, rewrite, biasing)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        cuda_graphs: bool = False,
        second_pass: str | Path | None = "auto",
        language: str | None = None,
        lm: str | Path | None = "auto",
        hotwords: str | Path | HotwordList = (),
        raw: bool = False,
        vad: str = "webrtc",
        config: RecognizerConfig | None = None,
    ) -> Recognizer:
        """Load a CTC model by hub name or from a local folder; without a name, the bundled English model.

        Args:
            model: a hub name, a folder, or None for the bundled model.
            device: auto, cpu, cuda or mps.
            precision: auto, float32, float16 or int8.
            backend: auto, torch or onnxruntime. The bundled model runs faster on a CPU with onnxruntime.
            threads: CPU threads of PyTorch in this process; None for its default. Small models run one window per
                thread.
            cuda_graphs: on CUDA, capture model passes and replay them for windows of the same shape. Whole utterances
                seldom have the same shape.
            second_pass: hub name or folder of a speech seq2seq model, such as Whisper, that decodes utterances again
                while they grow; None or "none" for the words of the CTC model alone. "auto" uses the attention decoder
                that comes with the model, if there is one: the bundled model has one. "embedded-en" requires it.
            language: language of the speech, as a code ("de") or an English name, for a second pass that knows several.
            lm: a language model file made by ``stream-asr lm build``, "lm-en" for the bundled English one, or None for
                none. "auto" uses the language model that the model's configuration names: the bundled one for the
                bundled model and models that were fine-tuned from it, none for others.
            hotwords: words and phrases to prefer, with a weight each (1.0 is usual) if it is a mapping; or the path of
                a file with one of them per line and an optional weight after a colon.
            raw: write bare words: those of a CTC model with only one case as it writes them, instead of in sentence
                case; those of a second pass without punctuation and in the case of the CTC model.
            vad: voice detector: webrtc, or silero, which separates speech from noise and is an extra.
            config: durations, thresholds and limits.

        Raises:
            ModelError: the model cannot be found, downloaded or used; the message suggests a remedy.
            DeviceError: the device is not available.
            InputError: the language model or the hotwords cannot be read or do not suit the model, the voice detector
                is unknown or not installed, the second pass does not know the language, or utterances may be longer
                than it accepts.
        """
        config = config or RecognizerConfig()
        # Small files first: a wrong name should be reported before the model takes seconds to load.
        second_pass = None if second_pass is None or str(second_pass) == _NO_SECOND_PASS else str(second_pass)
        own_decoder = second_pass in ("auto", EMBEDDED)
        if own_decoder or second_pass is None:
            if language is not None:
                raise InputError(
                    f"the language {language!r} has no effect without a second pass that knows several languages, such "
                    "as 'openai/whisper-small'"
                )
        else:
            locate(second_pass, SECOND_PASS_MODEL)
        locate(model)
        hotword_list = read_hotwords(hotwords) if isinstance(hotwords, str | Path) else hotwords
        language_model = _load_lm(lm) if lm != "auto" else None
        detector = detector_factory(vad, config.segmenter)
        from stream_asr.acoustic.loading import load_model
        from stream_asr.acoustic.options import check_options, use_threads

        decoder: SecondPassModel | None = None
        if second_pass is not None and not own_decoder:
            from stream_asr.acoustic.seq2seq import load_second_pass

            use_threads(threads)
            options = check_options(device, precision, backend, cuda_graphs, config.acoustic)
            decoder = load_second_pass(second_pass, options=options, language=language)
        loaded = load_model(
            model,
            device=device,
            precision=precision,
            backend=backend,
            threads=threads,
            cuda_graphs=cuda_graphs,
            second_pass=own_decoder,
            config=config.acoustic,
        )
        if own_decoder:
            decoder = loaded.second_pass
        if second_pass == EMBEDDED and decoder is None:
            raise InputError(
                f"the second pass {EMBEDDED!r} works with the bundled model and models that were fine-tuned from it, "
                f"without CUDA graphs, but not here with {loaded.name!r}; name another second pass or 'none'"
            )
        # A second pass that decodes previews as well writes all words.
        writes_all_words = decoder is not None and not decoder.uses_audio
        if lm == "auto" and not writes_all_words and loaded.language_model in BUNDLED_LMS:
            language_model = _load_lm(loaded.language_model)
        casing = choose_casing(loaded.labels, raw=raw)
        return cls(
            loaded,
            config,
            detector=detector,
            lm=language_model,
            hotwords=hotword_list,
            casing=casing,
            second_pass=decoder,
            raw=raw,
        )

    def stream(
        self,
        sample_rate: int = SAMPLE_RATE,
        *,
        channels: int = 1,
        encoding: str = "pcm_s16le",
        live: bool = True,
        whole_utterances: bool = False,
        endpoint_ms: int | None = None,
        hotwords: HotwordList | None = None,
    ) -> Stream:
        """Open a stream.

        Args:
            sample_rate: sampling rate of the audio that will be fed, 4000 to 384000 Hz.
            channels: number of channels; they are averaged.
            encoding: encoding of audio that is fed as bytes.
            live: whether to emit partials. Without them a stream emits only finals and needs less computation.
            whole_utterances: recognize each utterance in one pass once it has ended, which lowers both WER and
                computation. Requires ``live=False``. Utterances longer than 30 s, or than the model accepts, still
                take several passes. Finals come a little later, as all computation follows the end of the utterance.
                `Stream.mark` does not wait for an utterance that continues, so call `Stream.flush` before it.
            endpoint_ms: silence that ends an utterance of this stream; None for the setting of the recognizer. The
                range is `SegmenterConfig.endpoint_range_ms`, by default 80 to 9700. With another value, finals may
                differ from those of `transcribe`.
            hotwords: words and phrases to prefer in this stream, in place of those of the recognizer; None for those of
                the recognizer.

        Raises:
            InputError: an argument is out of range, the model cannot write a hotword, or ``whole_utterances`` is
                combined with ``live``.
            StreamASRError: the recognizer was closed.
        """
        config, converter = self.config, AudioConverter(sample_rate, channels, encoding)
        if endpoint_ms is not None:
            config = replace(config, segmenter=config.segmenter.with_endpoint(endpoint_ms))
        if whole_utterances:
            if live:
                raise InputError("whole_utterances makes no partials; it requires live=False")
            config = whole_utterance_config(config, self.model.frame_samples, self.model.max_window_samples)
        decoder, make_second_pass = self.decoder, self._make_second_pass
        if hotwords is not None:
            weights = hotword_weights(hotwords)
            decoder, make_second_pass = self._make_decoder(weights), self._second_pass_factory(weights)
        pipeline = Pipeline(
            config,
            decoder,
            self.model.frame_samples,
            detector=self._make_detector(),
            max_window_samples=self.model.max_window_samples,
            initial_state=self.model.initial_state if isinstance(self.model, StatefulModel) else None,
            second_pass=make_second_pass,
            casing=self._casing,
            live=live,
        )
        mailbox = Mailbox(pipeline, config.engine.max_unread_events)
        self._engine.add(mailbox)
        return Stream(mailbox, converter, self._engine.wake, lambda: self._engine.remove(mailbox))

    def transcribe(
        self,
        audio: str | Path | npt.NDArray[Any],
        sample_rate: int = SAMPLE_RATE,
        *,
        whole_utterances: bool = False,
        progress: Progress | None = None,
    ) -> Transcript:
        """Recognize a recording of any length.

        The text is byte for byte that of a live stream of the same audio or, with ``whole_utterances``, that of a
        stream with ``whole_utterances``.

        Args:
            audio: path of a file, or samples of shape (samples,) or (samples, channels).
            sample_rate: sampling rate of an array in Hz; ignored for files.
            whole_utterances: recognize each utterance in one pass, which lowers both WER and computation. The
                utterances are the same.
            progress: called as the recording is read.

        Raises:
            InputError: the file or the array is not valid audio.
        """
        read_s = 0.0

        def track_progress(done_s: float, total_s: float | None) -> None:
            nonlocal read_s
            read_s = done_s
            if progress is not None:
                progress(done_s, total_s)

        finals = self.iter_finals(audio, sample_rate, whole_utterances=whole_utterances, progress=track_progress)
        return Transcript(tuple(final for final in finals if final.text), read_s)

    def iter_finals(
        self,
        audio: str | Path | npt.NDArray[Any],
        sample_rate: int = SAMPLE_RATE,
        *,
        whole_utterances: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Final]:
        """Yield the finals of a recording as soon as they are ready, including those without words.

        Takes the arguments of `transcribe`.

        Raises:
            InputError: as for `transcribe`. For a damaged file, the finals of all audio before the damage come first.
        """
        open_stream = partial(self.stream, live=False, whole_utterances=whole_utterances)
        with ExitStack() as stack:
            if isinstance(audio, str | Path):
                file = stack.enter_context(AudioFile(audio))
                rate, channels, total_s = file.sample_rate, file.channels, file.duration_s
                stream = stack.enter_context(open_stream(rate, channels=channels))
                blocks: Iterable[AudioBlock] = file
            else:
                array = np.asarray(audio)
                if array.ndim not in (1, 2):
                    raise InputError("audio must be a path, or an array of shape (samples,) or (samples, channels)")
                rate, channels = sample_rate, 1 if array.ndim == 1 else array.shape[1]
                stream = stack.enter_context(open_stream(rate, channels=channels))
                total_s, size = len(array) / rate, max(1, round(AUDIO.file_block_ms * rate / 1000))
                blocks = (array[start : start + size] for start in range(0, len(array), size))
            failure: InputError | None = None
            try:
                for block in blocks:
                    stream.feed(block)
                    yield from _finals(stream.poll())
                    stream.drain()
                    if progress is not None:
                        progress(stream.received_s, total_s)
            except InputError as error:
                failure = error  # raised after the finals of the audio before it
            stream.finish()
            yield from _finals(stream)
            if failure is not None:
                raise failure
            if progress is not None:
                progress(stream.received_s, stream.received_s)

    @property
    def second_pass_name(self) -> str | None:
        """Name of the second pass; None for none."""
        return None if self.second_pass is None else self.second_pass.name

    @property
    def stats(self) -> EngineStats:
        """A snapshot of the engine's state, for monitoring."""
        return self._engine.stats

    def close(self) -> None:
        """Stop the engine. Open streams fail with an error that says so."""
        self._engine.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load_lm(name: str | Path | None) -> NgramModel | None:
    """Load a language model file, or a bundled one by name."""
    return None if name is None else load_lm(BUNDLED_LMS.get(str(name), name))


def _finals(events: Iterable[Event]) -> Iterator[Final]:
    return (event for event in events if isinstance(event, Final))
