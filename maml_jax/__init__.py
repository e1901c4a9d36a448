"""Few-shot meta-learning in JAX.

A learner is a product of three choices: how a task is learned, how that learning is differentiated,
and how tasks are batched.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so that
`maml-jax --help` need not wait for JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
