"""Muon (Jordan et al., 2024) for EfficientNet: orthogonal updates for pointwise kernels, AdamW for all others."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras's Muon, extended from matrices to pointwise kernels.

    Nine tenths of EfficientNet's weights are in 1x1 convolutions (1, 1, in, out), which are matrices with two extra
    axes. Depthwise kernels, the stem, scales, offsets and the classifier's kernel get AdamW, as Muon's authors advise.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return tuple(variable.shape[:-2]) != (1, 1)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Nearly orthogonal matrix with the singular vectors and the shape of `x` (1, 1, in, out).

        Most of the optimiser's time goes into this function, so it uses bfloat16, as the authors do; the iteration
        corrects its own rounding.
        """
        matrix = ops.reshape(x, x.shape[-2:])
        matrix = ops.cast(matrix / (ops.norm(matrix) + 1e-7), "bfloat16")
        return ops.cast(ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape), x.dtype)

    def lr_adjust(self, x: Any) -> Any:
        """Scale the update to AdamW's usual size, so that AdamW's rates and decays can be used (Liu et al., 2025)."""
        return x * (max(x.shape) ** 0.5 * self.rms_rate)
