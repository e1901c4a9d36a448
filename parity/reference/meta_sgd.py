"""Meta-SGD, and its first-order form."""

from functools import partial

from parity.reference import Comparison
from parity.torch_tools import (
    Forward,
    Groups,
    Loss,
    Task,
    TaskResult,
    gradient,
    gradient_by_group,
    leaves,
)


def meta_sgd(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
    create_graph: bool = True,
) -> TaskResult:
    r"""Meta-SGD: MAML with a learned rate for every weight (Li et al. 2017).

    $$\varphi_{k+1} = \varphi_k - a \circ \nabla L_S(\varphi_k), \qquad
      \tfrac{d}{d(\theta, a)} L_Q(\varphi_K)$$

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params` and a as `rates`, by the names of the weights.
      task: S and Q.
      inner_lr: not used: the rates are among the meta-parameters.
      inner_steps: K.
      optimizer: not used.
      create_graph: False takes the inner gradients for constants; the rates learn all the same.
    """
    del inner_lr, optimizer
    start, rates = leaves(meta["params"]), leaves(meta["rates"])
    fast = start
    trajectory = [fast]
    for _ in range(inner_steps):
        support_loss = loss(forward(fast, task.support_x), task.support_y)
        slope = gradient(support_loss, fast, create_graph=create_graph)
        if not create_graph:
            slope = {name: g.detach() for name, g in slope.items()}
        fast = {name: weight - rates[name] * slope[name] for name, weight in fast.items()}
        trajectory.append(fast)
    query_loss = loss(forward(fast, task.query_x), task.query_y)
    slopes = gradient_by_group(query_loss, {"params": start, "rates": rates})
    return TaskResult(query_loss, trajectory, slopes)


first_order_meta_sgd = partial(meta_sgd, create_graph=False)
"""Meta-SGD whose inner gradients, but not whose rates, are constants."""

COMPARISONS = (
    Comparison(meta_sgd),
    Comparison(
        first_order_meta_sgd,
        variant="first-order",
        options={"differentiate": "first_order"},
    ),
)
