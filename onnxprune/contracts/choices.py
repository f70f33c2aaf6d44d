"""What options choose between, in words."""

from __future__ import annotations

from typing import Literal

Granularity = Literal["auto", "head", "width"]
"""What may go of attention: whole heads, or widths inside them."""

Among = Literal["auto", "model", "layer", "output"]
"""What a weight competes with: all others, those of its layer, or those that make the same output."""

Mode = Literal["none", "bias", "fold", "reuse", "auto"]
"""What may change: nothing; biases; weights and biases; layers are added; what is best for what is known."""

Schedule = Literal["linear", "cubic"]
"""How much goes in each step: as much in every one; or most in the first ones (Zhu and Gupta 2017)."""

WeightSource = Literal["kept", "random"]
"""What a result has for weights: those that are kept, repaired; or random ones, to train from scratch."""

Layout = Literal["NCHW", "NHWC"]
"""Where the colours of images are."""

Preset = Literal["unit", "imagenet", "symmetric", "raw"]
"""Preprocessing of images. `unit`: 0 to 1, or 0 to 255 as integers. `imagenet`: as torchvision does.
`symmetric`: -1 to 1. `raw`: 0 to 255."""
