"""References that others wrote: libraries that differentiate through PyTorch's optimizers.

Each takes the inner steps and their graph from its library, and the networks from `parity/models/`;
`python -m parity --against higher` compares the learners with it instead of with the plain loops of
`parity/reference/`.

| cells | higher 0.2.1 | TorchOpt 0.7.3 |
|---|---|---|
| MAML, FOMAML, ANIL, BOIL, Reptile | yes | yes |
| Meta-SGD | by overriding the optimizer's rate | no: a rate is one number or a schedule |
| Meta-SGD, first-order | no: without its graph the rates have no gradient, only None | no |
| iMAML | no: it only unrolls | by an implicit root and its conjugate gradients |
| gradient descent, momentum inside | yes | yes |
| Adam inside | no: nothing is added under the root (optax's `eps_root`) | yes |
| MAML++, CAVIA, Meta-Curvature, prototypes | no | no |

Batch norm uses the batch's own statistics, as everywhere here; the libraries do not affect it.
"""

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maml_jax.extras import require

if TYPE_CHECKING:
    from parity.cells import Cell
    from parity.torch_tools import Reference


@dataclass(frozen=True)
class Oracle:
    """A library, and which cells it can express."""

    module: str
    """The name of the library, and of the module here that has a function for each algorithm."""
    algorithms: tuple[str, ...]
    optimizers: tuple[str, ...]

    def expresses(self, cell: "Cell") -> bool:
        """Whether the library has the algorithm of `cell` and its inner optimizer."""
        return cell.algorithm in self.algorithms and cell.optimizer in self.optimizers

    def version(self) -> str:
        """The installed version."""
        return importlib.metadata.version(self.module)

    def reference(self, algorithm: str) -> "Reference":
        """The algorithm by this library.

        Raises:
          InputError: the library is not installed.
        """
        require(self.module, "oracles")
        module = require(f"parity.oracles.{self.module}", "oracles")
        return getattr(module, algorithm.replace("-", "_"))


_COMMON = ("maml", "fomaml", "anil", "boil", "reptile")
ORACLES = {
    "higher": Oracle("higher", (*_COMMON, "meta-sgd"), ("sgd", "momentum")),
    "torchopt": Oracle("torchopt", (*_COMMON, "imaml"), ("sgd", "momentum", "adam")),
}
