"""One example as a small picture in HTML: images as PNG, other arrays as curves."""

import base64
import html
import io

import numpy as np

from maml_jax.extras import require

SIDE = 56
"""Pixels a side on the page; larger images are made smaller."""


def example(x: np.ndarray, name: str, kind: str) -> str:
    """The HTML of an example.

    Args:
      x: an image `[height, width, channels]`, a sequence `[times, values]` or a vector
        `[features]`.
      name: what it shows, for who cannot see it.
      kind: `images`, `sequences` or `vectors`.
    """
    return _image(x, name) if kind == "images" else _curve(np.asarray(x, float), name)


def _image(x: np.ndarray, name: str) -> str:
    if x.shape[-1] not in (1, 3):  # of other channels, their mean
        x = x.mean(-1, keepdims=True)
    x = np.nan_to_num(np.asarray(x, float))
    low, high = min(0.0, x.min()), max(1.0, x.max())
    pixels = np.round(255 * (x - low) / (high - low)).astype(np.uint8)
    picture = require("PIL.Image", "cli").fromarray(
        pixels.squeeze(-1) if x.shape[-1] == 1 else pixels
    )
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    data = base64.b64encode(content.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(name)}">'


def _curve(x: np.ndarray, name: str) -> str:
    """A path in the plane where there are two values, else each value over time."""
    columns = x.reshape(len(x), -1)
    if x.ndim == 2 and x.shape[1] == 2:
        paths, same_scale = [columns], True
    else:
        paths = [np.stack([np.arange(len(x)), column], 1) for column in columns.T]
        same_scale = False
    every = np.concatenate(paths)
    every = every[np.isfinite(every).all(1)]
    if not len(every):
        return f'<span class="none">{html.escape(name)}: no finite value</span>'
    low, extent = every.min(0), np.ptp(every, axis=0)
    extent = np.where(extent == 0, 1, extent.max() if same_scale else extent)
    drawn = []
    for path in paths:
        places = (path[np.isfinite(path).all(1)] - low) / extent * (SIDE - 8) + 4
        drawn.append("M" + "L".join(f"{a:.1f} {SIDE - b:.1f}" for a, b in places))
    return (
        f'<svg class="example" viewBox="0 0 {SIDE} {SIDE}" role="img" '
        f'aria-label="{html.escape(name)}"><path d="{"".join(drawn)}"/></svg>'
    )
