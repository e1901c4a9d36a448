"""CIFAR-FS (Bertinetto et al. 2019): the classes of CIFAR-100, split at random."""

from maml_jax.data.cifar import few_shot_cifar
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.request import Request


def load(request: Request) -> LabelledSet:
    """64 classes to train, 16 to validate, 20 to test; lists hold pairs of superclass and class."""
    return few_shot_cifar(request, lambda pair, known: [pair[1]] if pair[1] in known else [])
