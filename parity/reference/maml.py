"""MAML."""

from collections.abc import Callable

from parity.reference import Comparison
from parity.torch_tools import Forward, Groups, Loss, Optimizer, Task, TaskResult, gradient, leaves


def maml(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    adapts: Callable[[str], bool] = lambda name: True,
) -> TaskResult:
    r"""MAML: the gradient of the query loss through every inner step (Finn et al. 2017).

    $$\varphi_0 = \theta, \qquad \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k), \qquad
      \tfrac{d}{d\theta} L_Q(\varphi_K)$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`.
      task: S and Q.
      inner_lr: α.
      inner_steps: K.
      optimizer: the inner optimizer.
      adapts: which weights adapt, by their names.
    """
    start = leaves(meta["params"])
    fast, inner = start, Optimizer(optimizer, inner_lr)
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        adapting = {name: weight for name, weight in fast.items() if adapts(name)}
        # The graph of the gradient itself is what makes the outer gradient second-order.
        slope = gradient(support_loss, adapting, create_graph=True)
        fast = {**fast, **inner.step(adapting, slope)}
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    return TaskResult(query_loss, trajectory, {"params": gradient(query_loss, start)})


COMPARISONS = (Comparison(maml),)
