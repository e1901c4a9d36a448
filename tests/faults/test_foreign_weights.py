"""Faults of weights from other programs: each test names its trial, and holds the right outcome."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import maml_jax as mj
from maml_jax import registry
from maml_jax.cli import main
from maml_jax.errors import InputError
from maml_jax.exchange import storage, to_torch, transfer
from maml_jax.kernels import native
from maml_jax.training import runs
from maml_jax.training.build import build_network
from maml_jax.training.recipes import recipe

pytestmark = pytest.mark.slow  # imports and trainings, for each trial

torch = pytest.importorskip("torch")
functional = torch.nn.functional
ROOT = Path(__file__).parents[2]
FILTERS, WAYS = 4, 3
NETWORK = ["--recipe", "omniglot-5w1s", "--filters", str(FILTERS), "--ways", str(WAYS)]
DENSE = ["--recipe", "omniglot-5w1s", "--model", "mlp", "--hidden", "6", "5", "--ways", str(WAYS)]


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    """Nothing here needs the files of a data set; what is compiled is compiled before."""
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    native.library("float32")


class Block(torch.nn.Module):
    """A block of a convolutional network in one of the forms that people write."""

    def __init__(self, channels, *, stride=2, relu_first=False, epsilon=1e-5, bias=True):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, FILTERS, 3, stride, padding=1, bias=bias)
        self.norm = torch.nn.BatchNorm2d(FILTERS, eps=epsilon)
        self.relu_first, self.pools = relu_first, stride == 1

    def forward(self, x):
        x = self.conv(x)
        x = self.norm(torch.relu(x)) if self.relu_first else torch.relu(self.norm(x))
        return torch.nn.functional.max_pool2d(x, 2) if self.pools else x


class Net(torch.nn.Module):
    """Four blocks and a head, on images in some range."""

    def __init__(self, ends=(0, 1), **options):
        super().__init__()
        torch.manual_seed(0)
        blocks = [Block(n, **options) for n in (1, FILTERS, FILTERS, FILTERS)]
        self.features = torch.nn.Sequential(*blocks)
        self.logits = torch.nn.Linear(FILTERS, WAYS)
        self.ends = ends
        with torch.no_grad():  # nothing is as it is drawn at first
            for values in self.parameters():
                values += 0.1 * torch.rand_like(values)

    def forward(self, x):
        x = self.ends[0] + (self.ends[1] - self.ends[0]) * x
        return self.logits(self.features(x).mean((2, 3)))


def pixels(count=12, side=28):
    return np.random.default_rng(1).integers(0, 256, (count, side, side), np.uint8)


def answers(net, images):
    """What a network of PyTorch makes of images of 0 to 255, by the batch at hand."""
    x = torch.tensor(images / np.float32(255))[:, None]
    with torch.no_grad():
        return net.train()(x).numpy()


def outputs(run, images):
    """What the network of a run makes of the same images."""
    restored = runs.restore(run)
    examples = restored.examples
    _, apply = build_network(restored.config, examples.input_shape, examples.outputs)
    x = (images / np.float32(255)).reshape(len(images), *examples.input_shape)
    return np.asarray(apply(restored.state.meta, x))


def imported(file, run, *options, network=NETWORK):
    return main(["import", str(file), *network, *options, "--out", str(run)])


def save(net, file, content=None):
    torch.save(net.state_dict() if content is None else content, file)
    return file


OTHERS = {
    "2×2 maxima": ({"stride": 1}, ["--downsample", "maxpool"]),
    "ReLU before the norm": ({"relu_first": True}, ["--norm-order", "relu-norm"]),
    "epsilon 1e-3": ({"epsilon": 1e-3}, ["--norm-epsilon", "0.001"]),
    "dark on white in [-1, 1]": ({"ends": (1, -1)}, ["--input-range", "1", "-1"]),
}


def test_what_the_file_leaves_open_is_said(tmp_path, capsys):
    """★ W: a 2×2-maximum network under the default recipe: all arrays fit, 50.2 % for 99.1 %."""
    file = save(Net(stride=1), tmp_path / "net.pt")
    assert imported(file, tmp_path / "run") == 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "assumed" in line]
    for part in (
        "stride 2, then the mean over positions (--downsample)",
        "the norm before ReLU (--norm-order)",
        "1e-05 added to the variance (--norm-epsilon)",
        "inputs from 0 for black to 1 for white (--input-range)",
        "--check FILE.npz",
    ):
        assert part in line


@pytest.mark.parametrize("kind", OTHERS)
def test_logits_tell_what_a_network_is(kind, tmp_path, capsys):
    """★ W: maxima, ReLU before the norm, epsilon 1e-3, images dark on white in [−1, 1]."""
    features, options = OTHERS[kind]
    net = Net(**features)
    file = save(net, tmp_path / "net.pt")
    images = pixels()
    np.savez(tmp_path / "check.npz", inputs=images, logits=answers(net, images))
    check = ["--check", str(tmp_path / "check.npz")]
    assert imported(file, tmp_path / "run", *check) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(
        r"--check was .*check\.npz, whose logits differ .* by up to [0-9.e-]+, of", said
    )
    assert f"with {' '.join(options)} they agree" in said
    assert not (tmp_path / "run").exists()
    assert imported(file, tmp_path / "run", *options, *check) == 0
    said = capsys.readouterr().err
    assert "the logits agree with" in said
    assert "assumed" not in said
    np.testing.assert_allclose(outputs(tmp_path / "run", images), answers(net, images), atol=2e-5)


def test_a_check_of_floats_is_of_the_network_alone(tmp_path, capsys):
    """★ W: the same; what a check has not looked at is still said to be assumed."""
    net = Net(epsilon=1e-3)
    file = save(net, tmp_path / "net.pt")
    x = torch.randn(6, 1, 28, 28)
    with torch.no_grad():
        np.savez(tmp_path / "check.npz", x=x.numpy(), logits=net.train()(x).numpy())
    check = ["--norm-epsilon", "0.001", "--check", str(tmp_path / "check.npz")]
    assert imported(file, tmp_path / "run", *check) == 0
    said = capsys.readouterr().err
    assert "the logits agree with" in said
    assert "assumed: inputs from 0 for black to 1 for white (--input-range);" in said


def test_a_network_of_another_kind_is_refused_by_its_logits(tmp_path, capsys):
    """★ W: the same, where no option makes them agree: evaluated by its running averages."""
    net = Net()
    file = save(net, tmp_path / "net.pt")
    images = pixels()
    with torch.no_grad():
        logits = net.eval()(torch.tensor(images / np.float32(255))[:, None]).numpy()
    np.savez(tmp_path / "check.npz", inputs=images, logits=logits)
    assert imported(file, tmp_path / "run", "--check", str(tmp_path / "check.npz")) == 2
    assert "no choice of the options that the file leaves open" in capsys.readouterr().err


BAD_CHECKS = {
    "missing": (None, "cannot be read"),
    "other names": ({"a": np.ones(3)}, "which holds a; it needs inputs and logits"),
    "other rows": ({"x": pixels(3), "logits": np.ones((2, WAYS))}, "a row for each input"),
    "other ways": ({"x": pixels(3), "logits": np.ones((3, 7))}, "with 7 logits an input"),
    "other side": ({"x": pixels(3, 20), "logits": np.ones((3, WAYS))}, "[28, 28, 1]"),
    "objects": ({"x": np.array([None]), "logits": np.ones((1, WAYS))}, "cannot be read"),
}


@pytest.mark.parametrize("kind", BAD_CHECKS)
def test_a_bad_check_is_one_line(kind, tmp_path, capsys):
    """★ W: `--check FILE.npz`."""
    held, message = BAD_CHECKS[kind]
    if held is not None:
        np.savez(tmp_path / "check.npz", **held)
    file = save(Net(), tmp_path / "net.pt")
    assert imported(file, tmp_path / "run", "--check", str(tmp_path / "check.npz")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "run").exists()


def test_our_own_exports_say_it(tmp_path, capsys):
    """★ W: the same; a file that does say it is held to it."""
    first, file = tmp_path / "first", tmp_path / "first.safetensors"
    options = ["--norm-order", "relu-norm", "--input-range", "-1", "1"]
    assert imported(save(Net(relu_first=True), tmp_path / "net.pt"), first, *options) == 0
    assert main(["export", str(first), str(file)]) == 0
    capsys.readouterr()
    assert imported(file, tmp_path / "second") == 2
    said = capsys.readouterr().err
    assert "--norm-order was norm-relu; the file says that its network has relu-norm" in said
    assert imported(file, tmp_path / "second", *options) == 0
    assert "assumed" not in capsys.readouterr().err


class Listed(torch.nn.Module):
    """Parameters in a list, as in a functional network, with the averages of its norms beside."""

    def __init__(self, net):
        super().__init__()
        blocks = [(b.conv.weight, b.conv.bias, b.norm.weight, b.norm.bias) for b in net.features]
        arrays = [array for block in blocks for array in block]
        self.vars = torch.nn.ParameterList([*arrays, net.logits.weight, net.logits.bias])
        averages = [torch.zeros(FILTERS), torch.ones(FILTERS)] * 4
        self.vars_bn = torch.nn.ParameterList(averages)


class Twice(torch.nn.Module):
    """A network whose features are also a part of a sequence."""

    def __init__(self, net):
        super().__init__()
        self.features = net.features
        self.all = torch.nn.Sequential(net.features, net.logits)


KINDS = (
    "model_state_dict",
    "nested",
    "pth",
    "pth.tar",
    "vars",
    "list",
    "twice",
    "no bias",
    "no bias, list",
)


def contents():
    """The network, the content of its file and the file's suffix, of each of `KINDS`."""
    net, plain = Net(), Net(bias=False)
    state = net.state_dict()
    optimizer = torch.optim.Adam(net.parameters()).state_dict()
    return {
        "model_state_dict": (
            net,
            {"epoch": 3, "model_state_dict": state, "optim": optimizer},
            "pt",
        ),
        "nested": (net, {"last": {"model": {"state_dict": state}}, "args": {"lr": 0.1}}, "pt"),
        "pth": (net, state, "pth"),
        "pth.tar": (net, {"state_dict": state}, "pth.tar"),
        "vars": (net, Listed(net).state_dict(), "pt"),
        "list": (net, list(net.parameters()), "pt"),
        "twice": (net, Twice(net).state_dict(), "pt"),
        "no bias": (plain, plain.state_dict(), "pt"),
        "no bias, list": (plain, list(plain.parameters()), "pt"),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_files_as_people_write_them(kind, tmp_path, capsys):
    """W: `model_state_dict`, `.pth`, `vars.0`, a module listed twice, no bias before a norm."""
    every = contents()
    assert tuple(every) == KINDS
    net, content, suffix = every[kind]
    file = save(net, tmp_path / f"net.{suffix}", content)
    assert imported(file, tmp_path / "run") == 0
    images = pixels()
    np.testing.assert_allclose(outputs(tmp_path / "run", images), answers(net, images), atol=2e-5)
    said = capsys.readouterr().err
    if kind == "vars":
        assert "left out: vars_bn.0, vars_bn.1" in said
    if kind == "twice":
        assert re.search(r"left out: .*all\.0\.0\.conv\.weight", said)
    if kind.startswith("no bias"):
        assert "not in the file, and 0: blocks.0.conv.bias" in said


def test_a_list_of_parameters_in_a_safetensors_file(tmp_path):
    """W: names `vars.0` …, in a file that keeps no order but that of the numbers."""
    net = Net()
    arrays = {name: array.numpy() for name, array in Listed(net).state_dict().items()}
    file = tmp_path / "net.safetensors"
    storage.write(file, arrays, {})
    assert imported(file, tmp_path / "run") == 0
    images = pixels()
    np.testing.assert_allclose(outputs(tmp_path / "run", images), answers(net, images), atol=2e-5)


def test_null_in_a_mapping_leaves_out(tmp_path, capsys):
    """W: `null` in a mapping, for running averages and the like."""
    net = Net()
    state = net.state_dict()
    averages = {name: name for name in state if "running" in name or "batches" in name}
    renamed = {name.replace("running", "moving"): array for name, array in state.items()}
    file = save(net, tmp_path / "net.pt", renamed)
    assert imported(file, tmp_path / "run") == 2
    assert "null what is to be left out" in capsys.readouterr().err
    nulls = {name.replace("running", "moving"): None for name in averages}
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps(nulls))
    assert imported(file, tmp_path / "run", "--mapping", str(mapping)) == 0
    assert "left out: features.0.norm.moving_mean" in capsys.readouterr().err
    mapping.write_text(json.dumps({"no.such": None}))
    assert imported(file, tmp_path / "other", "--mapping", str(mapping)) == 2
    assert "--mapping was 'no.such'" in capsys.readouterr().err
    mapping.write_text(json.dumps({"no.such": 3}))
    assert imported(file, tmp_path / "other", "--mapping", str(mapping)) == 2
    assert "or null for what is to be left out" in capsys.readouterr().err


