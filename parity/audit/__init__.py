"""Are gradients of gradients right? In PyTorch, in JAX, in this library, in your own function.

`python -m parity.audit --help` says what the command does; `check` is for your own function. The
names in `__init__.pyi` are imported on first use, because PyTorch may be missing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
