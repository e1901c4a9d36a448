"""The command `predict`: labels for pictures, from a few that are labelled."""

import csv
import io
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tyro.conf import FlagCreatePairsOff, Positional

from maml_jax.cli.messages import say
from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.files import write_file

SHOWN = 200
"""Pictures that the page of --html shows."""


@dataclass(frozen=True)
class Predict:
    """Label pictures, from a few that are labelled, by a trained model."""

    run: Positional[str]
    """The folder of a run, pretrained:NAME, or what --save wrote."""
    images: Path
    """The pictures: a folder, a .zip, or one picture. Where folders have the names of labels, it is
    counted how many are right."""
    support: Path | None = None
    """The labelled pictures: a folder or .zip with a folder for each class. What --save wrote has
    learned its own already."""
    steps: int | None = None
    """Inner steps; the evaluation steps of the run's config where not given."""
    calibrate: bool = False
    """Choose the temperature of the probabilities by leaving out one labelled picture at a time,
    which needs two of each class."""
    image_fit: str = "squash"
    """How pictures that are not square are made so: squash, crop or pad."""
    invert: bool | None = None
    """Swap black and white; if not given, where the model was trained on bright strokes and the
    labelled pictures are bright on the whole."""
    json: FlagCreatePairsOff[bool] = False
    """Print JSON."""
    csv: FlagCreatePairsOff[bool] = False
    """Print CSV."""
    html: Path | None = None
    """Write a page of the pictures with their labels to this new .html file."""
    save: Path | None = None
    """Keep what was learned from the labelled pictures in this new folder."""

    def __call__(self) -> int:
        from maml_jax.classifier import FewShotClassifier, storage

        self._check()
        files = _pictures(self.images)
        if Path(self.run, storage.RECORD).is_file():
            for name in ("support", "steps", "calibrate", "image_fit", "invert", "save"):
                if getattr(self, name) != getattr(Predict, name):
                    raise InputError(
                        f"`{name}` was {getattr(self, name)}; {self.run} has learned its own "
                        "pictures already: leave it out."
                    )
            classifier, labelled = FewShotClassifier.load(self.run), {}
        elif self.support is None:
            raise InputError("`support` is missing: a folder with a folder of pictures per class.")
        else:
            labelled = _labelled(self.support)
            classifier = FewShotClassifier(
                self.run,
                steps=self.steps,
                temperature="leave-one-out" if self.calibrate else 1.0,
                image_fit=self.image_fit,
                invert=self.invert,
            )
            classifier.fit(
                [picture for pictures in labelled.values() for picture in pictures],
                [label for label, pictures in labelled.items() for _ in pictures],
            )
        if self.save is not None:
            classifier.save(self.save)
            say(f"wrote {self.save}; use it by: maml-jax predict {self.save} --images ...")
        labels = [str(label) for label in classifier.classes_]
        writer = _Writer(labels, "json" if self.json else "csv" if self.csv else "table")
        shown: list[Any] = []
        tqdm = require("tqdm", "cli").tqdm
        with tqdm(total=len(files), unit="picture", leave=False, disable=None) as bar:
            for names, pictures in files:
                probabilities = classifier.predict_proba(pictures)
                for name, picture, row in zip(names, pictures, probabilities, strict=True):
                    writer.add(name, row)
                    if self.html is not None and len(shown) < SHOWN:
                        by_label = dict(zip(labels, map(float, row), strict=True))
                        shown.append((name, picture, by_label))
                bar.update(len(names))
        writer.close()
        if writer.known:
            say(f"{writer.right} of {writer.known} are right, where the folder is a label's")
        if self.html is not None:
            from maml_jax.classifier.sheet import page

            title = f"{self.images.name or self.images} by {self.run}"
            write_file(self.html, page(title, labelled, shown), argument="html")
            say(f"wrote {self.html}, with {len(shown)} of {len(files)} pictures")
        return 0

    def _check(self) -> None:
        if self.json and self.csv:
            raise InputError("`json` and `csv` were both given; one may be.")
        if self.html is not None:
            if os.path.lexists(self.html):
                raise InputError(f"`html` was {self.html}, which exists; name another.")
            if not self.html.absolute().parent.is_dir() or self.html.suffix != ".html":
                raise InputError(
                    f"`html` was {self.html}; a file .html in a folder that exists may be."
                )


