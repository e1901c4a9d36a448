"""Meta-gradients of maml_jax and of your own code, compared with plain PyTorch.

`python -m parity --help` says what the command does; `parity.check` is for your own code.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from parity.checking import check
    from parity.diagnosis import Diagnosis, diagnose
    from parity.problem import Problem, in_eval_mode
    from parity.torch_tools import Task

# On first use, because PyTorch may be missing, which `python -m parity` reports in one line.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checking": ["check"],
        "diagnosis": ["Diagnosis", "diagnose"],
        "problem": ["Problem", "in_eval_mode"],
        "torch_tools": ["Task"],
    },
)

__all__ = ["Diagnosis", "Problem", "Task", "check", "diagnose", "in_eval_mode"]
