"""The graph of `stream_asr.acoustic.moonshine.streaming.forward_chunk`, with the head, for ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from stream_asr.acoustic.moonshine.encoder import Encoder
from stream_asr.acoustic.moonshine.layers import Layer, Strided
from stream_asr.acoustic.moonshine.onnx_graph import Graph
from stream_asr.array_types import FloatArray

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_KEYS_AND_VALUES = ("keys", "values")


def past_of(layers: int) -> list[str]:
    """The inputs of `stream_graph` that have what is remembered."""
    return [f"past_{kind}_{layer}" for layer in range(layers) for kind in _KEYS_AND_VALUES]


def outputs_of(layers: int) -> list[str]:
    """All outputs of it, what is to be remembered in the order of `past_of` at the end."""
    kept = [f"kept_{kind}_{layer}" for layer in range(layers) for kind in _KEYS_AND_VALUES]
    return ["logits", "kept_total", "kept_squares", *kept]


def stream_graph(network: Any, *, int8: bool, signed: bool = True) -> bytes:
    """The graph of a network that has what `MoonshineForCTC` has; its weights go in.

    Its inputs are

    - ``samples``, float32, shape (samples,), of a piece of audio;
    - ``first``, int64, shape (), position of its first frame, before any are joined;
    - ``waves``, int64, shape (1,), the steps of the first convolution that are kept;
    - ``count``, ``total`` and ``squares``, float64, shape (), how many numbers that convolution gave before, their sum
      and that of their squares;
    - ``past_keys_0``, ``past_values_0`` and so on for each layer, float32, shape (heads, frames, width of a head);
    - ``lower`` and ``upper``, int64, shape (2,), where that which is kept of past and new frames together begins and
      ends, in layers before and after the joining;

    its outputs

    - ``logits``, float32, shape (frames, vocabulary);
    - ``kept_total`` and ``kept_squares``, float64, shape (), sums over what is kept of this piece;
    - ``kept_keys_0``, ``kept_values_0`` and so on.

    Args:
        int8: turn the products that take most of the time into eight bits, as `stream_asr.acoustic.int8.quantize` does.
        signed: see `Graph`.
    """
    return _Writer(network, Graph(signed=signed), int8).written()


@dataclass(frozen=True, slots=True)
class _Rotation:
    """Of each frame, ``(frames, 1, width of a head)``; a sine has the sign with which the partner comes in."""

    cosine: str
    sine: str


class _Writer:
    def __init__(self, network: Any, graph: Graph, int8: bool) -> None:
        self._network = network
        self._encoder: Encoder = network.encoder
        self._graph = graph
        self._heavy = graph.product_int8 if int8 else graph.product
        self._heads = self._encoder.sizes.heads
        self._head_width = self._encoder.sizes.width // self._heads

    def written(self) -> bytes:
        graph, encoder = self._graph, self._encoder
        x = self._features(graph.input("samples", np.float32, [None]))
        first = graph("Cast", graph.input("first", np.int64, []), to=_FLOAT)
        kept, stride = self._ends("lower"), 1
        for number, layer in enumerate(encoder.layers):
            if number == encoder.joined_after:
                assert encoder.join is not None
                kept, stride = self._ends("upper"), 2
                x = self._linear(self._paired(x), encoder.join)
            if number in (0, encoder.joined_after):
                rotation = self._rotation(x, first, stride)
            assert isinstance(layer, Layer)
            x = self._layer(x, layer, number, rotation, kept)
        head = self._network.ctc_head
        logits = self._linear(self._norm(x, encoder.layer_norm), head)
        graph.output("logits", logits, np.float32, [None, head.out_features])
        return graph.model()

    def _ends(self, name: str) -> list[str]:
        """An input that says where something begins and ends, as two values."""
        graph = self._graph
        return graph.several("Split", 2, graph.input(name, np.int64, [2]), graph.whole(1, 1), axis=0)

    def _count(self, x: str) -> str:
        """How many frames there are, int64, shape ()."""
        graph = self._graph
        return graph("Squeeze", graph("Shape", x, start=0, end=1), graph.whole(0))

    def _features(self, samples: str) -> str:
        """(frames, width)."""
        graph, encoder = self._graph, self._encoder
        signal, conv = graph("Unsqueeze", samples, graph.whole(0, 1)), encoder.conv1
        waves = graph("Tanh", graph("Conv", signal, graph.constant(_of(conv.weight)), strides=list(conv.stride)))
        x = graph("Squeeze", graph("Transpose", self._normalized(waves), perm=[0, 2, 1]), graph.whole(0))
        x = graph("Gelu", self._strided(x, encoder.conv2, self._heavy))
        return graph("Gelu", self._strided(x, encoder.conv3, graph.product))

    def _normalized(self, waves: str) -> str:
        """Group norm over all channels and all of the utterance so far."""
        graph, norm = self._graph, self._encoder.groupnorm
        stop = graph.input("waves", np.int64, [1])
        count, total, squares = (graph.input(name, np.float64, []) for name in ("count", "total", "squares"))
        start, end, axis = graph.whole(0), graph.whole(np.iinfo(np.int64).max), graph.whole(2)
        sums = []
        for part in (graph("Slice", waves, start, stop, axis), graph("Slice", waves, stop, end, axis)):
            for operator in ("ReduceSum", "ReduceSumSquare"):
                sums.append(graph("Cast", graph(operator, part, keepdims=0), to=_DOUBLE))
        graph.output("kept_total", sums[0], np.float64, [])
        graph.output("kept_squares", sums[1], np.float64, [])
        count = graph("Add", count, graph("Cast", graph("Size", waves), to=_DOUBLE))
        total = graph("Add", graph("Add", total, sums[0]), sums[2])
        squares = graph("Add", graph("Add", squares, sums[1]), sums[3])
        mean = graph("Div", total, count)
        variance = graph("Sub", graph("Div", squares, count), graph("Mul", mean, mean))
        variance = graph("Max", variance, graph.constant(np.float64(0.0)))
        deviation = graph("Sqrt", graph("Add", variance, graph.constant(np.float64(norm.eps))))
        x = graph("Div", graph("Sub", waves, graph("Cast", mean, to=_FLOAT)), graph("Cast", deviation, to=_FLOAT))
        weight, bias = (graph.constant(_of(of)[:, None]) for of in (norm.weight, norm.bias))
        return graph("Add", graph("Mul", x, weight), bias)

    def _strided(self, x: str, conv: Strided, product: Any) -> str:
        """A convolution as a product: the frames that go into one of the output side by side."""
        graph, kernel, stride = self._graph, conv.kernel_size[0], conv.stride[0]
        limit = graph("Sub", self._count(x), graph.constant(np.int64(kernel - 1)))
        firsts = graph("Range", graph.constant(np.int64(0)), limit, graph.constant(np.int64(stride)))
        places = graph("Add", graph("Unsqueeze", firsts, graph.whole(1)), graph.whole(*range(kernel)))
        spans = graph("Reshape", graph("Gather", x, places), graph.whole(-1, kernel * conv.in_channels))
        weight = _of(conv.weight).transpose(0, 2, 1).reshape(conv.out_channels, -1)
        made: str = product(spans, weight, None if conv.bias is None else _of(conv.bias))
        return made

    def _paired(self, x: str) -> str:
        """Every two frames side by side; one that is left over is left out."""
        graph, two = self._graph, self._graph.whole(2)
        even = graph("Mul", graph("Div", graph("Shape", x, start=0, end=1), two), two)
        whole = graph("Slice", x, graph.whole(0), even, graph.whole(0))
        return graph("Reshape", whole, graph.whole(-1, 2 * self._encoder.sizes.width))

    def _rotation(self, x: str, first: str, stride: int) -> _Rotation:
        """Of each frame: see `stream_asr.acoustic.moonshine.layers.rotation_of`."""
        graph, sizes = self._graph, self._encoder.sizes
        step = graph.constant(np.float32(stride))
        span = graph("Mul", graph("Cast", self._count(x), to=_FLOAT), step)
        positions = graph("Add", first, graph("Range", graph.constant(np.float32(0)), span, step))
        half, still = sizes.rotary_dim // 2, self._head_width - sizes.rotary_dim
        powers = -np.arange(half, dtype=np.float32) / half
        rates = np.pad(np.tile(np.float32(sizes.rope_theta) ** powers, 2), (0, still))
        angles = graph("Mul", graph("Unsqueeze", positions, graph.whole(1, 2)), graph.constant(rates))
        signs = np.repeat(np.array((-1, 1, 1), dtype=np.float32), (half, half, still))
        return _Rotation(graph("Cos", angles), graph("Mul", graph("Sin", angles), graph.constant(signs)))

    def _turned(self, x: str, rotation: _Rotation) -> str:
        """Queries or keys whose numbers are in the order of `_halves`."""
        graph, half = self._graph, self._encoder.sizes.rotary_dim // 2
        still = self._head_width - 2 * half
        first, second, rest = graph.several("Split", 3, x, graph.whole(half, half, still), axis=2)
        partners = graph("Concat", second, first, rest, axis=2)
        return graph("Add", graph("Mul", x, rotation.cosine), graph("Mul", partners, rotation.sine))

    def _halves(self, weight: FloatArray) -> FloatArray:
        """Rows of a projection to queries or keys in another order: the first of each pair that is turned, then the
        second of each, so that partners are moved as blocks. The product of a query and a key stays what it is."""
        rotary = self._encoder.sizes.rotary_dim
        order = np.concatenate((np.arange(0, rotary, 2), np.arange(1, rotary, 2), np.arange(rotary, self._head_width)))
        return weight.reshape(self._heads, self._head_width, -1)[:, order].reshape(weight.shape)

    def _layer(self, x: str, layer: Layer, number: int, rotation: _Rotation, kept: list[str]) -> str:
        graph, mlp = self._graph, layer.mlp
        attended = self._attention(self._norm(x, layer.input_layernorm), layer, number, rotation, kept)
        x = graph("Add", x, attended)
        inner = graph("Gelu", self._linear(self._norm(x, layer.post_attention_layernorm), mlp.fc1, self._heavy))
        return graph("Add", x, self._linear(inner, mlp.fc2, self._heavy))

    def _attention(self, x: str, layer: Layer, number: int, rotation: _Rotation, kept: list[str]) -> str:
        graph, attention, heads, width = self._graph, layer.self_attn, self._heads, self._head_width
        weights = (
            self._halves(_of(attention.q_proj.weight)) / np.sqrt(np.float32(width)),
            self._halves(_of(attention.k_proj.weight)),
            _of(attention.v_proj.weight),
        )
        projected = graph("Reshape", self._heavy(x, np.concatenate(weights)), graph.whole(-1, 3 * heads, width))
        turning, new_values = graph.several("Split", 2, projected, graph.whole(2 * heads, heads), axis=1)
        turned = self._turned(turning, rotation)
        query, new_keys = (
            graph("Transpose", part, perm=[1, 0, 2])
            for part in graph.several("Split", 2, turned, graph.whole(heads, heads), axis=1)
        )
        new_values = graph("Transpose", new_values, perm=[1, 0, 2])
        seen = []
        for kind, new in zip(_KEYS_AND_VALUES, (new_keys, new_values), strict=True):
            shape = (heads, None, width)
            past = graph.input(f"past_{kind}_{number}", np.float32, shape)
            seen.append(graph("Concat", past, new, axis=1))
            remembered = graph("Slice", seen[-1], *kept, graph.whole(1))
            graph.output(f"kept_{kind}_{number}", remembered, np.float32, shape)
        keys, values = seen
        weights_of = graph("Softmax", graph("MatMul", query, graph("Transpose", keys, perm=[0, 2, 1])), axis=-1)
        attended = graph("Transpose", graph("MatMul", weights_of, values), perm=[1, 0, 2])
        return self._linear(graph("Reshape", attended, graph.whole(-1, heads * width)), attention.o_proj)

    def _norm(self, x: str, norm: nn.Module) -> str:
        assert isinstance(norm, nn.LayerNorm)
        return self._graph("LayerNormalization", x, self._graph.constant(_of(norm.weight)), epsilon=norm.eps)

    def _linear(self, x: str, linear: nn.Module, product: Any = None) -> str:
        assert isinstance(linear, nn.Linear)
        bias = None if linear.bias is None else _of(linear.bias)
        made: str = (product or self._graph.product)(x, _of(linear.weight), bias)
        return made


def _of(parameter: Tensor) -> FloatArray:
    return parameter.detach().float().cpu().numpy()
