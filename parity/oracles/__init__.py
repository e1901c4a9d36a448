"""References that nobody here wrote: libraries that differentiate through PyTorch's optimisers.

Each takes the inner steps and their graph from its library, and the networks from
`parity/models.py`; `python -m parity --against higher` holds the learners to it in place of the
plain loops of `parity/reference/`.

| cells | higher 0.2.1 | TorchOpt 0.7.3 |
|---|---|---|
| MAML, FOMAML, ANIL, BOIL, Reptile | yes | yes |
| Meta-SGD | by overriding the optimiser's rate | no: a rate is one number or a schedule |
| Meta-SGD, first-order | no: without its graph the rates have no gradient, only None | no |
| iMAML | no: it only unrolls | by an implicit root and its conjugate gradients |
| gradient descent, momentum inside | yes | yes |
| Adam inside | no: nothing is added under the root (optax's `eps_root`) | yes |
| MAML++, CAVIA, Meta-Curvature, prototypes | neither knows them | neither knows them |

Batch norm is by the batch's own statistics, as everywhere here; neither library has a say in it.
"""

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maml_jax.extras import require

if TYPE_CHECKING:
    from parity.cells import Cell
    from parity.reference import Reference


@dataclass(frozen=True)
class Oracle:
    """A library, and which cells it can express."""

    module: str
    """Its name, and that of the file here which has a function for each of the algorithms."""
    algorithms: tuple[str, ...]
    optimizers: tuple[str, ...]

    def expresses(self, cell: "Cell") -> bool:
        """Whether it has the algorithm of `cell` and its inner optimiser."""
        return cell.algorithm in self.algorithms and cell.optimizer in self.optimizers

    def version(self) -> str:
        """The installed one."""
        return importlib.metadata.version(self.module)

    def reference(self, algorithm: str) -> "Reference":
        """The algorithm by this library.

        Raises:
          InputError: the library is not installed.
        """
        require(self.module, "oracles")
        home = require(f"parity.oracles.{self.module}", "oracles")
        return getattr(home, algorithm.replace("-", "_"))


_COMMON = ("maml", "fomaml", "anil", "boil", "reptile")
ORACLES = {
    "higher": Oracle("higher", (*_COMMON, "meta-sgd"), ("sgd", "momentum")),
    "torchopt": Oracle("torchopt", (*_COMMON, "imaml"), ("sgd", "momentum", "adam")),
}
