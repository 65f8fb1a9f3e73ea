"""Run any Transformers CTC model as an `AcousticModel`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stream_asr.acoustic.base import Checkpoint, SecondPassModel
from stream_asr.acoustic.cuda_graphs import CAPTURABLE, Capture, CudaGraphCapture, GraphCache, Inputs, bucket
from stream_asr.acoustic.device_copies import device_copies
from stream_asr.acoustic.int8 import quantize_linears
from stream_asr.acoustic.labels import Labels
from stream_asr.acoustic.one_per_core import OnePerCore
from stream_asr.acoustic.options import ModelOptions
from stream_asr.array_types import FloatArray
from stream_asr.config import SAMPLE_RATE, AcousticConfig, ms_to_samples
from stream_asr.errors import InputError, ModelError

_PROBE_SAMPLES = 15_360
"""0.96 s: a multiple of every stride in use (160, 320 and 384 samples, times 2, 4 or 8; 256, times 2 or 4)."""

_PADDABLE = {"hubert", "moonshine_ctc", "parakeet_ctc", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-bert"}
"""Model types whose output for a window does not change when the window is padded.

Masks do not reach everything: convolutions in Data2VecAudio, SEW, Wav2Vec2-Conformer and adapters carry the padding
back into the window.
"""


class FailedPassError(ModelError):
    """The first pass of a model raised an error."""


class TransformersCTC:
    """Runs windows through a model and its feature extractor.

    Stride and receptive field are measured by running the model, which also warms it up, and compared with its
    configuration.

    Args:
        name: the name or folder that the user gave.
        model: an ``AutoModelForCTC``, on ``device``, in evaluation mode.
        feature_extractor: of the checkpoint.
        labels: the output alphabet.
        device: where the model is.
        parameters: number of parameters, for a quantized model, which no longer has them all.
        capture: captures passes as CUDA graphs; None runs every pass eagerly.
        config: limits of CUDA graphs.

    Attributes:
        language_model: name of the bundled language model that the checkpoint was made for; None for none.
        max_window_samples: None; positions of these models are relative, so windows may have any length.
        parallel_windows: None; a batch may have any size.
        masks: whether the model gets an attention mask.
        min_samples: the shortest input that yields a frame.

    Raises:
        ModelError: the model does not run, or its frames are not evenly spaced.
    """

    max_window_samples: int | None = None
    parallel_windows: int | None = None

    def __init__(
        self,
        name: str,
        model: Any,
        feature_extractor: Any,
        labels: Labels,
        *,
        device: torch.device,
        parameters: int | None = None,
        capture: Capture | None = None,
        config: AcousticConfig | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.model = model
        self.feature_extractor = feature_extractor
        self.device = device
        self.min_samples = 0
        self.parameters = parameters or count_parameters(model)
        limits = config or AcousticConfig()
        self._graph_samples = ms_to_samples(limits.graph_length_ms)
        model_config = model.config
        self.language_model: str | None = getattr(model_config, "language_model", None)
        self.second_pass: SecondPassModel | None = None
        self._has_adapter = bool(getattr(model_config, "add_adapter", False))
        features_masked = (
            "attention_mask" in feature_extractor.model_input_names and model.main_input_name == "input_features"
        )
        # Models with group norm over time were trained without masks, on single clips: padding would change the norm.
        self.pads = (
            model_config.model_type in _PADDABLE
            and not self._has_adapter
            and getattr(model_config, "feat_extract_norm", None) != "group"
            and (features_masked or bool(getattr(feature_extractor, "return_attention_mask", False)))
        )
        # Features may extend beyond the audio; the mask marks the difference.
        self.masks = self.pads or features_masked
        self._copies = device_copies(device)
        self._graphs: GraphCache | None = None
        self.frame_samples, self._missing_frames = self._measure_stride()
        self.min_samples = self._find_min_samples()
        if capture is not None:  # not earlier: the shapes of the measurements never occur again
            self._graphs = GraphCache(self._logits, capture, limits)

    @property
    def batches_commit_windows(self) -> bool:
        """False on a CPU, where the shape of a matrix product changes the rounding of its sums."""
        return self.device.type != "cpu"

    def log_probs(self, windows: Sequence[FloatArray]) -> list[FloatArray]:
        """See `AcousticModel.log_probs`. Windows shorter than the receptive field are padded with zeros."""
        lengths = [len(window) for window in windows]
        outputs = self._run([pad_to(window, self.min_samples) for window in windows])
        return [output[: self.frames(length)] for output, length in zip(outputs, lengths, strict=True)]

    def frames(self, samples: int) -> int:
        """Number of output frames for a window of ``samples``, a whole number of strides."""
        return max(0, samples // self.frame_samples - self._missing_frames)

    @torch.inference_mode()
    def _run(self, windows: Sequence[FloatArray]) -> FloatArray:
        """Return float32, shape (windows, frames, tokens), frames of padding included."""
        graphs = self._graphs if self._graphs is not None and self._graphs.works else None
        batch, multiple = list(windows), None
        if graphs is not None:
            batch += (bucket(len(windows)) - len(windows)) * [windows[0]]
            multiple = self._graph_samples if self.pads else None
        features = self.feature_extractor(
            batch,
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
        logits = self._logits(inputs) if graphs is None else graphs(inputs)
        return self.log_softmax(logits[: len(windows)])

    def _logits(self, inputs: Inputs) -> Tensor:
        logits: Tensor = self.model(**inputs).logits
        return logits

    def log_softmax(self, logits: Tensor) -> FloatArray:
        """Convert logits, shape (..., tokens), to log-probabilities on the host, float32, of the same shape."""
        return self._copies.to_host(logits.float().log_softmax(dim=-1))

    def _measure_stride(self) -> tuple[int, int]:
        """Return the stride in samples, and how many frames an output lacks: a window may have more strides."""
        noise = np.random.default_rng(0).normal(scale=0.01, size=2 * _PROBE_SAMPLES).astype(np.float32)
        try:
            frames_short, frames_long = (self._run([part]).shape[1] for part in (noise[:_PROBE_SAMPLES], noise))
        except Exception as error:
            raise FailedPassError(f"{self.name!r} does not run as a CTC model: {error}") from error
        if frames_long <= frames_short or _PROBE_SAMPLES % (frames_long - frames_short):
            raise ModelError(f"{self.name!r} gives {frames_long} frames for {len(noise)} samples: no even stride")
        stride = _PROBE_SAMPLES // (frames_long - frames_short)
        stated = getattr(self.model.config, "inputs_to_logits_ratio", stride)
        # Wav2Vec2Config leaves out the adapter, which multiplies the stride.
        if stride % stated if self._has_adapter else stride != stated:
            raise ModelError(f"{self.name!r} states a stride of {stated} samples, but its stride is {stride}")
        return stride, max(0, len(noise) // stride - frames_long)

    def _find_min_samples(self) -> int:
        """Return the shortest input, in whole strides, that the model accepts and that yields a frame."""
        for strides in range(1, 64):
            window = np.zeros(strides * self.frame_samples, dtype=np.float32)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # for example NumPy's about the mean of an empty array
                try:
                    output = self._run([window])
                except Exception:
                    continue
            if output.size and np.isfinite(output).all():
                return len(window)
        raise ModelError(f"{self.name!r} does not accept windows of {len(window)} samples or less")


def build_transformers(checkpoint: Checkpoint, options: ModelOptions) -> TransformersCTC | OnePerCore:
    """Run a checkpoint in PyTorch: in batches, or one window per core if it is small and runs on a CPU.

    Args:
        checkpoint: of any architecture.
        options: how to run it.

    Raises:
        InputError: CUDA graphs are not possible with this architecture.
        ModelError: the model does not run.
    """
    runner = make_runner(checkpoint, options, quantize=quantize_linears if options.precision == "int8" else None)
    small = runner.parameters <= options.config.one_per_core_max_parameters
    return OnePerCore(runner, torch.get_num_threads()) if small and options.device.type == "cpu" else runner


def make_runner(
    checkpoint: Checkpoint, options: ModelOptions, *, quantize: Callable[[nn.Module], None] | None = None
) -> TransformersCTC:
    """Move a checkpoint's model to its device and measure it.

    Args:
        checkpoint: of any architecture.
        options: how to run it.
        quantize: quantizes the model in place; None leaves it as it is.

    Raises:
        InputError, ModelError: see `build_transformers`.
    """
    model, device, config = checkpoint.model, options.device, options.config
    if options.cuda_graphs and model.config.model_type not in CAPTURABLE:
        raise InputError(f"CUDA graphs work with {', '.join(sorted(CAPTURABLE))}, not with {checkpoint.name!r}")
    parameters = count_parameters(model)
    try:
        if quantize is not None:
            quantize(model)
        return TransformersCTC(
            checkpoint.name,
            model.to(device).eval(),
            checkpoint.feature_extractor,
            checkpoint.labels,
            device=device,
            parameters=parameters,
            capture=CudaGraphCapture(device, config) if options.cuda_graphs else None,
            config=config,
        )
    except (FailedPassError, RuntimeError) as error:
        if quantize is None:
            raise
        # WavLM, for example, passes the weights of its linear layers to a function that cannot take int8. And some
        # builds of PyTorch have no int8 kernels.
        raise ModelError(f"{checkpoint.name!r} does not run in int8; use precision float32") from error


def count_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def pad_to(window: FloatArray, samples: int) -> FloatArray:
    """Pad a window with zeros to at least ``samples``."""
    return np.pad(window, (0, samples - len(window))) if len(window) < samples else window
