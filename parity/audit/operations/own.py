"""What this library alone has: its convolution, and batch norm fused with pooling."""

from collections.abc import Callable

from parity.audit.operations.convolution import convolution
from parity.audit.operations.norms import batch_norm
from parity.audit.operations.operation import Operation
from parity.audit.operations.pooling import max_pool
from parity.audit.primitives import Array, Primitives

_IMAGES = {"x": "rng.normal(size=(2, 2, 4, 4))", "w": "rng.normal(size=(3, 2, 3, 3))"}
_NHWC = "x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)"


def _conv(stride: int, padding: int) -> Callable[[Primitives, Array, Array], Array]:
    return lambda xp, x, w: convolution(xp, x, w, stride=stride, padding=padding)


OPERATIONS = [
    Operation(
        f"own_conv_{stride}_{padding}",
        "own layers",
        _IMAGES,
        _conv(stride, padding),
        own=f"mj_layers.conv({_NHWC}, stride={stride}, padding={padding}).transpose(0, 3, 1, 2)",
    )
    for stride, padding in ((1, 0), (1, 1), (2, 1))
] + [
    Operation(
        "own_batch_norm_pooled",
        "own layers",
        {
            "x": "(rng.permutation(64).reshape(2, 2, 4, 4) - 31.7) / 16",
            "w": "rng.choice([-1, 1], 2) * rng.uniform(0.5, 1.5, 2)",
            "b": "rng.normal(size=2)",
        },
        lambda xp, x, w, b: max_pool(xp, batch_norm(xp, x, w, b)),
        own="mj_layers.normalise(x.transpose(0, 2, 3, 1), w, b, epsilon=1e-5, pool=True)"
        ".transpose(0, 3, 1, 2)",
    ),
]
