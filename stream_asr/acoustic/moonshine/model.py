"""Models with Moonshine's encoder on streams: every chunk of audio is computed once, whatever the left context."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from stream_asr.acoustic.base import (
    Checkpoint,
    Chunk,
    ChunkOutput,
    DecodeRequest,
    SecondPassModel,
    State,
    StreamingEncoder,
)
from stream_asr.acoustic.catalog import EMBEDDED_FOLDER
from stream_asr.acoustic.int8 import has_vnni, is_fast
from stream_asr.acoustic.moonshine.decoder_checkpoint import DecoderCheckpoint, load_decoder, read_decoder
from stream_asr.acoustic.moonshine.decoder_onnx import OnnxDecoder
from stream_asr.acoustic.moonshine.decoder_onnx import has_graphs as has_decoder_graphs
from stream_asr.acoustic.moonshine.decoder_torch import TorchDecoder
from stream_asr.acoustic.moonshine.encoder import find_encoder
from stream_asr.acoustic.moonshine.int8 import quantize_encoder
from stream_asr.acoustic.moonshine.onnx_runtime import OnnxEncoder, has_graphs
from stream_asr.acoustic.moonshine.second_pass import DecoderRunner, MoonshineSecondPass
from stream_asr.acoustic.moonshine.streaming import EncoderState, forward_chunk
from stream_asr.acoustic.one_per_core import CorePool, OnePerCore
from stream_asr.acoustic.options import ModelOptions
from stream_asr.acoustic.transformers_ctc import TransformersCTC, make_runner, pad_to
from stream_asr.array_types import FloatArray
from stream_asr.config import MOONSHINE_SECOND_PASS_WINDOWS, MOONSHINE_WINDOWS
from stream_asr.errors import ModelError

_Loaded = TypeVar("_Loaded", covariant=True)

_WARM_UP_FRAMES = 20
"""Length of a chunk of the warm-up, in output frames."""

_log = logging.getLogger(__name__)


def build_moonshine(checkpoint: Checkpoint, options: ModelOptions) -> TransformersCTC | OnePerCore:
    """Run a checkpoint with Moonshine's encoder: with cached state on a CPU and for a second pass, else in batches.

    Args:
        checkpoint: has this architecture.
        options: how to run it.

    Raises:
        InputError: CUDA graphs are not possible.
        ModelError: the model does not run, or not in ONNX Runtime although that was requested.
    """
    if options.device.type != "cpu":
        return with_second_pass(make_runner(checkpoint, options), checkpoint, options)
    encoder = None if options.backend == "torch" else _onnx_encoder(checkpoint, options)
    int8 = options.precision == "int8" or (options.precision == "auto" and is_fast())
    runner = make_runner(checkpoint, options, quantize=_quantize if int8 and encoder is None else None)
    return StatefulMoonshine(runner, torch.get_num_threads(), encoder, _second_pass(checkpoint, options))


def with_second_pass(
    runner: TransformersCTC, checkpoint: Checkpoint, options: ModelOptions
) -> TransformersCTC | StatefulMoonshine:
    """Run a model on a GPU with its decoder, if it has one: one chunk after another, and requests in batches.

    Without a decoder, and with CUDA graphs, windows run in batches.
    """
    if options.cuda_graphs or (decoder := _read_decoder(checkpoint, options)) is None:
        return runner
    second_pass = MoonshineSecondPass(
        checkpoint.name,
        decoder.vocabulary,
        decoder.begin,
        TorchDecoder(load_decoder(decoder), runner.device),
        None,
        options.config.max_second_pass_batch,
    )
    model = StatefulMoonshine(runner, 1, None, lambda _: second_pass)
    try:
        _warm_up(model, second_pass)
    except Exception as error:  # for example an operation that the device lacks
        _log.warning("the decoder of %r does not run on %s: %s", checkpoint.name, runner.device.type, error)
        return runner
    return model


def _warm_up(model: StatefulMoonshine, second_pass: SecondPassModel) -> None:
    """Run two chunks and decode them."""
    samples, state = np.zeros(_WARM_UP_FRAMES * model.frame_samples, np.float32), model.initial_state(0)
    decoder_state = second_pass.initial_state()
    for _ in range(2):
        [output] = model.forward_chunks([Chunk(samples, len(samples), state)])
        request = DecodeRequest(output.encoded, output.kept_encoded, None, decoder_state, (), (), max_tokens=2)
        [decoded] = second_pass.decode([request])
        state, decoder_state = output.state, decoded.state


def _read_decoder(checkpoint: Checkpoint, options: ModelOptions) -> DecoderCheckpoint | None:
    """Read the decoder; None if the model has none, or if it is not needed."""
    if checkpoint.folder is None or not options.second_pass:
        return None
    return read_decoder(checkpoint.folder, checkpoint.name)


def _second_pass(checkpoint: Checkpoint, options: ModelOptions) -> Callable[[CorePool], SecondPassModel] | None:
    """Load the decoder; None if the model has none."""
    if (decoder := _read_decoder(checkpoint, options)) is None:
        return None
    runner: DecoderRunner | None = None if options.backend == "torch" else _onnx_decoder(checkpoint, decoder, options)
    if runner is None:  # in float32: with PyTorch's int8 products, a draft could change the result
        runner = TorchDecoder(load_decoder(decoder), options.device)
    return partial(MoonshineSecondPass, checkpoint.name, decoder.vocabulary, decoder.begin, runner)


def _quantize(model: nn.Module) -> None:
    encoder = find_encoder(model)
    assert encoder is not None
    quantize_encoder(encoder)


def _onnx_encoder(checkpoint: Checkpoint, options: ModelOptions) -> OnnxEncoder | None:
    """Load the model into ONNX Runtime; None where PyTorch has to run it."""
    encoder = checkpoint.model.encoder
    return _in_onnxruntime(
        checkpoint,
        options,
        "graphs",
        partial(has_graphs, sizes=encoder.sizes),
        partial(OnnxEncoder, checkpoint.model),
    )


def _onnx_decoder(checkpoint: Checkpoint, decoder: DecoderCheckpoint, options: ModelOptions) -> OnnxDecoder | None:
    """Load the decoder into ONNX Runtime; None where PyTorch has to run it."""
    return _in_onnxruntime(
        checkpoint,
        options,
        "graphs of its decoder",
        partial(has_decoder_graphs, sizes=decoder.sizes),
        partial(OnnxDecoder, decoder),
    )


class _FindGraphs(Protocol):
    def __call__(self, folder: Path, *, int8: bool) -> bool:
        """Whether the folder has the graphs."""


class _LoadGraphs(Protocol[_Loaded]):
    def __call__(self, folder: Path, *, int8: bool) -> _Loaded:
        """Load the graphs of a folder."""


def _in_onnxruntime(
    checkpoint: Checkpoint, options: ModelOptions, what: str, exist: _FindGraphs, load: _LoadGraphs[_Loaded]
) -> _Loaded | None:
    """Load graphs from the model's own folder or that of the bundled model, whose sizes fine-tuned models share."""
    int8 = options.precision == "int8" or (options.precision == "auto" and has_vnni())
    folders = [folder for folder in (checkpoint.folder, EMBEDDED_FOLDER) if folder is not None]
    folder = next((folder for folder in folders if exist(folder, int8=int8)), None)
    if folder is None:
        if options.backend == "onnxruntime":
            raise ModelError(f"{checkpoint.name!r} has no {what} for onnxruntime; use torch")
        _log.info("%r has no %s for onnxruntime, so PyTorch runs it", checkpoint.name, what)
        return None
    try:
        return load(folder, int8=int8)
    except Exception as error:  # for example an old version, or a missing system library
        if options.backend == "onnxruntime":
            raise ModelError(f"onnxruntime does not run {checkpoint.name!r}: {error}; use torch") from error
        _log.warning("onnxruntime does not run %r, so PyTorch does: %s", checkpoint.name, error)
        return None


