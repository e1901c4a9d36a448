"""One short file per algorithm; each combines an inner rule with an estimator."""

from maml_jax.algorithms.anil import anil
from maml_jax.algorithms.boil import boil
from maml_jax.algorithms.cavia import cavia
from maml_jax.algorithms.fomaml import fomaml
from maml_jax.algorithms.imaml import imaml
from maml_jax.algorithms.maml import maml
from maml_jax.algorithms.maml_plus_plus import maml_plus_plus
from maml_jax.algorithms.meta_curvature import meta_curvature
from maml_jax.algorithms.meta_sgd import meta_sgd
from maml_jax.algorithms.pretrained import pretrained
from maml_jax.algorithms.proto_maml import proto_maml
from maml_jax.algorithms.protonet import protonet
from maml_jax.algorithms.reptile import reptile
from maml_jax.algorithms.scratch import scratch

__all__ = [
    "anil",
    "boil",
    "cavia",
    "fomaml",
    "imaml",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "pretrained",
    "proto_maml",
    "protonet",
    "reptile",
    "scratch",
]
