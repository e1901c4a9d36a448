"""FOMAML."""

from parity.reference import Comparison
from parity.torch_tools import Forward, Groups, Loss, Optimizer, Task, TaskResult, gradient, leaves


def fomaml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""FOMAML: the gradient of the query loss at the adapted weights (Finn et al. 2017, §5.2).

    $$\nabla L_Q(\varphi)\big|_{\varphi = \varphi_K}$$

    Arguments and result are those of `maml`.
    """
    fast, inner = leaves(meta["params"]), Optimizer(optimizer, inner_lr)
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        fast = leaves(inner.step(fast, gradient(support_loss, fast)))
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    return TaskResult(query_loss, trajectory, {"params": gradient(query_loss, fast)})


COMPARISONS = (Comparison(fomaml),)
