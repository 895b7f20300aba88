"""Images, by pixels: PNG, read by Pillow."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

from afenv.compare.kinds import both, library
from afenv.compare.outcome import DIFFERENT, Content
from afenv.compare.rules import Rules
from afenv.record import record

PIXELS = 100_000_000
SHOWN = 640  # pixels of the longer side, in the report


@record
class ImagePlot:
    """What the report shows: PNG files of the first, the second, and where they differ; small ones."""

    first: bytes
    second: bytes
    difference: bytes | None


def compare_images(first: Path, second: Path, name: str, rules: Rules) -> Content:
    """Compare two images: the share of pixels of which any channel differs. E783 without Pillow."""
    library("PIL.Image")
    np = library("numpy")
    limits = rules.limits(name)
    one, other = both(_pixels, first, second)
    if one.shape != other.shape:
        sizes = [f"{array.shape[1]} × {array.shape[0]}" for array in (one, other)]
        plot = ImagePlot(first=_png(one), second=_png(other), difference=None)
        message = f"{sizes[0]} and {sizes[1]} pixels"
        return Content(kind="image", outcome=DIFFERENT, reason="size", message=message, plot=plot)
    apart = np.abs(one.astype(np.int16) - other.astype(np.int16)).max(axis=2)
    wrong = apart > limits.shade
    count, total = int(wrong.sum()), int(wrong.size)
    if not count:
        return Content(kind="image", compared=total)
    shown = np.full((*apart.shape, 4), 255, dtype=np.uint8)
    shown[wrong] = (200, 30, 30, 255)
    plot = ImagePlot(first=_png(one), second=_png(other), difference=_png(shown))
    message = f"{count} of {total} pixels differ, by up to {int(apart.max())} of 255"
    within = count <= limits.pixels * total
    return Content(
        kind="image",
        compared=total,
        outcome=None if within else DIFFERENT,
        reason=None if within else "pixels",
        message=message,
        plot=plot,
    )


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=("PNG",)) as image:
                if image.width * image.height > PIXELS:
                    raise ValueError(f"it has more than {PIXELS:,} pixels")
                if image.mode[0] in "IF":  # to eight bits, much would be lost
                    raise ValueError("it has more than 8 bits for each channel")
                return np.asarray(image.convert("RGBA"))
    except (Image.DecompressionBombError, Warning, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise ValueError(str(error)) from None
    except OSError as error:
        raise ValueError("it is no PNG image, or a damaged one") from error


def _png(pixels: Any) -> bytes:
    import io

    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN, SHOWN))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
