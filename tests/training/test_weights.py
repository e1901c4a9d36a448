"""Meta-parameters in a file: the same bits back, or one line that says why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import perceptron
from small_runs import assert_same_bits

import maml_jax as mj
from maml_jax.errors import InputError
from maml_jax.training.weights import load_meta, save


@pytest.fixture(scope="module")
def meta():
    params, apply = perceptron()
    learned = mj.meta_sgd(apply, 0.1).init(params)
    return {"learner": learned, "steps": (jnp.int32(3), jnp.zeros((2, 0)))}


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_what_was_saved_comes_back(meta, tmp_path, kind):
    path = kind(tmp_path / "meta.safetensors")
    save(path, meta)
    found = load_meta(path, like=jax.tree.map(jnp.zeros_like, meta))
    assert jax.tree.structure(found) == jax.tree.structure(meta)
    assert_same_bits(found, meta)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {
        leaf.dtype for leaf in jax.tree.leaves(meta)
    }


def test_names_are_paths_that_others_can_read(meta, tmp_path):
    from safetensors.numpy import load_file

    save(tmp_path / "meta.safetensors", meta)
    held = load_file(tmp_path / "meta.safetensors")
    kernel = meta["learner"]["params"]["body"]["kernel"]
    np.testing.assert_array_equal(held["learner/params/body/kernel"], kernel)


def test_another_structure_is_one_line(meta, tmp_path):
    path = tmp_path / "meta.safetensors"
    save(path, meta)
    for like, message in (
        ({**meta, "more": jnp.ones(2)}, r"nothing as 'more', `like` has float32\[2\] there"),
        ({"learner": meta["learner"]}, r"int32\[\] as 'steps/0', `like` has nothing there"),
        ({**meta, "steps": (jnp.int32(3), jnp.zeros(2))}, r"float32\[2, 0\] as 'steps/1'"),
        ({**meta, "steps": (jnp.float32(3), jnp.zeros((2, 0)))}, r"int32\[\] as 'steps/0'"),
    ):
        with pytest.raises(InputError, match=message):
            load_meta(path, like)


def test_a_file_is_replaced_whole_or_not_at_all(meta, tmp_path, monkeypatch):
    path = tmp_path / "meta.safetensors"
    save(path, meta)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="it cannot be written: No space left on device"):
        save(path, {"a": jnp.ones(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_bad_files_and_leaves_are_refused(meta, tmp_path):
    path = tmp_path / "meta.safetensors"
    for bad, message in (
        ({"a": jax.random.key(0)}, "'a' of key"),
        ({"a": jnp.ones(2, jnp.bfloat16)}, "'a' of bfloat16"),
    ):
        with pytest.raises(InputError, match=message):
            save(path, bad)
    for name in ("meta", "meta.pt"):
        with pytest.raises(InputError, match=r"must end in .safetensors"):
            save(tmp_path / name, meta)
    with pytest.raises(InputError, match="it cannot be read: No such file"):
        load_meta(path, meta)
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="which is no safetensors file"):
        load_meta(path, meta)
