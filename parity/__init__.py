"""Meta-gradients of maml_jax and of your own code, compared with plain PyTorch.

`python -m parity --help` says what the command does; `parity.check` is for your own code.

The names in `__init__.pyi` are imported on first use, because PyTorch may be missing, which
`python -m parity` reports in one line.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