def test_several_state_dicts_are_asked_about(tmp_path, capsys):
    """W: `model_state_dict`, its kind: a checkpoint of two networks."""
    net = Net()
    two = {"encoder": net.features.state_dict(), "head": net.logits.state_dict()}
    file = save(net, tmp_path / "net.pt", two)
    assert imported(file, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "several state_dicts: 'encoder', 'head'" in said
    named = {"model": net.state_dict(), "best": net.state_dict()}
    assert imported(save(net, tmp_path / "named.pt", named), tmp_path / "run") == 0


def test_what_is_listed_twice_and_differs_is_refused(tmp_path, capsys):
    """W: a module listed twice with equal arrays, its kind: they are not equal."""
    state = dict(Twice(Net()).state_dict())
    state["all.0.0.conv.weight"] = state["all.0.0.conv.weight"] + 1
    file = save(None, tmp_path / "net.pt", state)
    assert imported(file, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "FILE does not fit the model" in said


class Dense(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Linear(n, m) for n, m in ((784, 6), (6, 5), (5, WAYS))]
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers[:2]:
            x = torch.relu(layer(x))
        return self.layers[2](x)


def test_an_mlp_on_images_without_norms(tmp_path, capsys):
    """W: MLPs on images without norm: refused, without a way to have them."""
    net = Dense()
    file = save(net, tmp_path / "net.pt")
    assert imported(file, tmp_path / "run", network=DENSE) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "FILE has no norms, and the model has them: --batch-norm may be False" in said
    assert imported(file, tmp_path / "run", "--batch-norm", "False", network=DENSE) == 0
    images = pixels()
    np.testing.assert_allclose(outputs(tmp_path / "run", images), answers(net, images), atol=2e-5)


def test_a_long_recipe_measures_nothing_and_needs_no_data(tmp_path, monkeypatch):
    """W: import with a recipe of 60,000 updates measured chunks, and needed the data."""

    def refused(*_, **__):
        raise AssertionError

    monkeypatch.setattr("maml_jax.training.runs._measure_chunk", refused)
    monkeypatch.setattr("maml_jax.data.load", refused)
    monkeypatch.setattr("maml_jax.training.build.load", refused)
    file = save(Net(), tmp_path / "net.pt")
    assert imported(file, tmp_path / "run") == 0
    run = runs.load(tmp_path / "run")
    assert (run.config.updates, run.config.chunk) == (recipe("omniglot-5w1s").updates, None)
    support = mj.Batch(np.zeros((WAYS, 28, 28, 1), np.float32), np.arange(WAYS))
    x = np.ones((2, 28, 28, 1), np.float32)
    assert run.learner.classify(run.meta, support, x).shape == (2, WAYS)


def test_shapes_that_are_known_are_those_of_the_data(mnist_dir):
    """W: the same: what is known without the files is what they say."""
    assert transfer._USUAL.keys() <= set(registry.names("data"))
    side, channels = transfer._USUAL["mnist"]
    assert mj.data.load("mnist", mnist_dir).input_shape == (side, side, channels)


def test_updates_may_be_none_at_all(tmp_path, capsys):
    """W: `--updates 0` was refused."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(1, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)]
    file = save(torch.nn.Sequential(*layers), tmp_path / "net.pt")
    line = ["--recipe", "sinusoid", "--hidden", "4", "--tasks", "2", "--validate-every", "0"]
    run = tmp_path / "run"
    assert imported(file, run, "--updates", "0", network=line) == 0
    assert main(["evaluate", str(run), "--tasks", "3", "--queries", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updates"] == 0
    assert main(["train", "--resume", str(run)]) == 0
    assert "it has made its 0 updates already" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--updates", "2"]) == 0
    assert int(runs.restore(run).state.update) == 2
    assert main(["report", str(run)]) == 0
    record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert record["data"] == mj.data.load("sinusoid").fingerprint()
    assert main(["train", *line, "--updates", "0", "--out", str(tmp_path / "new")]) == 2
    assert "--updates was 0" in capsys.readouterr().err


EXPORT = """
import sys
from maml_jax.exchange.transfer import export_run
for suffix in ("safetensors", "pt", "pth"):
    export_run(sys.argv[1], f"{sys.argv[2]}.{suffix}")
"""


def test_exports_of_one_run_are_equal_bytes(tmp_path):
    """W: `export` of one run twice: equal arrays, other bytes."""
    run = tmp_path / "run"
    options = ["--algorithm", "meta-sgd"]  # whose rates are in the file too
    assert imported(save(Net(), tmp_path / "net.pt"), run, *options) == 0
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", EXPORT, str(run), str(tmp_path / seed)]
        subprocess.run(command, env=environment, check=True)
    for suffix in ("safetensors", "pt", "pth"):
        first, second = ((tmp_path / f"{seed}.{suffix}").read_bytes() for seed in ("0", "1"))
        assert first == second


class Strange(nnx.Module):
    """A weight of its own, by a name that layers have."""

    def __init__(self):
        self.kernel = nnx.Param(np.ones((2, 2), np.float32))


rngs = nnx.Rngs(0)
UNKNOWN = {
    "ConvTranspose": nnx.ConvTranspose(2, 3, (3, 3), rngs=rngs),
    "LinearGeneral": nnx.LinearGeneral((2, 3), (4, 5), axis=(-2, -1), rngs=rngs),
    "SimpleCell": nnx.SimpleCell(2, 3, rngs=rngs),
    "LSTMCell": nnx.LSTMCell(2, 3, rngs=rngs),
    "Strange": Strange(),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_layers_of_other_types_are_refused_by_name(kind):
    """W: `to_torch` of layers that are not in its table: some load and are wrong."""
    with pytest.raises(InputError, match=rf"`.*` was a {kind}, of which PyTorch's layout is not"):
        to_torch(UNKNOWN[kind], {})


TWO_GATES = {
    "dense_i": {"kernel": np.ones((2, 6)), "bias": np.ones(6)},
    "dense_h": {"kernel": np.ones((3, 6))},
}


@pytest.mark.parametrize(
    "params",
    [mj.from_flax(UNKNOWN[kind])[0] for kind in ("LinearGeneral", "SimpleCell")]
    + [{"cell": TWO_GATES}, {"norm": {"scale": np.ones((2, 3))}}],
)
def test_weights_alone_tell_some_of_these(params):
    """W: the same, where there are only arrays; their shapes are those of no layer in the table."""
    with pytest.raises(InputError, match=r"`.*` had the shape"):
        to_torch(params, {})


def test_a_model_of_layers_in_the_table_is_as_its_weights():
    """W: the same; what is in the table is taken."""
    model = mj.models.Conv4(3, filters=2, rngs=rngs)
    found, expected = to_torch(model, {}), to_torch(mj.from_flax(model)[0], {})
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert to_torch(mj.models.Recurrent(2, 3, 5, "lstm", rngs=rngs), {})


def test_the_differences_that_the_page_names():
    """W: docs: Finn's batch norm and Meta-Curvature's biases differ from ours; nowhere said."""
    page = " ".join((ROOT / "docs" / "weights.md").read_text(encoding="utf-8").split())
    assert "β alone" in page
    assert "epsilon of 1e-3" in page
    assert "Meta-Curvature" in page
    params, apply = mj.from_flax(mj.models.Conv4(3, filters=2, rngs=rngs))
    matrices = mj.meta_curvature(apply, 0.1).init(params)["curvature"]
    assert matrices["blocks/0/norm/bias"]["outputs"].shape == (2, 2)
