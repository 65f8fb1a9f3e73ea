"""The public face: load a model once, then transcribe recordings and open live streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stream_asr.acoustic.base import AcousticModel, StatefulModel
from stream_asr.acoustic.catalog import BUNDLED_LMS
from stream_asr.audio.files import BLOCK_S, AudioFile
from stream_asr.audio.pcm import AudioBlock, AudioConverter
from stream_asr.config import SAMPLE_RATE, RecognizerConfig, WindowConfig
from stream_asr.decoding.base import Decoder
from stream_asr.decoding.casing import CasedDecoder, Casing, casing_of
from stream_asr.decoding.factory import make_decoder
from stream_asr.decoding.hotwords import HotwordList, read_hotwords
from stream_asr.errors import InputError
from stream_asr.events import Event, Final, Transcript
from stream_asr.lm.ngram import NgramModel
from stream_asr.lm.storage import load as load_lm
from stream_asr.stream import Stream
from stream_asr.streaming.engine import Engine, EngineStats
from stream_asr.streaming.mailbox import Mailbox
from stream_asr.streaming.pipeline import Pipeline
from stream_asr.streaming.windows import WindowGeometry, for_whole_utterances
from stream_asr.vad.detector import VoiceDetector
from stream_asr.vad.detectors import detectors

if TYPE_CHECKING:
    from types import TracebackType

Progress = Callable[[float, "float | None"], None]
"""Called with the seconds read so far and the length of the recording, where it is known."""


class Recognizer:
    """A model, and the engine that runs it for any number of streams. Close it, or use it in a ``with``.

    Args:
        model: what `stream_asr.acoustic.load_model` returns, or anything that acts like it.
        config: durations, thresholds and limits.
        detector: makes a voice detector for each stream; webrtcvad unless given.
        lm: a language model that helps to find the words; without it and hotwords they are spelt by ear alone.
        hotwords: words and phrases to listen for.
        casing: how words are written; None for as the model and the language model have them.

    Raises:
        InputError: the windows are longer than the model takes, or it cannot write the words.
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
    ) -> None:
        self.model = model
        windows = model.window_config if isinstance(model, StatefulModel) else WindowConfig()
        self.config = (config or RecognizerConfig()).suited(windows)
        self._detector = detector or detectors("webrtc", self.config.segmenter)
        self.lm = lm
        decoder = make_decoder(model.labels, model.frame_samples, self.config.beam, lm, hotwords)
        self.decoder: Decoder = CasedDecoder(decoder, casing) if casing is not None else decoder
        try:
            WindowGeometry.of(self.config.windows or windows, model.frame_samples, model.longest_samples)
        except ValueError as error:
            raise InputError(f"the windows do not suit the model {model.name!r}: {error}") from error
        self._engine = Engine(model, self.config.engine.max_batch_size)
        self._engine.start()

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
        lm: str | Path | None = "auto",
        hotwords: str | Path | HotwordList = (),
        raw: bool = False,
        vad: str = "webrtc",
        config: RecognizerConfig | None = None,
    ) -> Recognizer:
        """Load a CTC model by hub name or from a local folder; without a name, the embedded English one.

        Args:
            device: auto, cpu, cuda or mps.
            precision: auto, float32, float16 or int8.
            backend: auto, torch or onnxruntime, an extra: the faster for the embedded model on a processor.
            threads: of the processor, for PyTorch in this whole process; its own choice unless given. Small models
                give each of them a window of its own.
            cuda_graphs: on CUDA, record passes of the model and play them back for windows of the same shape, which
                whole utterances seldom have.
            lm: file of a language model (`stream-asr lm build` makes them), "lm-en" for the bundled English one,
                None for none; "auto" is what the model's configuration names: the bundled one for the embedded
                model and what was fine-tuned from it, none for others.
            hotwords: words and phrases to listen for, with a weight each (1.0 is usual) if it is a mapping; or
                the file that has them, one a line, a weight after a colon.
            raw: write as the model does; otherwise the words of models that know one case only get sentence case.
            vad: what tells speech from other sounds: webrtc, or silero, which knows it from noise and is an extra.
            config: durations, thresholds and limits.

        Raises:
            ModelError: it cannot be found, fetched or used; the message says what would work.
            DeviceError: the device is not there.
            InputError: the language model or the hotwords cannot be read, or do not suit the model; there is no such
                voice detector, or it is not installed.
        """
        config = config or RecognizerConfig()
        # The small files first: a wrong name should not cost the seconds that loading the model takes.
        listed = read_hotwords(hotwords) if isinstance(hotwords, str | Path) else hotwords
        language_model = _language_model(lm) if lm != "auto" else None
        detector = detectors(vad, config.segmenter)
        from stream_asr.acoustic.loading import arranged, load_model

        loaded = load_model(
            model, device=device, precision=precision, backend=backend, threads=threads, cuda_graphs=cuda_graphs
        )
        if lm == "auto" and loaded.language_model in BUNDLED_LMS:
            language_model = _language_model(loaded.language_model)
        casing = casing_of(loaded.labels, raw=raw)
        return cls(arranged(loaded), config, detector=detector, lm=language_model, hotwords=listed, casing=casing)

    def stream(
        self,
        sample_rate: int = SAMPLE_RATE,
        *,
        channels: int = 1,
        encoding: str = "pcm_s16le",
        live: bool = True,
        whole_utterances: bool = False,
        endpoint_ms: int | None = None,
    ) -> Stream:
        """Open a stream.

        Args:
            sample_rate: of the audio that will be fed, in Hz; any from 4 to 384 kHz.
            channels: interleaved; they are averaged.
            encoding: of audio fed as bytes.
            live: make partials; without them only finals come, at less cost.
            whole_utterances: hear each utterance in one pass when it has ended, in place of the windows that partials
                need: fewer mistakes and less work. (One of more than 30 s, if the configuration has any, in passes that
                keep 30 s.) Finals come a little later, as all of the work is left until then; `Stream.mark` does not
                wait for an utterance that goes on, so call `Stream.flush` first.
            endpoint_ms: the silence that ends an utterance of this stream, in place of the configuration's: from
                its ``min_pause_ms`` to half of its ``max_utterance_ms`` less ``start_window_ms``, by default 80 to
                9700. Other finals than those of `transcribe` may come of it.

        Raises:
            InputError: a rate, channel count, encoding or endpoint outside what is accepted; partials of utterances
                that are only heard as a whole.
            StreamASRError: the recognizer was closed.
        """
        config, converter = self.config, AudioConverter(sample_rate, channels, encoding)
        if endpoint_ms is not None:
            config = replace(config, segmenter=config.segmenter.with_endpoint(endpoint_ms))
        if whole_utterances:
            if live:
                raise InputError("there are no partials of utterances that are heard as a whole: they need live=False")
            config = for_whole_utterances(config, self.model.frame_samples, self.model.longest_samples)
        pipeline = Pipeline(
            config,
            self.decoder,
            self.model.frame_samples,
            detector=self._detector(),
            longest_samples=self.model.longest_samples,
            initial_state=self.model.initial_state if isinstance(self.model, StatefulModel) else None,
            live=live,
        )
        session = Mailbox(pipeline, config.engine.max_unread_events)
        self._engine.add(session)
        return Stream(session, converter, self._engine.wake, lambda: self._engine.remove(session))

    def transcribe(
        self,
        audio: str | Path | npt.NDArray[Any],
        sample_rate: int = SAMPLE_RATE,
        *,
        whole_utterances: bool = False,
        progress: Progress | None = None,
    ) -> Transcript:
        """Recognise a recording of any length.

        The text is byte for byte that of a stream of the same audio: of a live one, or, with ``whole_utterances``, of
        one that has it, too.

        Args:
            audio: a file's path, or samples of shape (samples,) or (samples, channels).
            sample_rate: of samples in an array, in Hz; files know theirs.
            whole_utterances: hear each utterance in one pass, up to its end, in place of the windows that partials
                need: fewer mistakes and less work, in the same utterances.
            progress: called as the recording is read.

        Raises:
            InputError: the file or the array is not usable audio.
        """
        read_s = 0.0

        def count(done_s: float, total_s: float | None) -> None:
            nonlocal read_s
            read_s = done_s
            if progress is not None:
                progress(done_s, total_s)

        finals = self.iter_finals(audio, sample_rate, whole_utterances=whole_utterances, progress=count)
        return Transcript(tuple(final for final in finals if final.text), read_s)

    def iter_finals(
        self,
        audio: str | Path | npt.NDArray[Any],
        sample_rate: int = SAMPLE_RATE,
        *,
        whole_utterances: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Final]:
        """The finals of `transcribe` one by one, as they are ready, those without words included.

        Raises:
            InputError: as `transcribe`; for a damaged file after the finals of all that could be decoded.
        """
        opened = partial(self.stream, live=False, whole_utterances=whole_utterances)
        with ExitStack() as stack:
            if isinstance(audio, str | Path):
                file = stack.enter_context(AudioFile(audio))
                rate, channels, total_s = file.sample_rate, file.channels, file.seconds
                stream = stack.enter_context(opened(rate, channels=channels))
                blocks: Iterable[AudioBlock] = file
            else:
                array = np.asarray(audio)
                if array.ndim not in (1, 2):
                    raise InputError("audio must be a path, or an array of shape (samples,) or (samples, channels)")
                rate, channels = sample_rate, 1 if array.ndim == 1 else array.shape[1]
                stream = stack.enter_context(opened(rate, channels=channels))
                total_s, size = len(array) / rate, max(1, round(BLOCK_S * rate))
                blocks = (array[at : at + size] for at in range(0, len(array), size))
            failure: InputError | None = None
            try:
                for block in blocks:
                    stream.feed(block)
                    yield from _finals(stream.poll())
                    stream.drain()
                    if progress is not None:
                        progress(stream.received_s, total_s)
            except InputError as error:
                failure = error  # what came before it is recognised all the same
            stream.finish()
            yield from _finals(stream)
            if failure is not None:
                raise failure
            if progress is not None:
                progress(stream.received_s, stream.received_s)

    @property
    def stats(self) -> EngineStats:
        """What the engine is doing now, for monitoring."""
        return self._engine.stats

    def close(self) -> None:
        """Stop the engine. Streams that are still open fail with an error that says so."""
        self._engine.close()

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _language_model(named: str | Path | None) -> NgramModel | None:
    return None if named is None else load_lm(BUNDLED_LMS.get(str(named), named))


def _finals(events: Iterable[Event]) -> Iterator[Final]:
    return (event for event in events if isinstance(event, Final))
