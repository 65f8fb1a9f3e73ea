"""Graphs of ONNX operators, written down one after another.

Source: the ONNX operator specification, operator set 20; ``DynamicQuantizeMatMul`` is ONNX Runtime's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_OPERATORS = 20
_FORMAT = 9
"""Of the file: the one that came with these operators, for the sake of older versions of ONNX Runtime."""

_MOST = 127


class Graph:
    """Grows by a node at a time; values are named by strings.

    Args:
        signed: weights in eight bits have a sign. Right for processors with instructions for such sums of products
            (VNNI); those of others do not fit into what they are summed in.

    Attributes:
        inputs, outputs: names, in the order in which they were asked for.
    """

    def __init__(self, *, signed: bool) -> None:
        self._signed = signed
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._declared: dict[str, onnx.ValueInfoProto] = {}

    def input(self, name: str, kind: type[np.generic], shape: Sequence[int | None]) -> str:
        """Declare an input of the graph, and name it; None in a shape stands for any length."""
        self.inputs.append(name)
        return self._declare(name, kind, shape)

    def output(self, name: str, value: str, kind: type[np.generic], shape: Sequence[int | None]) -> None:
        """Make a value an output of the graph, under a name of its own."""
        self.outputs.append(name)
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._declare(name, kind, shape)

    def _declare(self, name: str, kind: type[np.generic], shape: Sequence[int | None]) -> str:
        number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        self._declared[name] = helper.make_tensor_value_info(name, number, shape)
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """A value that is part of the graph, in its own type and shape."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def whole(self, *numbers: int) -> str:
        """A list of whole numbers, for operators that take axes, shapes or places."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def __call__(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, and name it."""
        [output] = self.several(operator, 1, *inputs, domain=domain, **attributes)
        return output

    def several(self, operator: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with so many."""
        names = [f"value_{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names

    def product(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> str:
        """A linear layer, (..., inputs) to (..., outputs).

        Args:
            weight: shape (outputs, inputs), as PyTorch's.
            bias: shape (outputs,).
        """
        made = self("MatMul", x, self.constant(weight.T))
        return made if bias is None else self("Add", made, self.constant(bias))

    def product_int8(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> str:
        """The same in eight bits: the weights with a scale for each output, what goes in with one for all."""
        scales = np.maximum(np.abs(weight).max(axis=1), 1e-12) / _MOST
        zeros = np.full(len(scales), 0 if self._signed else _MOST + 1, dtype=np.int8 if self._signed else np.uint8)
        quantised = (np.rint(weight / scales[:, None]) + zeros[:, None]).astype(zeros.dtype)
        inputs = [x, *(self.constant(of) for of in (quantised.T, scales.astype(np.float32), zeros))]
        if bias is not None:
            inputs.append(self.constant(bias))
        return self("DynamicQuantizeMatMul", *inputs, domain="com.microsoft")

    def model(self) -> bytes:
        """All of it, as ONNX Runtime takes it."""
        graph = helper.make_graph(
            self._nodes,
            "stream",
            [self._declared[name] for name in self.inputs],
            [self._declared[name] for name in self.outputs],
            list(self._constants.values()),
        )
        operators = [helper.make_opsetid("", _OPERATORS), helper.make_opsetid("com.microsoft", 1)]
        made: bytes = helper.make_model(graph, opset_imports=operators, ir_version=_FORMAT).SerializeToString()
        return made
