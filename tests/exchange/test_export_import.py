"""Exported weights in PyTorch's own modules, and modules of any names imported."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from problems import all_but_slow
from torch.nn import functional

import maml_jax as mj
from maml_jax.cli import main
from maml_jax.exchange import flatten, flattened_layers, to_flax, to_torch
from maml_jax.training import runs
from maml_jax.training.build import build, build_model
from maml_jax.training.config import Config


def norm(channels, kind=torch.nn.BatchNorm2d):
    return kind(channels, track_running_stats=False)


class Conv4(torch.nn.Module):
    def __init__(self, ways, channels, filters, stride, features):
        super().__init__()
        self.blocks = torch.nn.ModuleList()
        for n in (channels, filters, filters, filters):
            conv = torch.nn.Conv2d(n, filters, 3, stride=stride, padding=1)
            block = torch.nn.Module()
            block.conv, block.norm = conv, norm(filters)
            self.blocks.append(block)
        self.head = torch.nn.Linear(features, ways)
        self.pools = stride == 1

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(block.norm(block.conv(x)))
            x = functional.max_pool2d(x, 2) if self.pools else x
        return self.head(x.flatten(1) if self.pools else x.mean((2, 3)))


class ArticleCNN(torch.nn.Module):
    def __init__(self, ways, channels, features):
        super().__init__()
        self.convs = torch.nn.ModuleList(
            [torch.nn.Conv2d(channels, 32, 3), torch.nn.Conv2d(32, 64, 3)]
        )
        self.hidden = torch.nn.Linear(features, 128)
        self.head = torch.nn.Linear(128, ways)

    def forward(self, x):
        for conv in self.convs:
            x = functional.max_pool2d(torch.relu(conv(x)), 2)
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class MLP(torch.nn.Module):
    def __init__(self, features, hidden, outputs, batch_norm):
        super().__init__()
        widths = [features, *hidden]
        pairs = zip(widths, hidden, strict=False)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(n, m) for n, m in pairs])
        norms = [norm(n, torch.nn.BatchNorm1d) if batch_norm else None for n in hidden]
        self.norms = torch.nn.ModuleList(norms)
        self.head = torch.nn.Linear(widths[-1], outputs)

    def forward(self, x):
        x = x.flatten(1)
        for layer, after in zip(self.layers, self.norms, strict=True):
            x = torch.relu(layer(x) if after is None else after(layer(x)))
        return self.head(x)


class Recurrent(torch.nn.Module):
    def __init__(self, kind, features, hidden, outputs):
        super().__init__()
        self.cell = kind(features, hidden, batch_first=True)
        self.head = torch.nn.Linear(hidden, outputs)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class ResNet12(torch.nn.Module):
    def __init__(self, ways, channels, filters):
        super().__init__()
        self.blocks = torch.nn.ModuleList()
        for n, m in zip((channels, *filters), filters, strict=False):
            block = torch.nn.Module()
            convs = [torch.nn.Conv2d(k, m, 3, padding=1) for k in (n, m, m)]
            block.convs = torch.nn.ModuleList(convs)
            block.norms = torch.nn.ModuleList([norm(m) for _ in convs])
            block.shortcut, block.shortcut_norm = torch.nn.Conv2d(n, m, 1), norm(m)
            self.blocks.append(block)
        self.head = torch.nn.Linear(filters[-1], ways)

    def forward(self, x):
        for block in self.blocks:
            beside = block.shortcut_norm(block.shortcut(x))
            for i in range(3):
                x = block.norms[i](block.convs[i](x))
                x = functional.leaky_relu(x + beside if i == 2 else x, 0.1)
            x = functional.max_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


MODELS = {
    "stride": (Config(filters=8), (28, 28, 1), lambda: Conv4(5, 1, 8, 2, 8)),
    "maxpool": (
        Config(filters=8, downsample="maxpool"),
        (34, 34, 3),
        lambda: Conv4(5, 3, 8, 1, 4 * 8),
    ),
    "article": (Config(model="article-cnn"), (20, 20, 3), lambda: ArticleCNN(5, 3, 9 * 64)),
    "mlp": (
        Config(model="mlp", hidden=(8, 8)),
        (6, 6, 3),
        lambda: MLP(108, (8, 8), 5, batch_norm=True),
    ),
    "curves": (Config(model="mlp", hidden=(8,)), (1,), lambda: MLP(1, (8,), 5, batch_norm=False)),
    "mlp-sequences": (
        Config(model="mlp", hidden=(8,)),
        (7, 2),
        lambda: MLP(14, (8,), 5, batch_norm=True),
    ),
    "gru": (
        Config(model="gru", hidden=(6,)),
        (7, 2),
        lambda: Recurrent(torch.nn.GRU, 2, 6, 5),
    ),
    "lstm": (
        Config(model="lstm", hidden=(6,)),
        (7, 2),
        lambda: Recurrent(torch.nn.LSTM, 2, 6, 5),
    ),
    "resnet": (
        Config(model="resnet12", filters=6),
        (20, 20, 3),
        lambda: ResNet12(5, 3, [6 * n // 64 for n in (64, 160, 320, 640)]),
    ),
}


def both(name):
    """The two models with the same weights, in double precision, and examples for them."""
    config, shape, make = MODELS[name]
    generator = np.random.default_rng(0)
    params, apply = mj.from_flax(build_model(config, shape, config.ways))
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / 2, params)
    module = make().double()
    flattened = flattened_layers(config, shape)
    return params, apply, module, flattened, generator.normal(size=(10, *shape))


@pytest.mark.parametrize(
    "name", all_but_slow(MODELS, *(name for name in MODELS if name not in ("resnet", "maxpool")))
)
def test_modules_give_the_same_outputs(name, x64):
    params, apply, module, flattened, x = both(name)
    exported = to_torch(params, flattened)
    state = {name: torch.from_numpy(array) for name, array in exported.items()}
    module.load_state_dict(state, strict=True)
    channels_first = x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x
    expected = module(torch.from_numpy(channels_first)).detach().numpy()
    outputs = apply(params, x)
    assert outputs.dtype == expected.dtype == np.float64
    assert np.linalg.norm(outputs - expected) < 1e-12 * np.linalg.norm(expected)
    back = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    found = flatten(to_flax(back, flattened))
    assert found.keys() == flatten(params).keys()
    for path, leaf in flatten(params).items():
        assert found[path].tobytes() == leaf.tobytes()


def test_a_gru_with_second_biases_means_the_same(x64):
    _, apply, module, _, x = both("gru")
    with torch.no_grad():
        module.cell.bias_hh_l0[-6:] = 0
    params = to_flax({n: t.numpy() for n, t in module.state_dict().items()}, {})
    expected = module(torch.from_numpy(x)).detach().numpy()
    assert np.linalg.norm(apply(params, x) - expected) < 1e-12 * np.linalg.norm(expected)


SMALL = ["--filters", "4", "--ways", "3"]


def foreign():
    """A Conv4 by other names, in its layers' order, with running averages."""
    blocks = []
    for n in (1, 4, 4, 4):
        blocks += [torch.nn.Conv2d(n, 4, 3, 2, 1), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
    tail = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3)]
    return torch.nn.Sequential(*blocks, *tail)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The run of a foreign module, which is returned too."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("imported")
    module = foreign()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, folder / "net.pt")
    command = ["import", str(folder / "net.pt"), "--model", "conv4", *SMALL]
    assert main([*command, "--out", str(folder / "run")]) == 0
    return folder / "run", module


