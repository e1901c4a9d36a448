"""Data sets by TFDS: the reading by a stand-in, and both for real where TensorFlow is installed."""

import importlib.util
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from maml_jax.data import load, prepared
from maml_jax.data.prepared import find_prepared, prepare
from maml_jax.errors import InputError

FINE = ["apple", "bear", "crab", "dolphin"]
COARSE = ["animal", "fruit"]
OF = [1, 0, 0, 0]


class Source:
    """Stored examples, as TFDS gives them when images stay undecoded."""

    def __init__(self, labels):
        self._labels = labels

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, i):
        label = self._labels[i]
        content = io.BytesIO()
        Image.new("RGB", (6, 6), (40 * label + i, 0, 0)).save(content, "png")
        return {"image": content.getvalue(), "label": label, "coarse_label": OF[label]}

    def __getitems__(self, numbers):
        return [self[i] for i in numbers]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """TFDS with one data set that is prepared: `cifar100`, four classes in two parts."""
    parts = {"train": [0, 1, 2, 3, 0, 1, 2, 3], "test": [3, 2, 1, 0]}
    names = {"label": SimpleNamespace(names=FINE), "coarse_label": SimpleNamespace(names=COARSE)}
    builder = SimpleNamespace(
        info=SimpleNamespace(
            splits={p: SimpleNamespace(num_examples=len(of)) for p, of in parts.items()},
            features={"image": None, **names},
            full_name="cifar100/3.0.2",
        ),
        as_data_source=lambda split, decoders: Source(parts[split]),
    )
    tfds = SimpleNamespace(
        builder_from_directory=lambda folder: builder,
        decode=SimpleNamespace(SkipDecoding=lambda: None),
    )
    monkeypatch.setattr(prepared, "require", lambda name, extra: tfds)
    folder = tmp_path / "cifar100" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    return tmp_path


def test_what_was_prepared_is_read_by_its_labels(stand_in):
    data = load("cifar100", stand_in)
    assert data.class_names == tuple(FINE)
    assert data.counts.tolist() == [3, 3, 3, 3]
    assert data.input_shape == (6, 6, 3)
    reds = data.examples[:, 0, 0, 0].reshape(4, 3).tolist()
    # Of the test part first, then of the training part.
    assert reds == [[3, 0, 4], [42, 41, 45], [81, 82, 86], [120, 123, 127]]


def test_class_lists_of_cifar(stand_in):
    for which, lists in {
        "cifar-fs": [[["fruit", "apple"]], [["animal", "bear"]], [["animal", "crab"]]],
        "fc100": [["animal"], ["fruit"], []],
    }.items():
        for part, held in zip(("train", "val", "test"), lists, strict=True):
            path = stand_in / "splits" / "cifar" / which / f"{part}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(held))

    def splits(which):
        data = load(which, stand_in)
        return {p: [data.class_names[i] for i in classes] for p, classes in data.splits.items()}

    assert splits("cifar-fs") == {"train": ["apple"], "val": ["bear"], "test": ["crab"]}
    assert splits("fc100") == {"train": ["bear", "crab", "dolphin"], "val": ["apple"], "test": []}
    (stand_in / "splits" / "cifar" / "fc100" / "val.json").write_text('["tool"]')
    with pytest.raises(InputError, match=r"val.json with 'tool', not in CIFAR"):
        load("fc100", stand_in)
    (stand_in / "splits" / "cifar" / "fc100" / "val.json").unlink()
    with pytest.raises(InputError, match=r"fc100 needs cifar/fc100/val.json"):
        load("fc100", stand_in)


def test_the_real_lists_of_cifar_are_whole(data_dir):
    folder = data_dir / "splits" / "cifar"
    if not folder.is_dir():
        pytest.skip("MAML_JAX_DATA holds no splits/cifar")
    sizes = {"cifar-fs": (64, 16, 20), "fc100": (12, 4, 4)}
    for which, counts in sizes.items():
        lists = [
            json.loads((folder / which / f"{part}.json").read_text())
            for part in ("train", "val", "test")
        ]
        assert tuple(map(len, lists)) == counts
        assert len({str(name) for names in lists for name in names}) == sum(counts)


def test_the_newest_version_is_found(tmp_path):
    assert find_prepared("x", tmp_path) is None
    for version in ("3.0.9", "3.0.10", "2.9.0"):
        (tmp_path / "x" / version).mkdir(parents=True)
        (tmp_path / "x" / version / "dataset_info.json").write_text("{}")
    assert find_prepared("x", tmp_path).name == "3.0.10"


def test_what_is_not_prepared_says_how_to(tmp_path):
    with pytest.raises(InputError, match="maml-jax data prepare fashion_mnist"):
        load("fashion_mnist", tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed"
)
def test_preparing_without_tensorflow_says_what_to_install():
    with pytest.raises(InputError, match=r"pip install 'maml-jax\[prepare\]'"):
        prepare("mnist")


def test_mnist_for_real(mnist_dir, tmp_path):
    """Prepared from the original files, then read in a process that never sees TensorFlow."""
    for name in ("tensorflow_datasets", "tensorflow"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'maml-jax[prepare]'")
    program = "import sys; from maml_jax.cli import main; code = main(sys.argv[1:]); "
    program += "print(code, 'tensorflow' in sys.modules)"

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout, done.stderr

    place = ["--data-dir", str(tmp_path / "tfds")]
    out, said = run("data", "prepare", "mnist", *place, "--manual-dir", str(mnist_dir / "mnist"))
    assert out.splitlines()[-1] == "0 True", said
    out, said = run("data", "show", "mnist", *place, "--out", str(tmp_path / "sheet.png"))
    assert out.splitlines()[-1] == "0 False", said
    assert "all: 10 classes, 70000 images, 6313 to 7877 in a class" in out
    ours, theirs = load("mnist", mnist_dir), load("mnist", tmp_path / "tfds")
    assert ours.counts.tolist() == theirs.counts.tolist()
    for images in zip(*(np.split(d.examples, np.cumsum(d.counts)[:-1]) for d in (ours, theirs))):  # noqa: B905
        a, b = (sorted(map(bytes, part)) for part in images)
        assert a == b
    small = ["--filters", "4", "--tasks", "2", "--updates", "2", "--validate-every", "0"]
    small += ["--ways", "2", "--evaluation-steps", "1"]
    out, said = run("train", "--data", "mnist", *place, *small, "--out", str(tmp_path / "run"))
    assert out.splitlines()[-1] == "0 False", said
