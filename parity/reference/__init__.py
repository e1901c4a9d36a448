"""Each algorithm once more, as the plainest loop that PyTorch can express.

A weight that the loss does not reach is an error here, as `torch.autograd.grad` has it by default:
`allow_unused` would let a missing gradient pass for a zero. Where a weight has no part by
definition, such as the head that prototypes replace, its gradient is written down as zero.
"""

from parity.reference.cavia import cavia
from parity.reference.common import Groups, Loss, Reference, Result, Task
from parity.reference.imaml import imaml
from parity.reference.maml import anil, boil, fomaml, maml
from parity.reference.maml_plus_plus import maml_plus_plus
from parity.reference.meta_curvature import meta_curvature
from parity.reference.meta_sgd import first_order_meta_sgd, meta_sgd
from parity.reference.pretrained import pretrained
from parity.reference.prototypes import first_order_proto_maml, proto_maml, protonet
from parity.reference.reptile import reptile

__all__ = [
    "Groups",
    "Loss",
    "Reference",
    "Result",
    "Task",
    "anil",
    "boil",
    "cavia",
    "first_order_meta_sgd",
    "first_order_proto_maml",
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
]