def test_a_foreign_module_means_the_same(imported, capsys):
    run, module = imported
    restored = runs.restore(run)
    config = restored.config
    assert (config.model, config.filters, config.ways) == ("conv4", 4, 3)
    _, apply = mj.from_flax(build_model(config, restored.examples.input_shape, config.ways))
    x = np.random.default_rng(0).normal(size=(10, 28, 28, 1)).astype(np.float32)
    outputs = apply(restored.state.meta, x)
    expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)  # float32
    assert main(["evaluate", str(run), "--tasks", "5", "--queries", "2", "--no-per-step"]) == 0


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_are_inverse_and_pytorch_reads_them(imported, suffix, tmp_path):
    run, module = imported
    file = tmp_path / f"net{suffix}"
    assert main(["export", str(run), str(file)]) == 0
    if suffix == ".pt":
        state = torch.load(file, weights_only=True)
    else:
        state = safetensors.torch.load_file(file)
    own = Conv4(3, 1, 4, 2, 4)
    own.load_state_dict(state, strict=True)
    theirs = [p for n, p in module.state_dict().items() if n.endswith(("weight", "bias"))]
    for ours, expected in zip(own.state_dict().values(), theirs, strict=True):
        assert torch.equal(ours, expected)
    assert main(["import", str(file), *SMALL, "--out", str(tmp_path / "run")]) == 0
    a, b = (flatten(runs.restore(folder).state.meta) for folder in (run, tmp_path / "run"))
    assert {path: leaf.tobytes() for path, leaf in a.items()} == {
        path: leaf.tobytes() for path, leaf in b.items()
    }


