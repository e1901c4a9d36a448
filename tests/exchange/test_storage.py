"""Files of weights: what is in them, byte by byte, and formats of other packages."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maml_jax.errors import InputError
from maml_jax.exchange import storage

ROOT = Path(__file__).parents[2]
ARRAYS = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head.bias": np.array([-0.0, 1.0], np.float32),
    "body.weight": np.arange(3, dtype=np.float64),
}
METADATA = {"recipe": "a", "algorithm": "b", "model": "c", "ways": "5", "maml_jax": "0", "ä": "é"}
WRITE = """
import sys, pathlib, test_storage as t
t.storage.write(pathlib.Path(sys.argv[1]), t.ARRAYS, t.METADATA)
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_equal_arrays_give_equal_bytes(suffix, tmp_path):
    """Also in another process, where a hash map has another order."""
    if suffix == ".pt":
        pytest.importorskip("torch")
    first, second, third = (tmp_path / f"{n}{suffix}" for n in range(3))
    storage.write(first, ARRAYS, METADATA)
    storage.write(second, ARRAYS, dict(reversed(METADATA.items())))
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", WRITE, str(third)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    found = storage.read(first)
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in found.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in ARRAYS.items()
    }


def test_the_library_reads_what_was_written(tmp_path):
    import safetensors

    file = tmp_path / "a.safetensors"
    storage.write(file, ARRAYS, METADATA)
    with safetensors.safe_open(file, "numpy") as held:
        assert held.metadata() == METADATA
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(held.get_tensor(name), array)
    assert int.from_bytes(file.read_bytes()[:8], "little") % 8 == 0  # the data is aligned


@pytest.fixture
def npz_package(tmp_path, monkeypatch):
    """An installed package that registers `.npz`."""
    site = tmp_path / "site"
    (site / "npz_weights-1.0.dist-info").mkdir(parents=True)
    (site / "npz_weights-1.0.dist-info" / "METADATA").write_text("Name: npz-weights\nVersion: 1.0")
    (site / "npz_weights-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{storage.GROUP}]\n.npz = npz_weights:Npz\n"
    )
    (site / "npz_weights.py").write_text(
        "import io\nimport numpy as np\n\n\nclass Npz:\n"
        "    def to_bytes(arrays):\n"
        "        buffer = io.BytesIO()\n"
        "        np.savez(buffer, **arrays)\n"
        "        return buffer.getvalue()\n\n"
        "    def from_bytes(content, file):\n"
        "        return dict(np.load(io.BytesIO(content)))\n"
    )
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("npz_weights", None)


def test_a_package_adds_a_format(npz_package, tmp_path):
    storage.write(tmp_path / "a.npz", ARRAYS, METADATA)
    found = storage.read(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    np.testing.assert_array_equal(found["head.weight"], ARRAYS["head.weight"])


def test_what_a_format_needs_is_named(npz_package, tmp_path):
    (npz_package / "npz_weights.py").write_text("import no_such_library\n")
    with pytest.raises(InputError, match=r"no_such_library is not installed, which \.npz files"):
        storage.write(tmp_path / "a.npz", ARRAYS, METADATA)
    assert not (tmp_path / "a.npz").exists()


def test_a_suffix_that_nobody_registers(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"must end in \.safetensors or \.pt\.$"):
        storage.check_suffix(tmp_path / "a.npz")
    monkeypatch.setattr(storage, "entry_points", lambda group: [])
    with pytest.raises(InputError, match=r"must end in \.safetensors; .* 'maml-jax\[parity\]'"):
        storage.check_suffix(tmp_path / "a.pt")
