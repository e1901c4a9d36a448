"""From a folder of photos to predictions, by two commands with no other option.

Claim: `maml-jax train --data photos/ --init pretrained:omniglot-5w1s`, then `maml-jax predict`,
take less than five minutes on two cores for 20 classes of 20 photos. The pictures are made here:
things of one shape, texture and colour for each class, at any place, size, turn and light, before
any ground, as JPEG files of many sizes. Five other classes are labelled by the trained network,
from `--labelled` pictures of each. Elapsed time and the processor's time are told, for others may
use the machine.
Repeat: `python -m benchmarks.own_photos --out FILE`.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks import script
from benchmarks.process import ROOT

CLASSES, EACH = 20, 20
NEW_CLASSES, TO_LABEL = 5, 20
START = "pretrained:omniglot-5w1s"


def make_photos(
    folder: Path, classes: range, each: int, *, seed: int = 0, flat: bool = False
) -> None:
    """Write `each` photos of each class, `folder/thing-07/IMG_0003.jpg`.

    Args:
      folder: a new folder.
      classes: their numbers; a number is the same kind of thing wherever it is drawn.
      each: photos of each.
      seed: decides the photos.
      flat: all in one folder, with the class in the name of the file.
    """
    for number in classes:
        draw = np.random.default_rng([seed, number])
        for i in range(each):
            name = f"thing-{number:02}"
            file = folder / (f"{name}_{i:04}.jpg" if flat else f"{name}/IMG_{i:04}.jpg")
            file.parent.mkdir(parents=True, exist_ok=True)
            photo(number, draw).save(file, quality=int(draw.integers(60, 96)))


def photo(number: int, draw: np.random.Generator) -> Image.Image:
    """A photo of a thing of that class."""
    kind = np.random.default_rng([number, 2])  # what all of its photos share
    width = int(draw.integers(200, 640))
    height = int(width * draw.uniform(0.66, 1.5))
    ground = _texture(width, height, draw, draw.uniform(40, 215, 3), contrast=25)
    hue = kind.uniform(0, 255, 3)
    thing = _texture(width, height, kind, hue + draw.normal(0, 12, 3), contrast=70)
    mask = _outline(kind, draw, width, height)
    seen = np.where(np.asarray(mask)[..., None] > 127, thing, ground)
    left, right = draw.uniform(0.65, 1.25, 2)
    light = np.linspace(left, right, width)[None, :, None]
    seen = seen * light + draw.normal(0, draw.uniform(2, 10), seen.shape)
    made = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
    return made.filter(ImageFilter.GaussianBlur(draw.uniform(0, 1.5)))


def _outline(
    kind: np.random.Generator, draw: np.random.Generator, width: int, height: int
) -> Image.Image:
    """A star of the class's corners and depths, placed, sized and turned by `draw`."""
    corners = int(kind.integers(3, 9))
    depths = kind.uniform(0.35, 1.0, corners)
    turn, size = draw.uniform(-0.4, 0.4), draw.uniform(0.33, 0.48) * min(width, height)
    angles = turn + np.repeat(2 * np.pi * np.arange(corners) / corners, 2)
    angles[1::2] += np.pi / corners
    radii = np.ones(2 * corners)
    radii[1::2] = depths
    radii = radii * size * draw.uniform(0.93, 1.07, radii.shape)
    x = width * draw.uniform(0.42, 0.58) + radii * np.cos(angles)
    y = height * draw.uniform(0.42, 0.58) + radii * np.sin(angles)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=255)
    return mask


def _texture(
    width: int, height: int, draw: np.random.Generator, colour: Any, *, contrast: float
) -> np.ndarray:
    """Waves in two directions around a colour, `[height, width, 3]`."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = np.zeros((height, width))
    for _ in range(2):
        across, down, phase = draw.uniform(-9, 9), draw.uniform(-9, 9), draw.uniform(0, 6)
        waves += np.sin(2 * np.pi * (across * x + down * y) + phase)
    return np.asarray(colour) + contrast * waves[..., None] / 2


def timed(words: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run `maml-jax` in a folder: its seconds, those of the processor, and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "maml_jax", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"maml-jax {' '.join(words)}: {done.stderr}")
    return {
        "command": f"maml-jax {' '.join(words)}",
        "seconds": elapsed,
        "processor_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "stdout": done.stdout,
        "stderr": done.stderr,
    }


def whole_way(folder: Path, labelled: int, cache: Path, *more: str) -> dict[str, Any]:
    """The photos, both commands, and how many labels are right.

    Args:
      folder: an empty folder.
      labelled: pictures of each of the new classes that have a label.
      cache: where XLA's programs and the pixels of pictures are kept; empty: all is done anew.
      more: further words for `train`.
    """
    new = range(CLASSES, CLASSES + NEW_CLASSES)
    make_photos(folder / "photos", range(CLASSES), EACH)
    make_photos(folder / "labelled", new, labelled, seed=1)
    make_photos(folder / "new", new, TO_LABEL, seed=2, flat=True)
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "MAML_JAX_CACHE": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    words = ["train", "--data", "photos/", "--init", START, "--out", "run", *more]
    found: dict[str, Any] = {"train": timed(words, folder, environment)}
    words = ["predict", "run", "--support", "labelled/", "--images", "new/", "--json"]
    found["predict"] = timed(words, folder, environment)
    labels = json.loads(found["predict"].pop("stdout"))
    right = [label["file"].startswith(label["label"]) for label in labels]
    found |= {"labelled_of_each": labelled, "pictures": len(right), "right": sum(right)}
    return found


def main() -> int:
    """Measure and print."""
    parser = script.measuring_parser("benchmarks.own_photos", __doc__)
    parser.add_argument("--labelled", type=int, default=5, help="pictures of each new class")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "empty")
        photos.mkdir()
        figures = whole_way(photos, options.labelled, Path(folder, "cache"))
    for command in ("train", "predict"):  # progress bars, and folders of this machine
        del figures[command]["stderr"]
    del figures["train"]["stdout"]
    print(json.dumps(figures, indent=1))
    script.write_record(options.out, "benchmarks.own_photos", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
