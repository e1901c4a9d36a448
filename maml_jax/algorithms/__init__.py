"""One short file per algorithm; each combines an inner rule with an inner-gradient operator."""

from maml_jax.algorithms.fomaml import fomaml
from maml_jax.algorithms.maml import maml

__all__ = ["fomaml", "maml"]
