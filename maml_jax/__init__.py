"""Few-shot meta-learning in JAX.

A learner is a product of three choices: how a task is learned, how that learning is differentiated,
and how tasks are batched.
"""

from maml_jax import losses, models
from maml_jax.adapters.flax import from_flax
from maml_jax.adapters.precision import in_precision
from maml_jax.algorithms import (
    anil,
    boil,
    cavia,
    fomaml,
    imaml,
    maml,
    maml_plus_plus,
    meta_curvature,
    meta_sgd,
    pretrained,
    proto_maml,
    protonet,
    reptile,
    scratch,
)
from maml_jax.batching.over_tasks import over_tasks, task_mesh
from maml_jax.batching.plans import Plan
from maml_jax.batching.tune import tune
from maml_jax.types import Batch, Episode, MetaLearner
from maml_jax.version import __version__

__all__ = [
    "Batch",
    "Episode",
    "MetaLearner",
    "Plan",
    "__version__",
    "anil",
    "boil",
    "cavia",
    "fomaml",
    "from_flax",
    "imaml",
    "in_precision",
    "losses",
    "maml",
    "maml_plus_plus",
    "meta_curvature",
    "meta_sgd",
    "models",
    "over_tasks",
    "pretrained",
    "proto_maml",
    "protonet",
    "reptile",
    "scratch",
    "task_mesh",
    "tune",
]