class TorchEncoder:
    """See `StreamingEncoder`.

    Args:
        runner: holds the model.
    """

    backend = "torch"

    def __init__(self, runner: TransformersCTC) -> None:
        self._runner = runner

    def initial_state(self, max_left_frames: int) -> EncoderState:
        return EncoderState(max_left_frames)

    @torch.inference_mode()
    def forward(
        self, samples: FloatArray, kept_samples: int, state: EncoderState, preview_kept_samples: int = 0
    ) -> tuple[FloatArray, FloatArray, EncoderState, EncoderState | None]:
        model = self._runner.model
        waveform = torch.from_numpy(samples).to(self._runner.device, model.dtype)
        frames, encoded, *states = forward_chunk(model.encoder, waveform, kept_samples, state, preview_kept_samples)
        logits = model.ctc_head(frames[0])
        return logits.float().cpu().numpy(), encoded[0].float().cpu().numpy(), *states


class StatefulMoonshine(OnePerCore):
    """See `StatefulModel`.

    Args:
        runner: holds the model and knows its frames.
        cores: number of chunks that run in parallel.
        encoder: runs the chunks; None for PyTorch.
        decoder: creates the second pass; None if the model has none.
    """

    runner: TransformersCTC
    window_config = MOONSHINE_WINDOWS
    second_pass_window_config = MOONSHINE_SECOND_PASS_WINDOWS

    def __init__(
        self,
        runner: TransformersCTC,
        cores: int,
        encoder: StreamingEncoder | None = None,
        decoder: Callable[[CorePool], SecondPassModel] | None = None,
    ) -> None:
        super().__init__(runner, cores)
        self.encoder: StreamingEncoder = encoder or TorchEncoder(runner)
        self._second_pass = None if decoder is None else decoder(self.pool)

    @property
    def second_pass(self) -> SecondPassModel | None:
        return self._second_pass

    @property
    def backend(self) -> str:
        """Name of the runtime."""
        return self.encoder.backend

    def initial_state(self, left_samples: int) -> State:
        return self.encoder.initial_state(left_samples // self.runner.model.encoder.stride)

    def forward_chunks(self, chunks: Sequence[Chunk]) -> list[ChunkOutput]:
        return self.pool.map(self._forward, chunks)

    def _log_probs_of_one(self, window: FloatArray) -> FloatArray:
        """Run a window as a chunk without a past."""
        return self._forward(Chunk(window, 0, self.encoder.initial_state(0))).log_probs

    def _forward(self, chunk: Chunk) -> ChunkOutput:
        runner = self.runner
        samples = pad_to(chunk.samples, runner.min_samples)
        logits, encoded, state, preview_state = self.encoder.forward(
            samples, chunk.kept_samples, chunk.state, chunk.preview_kept_samples
        )
        log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()[: runner.frames(len(chunk.samples))]
        if self.second_pass is None:
            return ChunkOutput(log_probs, state, preview_state=preview_state)
        stride = runner.model.encoder.stride
        encoded = encoded[: runner.model.encoder.feature_frames(len(chunk.samples))]
        return ChunkOutput(
            log_probs,
            state,
            encoded,
            chunk.kept_samples // stride,
            preview_state,
            chunk.preview_kept_samples // stride,
        )
