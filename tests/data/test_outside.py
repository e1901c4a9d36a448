"""A data set that an installed package adds by name: the one of docs/your-own-data-set.md."""

import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from maml_jax import registry
from maml_jax.cli import main
from maml_jax.data import from_arrays, load
from maml_jax.errors import InputError

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "your-own-data-set.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def install(place, monkeypatch, name, module, text):
    """What pip leaves of a package with one module and one entry point."""
    (place / f"{module}.py").write_text(text, encoding="utf-8")
    metadata = place / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[maml_jax.data]\n{name} = {module}:load\n")
    monkeypatch.syspath_prepend(place)


@pytest.fixture
def stripes(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "stripes", "outside_stripes", EXAMPLES[1])
    yield
    sys.modules.pop("outside_stripes", None)


def test_its_name_is_known_only_where_it_is_installed(stripes):
    assert "stripes" in registry.names("data")
    with pytest.raises(InputError, match=r"did you mean 'stripes'"):
        load("strips")


def test_it_is_loaded_by_its_name(stripes, tmp_path):
    data = load("stripes")
    assert repr(data) == (
        "<stripes: images, each input 28×28×1; train 8 classes, 64 images; val 2 classes, "
        "16 images; test 2 classes, 16 images; all 12 classes, 96 images>"
    )
    # A direction's images differ in phase alone: of the same class, spectra agree.
    spectra = np.abs(np.fft.fft2(data.examples[:, :24, :24, 0] / 255.0))[:, 1:].reshape(12, 8, -1)
    within = spectra.std(1).mean()
    assert within < spectra.mean(1).std(0).mean()
    small = load("stripes", image_size=10, channels=3, split_seed=2)
    assert small.input_shape == (10, 10, 3)
    assert small.splits["test"].tolist() != data.splits["test"].tolist()


def test_the_command_line_knows_it(stripes, tmp_path, capsys):
    out = tmp_path / "stripes.png"
    command = ["data", "show", "stripes", "--ways", "2", "--queries", "2", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith(
        "stripes: images, each input 28×28×1\ntrain: 8 classes"
    )
    assert out.is_file()


def test_the_example_of_arrays_runs_as_written(capsys):
    exec(EXAMPLES[0], {})  # noqa: S102
    said = capsys.readouterr().out
    assert said.startswith("<blobs: vectors, each input 16; train 13 classes, 130 examples; ")
    assert said.endswith("(32, 5, 16)\n")


def test_a_package_may_hand_over_arrays(tmp_path, monkeypatch):
    text = (
        "import numpy as np\n"
        "from maml_jax.data import from_arrays\n"
        "def load(request):\n"
        "    request.refuse('channels', because='whose examples are no images')\n"
        "    x, y = np.ones((20, 3)), np.arange(20) // 2\n"
        "    return from_arrays(x, y, name=request.name, split_seed=request.split_seed)\n"
    )
    install(tmp_path, monkeypatch, "two-by-two", "outside_pairs", text)
    data = load("two-by-two", split_seed=3)
    same = from_arrays(np.ones((20, 3)), np.arange(20) // 2, split_seed=3)
    assert data.fingerprint() == same.fingerprint()
    batch = data.tasks("train", ways=3, queries=1).batch(jax.random.key(0), 2)
    assert batch.query.x.shape == (2, 3, 3)
    with pytest.raises(InputError, match="was 'two-by-two', whose examples are no images: leave"):
        load("two-by-two", channels=1)


def test_the_example_of_the_page_on_data_runs_as_written(capsys):
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})  # noqa: S102
    assert capsys.readouterr().out == "<sinusoid: regression, each input 1>\n(32, 10, 1)\n"
