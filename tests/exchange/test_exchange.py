"""Weights in PyTorch's names and layouts: the tables, the guessing of names, files, commands."""

import json
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx

import maml_jax as mj
from maml_jax.cli import main
from maml_jax.errors import InputError
from maml_jax.exchange import flatten, flattened_layers, match, to_flax, to_torch, torch_names
from maml_jax.exchange.storage import read
from maml_jax.training import runs
from maml_jax.training.build import build
from maml_jax.training.config import Config

rngs = nnx.Rngs(0)
MODELS = {
    "stride": (mj.models.Conv4(5, filters=4, rngs=rngs), Config(filters=4), (28, 28, 1)),
    "maxpool": (
        mj.models.Conv4(3, 3, 4, "maxpool", 34, rngs=rngs),
        Config(filters=4, downsample="maxpool"),
        (34, 34, 3),
    ),
    "article": (
        mj.models.ArticleCNN(5, image_size=20, rngs=rngs),
        Config(model="article-cnn"),
        (20, 20, 1),
    ),
    "mlp": (mj.models.MLP(75, (6, 4), 5, rngs=rngs), Config(model="mlp"), (5, 5, 3)),
    "mlp-norm": (mj.models.MLP(75, (6, 4), 5, True, rngs=rngs), Config(model="mlp"), (5, 5, 3)),
    "linear": (mj.models.MLP(75, (), 5, rngs=rngs), Config(model="mlp", hidden=()), (5, 5, 3)),
    "gru": (mj.models.Recurrent(2, 3, 5, "gru", rngs=rngs), Config(model="gru"), (7, 2)),
    "lstm": (mj.models.Recurrent(2, 3, 5, "lstm", rngs=rngs), Config(model="lstm"), (7, 2)),
    "resnet": (
        mj.models.ResNet12(5, 1, (2, 3, 3, 4), 20, rngs=rngs),
        Config(model="resnet12"),
        (20, 20, 1),
    ),
}


def weights(name):
    """Numbers that are all different, some a negative zero, and the model's flattened layers."""
    model, config, shape = MODELS[name]
    generator = np.random.default_rng(0)

    def draw(leaf):
        array = generator.normal(size=leaf.shape).astype(leaf.dtype)
        array.flat[0] = -0.0
        return array

    return jax.tree.map(draw, mj.from_flax(model)[0]), flattened_layers(config, shape)


def bits(tree):
    return {path: (a.dtype, a.shape, a.tobytes()) for path, a in flatten(tree).items()}


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_is_exact(name):
    params, flattened = weights(name)
    assert bits(to_flax(to_torch(params, flattened), flattened)) == bits(params)
    for path in flattened:
        assert flatten(params)[f"{path}/kernel"].shape[0] == np.prod(flattened[path])


@pytest.mark.parametrize("name", MODELS)
def test_own_names_need_no_guessing(name):
    shapes = {path: array.shape for path, array in to_torch(*weights(name)).items()}
    backwards = dict(reversed(shapes.items()))
    for ordered in (True, False):
        assert match(backwards, shapes, ordered=ordered) == {path: path for path in shapes}


def test_a_cell_has_the_names_of_pytorch():
    params, _ = weights("gru")
    found = to_torch(params, {})
    assert {name: array.shape for name, array in found.items() if name.startswith("cell")} == {
        "cell.weight_ih_l0": (9, 2),
        "cell.weight_hh_l0": (9, 3),
        "cell.bias_ih_l0": (9,),
        "cell.bias_hh_l0": (9,),
    }
    assert not found["cell.bias_hh_l0"].any()
    lstm, _ = weights("lstm")
    names = torch_names(flatten(lstm))
    assert names["cell/dense_h/bias"] == "cell.bias_ih_l0"
    assert names["cell/dense_h/kernel"] == "cell.weight_hh_l0"
    assert torch_names(["dense_h/kernel", "dense_i/kernel"]) == {
        "dense_h/kernel": "weight_hh_l0",
        "dense_i/kernel": "weight_ih_l0",
    }
    assert torch_names(["dense_i/kernel"]) == {"dense_i/kernel": "dense_i.weight"}


