"""First weights: Xavier's for every matrix, nothing for every bias, as in ViT and DiT.

Source: Glorot and Bengio, AISTATS 2010, equation 16. torch's own are about half as large in a
transformer: tokens then hardly hear each other at first, and short runs are lost to waiting.
"""

from __future__ import annotations

from torch import nn


def xavier(module: nn.Module) -> None:
    """For `Module.apply`: linear layers, and convolutions that cut an image into patches."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d) and module.stride == module.kernel_size != (1, 1):
        nn.init.xavier_uniform_(module.weight.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
