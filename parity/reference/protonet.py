"""ProtoNet."""

from parity.reference import Comparison
from parity.reference.proto_maml import proto_maml
from parity.torch_tools import Forward, Groups, Loss, Task, TaskResult


def protonet(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    """ProtoNet: Proto-MAML without inner steps (Snell et al. 2017)."""
    del inner_steps
    return proto_maml(
        forward, loss, meta, task, inner_lr=inner_lr, inner_steps=0, optimizer=optimizer
    )


COMPARISONS = (Comparison(protonet, regression=False),)