def test_what_was_guessed_and_left_out_is_said(tmp_path, capsys):
    torch.save(foreign().state_dict(), tmp_path / "net.pt")
    assert main(["import", str(tmp_path / "net.pt"), *SMALL, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert {"0.weight is blocks.0.conv.weight", "10.bias is blocks.3.norm.bias"} < set(said)
    assert "14.weight is head.weight" in said
    assert said[-2].startswith("left out: 1.running_mean, 1.running_var, 1.num_batches_tracked")


class Attack:
    """A pickle that makes a file when it is read."""

    def __reduce__(self):
        return (Path.touch, (Path("attacked"),))


def bad_file(kind, path):
    state = foreign().state_dict()
    if kind == "text":
        path.write_text("no weights")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Attack()))
    elif kind == "attack":
        torch.save({"0.weight": Attack()}, path)
    elif kind == "module":
        torch.save(foreign(), path)
    else:
        content = {
            "tensor": torch.ones(3),
            "number": {"0.weight": 3},
            "numbered": {0: torch.ones(3)},
            "sparse": {"0.weight": torch.eye(3).to_sparse()},
            "fewer": {name: state[name] for name in list(state) if name != "14.bias"},
            "wider": state | {"14.weight": torch.ones(3, 5)},
            "gru": torch.nn.GRU(1, 2).state_dict(),
        }
        torch.save(content[kind], path)


BAD = {
    "text": ["no file of tensors"],
    "empty": ["no file of tensors"],
    "cut": ["no file of tensors"],
    "pickle": ["no file of tensors"],
    "attack": ["no file of tensors"],
    "module": ["no file of tensors"],
    "tensor": ["holds a Tensor", "state_dict"],
    "number": ["no plain tensor under 0.weight"],
    "sparse": ["no plain tensor under 0.weight"],
    "numbered": ["key 0"],
    "fewer": ["it alone has 14.weight [3, 4]", "the model alone has head.weight", "head.bias [3]"],
    "wider": ["it alone has 14.weight [3, 5]", "the model alone has head.weight [3, 4]"],
    "gru": ["weight_ih_l0 [6, 1]", "blocks.0.conv.weight [4, 1, 3, 3]"],
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_and_harmless(kind, tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    bad_file(kind, tmp_path / "net.pt")
    assert main(["import", str(tmp_path / "net.pt"), *SMALL, "--out", "run"]) == 2
    output, said = capsys.readouterr()
    assert output == ""
    said = said.rpartition("\r")[2]  # after the progress of slow reading
    assert said.count("\n") == 1
    assert said.startswith("maml-jax import: FILE ")
    for part in BAD[kind]:
        assert part in said
    assert list(work.iterdir()) == []


def test_bfloat16_and_cells_by_their_own_names(tmp_path):
    shape = build(Config(recipe="x", data="sequences", model="lstm", hidden=(4,))).data.input_shape
    cell = torch.nn.LSTMCell(shape[-1], 4)
    net = torch.nn.ModuleDict({"rnn": cell, "out": torch.nn.Linear(4, 5)}).bfloat16()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    options = ["--recipe", "sequences", "--model", "lstm", "--hidden", "4"]
    run = tmp_path / "run"
    assert main(["import", str(tmp_path / "net.pt"), *options, "--out", str(run)]) == 0
    found = runs.restore(run).state.meta["cell"]
    np.testing.assert_array_equal(
        found["dense_h"]["kernel"].T, cell.weight_hh.detach().float().numpy()
    )
    biases = cell.bias_ih.detach().float() + cell.bias_hh.detach().float()
    np.testing.assert_array_equal(found["dense_h"]["bias"], biases.numpy())
