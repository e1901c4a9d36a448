"""The article's program: its data, its loss, and both programs step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from idx import idx

from maml_jax.errors import InputError
from maml_jax.exchange import flatten
from parity.article.agreement import agreement, compare_programs
from parity.article.digits import Digits, batch_order, read_mnist
from parity.article.jax_program import accuracy, jax_loss, run_jax
from parity.article.settings import FLATTENED
from parity.article.torch_program import Network, initial_weights, run_torch
from parity.conversion import to_flax

PARTS = ("train", "t10k")


def run_both(digits, steps, *, ours=None, order=None):
    """The agreement after `steps`; the options `ours` or another `order` change the JAX program."""
    weights = initial_weights(0, torch.float64)
    initial = to_flax(weights, FLATTENED)
    right = batch_order(len(digits.x), 1, 0)
    (b,) = run_torch(weights, digits, right, [steps])
    (a,) = run_jax(initial, digits, right if order is None else order, [steps], **(ours or {}))
    return agreement(initial, a, b, steps)


def test_files_are_read(folder, arrays):
    mnist = read_mnist(folder)
    for name, (x, y) in zip(PARTS, mnist, strict=True):
        images, labels = arrays[f"{name}-images-idx3-ubyte"], arrays[f"{name}-labels-idx1-ubyte"]
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(x, np.asarray(images / 255, np.float32))
        np.testing.assert_array_equal(y, labels)
        # What torchvision's `ToTensor` computes.
        np.testing.assert_array_equal(x, torch.from_numpy(images).float().div(255).numpy())


def test_missing_file(folder):
    (folder / "mnist" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InputError, match="`data_dir` had no mnist/t10k-images-idx3-ubyte, with"):
        read_mnist(folder)


BROKEN = {
    "empty": (lambda content: b"", "is not MNIST's: it must start with 2051"),
    "labels": (lambda content: b"\0\0\x08\x01" + content[4:], "is not MNIST's"),
    "other dtype": (lambda content: b"\0\0\x0d\x03" + content[4:], "is not MNIST's"),
    "other size": (
        lambda content: content[:8] + (14).to_bytes(4, "big") * 2 + content[16:],
        "each entry must be 28×28",
    ),
    "no entries": (lambda content: content[:4] + bytes(4) + content[8:16], "at least one entry"),
    "cut short": (lambda content: content[:-1], "of 75263 bytes after its header; 96 entries"),
    "too long": (lambda content: content + b"\0", "of 75265 bytes after its header"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_file_that_is_not_mnist(folder, kind):
    change, message = BROKEN[kind]
    place = folder / "mnist" / "train-images-idx3-ubyte"
    place.write_bytes(change(place.read_bytes()))
    with pytest.raises(InputError, match="`data_dir` had a train-images-idx3-ubyte") as raised:
        read_mnist(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["not gzip", "cut", "flipped"])
def test_damaged_gzip(folder, damage):
    place = folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    content = place.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    place.write_bytes({"not gzip": b"x" * 99, "cut": content[:-9], "flipped": flipped}[damage])
    with pytest.raises(InputError, match="`data_dir` had a t10k-images-idx3-ubyte that cannot be"):
        read_mnist(folder)


def test_labels_that_do_not_fit(folder):
    place = folder / "mnist" / "t10k-labels-idx1-ubyte"
    place.write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(InputError, match="`data_dir` had 5 t10k images and 4 labels"):
        read_mnist(folder)
    place.write_bytes(idx(np.full(5, 10, np.uint8)))
    with pytest.raises(InputError, match="`data_dir` had the t10k label 10; MNIST's are 0 to 9"):
        read_mnist(folder)


def test_order_is_one_permutation_per_epoch():
    order = batch_order(96, 2, 5)
    assert order.shape == (6, 32)
    for epoch in order.reshape(2, 96):
        assert sorted(epoch) == list(range(96))
    assert not np.array_equal(order[:3], order[3:])
    np.testing.assert_array_equal(order, batch_order(96, 2, 5))
    np.testing.assert_array_equal(order[:3], batch_order(96, 1, 5))
    assert not np.array_equal(order, batch_order(96, 2, 6))


@pytest.mark.parametrize("images", [0, 31, 33])
def test_order_of_a_number_that_32_does_not_divide(images):
    with pytest.raises(InputError, match=f"`images` was {images}; it must be a multiple of 32"):
        batch_order(images, 1, 0)


# Logits (0, ln 3) have the softmax (1/4, 3/4), and that has the softmax (1 - s, s) with
# s = 1 / (1 + exp(-1/2)). For the second class the losses are -ln s and, with one softmax, -ln 3/4.
# The gradient to the second logit is -(1 - s)·2·(1/4)·(3/4), and with one softmax -1/4.
S = 1 / (1 + np.exp(-0.5))
BY_HAND = {True: (-np.log(S), -(1 - S) * 3 / 8), False: (np.log(4 / 3), -1 / 4)}


@pytest.mark.parametrize("double", [True, False])
def test_two_classes_by_hand(double, x64):
    logits, label = np.array([[0.0, np.log(3.0)]]), np.array([1])
    loss, gradient = jax.value_and_grad(jax_loss)(
        jnp.asarray(logits), jnp.asarray(label), double_softmax=double
    )
    assert float(loss) == pytest.approx(BY_HAND[double][0], rel=1e-14)
    np.testing.assert_allclose(gradient[0], np.array([-1, 1]) * BY_HAND[double][1], rtol=1e-14)


@pytest.mark.parametrize("double", [True, False])
def test_network_ends_in_a_softmax_if_told(double):
    network = Network(double)
    for weight in network.parameters():
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        network.head.bias[1] = np.log(3.0)
        outputs = network(torch.zeros(1, 1, 28, 28))[0]
    expected = [1 / 12, 3 / 12, *[1 / 12] * 8] if double else [0.0, np.log(3.0), *[0.0] * 8]
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-6)


def test_second_softmax_takes_nine_tenths_of_the_first_gradient(x64):
    # Where all ten classes are equally likely, the softmax's derivative is (1 - 1/10·ones)/10, and
    # the gradient that it meets there has the sum 0.
    logits, labels = jnp.zeros((1, 10)), jnp.array([3])
    double, single = (
        jax.grad(jax_loss)(logits, labels, double_softmax=double) for double in (True, False)
    )
    np.testing.assert_allclose(double, single / 10, rtol=1e-14)


@pytest.mark.parametrize("double", [True, False])
def test_one_step_of_the_program_is_plain_sgd(digits, double):
    weights = initial_weights(0, torch.float64)
    order = batch_order(len(digits.x), 1, 0)
    (after,) = run_torch(weights, digits, order, [1], double_softmax=double)
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    x, y = (torch.from_numpy(array[order[0]]) for array in digits)
    logits = torch.func.functional_call(Network(False), leaves, x[:, None].double())
    outputs = torch.exp(logits - torch.logsumexp(logits, 1, keepdim=True)) if double else logits
    chosen = outputs[torch.arange(32), y.long()]
    (torch.logsumexp(outputs, 1) - chosen).mean().backward()
    expected = to_flax({name: w - 0.001 * w.grad for name, w in leaves.items()}, FLATTENED)
    row = agreement(to_flax(weights, FLATTENED), after, expected, 1)
    assert row.movement < 1e-11


@pytest.mark.slow  # the command does the same in `test_article_cli.py`
def test_both_programs_agree(digits):
    rows = list(compare_programs(digits, [1, 10], 0))
    assert [row.steps for row in rows] == [1, 10]
    for row in rows:
        assert row.passed
        assert row.weights <= 1e-10
        assert row.movement <= 1e-10
        assert row.movement > 0  # two programs, rounding differently


def test_both_programs_agree_with_one_softmax(digits):
    weights = initial_weights(1, torch.float64)
    initial = to_flax(weights, FLATTENED)
    order = batch_order(len(digits.x), 1, 1)
    (b,) = run_torch(weights, digits, order, [3], double_softmax=False)
    (a,) = run_jax(initial, digits, order, [3], double_softmax=False)
    assert agreement(initial, a, b, 3).passed


def test_without_the_second_softmax_the_comparison_fails(digits):
    row = run_both(digits, 3, ours={"double_softmax": False})
    assert not row.passed
    assert row.movement > 0.1


def test_in_another_order_the_comparison_fails(digits):
    order = batch_order(len(digits.x), 1, 1)
    row = run_both(digits, 3, order=order)
    assert not row.passed
    assert row.movement > 1e-3  # three batches are all the images, whatever their order


def test_a_program_that_does_not_move_fails(digits):
    weights = initial_weights(0, torch.float64)
    initial = to_flax(weights, FLATTENED)
    (moved,) = run_torch(weights, digits, batch_order(len(digits.x), 1, 0), [1])
    row = agreement(initial, initial, moved, 1)
    assert row.movement == 1
    assert not row.passed


def test_nan_fails(digits):
    initial = to_flax(initial_weights(0, torch.float64), FLATTENED)
    broken = to_flax(initial_weights(0, torch.float64), FLATTENED)
    broken["head"]["bias"][0] = np.nan
    row = agreement(initial, broken, initial, 1)
    assert not row.passed
    assert row.largest_at == "head/bias"


def test_initial_weights_follow_from_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (initial_weights(seed, torch.float64) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in first.items():
        assert torch.equal(weight, again[name])
        assert not torch.equal(weight, other[name])
        fan_in = {"convs.0": 9, "convs.1": 288, "hidden": 1600, "head": 128}[
            name.rpartition(".")[0]
        ]
        assert weight.abs().max() <= fan_in**-0.5


def test_accuracy_counts_every_image(digits):
    weights = to_flax(initial_weights(0, torch.float32), FLATTENED)
    x = digits.x[:35]  # one batch and a remainder
    network = Network()
    network.load_state_dict(initial_weights(0, torch.float32))
    predictions = network(torch.from_numpy(x)[:, None]).argmax(1).numpy()
    y = np.where(np.arange(35) < 7, (predictions + 1) % 10, predictions).astype(np.int32)
    assert accuracy(weights, Digits(x, y)) == 28 / 35


def test_real_digits(mnist_dir):
    mnist = read_mnist(mnist_dir)
    assert [len(digits.x) for digits in mnist] == [60000, 10000]
    assert [np.bincount(digits.y).min() for digits in mnist] == [5421, 892]  # fives
    (row,) = compare_programs(mnist.train, [2], 0)
    assert row.passed
    assert flatten(to_flax(initial_weights(0, torch.float64), FLATTENED)).keys() == {
        f"{layer}/{kind}"
        for layer in ("convs/0", "convs/1", "hidden", "head")
        for kind in ("kernel", "bias")
    }
