"""The convolution by its compiled form and by its plain one, against `lax.conv`."""

import os
import subprocess
import sys
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from problems import distance

from maml_jax.kernels import native
from maml_jax.kernels.convolution import DEVICES, in_forms
from maml_jax.kernels.forms import FORMS
from maml_jax.models.layers import conv, conv_reference

compiled = native.compiler() is not None
needs_compiler = pytest.mark.skipif(not compiled, reason="no C++ compiler (c++, g++, clang++)")


# The forms that no device takes by default are slow to compile.
QUICK = {"compiled", *sum(DEVICES.values(), ())}
CASES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in ("compiled", *FORMS)
]


@pytest.fixture(params=CASES)
def form(request):
    """All forms, one after the other."""
    if request.param == "compiled" and not compiled:
        pytest.skip("no C++ compiler (c++, g++, clang++)")
    if request.param == "compiled":
        assert all(map(native.library, native.DTYPES))  # or another would stand in for it
    jax.clear_caches()
    with nullcontext() if request.param == "compiled" else in_forms(request.param):
        yield request.param
    jax.clear_caches()


def derivatives(convolution, x, w, **how):
    """The output, both gradients, and their derivatives in forward and in reverse mode."""

    def loss(x, w):
        return jnp.square(jnp.tanh(convolution(x, w, **how))).mean()

    def slope(x, w):
        grads = jax.grad(loss, (0, 1))(x, w)
        return sum(jnp.square(g).sum() for g in grads)

    def all_of_them(x, w):
        forward = jax.jvp(jax.grad(loss, (0, 1)), (x, w), (jnp.cos(x), jnp.sin(w)))[1]
        return (
            convolution(x, w, **how),
            jax.grad(loss, (0, 1))(x, w),
            forward,
            jax.grad(slope, (0, 1))(x, w),
        )

    return jax.jit(all_of_them)(x, w)


def arrays(images, size, window, channels, filters, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, *size, channels))
    w = rng.normal(size=(*window, channels, filters)) / np.sqrt(np.prod(window) * channels)
    return jnp.asarray(x), jnp.asarray(w)


CHANNELS = st.sampled_from([1, 2, 3, 7, 8, 12, 16, 17, 20, 24, 28, 32, 40, 64])


SHAPES = {
    "images": st.integers(1, 4),
    "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    "window": st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.just((3, 3)),
    "channels": CHANNELS,
    "filters": CHANNELS,
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 3),
    "seed": st.integers(0, 9),
}


@settings(max_examples=1, deadline=None, derandomize=True)
@given(**SHAPES)
@example(5, (7, 7), (3, 3), 64, 64, 1, 1, 0)  # Winograd's form, odd
@example(2, (8, 6), (3, 3), 16, 40, 1, 0, 0)  # and without padding: flipped, it is padded by 2
@example(2, (14, 14), (3, 3), 64, 32, 2, 1, 0)
@example(2, (1, 1), (3, 3), 16, 16, 1, 1, 0)  # all but one tap of the window see only border
@example(11, (1, 1), (1, 1), 28, 20, 1, 0, 0)  # a dense layer: three and a half vectors wide
def test_every_derivative_of_odd_shapes(
    images, size, window, channels, filters, stride, padding, seed
):
    check_every_derivative(images, size, window, channels, filters, stride, padding, seed)


@pytest.mark.slow  # each shape compiles for a second
@settings(max_examples=50, deadline=None, derandomize=True)
@given(**SHAPES)
@example(2, (6, 6), (3, 3), 16, 16, 1, 3, 0)  # flipped, it would be padded by less than 0
@example(3, (9, 9), (3, 3), 1, 64, 1, 1, 0)
@example(11, (1, 1), (1, 1), 20, 12, 1, 0, 0)  # dense layers: widths of five, seven halves
@example(11, (1, 1), (1, 1), 1, 28, 1, 0, 0)  # of a vector, and of one
@example(11, (1, 1), (1, 1), 39, 1, 1, 0, 0)
def test_every_derivative_of_any_shape(
    images, size, window, channels, filters, stride, padding, seed
):
    check_every_derivative(images, size, window, channels, filters, stride, padding, seed)


def check_every_derivative(images, size, window, channels, filters, stride, padding, seed):
    assume(all(s + 2 * padding >= k for s, k in zip(size, window, strict=True)))
    how = {"stride": stride, "padding": padding}
    with jax.enable_x64(True):
        x, w = arrays(images, size, window, channels, filters, seed)
        found, wanted = derivatives(conv, x, w, **how), derivatives(conv_reference, x, w, **how)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert jnp.linalg.norm(one - other) <= 1e-12 * jnp.linalg.norm(other)


def test_every_form_agrees_with_the_reference(form, x64):
    for padding, stride in ((0, 1), (1, 1), (1, 2)):
        x, w = arrays(3, (8, 9), (3, 3), 16, 24)
        how = {"stride": stride, "padding": padding}
        assert (
            distance(derivatives(conv, x, w, **how), derivatives(conv_reference, x, w, **how))
            < 1e-13
        )


def test_without_jit_it_is_the_same(form, x64):
    x, w = arrays(3, (8, 9), (3, 3), 16, 24)
    expected = conv(x, w, stride=2, padding=1)
    with jax.disable_jit():
        found = conv(x, w, stride=2, padding=1)
    assert distance(found, expected) < 1e-15


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 3)])
def test_vmap_gives_each_task_its_kernel(form, x64, axes):
    x, w = arrays(3, (7, 7), (3, 3), 16, 20)
    tasks = jnp.arange(1.0, 5.0)

    def spread(array, axis):
        if axis is None:
            return array
        return jnp.moveaxis(jnp.sin(tasks.reshape(-1, *[1] * array.ndim) * array), 0, axis)

    x, w = spread(x, axes[0]), spread(w, axes[1])

    def gradients(convolution):
        def one(x, w):
            def loss(x, w):
                return jnp.square(convolution(x, w, padding=1)).sum()

            return jax.grad(loss, (0, 1))(x, w)

        return jax.jit(jax.vmap(one, axes))(x, w)

    assert distance(gradients(conv), gradients(conv_reference)) < 1e-12


