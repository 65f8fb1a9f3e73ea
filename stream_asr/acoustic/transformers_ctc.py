"""Any Transformers CTC model behind the interface of `AcousticModel`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stream_asr.acoustic.base import StreamingEncoder
from stream_asr.acoustic.cuda_graphs import GRAIN_SAMPLES, Inputs, Recorder, Replays, bucket
from stream_asr.acoustic.device_copies import copies_for
from stream_asr.acoustic.labels import Labels
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE
from stream_asr.errors import ModelError

_PROBE_SAMPLES = 15_360
"""A multiple of every stride in use (160, 320 and 384 samples, times 2, 4 or 8; 256, times 2 or 4), 0.96 s."""

_PADS = {"hubert", "moonshine_ctc", "parakeet_ctc", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-bert"}
"""Model types whose outputs do not change when a window is padded to the length of a longer one.

Masks do not reach everything: convolutions in Data2VecAudio, SEW, Wav2Vec2-Conformer and adapters carry what they
make of the padding back into the window.
"""


class TransformersCTC:
    """Runs windows through a model and its feature extractor.

    Stride and receptive field are found out from the model itself when it is built, by running it (which also
    warms it up), and held against what its configuration says.

    Args:
        name: how the user called it.
        model: of ``AutoModelForCTC``, on ``device``, in evaluation mode.
        feature_extractor: the checkpoint's.
        labels: what the outputs spell.
        parameters: how many it has, if it was quantised: then it does not tell any more.
        hearer: hears streams in place of the model's own modules.
        record: records passes of the model, to be played back for windows of the same shape; None for none.

    Attributes:
        language_model: name of the bundled one that the checkpoint was made to work with; None for none.
        longest_samples: None: positions of these models are relative, so that no window is too long.
        most_windows: None: a batch may be of any size.
        masks: the model gets an attention mask with its inputs.
        shortest_samples: the shortest window that gives a frame.

    Raises:
        ModelError: the model does not run, or its frames are not evenly spaced.
    """

    longest_samples: int | None = None
    most_windows: int | None = None

    def __init__(
        self,
        name: str,
        model: Any,
        feature_extractor: Any,
        labels: Labels,
        *,
        device: torch.device,
        parameters: int | None = None,
        hearer: StreamingEncoder | None = None,
        record: Recorder | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.model = model
        self.feature_extractor = feature_extractor
        self.device = device
        self.hearer = hearer
        self.shortest_samples = 0
        self.parameters = parameters or count_parameters(model)
        config = model.config
        self.language_model: str | None = getattr(config, "language_model", None)
        self._adapter = bool(getattr(config, "add_adapter", False))
        features_masked = (
            "attention_mask" in feature_extractor.model_input_names and model.main_input_name == "input_features"
        )
        # Group norm over time counts the padding in: such models were trained without masks, one by one.
        self.pads = (
            config.model_type in _PADS
            and not self._adapter
            and getattr(config, "feat_extract_norm", None) != "group"
            and (features_masked or bool(getattr(feature_extractor, "return_attention_mask", False)))
        )
        # Features may be longer than the audio they were made of; the mask tells.
        self.masks = self.pads or features_masked
        self._copies = copies_for(device)
        self._replays: Replays | None = None
        self.frame_samples, self._short_frames = self._probe()
        self.shortest_samples = self._find_shortest()
        if record is not None:  # from now on: what was run to find these out is never run again
            self._replays = Replays(self._logits, record)

    @property
    def batches_kept_windows(self) -> bool:
        """On a processor, the shape of a matrix product decides how its sums are rounded."""
        return self.device.type != "cpu"

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """See `AcousticModel.log_probs`. Windows too short for the model's receptive field are filled up with zeros."""
        lengths = [len(window) for window in windows]
        outputs = self._run([at_least(window, self.shortest_samples) for window in windows])
        return [output[: self.frames(length)] for output, length in zip(outputs, lengths, strict=True)]

    def frames(self, samples: int) -> int:
        """Output frames of a window of so many samples, whole strides."""
        return max(0, samples // self.frame_samples - self._short_frames)

    @torch.inference_mode()
    def _run(self, windows: Sequence[FloatArray]) -> FloatArray:
        """float32 of shape (windows, frames, outputs), frames of padding included."""
        replays = self._replays if self._replays is not None and self._replays.works else None
        filled, multiple = list(windows), None
        if replays is not None:
            filled += (bucket(len(windows)) - len(windows)) * [windows[0]]
            multiple = GRAIN_SAMPLES if self.pads else None
        features = self.feature_extractor(
            filled,
            sampling_rate=SAMPLE_RATE,
            padding="longest",
            pad_to_multiple_of=multiple,
            truncation=False,
            return_attention_mask=self.masks,
            return_tensors="pt",
        )
        name = self.model.main_input_name
        tensors = {name: features[name].to(self.model.dtype)}
        if self.masks:
            tensors["attention_mask"] = features["attention_mask"]
        inputs = self._copies.to_device(tensors)
        logits = self._logits(inputs) if replays is None else replays(inputs)
        return self.log_softmax(logits[: len(windows)])

    def _logits(self, inputs: Inputs) -> Tensor:
        logits: Tensor = self.model(**inputs).logits
        return logits

    def log_softmax(self, logits: Tensor) -> FloatArray:
        """Natural log-probabilities of logits, both of shape (..., vocabulary)."""
        return self._copies.to_host(logits.float().log_softmax(dim=-1))

    def _probe(self) -> tuple[int, int]:
        """(stride in samples, frames that a window's output is short of its length in strides)."""
        noise = np.random.default_rng(0).normal(scale=0.01, size=2 * _PROBE_SAMPLES).astype(np.float32)
        try:
            frames_short, frames_long = (self._run([part]).shape[1] for part in (noise[:_PROBE_SAMPLES], noise))
        except Exception as error:
            raise ModelError(f"{self.name!r} does not run as a CTC model: {error}") from error
        if frames_long <= frames_short or _PROBE_SAMPLES % (frames_long - frames_short):
            raise ModelError(f"{self.name!r} gives {frames_long} frames for {len(noise)} samples: no even stride")
        stride = _PROBE_SAMPLES // (frames_long - frames_short)
        stated = getattr(self.model.config, "inputs_to_logits_ratio", stride)
        # Wav2Vec2Config leaves out the adapter, whose strides come on top.
        if stride % stated if self._adapter else stride != stated:
            raise ModelError(f"{self.name!r} states a stride of {stated} samples and has one of {stride}")
        return stride, max(0, len(noise) // stride - frames_long)

    def _find_shortest(self) -> int:
        """The fewest samples, in strides, that the model takes without an error and answers with a frame."""
        for strides in range(1, 64):
            window = np.zeros(strides * self.frame_samples, dtype=np.float32)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as NumPy's about the mean of nothing
                try:
                    output = self._run([window])
                except Exception:
                    continue
            if output.size and np.isfinite(output).all():
                return len(window)
        raise ModelError(f"{self.name!r} does not take windows of a second")


def count_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def at_least(window: FloatArray, samples: int) -> FloatArray:
    """The window, filled up with zeros to so many samples."""
    return np.pad(window, (0, samples - len(window))) if len(window) < samples else window