def test_the_second_bias_of_a_cell_is_added_where_that_is_exact():
    lstm = to_torch(weights("lstm")[0], {})
    lstm["cell.bias_hh_l0"] = np.arange(12, dtype=np.float32)
    expected = lstm["cell.bias_ih_l0"] + lstm["cell.bias_hh_l0"]
    np.testing.assert_array_equal(to_flax(lstm, {})["cell"]["dense_h"]["bias"], expected)
    gru = to_torch(weights("gru")[0], {})
    gru["cell.bias_hh_l0"][:6] = 1
    expected = gru["cell.bias_ih_l0"] + gru["cell.bias_hh_l0"]
    np.testing.assert_array_equal(to_flax(gru, {})["cell"]["dense_i"]["bias"], expected)
    gru["cell.bias_hh_l0"][6] = 1e-30
    with pytest.raises(InputError, match=r"`cell\.bias_hh_l0` was not zero in its last 3 values"):
        to_flax(gru, {})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a.weight_hh_l0": (9, 3)}, "not a.weight_ih_l0, a.bias_ih_l0, a.bias_hh_l0"),
        ({"a.weight": (2, 2, 2)}, r"`a\.weight` had the shape \[2, 2, 2\]"),
        ({"a.running_mean": (2,)}, r"`a\.running_mean` had the shape"),
    ],
)
def test_other_layers_are_refused(arrays, message):
    with pytest.raises(InputError, match=message):
        to_flax({name: np.ones(shape, np.float32) for name, shape in arrays.items()}, {})


def test_two_biases_in_a_cell_are_refused():
    both = {"kernel": np.ones((3, 9)), "bias": np.ones(9)}
    with pytest.raises(InputError, match="`cell` had two biases"):
        to_torch({"cell": {"dense_i": both, "dense_h": both}}, {})


CONV, NORM = {"weight": (4, 4, 3, 3), "bias": (4,)}, {"weight": (4,), "bias": (4,)}


def shapes(**layers):
    return {
        f"{layer.replace('_', '.')}.{part}": shape
        for layer, parts in layers.items()
        for part, shape in parts.items()
    }


OURS = shapes(blocks_2_norm=NORM, blocks_2_conv=CONV, blocks_10_norm=NORM, blocks_10_conv=CONV)


def test_layers_are_matched_in_order_within_their_kind():
    theirs = shapes(first=CONV, second=CONV, bn=NORM, norm=NORM)
    assert match(theirs, OURS) == {
        f"{name}.{part}": f"{place}.{part}"
        for part in ("weight", "bias")
        for name, place in {
            "first": "blocks.2.conv",
            "second": "blocks.10.conv",
            "bn": "blocks.2.norm",
            "norm": "blocks.10.norm",
        }.items()
    }


def test_without_an_order_numbers_tell_or_nothing_does():
    numbered = shapes(c10=CONV, c9=CONV, n3=NORM, n2=NORM)
    found = match(numbered, OURS, ordered=False)
    assert found["c9.weight"] == "blocks.2.conv.weight"
    assert found["n2.bias"] == "blocks.2.norm.bias"
    named = shapes(first=CONV, second=CONV, n3=NORM, n2=NORM)
    with pytest.raises(InputError, match="the names first, second have no numbers; `mapping`"):
        match(named, OURS, ordered=False)
    given = {f"first.{part}": f"blocks.10.conv.{part}" for part in CONV}
    assert match(named, OURS, given, ordered=False)["second.bias"] == "blocks.2.conv.bias"


def test_the_head_is_last_in_our_order():
    square = {"weight": (4, 4), "bias": (4,)}
    found = match(shapes(a=square, b=square), shapes(head=square, layers_1=square))
    assert (found["a.weight"], found["b.weight"]) == ("layers.1.weight", "head.weight")


@pytest.mark.parametrize(
    ("theirs", "given", "parts"),
    [
        (shapes(head=CONV), {}, ["head.weight [4, 4, 3, 3]", "blocks.2.conv.weight", "and 4 more"]),
        (OURS | {"x": (2,)}, {}, ["model: it alone has x [2]. `mapping` may"]),
        (
            {k: OURS[k] for k in list(OURS)[1:]},
            {},
            ["model: the model alone has blocks.2.norm.weight [4]. "],
        ),
        (OURS, {"blocks.2.norm.weigth": "x"}, ["`mapping` was", "'blocks.2.norm.weight'"]),
        (OURS, {"blocks.2.norm.bias": "blocks.2.norm.bia"}, ["`mapping` was", "did you mean"]),
        (OURS, {"blocks.2.norm.bias": "blocks.2.conv.weight"}, ["[4] for", "[4, 4, 3, 3]"]),
        (
            OURS,
            {f"blocks.{i}.norm.bias": "blocks.2.conv.bias" for i in (2, 10)},
            ["blocks.2.conv.bias more than once"],
        ),
    ],
)
def test_what_does_not_fit_is_named(theirs, given, parts):
    with pytest.raises(InputError) as error:
        match(theirs, OURS, given)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_bfloat16_becomes_float32(tmp_path):
    halves = np.array([1.0, -2.5, 0.0], np.float32)
    data = (halves.view(np.uint32) >> 16).astype(np.uint16)
    header = b'{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}'
    file = tmp_path / "a.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + data.tobytes())
    np.testing.assert_array_equal(read(file)["a"], halves)