def test_by_hand(form, x64):
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    w = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    y, transpose = jax.vjp(lambda x, w: conv(x, w), x, w)
    assert y.ravel().tolist() == [27.0, 37.0, 57.0, 67.0]  # 0·1 + 1·2 + 3·3 + 4·4, …
    dx, dw = transpose(jnp.asarray([1.0, 0.0, 0.0, 10.0]).reshape(1, 2, 2, 1))
    assert dx.ravel().tolist() == [1.0, 2.0, 0.0, 3.0, 14.0, 20.0, 0.0, 30.0, 40.0]
    assert dw.ravel().tolist() == [40.0, 51.0, 73.0, 84.0]  # x at a corner + 10 x at the other


def test_float32_loses_little_by_winograd(form):
    x, w = (array.astype(jnp.float32) for array in arrays(5, (14, 14), (3, 3), 64, 64))
    with jax.enable_x64(True):
        exact = conv_reference(x.astype(jnp.float64), w.astype(jnp.float64), padding=1)
    error = np.abs(np.asarray(conv(x, w, padding=1)) - np.asarray(exact))
    assert error.max() < 4e-6  # of outputs whose deviation is 1


def test_bits_do_not_depend_on_other_images_tasks_or_threads():
    x, w = (array.astype(jnp.float32) for array in arrays(96, (14, 14), (3, 3), 64, 64))
    slope = jax.jit(jax.grad(lambda w, x: jnp.square(conv(x, w, padding=1)).sum()))
    together = jax.jit(lambda x, w: conv(x, w, padding=1))(x, w)
    first = [np.asarray(slope(w, x)) for _ in range(5)]
    assert all((other == first[0]).all() for other in first)
    assert (np.asarray(conv(x[:5], w, padding=1)) == np.asarray(together)[:5]).all()


def test_few_images_in_many_parts():
    """Five images in four parts of at most two: the fourth has none, and adds nothing."""
    x, w = (array.astype(jnp.float32) for array in arrays(5, (40, 40), (3, 3), 64, 64))

    def of(layer, x):
        return jax.jit(jax.grad(lambda w, x: jnp.square(layer(x, w, padding=1)).sum()))(w, x)

    for _ in range(3):  # what was left in memory by one must not be in the next
        assert distance(of(conv, x), of(conv_reference, x)) < 1e-5
    assert not of(conv, x[:0]).any()


def test_half_precision_has_no_compiled_form():
    x, w = (array.astype(jnp.bfloat16) for array in arrays(1, (5, 5), (3, 3), 4, 4))
    assert conv(x, w).dtype == jnp.bfloat16


def test_no_operation_is_left_that_xla_would_group():
    x, w = arrays(2, (5, 5), (3, 3), 4, 4)
    program = jax.make_jaxpr(jax.vmap(jax.grad(lambda w, x: conv(x, w).sum()), (None, 0)))(
        w, x[None]
    )
    assert "conv_general_dilated" not in str(program)


def in_new_process(code, **environment):
    return subprocess.run(  # the library is looked for once in a process
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


SUM = """
import logging, jax.numpy as jnp
from maml_jax.models.layers import conv
logging.basicConfig(level=logging.INFO)
from maml_jax.kernels import native
from maml_jax.kernels.convolution import DEVICES, in_forms
from maml_jax.kernels.forms import FORMS
y = conv(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2)))
print(float(y.sum()), native.library("float32") is not None)
"""


@pytest.mark.parametrize(
    ("compiler", "word"),
    [
        ("", "no C++ compiler was found"),
        # Each starts a program.
        pytest.param("false", "convolutions on the CPU are slower", marks=pytest.mark.slow),
    ],
)
def test_without_a_working_compiler_it_is_only_slower(tmp_path, compiler, word):
    done = in_new_process(SUM, MAML_JAX_CXX=compiler, MAML_JAX_CACHE=str(tmp_path))
    assert done.stdout.split() == ["144.0", "False"]
    assert word in done.stderr
    assert not list(tmp_path.iterdir())  # nothing half done


@needs_compiler
@pytest.mark.slow  # it compiles C++
def test_compiled_once_and_kept(tmp_path):
    first = in_new_process(SUM, MAML_JAX_CACHE=str(tmp_path))
    (kept,) = tmp_path.iterdir()
    assert "compiling" in first.stderr
    time = kept.stat().st_mtime_ns
    second = in_new_process(SUM, MAML_JAX_CACHE=str(tmp_path))
    assert "compiling" not in second.stderr
    assert kept.stat().st_mtime_ns == time
    assert first.stdout.split() == second.stdout.split() == ["144.0", "True"]


@pytest.mark.slow  # it compiles C++ twice
@needs_compiler
def test_a_damaged_library_is_compiled_anew(tmp_path):
    in_new_process(SUM, MAML_JAX_CACHE=str(tmp_path))
    (kept,) = tmp_path.iterdir()
    kept.write_text("no library")
    again = in_new_process(SUM, MAML_JAX_CACHE=str(tmp_path))
    assert again.stdout.split() == ["144.0", "True"]


@pytest.mark.slow  # it compiles C++
@needs_compiler
def test_a_cache_that_cannot_be_written_is_done_without():
    done = in_new_process(SUM, MAML_JAX_CACHE=os.devnull)
    assert done.stdout.split() == ["144.0", "True"]
