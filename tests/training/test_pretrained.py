"""The weights that ship: without data, in PyTorch, and the figures of their cards."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from problems import all_but_slow
from torch.nn import functional

import maml_jax as mj
from maml_jax.exchange.transfer import export_run
from maml_jax.training import runs

NAMES = ["omniglot-20w1s", "omniglot-5w1s", "omniglot-5w5s", "sinusoid"]
IMAGES = NAMES[:3]
WEIGHTS = Path(mj.__file__).parent / "weights"


def test_all_have_weights_a_card_and_an_example():
    assert runs.pretrained_names() == NAMES
    for name in NAMES:
        held = {path.name for path in (WEIGHTS / name).iterdir()}
        assert held == {"CARD.md", "config.json", "example.safetensors", "meta.safetensors"}
        assert "/" not in str(mj.load(f"pretrained:{name}").config.data_dir or "")


@pytest.mark.parametrize("name", all_but_slow(NAMES, "omniglot-5w1s", "sinusoid"))
def test_logits_are_those_that_were_recorded(name, monkeypatch):
    """Without data. Inner steps of 0.4 and 2.0 enlarge float32's rounding, which is another on each
    machine: so to a hundredth of the logits' size.
    """
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    learner, meta, config = mj.load(f"pretrained:{name}")
    held = safetensors.numpy.load_file(WEIGHTS / name / "example.safetensors")
    support = mj.Batch(held["support/x"], held["support/y"])
    fast = learner.adapt(meta, support, config.evaluation_steps)
    logits = np.asarray(learner.predict(fast, held["query/x"]))
    assert np.linalg.norm(logits - held["logits"]) < 1e-2 * np.linalg.norm(held["logits"])
    if name in IMAGES:
        assert (logits.argmax(1) == held["logits"].argmax(1)).all()
        # Drawn letters are not what it was trained on: far above chance will do.
        assert (logits.argmax(1) == held["query/y"]).mean() > 2 / config.ways


def card_accuracy(name, protocol):
    """The accuracy and its interval, as fractions."""
    card = (WEIGHTS / name / "CARD.md").read_text(encoding="utf-8")
    found = re.search(rf"\| {protocol} \|.*\| ([\d.]+) ± ([\d.]+) \|", card)
    return float(found[1]) / 100, float(found[2]) / 100


@pytest.mark.slow  # 300 tasks
@pytest.mark.parametrize("name", IMAGES)
def test_other_tasks_have_the_accuracy_of_the_card(name, data_dir):
    """Within three standard errors of the difference, for there are three to fail by chance."""
    accuracy, interval = card_accuracy(name, "paper")
    shots = mj.load(f"pretrained:{name}").config.shots
    found = runs.evaluate(
        f"pretrained:{name}", tasks=300, seed=1, queries=shots, per_step=False, data_dir=data_dir
    )
    error = np.hypot(interval, found["accuracy_ci95"]) / 1.96
    assert abs(found["accuracy"] - accuracy) < 3 * error


def torch_conv4(weights, x):
    for block in range(4):
        conv, norm = f"blocks.{block}.conv", f"blocks.{block}.norm"
        x = functional.conv2d(
            x, weights[f"{conv}.weight"], weights[f"{conv}.bias"], stride=2, padding=1
        )
        x = functional.batch_norm(
            x, None, None, weights[f"{norm}.weight"], weights[f"{norm}.bias"], training=True
        )
        x = torch.relu(x)
    return functional.linear(x.mean((2, 3)), weights["head.weight"], weights["head.bias"])


def torch_accuracy(weights, episode, rate, steps):
    """A plain loop of gradient descent, then the accuracy on the query set."""
    (sx, sy), (qx, qy) = (
        (torch.tensor(np.asarray(x)).permute(0, 3, 1, 2), torch.tensor(np.asarray(y)).long())
        for x, y in (episode.support, episode.query)
    )
    fast = {name: array.clone().requires_grad_() for name, array in weights.items()}
    for _ in range(steps):
        loss = functional.cross_entropy(torch_conv4(fast, sx), sy)
        slopes = torch.autograd.grad(loss, list(fast.values()))
        fast = {
            name: (array - rate * slope).detach().requires_grad_()
            for (name, array), slope in zip(fast.items(), slopes, strict=True)
        }
    return (torch_conv4(fast, qx).argmax(1) == qy).float().mean().item()


@pytest.mark.slow  # 200 tasks in PyTorch's loop
@pytest.mark.parametrize("name", IMAGES)
def test_pytorch_has_the_same_accuracy_on_the_same_episodes(name, tmp_path, data_dir):
    file = tmp_path / "weights.safetensors"
    export_run(f"pretrained:{name}", file)
    weights = safetensors.torch.load_file(file)
    learner, meta, config = mj.load(f"pretrained:{name}")
    source = mj.data.load("omniglot", data_dir=data_dir).tasks(
        "test", ways=config.ways, shots=config.shots, queries=config.shots
    )

    def accuracy(episode):
        fast = learner.adapt(meta, episode.support, config.evaluation_steps)
        return (learner.predict(fast, episode.query.x).argmax(1) == episode.query.y).mean()

    theirs, ours = [], []
    for part in range(4):
        episodes = source.batch(jax.random.key(part), 50)
        ours += np.asarray(jax.jit(jax.vmap(accuracy))(episodes)).tolist()
        for i in range(50):
            episode = jax.tree.map(lambda leaf, i=i: leaf[i], episodes)
            theirs.append(
                torch_accuracy(weights, episode, config.inner_lr, config.evaluation_steps)
            )
    # One of some thousand queries may lie so near to two classes that rounding decides.
    assert abs(np.mean(ours) - np.mean(theirs)) <= 1e-3
