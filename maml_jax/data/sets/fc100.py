"""FC100 (Oreshkin et al. 2018): CIFAR-100, whole superclasses held out for validation and test."""

from maml_jax.data.cifar import few_shot_cifar
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.request import Request


def load(request: Request) -> LabelledSet:
    """12 superclasses of 5 classes to train, 4 to validate, 4 to test; lists hold superclasses."""
    return few_shot_cifar(
        request, lambda name, of: [fine for fine, coarse in of.items() if coarse == name]
    )
