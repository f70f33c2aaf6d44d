"""Masks as text for plans: a bit for each value, packed, compressed, in base64."""

from __future__ import annotations

import base64
import binascii
import math
import zlib

import numpy as np

from ...errors import InputError
from ...types import Mask, Shape


def packed(mask: Mask) -> str:
    """A mask as text."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode("ascii")


def unpacked(text: str, shape: Shape, where: str) -> Mask:
    """A mask of this shape from text.

    Raises:
        InputError: the text is none.
    """
    count = math.prod(shape)
    try:
        # More than it should be is never unpacked: a few bytes can stand for gigabytes.
        data = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), -(-count // 8) + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InputError(f"its mask can't be read ({error})", where=where) from None
    if len(data) != -(-count // 8):
        raise InputError(f"its mask is not one of {count} values", where=where)
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count).astype(bool).reshape(shape)
