"""Run Moonshine's encoder and CTC head in ONNX Runtime, which is faster on a CPU than PyTorch.

A graph file contains no weights. It declares them as external, and they are handed in when the graph is loaded: weights
are stored once, in ``model.safetensors``, and a graph depends on the sizes of an encoder only. Graphs are written by
`stream_asr.acoustic.moonshine.onnx_export`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_asr.acoustic.int8 import INT8_MAX, has_vnni
from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import MLP, EncoderSizes, SelfAttention, StridedConv
from stream_asr.acoustic.moonshine.streaming import Block, append_block, first_visible, frame_rate
from stream_asr.array_types import FloatArray

EightBit: TypeAlias = Literal["int8", "uint8"]
"""Type of quantized weights. CPUs with VNNI have instructions for sums of products of signed weights. On other CPUs
such sums saturate unless the weights are unsigned."""

GRAPH_FILES: dict[EightBit | None, str] = {
    None: "stream.onnx",
    "int8": "stream.int8.onnx",
    "uint8": "stream.uint8.onnx",
}
"""File names of the graphs in a model's folder. None stands for float32."""

SIZES_KEY = "sizes"
"""Metadata key of a graph: the `EncoderSizes` that it was made for, as their ``repr``."""

_WARM_UP_SAMPLES = 16_000


@dataclass(frozen=True, slots=True)
class OnnxState:
    """State of one stream; see `stream_asr.acoustic.moonshine.streaming.EncoderState`.

    Attributes:
        blocks: keys and values of each layer in turn, each float32, shape (1, heads, frames, head width).
        moments: float64, shape (3,).
    """

    max_left_frames: int
    frames: int = 0
    moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    blocks: tuple[Block[FloatArray], ...] = ()


