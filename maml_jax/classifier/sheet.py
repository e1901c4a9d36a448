"""A page of pictures with their predicted labels, in one HTML file that needs no other."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

SIDE = 96
"""Pixels of a thumbnail's longer side."""
LISTED = 3
"""Labels shown for each picture, the likeliest first."""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
figure { margin: 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
img { display: block; background: #8882; max-width: 100%; image-rendering: auto; }
.name { opacity: .65; } .row { display: flex; gap: .4rem; align-items: center; }
.bar { background: #2a7f6f; height: .5rem; border-radius: .25rem; min-width: 1px; }
.rest { flex: 1; } .support { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
@media print { figure { break-inside: avoid; } }
"""


def page(
    title: str,
    support: dict[str, list[Any]],
    predictions: Iterable[tuple[str, Any, dict[str, float]]],
) -> str:
    """The HTML.

    Args:
      title: of the page.
      support: the labelled pictures of each label, by Pillow.
      predictions: a name, the picture by Pillow and the probability of each label.
    """
    rows = [
        f'<div class="support"><strong>{html.escape(label)}</strong>'
        + "".join(_image(picture, label, 56) for picture in pictures)
        + "</div>"
        for label, pictures in support.items()
    ]
    figures = [_figure(*prediction) for prediction in predictions]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1>"
        f"<h2>Labelled pictures</h2>{''.join(rows)}"
        f'<h2>Predictions: {len(figures)}</h2><div class="grid">{"".join(figures)}</div>'
        "</body></html>\n"
    )


def _figure(name: str, picture: Any, probabilities: dict[str, float]) -> str:
    likeliest: Sequence[tuple[str, float]] = sorted(
        probabilities.items(), key=lambda pair: -pair[1]
    )[:LISTED]
    bars = "".join(
        f'<div class="row"><span class="rest">{html.escape(label)}</span>'
        f"<span>{100 * p:.0f} %</span></div>"
        f'<div class="bar" style="width:{100 * p:.1f}%"></div>'
        for label, p in likeliest
    )
    return (
        f"<figure>{_image(picture, name, SIDE)}"
        f'<figcaption><div class="name">{html.escape(name)}</div>{bars}</figcaption></figure>'
    )


def _image(picture: Any, name: str, side: int) -> str:
    small = picture.copy()
    small.thumbnail((side, side))
    content = io.BytesIO()
    small.save(content, "PNG")
    data = base64.b64encode(content.getvalue()).decode("ascii")
    width, height = small.size
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'alt="{html.escape(name, quote=True)}">'
    )