SEQUENCES = ["--recipe", "sequences", "--model", "gru", "--hidden", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose algorithm learns rates beside the weights."""
    run = tmp_path_factory.mktemp("runs") / "run"
    few = ["--updates", "2", "--tasks", "2", "--validate-every", "0", "--algorithm", "meta-sgd"]
    assert main(["train", *SEQUENCES, *few, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def exported(trained):
    file = trained.parent / "run.safetensors"
    assert main(["export", str(trained), str(file)]) == 0
    return file


def test_an_export_says_what_it_is(trained, exported):
    with safetensors.safe_open(exported, "numpy") as file:
        assert file.metadata() == {
            "format": "pt",
            "recipe": "sequences",
            "algorithm": "meta-sgd",
            "model": "gru",
            "ways": "5",
            "in_channels": str(build(runs.restore(trained).config).data.input_shape[-1]),
            "maml_jax": mj.__version__,
        }
    meta = runs.restore(trained).state.meta
    held = safetensors.numpy.load_file(exported)
    rates = {name: array for name, array in held.items() if name.startswith("meta.rates.")}
    assert rates.keys() == {f"meta.rates.{path}" for path in flatten(meta["params"])}
    for name, array in rates.items():
        np.testing.assert_array_equal(array, meta["rates"][name.removeprefix("meta.rates.")])
    np.testing.assert_array_equal(held["head.weight"], meta["params"]["head"]["kernel"].T)


def test_export_and_import_are_inverse(trained, exported, tmp_path, capsys):
    run = tmp_path / "new" / "run"
    command = ["import", str(exported), *SEQUENCES, "--algorithm", "meta-sgd", "--out", str(run)]
    assert main(command) == 0
    assert capsys.readouterr().err == f"done; now: maml-jax evaluate {run}\n"
    new, old = runs.restore(run), runs.restore(trained)
    assert new.config == replace(old.config, updates=2000, tasks=32, validate_every=500)
    assert bits(new.state.meta) == bits(old.state.meta)
    assert int(new.state.update) == 0
    assert list(run.parent.iterdir()) == [run]
    results = []
    for folder in (run, trained):
        assert main(["evaluate", str(folder), "--tasks", "10", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out)["loss_per_step"])
    assert results[0] == results[1]


def test_extras_of_another_algorithm_are_left_out(trained, exported, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["import", str(exported), *SEQUENCES, "--out", str(run)]) == 0
    assert "left out: meta.rates." in capsys.readouterr().err
    assert bits(runs.restore(run).state.meta) == bits(runs.restore(trained).state.meta["params"])


def test_a_mapping_takes_names_and_paths(trained, exported, tmp_path, capsys):
    held = safetensors.numpy.load_file(exported)
    held = {name: array for name, array in held.items() if not name.startswith("meta")}
    strange = {f"x{i}": name for i, name in enumerate(held)}
    safetensors.numpy.save_file(
        {name: held[place] for name, place in strange.items()}, tmp_path / "x.safetensors"
    )
    paths = {"head.weight": "head/kernel", "cell.weight_hh_l0": "cell/dense_h/kernel"}
    mapping = {name: paths.get(place, place) for name, place in strange.items()}
    (tmp_path / "x.json").write_text(json.dumps(mapping))
    run = tmp_path / "run"
    command = ["import", str(tmp_path / "x.safetensors"), *SEQUENCES, "--out", str(run)]
    assert main(command) == 2
    assert main([*command, "--mapping", str(tmp_path / "x.json")]) == 0
    assert "x0 is " in capsys.readouterr().err
    assert bits(runs.restore(run).state.meta) == bits(runs.restore(trained).state.meta["params"])


BAD = {
    "export": ["RUN", "FILE"],
    "export {trained}": ["FILE"],
    "export {folder} new.safetensors": ["RUN was", "config.json"],
    "export {trained} new.bin": ["FILE was new.bin", ".safetensors or .pt"],
    "export {trained} new": ["FILE was new"],
    "export {trained} {exported}": ["FILE was", "which exists"],
    "export {trained} none/new.pt": ["FILE was none/new.pt; none must be a folder"],
    "export {trained} new.pt --data-dir": ["--data-dir"],
    "import": ["--out"],
    "import {exported}": ["--out"],
    "import {exported} --out {folder}": ["--out was", "exists"],
    "import {exported} --out new --model conv5": ["--model was 'conv5'", "did you mean 'conv4'"],
    "import {exported} --out new --recipe sequence": ["did you mean 'sequences'"],
    "import {exported} --out new --ways 0": ["--ways was 0"],
    "import {exported} --out {exported}/x SEQUENCES": ["--out was", "cannot be made"],
    "import {exported} --out new SEQUENCES --hidden 5": [
        "FILE does not fit",
        "cell.weight_ih_l0 [12, ",
        "cell.weight_ih_l0 [15, ",
        "--mapping",
    ],
    "import {exported} --out new SEQUENCES --ways 3": ["head.weight [5, 4]", "head.weight [3, 4]"],
    "import none.safetensors --out new": ["FILE was none.safetensors", "No such file"],
    "import {folder}/text.bin --out new": ["FILE was", ".safetensors or .pt"],
    "import {folder}/text.safetensors --out new": ["FILE was", "no safetensors file"],
    "import {folder}/cut.safetensors --out new": ["FILE was", "no safetensors file"],
    "import {folder}/nan.safetensors --out new SEQUENCES": ["head.bias", "finite"],
    "import {folder}/double.safetensors --out new SEQUENCES": ["float64", "float32", "exactly"],
    "import {folder}/int.safetensors --out new SEQUENCES": ["int64", "floating"],
    "import {folder}/bool.safetensors --out new SEQUENCES": ["BOOL", "floating"],
    "import {folder}/bias.safetensors --out new SEQUENCES": ["cell.bias_hh_l0 was not zero"],
    "import {folder}/rates.safetensors --out new SEQUENCES --algorithm meta-sgd": [
        "meta.rates.head/bias [2]",
        "[5]",
    ],
    "import {folder}/fewer.safetensors --out new SEQUENCES --algorithm meta-sgd": [
        "other extras",
        "meta.rates.head/bias",
    ],
    "import {exported} --out new SEQUENCES --mapping none": ["--mapping was none", "No such file"],
    "import {exported} --out new SEQUENCES --mapping {folder}/text.bin": ["--mapping", "no JSON"],
    "import {exported} --out new SEQUENCES --mapping {folder}/list.json": ["must hold"],
    "import {exported} --out new SEQUENCES --mapping {folder}/twice.json": ["comes twice"],
    "import {exported} --out new SEQUENCES --mapping {folder}/wrong.json": ["'head.wight'"],
}


@pytest.fixture(scope="module")
def folder(exported):
    """Files that are not what their names say, or not what fits."""
    folder = exported.parent / "bad"
    folder.mkdir()
    held = safetensors.numpy.load_file(exported)
    bias, gate = held["head.bias"], np.ones_like(held["cell.bias_hh_l0"])
    changes = {
        "nan": {"head.bias": bias * np.nan},
        "double": {"head.bias": bias.astype(np.float64) + 0.1},
        "int": {"head.bias": bias.astype(np.int64)},
        "bool": {"head.bias": bias > 0},
        "bias": {"cell.bias_hh_l0": gate},
        "rates": {"meta.rates.head/bias": bias[:2]},
    }
    for name, change in changes.items():
        safetensors.numpy.save_file(held | change, folder / f"{name}.safetensors")
    del held["meta.rates.head/bias"]
    safetensors.numpy.save_file(held, folder / "fewer.safetensors")
    for name in ("text.bin", "text.safetensors"):
        (folder / name).write_text("no weights")
    (folder / "cut.safetensors").write_bytes(exported.read_bytes()[:-1])
    (folder / "list.json").write_text("[1]")
    (folder / "twice.json").write_text('{"a": "b", "a": "c"}')
    (folder / "wrong.json").write_text('{"head.wight": "head/kernel"}')
    return folder


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_harmless(
    line, trained, exported, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in trained.parent.rglob("*") if path.is_file()}
    line_ = line.replace("SEQUENCES", " ".join(SEQUENCES))
    capsys.readouterr()
    assert main(line_.format(trained=trained, exported=exported, folder=folder).split()) == 2
    output, said = capsys.readouterr()
    assert output == ""
    assert said.count("\n") == 1
    assert said.startswith(f"maml-jax {line.split(' ')[0]}: ")
    for part in BAD[line]:
        assert part in said.replace("`", "")
    after = {path: path.read_bytes() for path in trained.parent.rglob("*") if path.is_file()}
    assert after == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "file", "extra"),
    [
        ("torch", "new.pt", "parity"),
        ("safetensors.numpy", "new.safetensors", "cli"),
    ],
)
def test_a_missing_library_is_named(module, file, extra, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "parity.files", raising=False)
    assert main(["export", str(trained), str(tmp_path / file)]) == 2
    said = capsys.readouterr().err
    assert f"{module} is not installed" in said
    assert f"maml-jax[{extra}]" in said
    assert list(tmp_path.iterdir()) == []