class OnnxEncoder:
    """See `stream_asr.acoustic.base.StreamingEncoder`. Thread-safe.

    Args:
        network: has an ``encoder`` and a ``ctc_head``, like `MoonshineForCTC`.
        folder: holds graphs for an encoder of these sizes; see `has_graphs`.
        int8: quantize the products that take most of the time.

    Raises:
        Exception: of any kind, if ONNX Runtime cannot be imported or is too old, or does not run the graph.
    """

    backend = "onnxruntime"

    def __init__(self, network: Any, folder: Path, *, int8: bool) -> None:
        # Imported late: where the import fails, PyTorch runs the model.
        import onnxruntime

        encoder: Encoder = network.encoder
        self._sizes, self._stride, self._conv_stride = encoder.sizes, encoder.stride, encoder.conv1.stride[0]
        eight_bit = weight_type(int8=int8)
        options = onnxruntime.SessionOptions()
        # Windows run in parallel, one on each core.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        weights = _external_weights(encoder, eight_bit)
        # Kept alive: ONNX Runtime may use the arrays in place.
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
        options.add_external_initializers(list(weights), self._weights)
        graph = folder / GRAPH_FILES[eight_bit]
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._past = [value.name for value in self._session.get_inputs() if value.name.startswith("past_")]
        self._empty = np.zeros((1, self._sizes.heads, 0, self._sizes.width // self._sizes.heads), dtype=np.float32)
        # Fine-tuned models have other alphabets, so the head is an input of the graph.
        head = network.ctc_head
        self._head = {
            "head_weight": head.weight.detach().float().T.contiguous().numpy(),
            "head_bias": head.bias.detach().float().numpy(),
        }
        # The first run allocates most memory, and a graph that does not run should fail now.
        self.forward(np.zeros(_WARM_UP_SAMPLES, dtype=np.float32), _WARM_UP_SAMPLES, self.initial_state(1))

    def initial_state(self, max_left_frames: int) -> OnnxState:
        return OnnxState(max_left_frames)

    def forward(
        self, samples: FloatArray, kept_samples: int, state: OnnxState, preview_kept_samples: int = 0
    ) -> tuple[FloatArray, FloatArray, OnnxState, OnnxState | None]:
        inputs: dict[str, NDArray[Any]] = {
            "samples": samples[None],
            "first": np.array(state.frames, dtype=np.float32),
            "moments": state.moments,
            **self._head,
            **dict(zip(self._past, self._cached_past(state), strict=True)),
        }
        if not kept_samples and not preview_kept_samples:
            logits, encoded = self._session.run(["logits", "encoded"], inputs)
            return logits[0], encoded[0], state, None
        logits, encoded, moments, *own = self._session.run(None, inputs)

        def state_after(new_samples: int) -> OnnxState:
            frames = new_samples // self._stride
            stops = (frames // self._rate(number) for number in range(len(own)))
            block = Block(frames, tuple(new[:, :, :stop].copy() for new, stop in zip(own, stops, strict=True)))
            return OnnxState(
                state.max_left_frames,
                state.frames + frames,
                state.moments + moments[:, : new_samples // self._conv_stride].sum(axis=1),
                append_block(state.blocks, block, state.max_left_frames),
            )

        next_state = state_after(kept_samples) if kept_samples else state
        preview_state = state_after(preview_kept_samples) if preview_kept_samples else None
        return logits[0], encoded[0], next_state, preview_state

    def _cached_past(self, state: OnnxState) -> list[FloatArray]:
        """Return the keys and values to which a chunk attends."""
        if not state.blocks:
            return len(self._past) * [self._empty]
        past = []
        for number, (oldest, *later) in enumerate(zip(*(block.past for block in state.blocks), strict=True)):
            start = first_visible(state.blocks, state.max_left_frames, self._rate(number))
            past.append(np.concatenate((oldest[:, :, start:], *later), axis=2))
        return past

    def _rate(self, number: int) -> int:
        """Return the `frame_rate` of an input or output with keys or values."""
        return frame_rate(self._sizes.joined_after, number // 2)


def weight_type(*, int8: bool) -> EightBit | None:
    """Return the type of quantized weights on this CPU; None where weights are not quantized."""
    if not int8:
        return None
    return "int8" if has_vnni() else "uint8"


def has_graphs(folder: Path, sizes: EncoderSizes, *, int8: bool = False) -> bool:
    """Whether a folder holds a graph that `OnnxEncoder` can load for an encoder of these sizes."""
    graph = folder / GRAPH_FILES[weight_type(int8=int8)]
    # Strings are stored verbatim; parsing the file would need the package onnx. Graphs of earlier versions do not
    # output encoder states.
    return graph.is_file() and all(text in graph.read_bytes() for text in (repr(sizes).encode(), b"encoded"))


def fused_copy(encoder: Encoder) -> Encoder:
    """Copy an encoder to float32 with fused attention, as it is exported."""
    copied = copy.deepcopy(encoder).float().eval().requires_grad_(False)
    copied.fuse()
    return copied


def graph_weights(encoder: Encoder) -> dict[str, Tensor]:
    """Return the weights of a `fused_copy` by their names in a graph.

    Weights of products are transposed, shape (inputs, outputs). Those of the group norm have shape (channels, 1). All
    others are as in the encoder.
    """
    weights = {name: weight.detach() for name, weight in encoder.state_dict().items()}
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear | StridedConv):
            weights[f"{name}.weight"] = module.weight.detach().flatten(1).T.contiguous()
        elif isinstance(module, nn.GroupNorm):
            weights |= {
                f"{name}.weight": module.weight.detach()[:, None],
                f"{name}.bias": module.bias.detach()[:, None],
            }
    return weights


def quantized_weights(encoder: Encoder) -> set[str]:
    """Names of the weights of a `fused_copy` that int8 graphs quantize: those of the most expensive products."""
    names = {"conv2.weight"}
    for name, module in encoder.named_modules():
        if isinstance(module, SelfAttention):
            names.add(f"{name}.qkv_proj.weight")
        elif isinstance(module, MLP):
            names |= {f"{name}.fc1.weight", f"{name}.fc2.weight"}
    return names


def quantize_weight(name: str, weight: NDArray[np.float32], eight_bit: EightBit) -> dict[str, NDArray[Any]]:
    """Quantize a weight to eight bits with a scale for each output.

    Args:
        name: of the weight in the graph.
        weight: float32, shape (inputs, outputs).
        eight_bit: type of the result.

    Returns:
        The operands of ``DynamicQuantizeMatMul`` in their order, by name: the weight, int8 or uint8, shape (inputs,
        outputs); its scales, float32, shape (outputs,); and its zero points, int8 or uint8, shape (outputs,).
    """
    scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / INT8_MAX
    zero_points = np.full(len(scales), 0 if eight_bit == "int8" else INT8_MAX + 1, dtype=eight_bit)
    quantized = (np.rint(weight / scales) + zero_points).astype(eight_bit)
    return {
        f"{name}.quantized": quantized,
        f"{name}.scales": scales.astype(np.float32),
        f"{name}.zero_points": zero_points,
    }


def _external_weights(encoder: Encoder, eight_bit: EightBit | None) -> dict[str, NDArray[Any]]:
    encoder = fused_copy(encoder)
    weights: dict[str, NDArray[Any]] = {name: weight.numpy() for name, weight in graph_weights(encoder).items()}
    if eight_bit is not None:
        for name in quantized_weights(encoder):
            weights |= quantize_weight(name, weights.pop(name), eight_bit)
    return weights
