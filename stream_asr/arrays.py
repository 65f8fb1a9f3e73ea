"""The array types of the recognizer."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
"""Samples, or numbers about them, in float32."""

DoubleArray: TypeAlias = npt.NDArray[np.float64]
"""Sums of many numbers."""

IntArray: TypeAlias = npt.NDArray[np.int64]
"""Places, counts and hashes."""