class _Pictures:
    """Pictures in a folder, a zip or one file, which are read some at a time."""

    def __init__(self, names: list[str], read: Any):
        self._names, self._read = names, read

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Any:
        from maml_jax.classifier.estimator import BATCH

        for start in range(0, len(self._names), BATCH):
            names = self._names[start : start + BATCH]
            yield names, [self._read(name) for name in names]


def _pictures(place: Path) -> _Pictures:
    from maml_jax.data import pictures
    from maml_jax.data.archive import Files, in_words

    if not place.exists():
        raise InputError(f"`images` was {place}, which is not there.")
    if place.is_file() and place.suffix.lower() != ".zip":
        return _Pictures([place.name], lambda _: pictures.decode(str(place), place.read_bytes()))
    files = Files(place)
    if not files.names:
        raise InputError(f"`images` was {place}, which holds no picture.")
    if files.left_out:
        say(f"{place}: left out: {in_words(files.left_out)}")
    return _Pictures(files.names, lambda name: pictures.decode(name, files.read(name)))


def _labelled(place: Path) -> dict[str, list[Any]]:
    """The labelled pictures of each class."""
    from maml_jax.data.archive import in_words
    from maml_jax.data.folders import list_path

    if not place.is_dir() and place.suffix.lower() != ".zip":
        raise InputError(f"`support` was {place}; a folder or a .zip may be.")
    try:
        listing = list_path(place)
    except InputError as error:  # which speaks of `data`
        raise InputError(str(error).replace("`data`", "`support`")) from error
    if not listing.classes:
        raise InputError(f"`support` was {place}, which holds no picture in a folder.")
    if listing.left_out:
        say(f"{place}: left out: {in_words(Counter(listing.left_out))}")
    return {
        label: [listing.read(reference) for reference in references]
        for label, references in listing.classes.items()
    }


class _Writer:
    """Predictions to standard output, as a table, CSV or JSON.

    `right` counts the pictures that lie in a folder of their label's name, among the `known` in a
    folder of any label's.
    """

    def __init__(self, labels: list[str], form: str):
        self.known = self.right = 0
        self._labels, self._form = labels, form
        self._rows: list[dict[str, Any]] = []
        self._csv = csv.writer(sys.stdout, lineterminator="\n")
        if form == "csv":
            self._csv.writerow(["file", "label", "probability", *labels])

    def add(self, name: str, probabilities: Any) -> None:
        best = int(probabilities.argmax())
        label, probability = self._labels[best], float(probabilities[best])
        folder = PurePosixPath(name).parent.as_posix()
        self.known += folder in self._labels
        self.right += folder == label
        if self._form == "csv":
            self._csv.writerow(
                [name, label, f"{probability:.6f}", *(f"{p:.6f}" for p in probabilities)]
            )
        else:
            every = dict(zip(self._labels, map(float, probabilities), strict=True))
            row = {"file": name, "label": label, "probability": probability}
            self._rows.append({**row, "probabilities": every})

    def close(self) -> None:
        from maml_jax.training.metrics import to_json

        if self._form == "json":
            print(to_json(self._rows, indent=2))
        elif self._form == "table":
            print(self._table(), end="")

    def _table(self) -> str:
        width = max([len(row["file"]) for row in self._rows] + [len("file")])
        broad = max([len(row["label"]) for row in self._rows] + [len("label")])
        text = io.StringIO()
        print(f"{'file':{width}}  {'label':{broad}}  probability", file=text)
        for row in self._rows:
            print(
                f"{row['file']:{width}}  {row['label']:{broad}}  {100 * row['probability']:9.1f} %",
                file=text,
            )
        return text.getvalue()
