"""MAML++."""

import torch

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

PROGRESS = 0.04
MULTI_STEP_UNTIL = 0.1


def maml_plus_plus(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    task: Task,
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> TaskResult:
    r"""MAML++ at 4 % of training, while the losses of all steps count (Antoniou et al. 2019).

    $$\varphi_{k+1} = \varphi_k - \alpha_{l,k} \nabla_l L_S(\varphi_k), \qquad
      \tfrac{d}{d(\theta, \alpha, \nu)} \sum_k w_k L_Q(\varphi_k)$$

    The norms ν of step k serve the support set in it and the query set after it, and do not adapt.

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`; α as `rates` `[K]` for each weight that adapts; ν as `norms` `[K, …]`,
        where the network has any.
      task: S and Q.
      inner_lr: not used: the rates are among the meta-parameters.
      inner_steps: K.
      optimizer: not used.
    """
    del inner_lr, optimizer
    early = max((1 - PROGRESS / MULTI_STEP_UNTIL) / inner_steps, 0.03 / inner_steps)
    step_weights = [early] * (inner_steps - 1) + [1 - (inner_steps - 1) * early]
    own_norms = meta.get("norms", {})
    start = leaves({name: w for name, w in meta["params"].items() if name not in own_norms})
    rates, norms = leaves(meta["rates"]), leaves(own_norms)
    fast = start
    first = {**fast, **{name: per_step[0] for name, per_step in norms.items()}}
    trajectory = [{name: first[name] for name in meta["params"]}]
    total = torch.zeros((), dtype=next(iter(start.values())).dtype)
    for k in range(inner_steps):
        norms_k = {name: per_step[k] for name, per_step in norms.items()}
        support_loss = loss(forward({**fast, **norms_k}, task.support_x), task.support_y)
        slope = gradient(support_loss, fast, create_graph=True)
        fast = {name: weight - rates[name][k] * slope[name] for name, weight in fast.items()}
        network = {**fast, **norms_k}
        total = total + step_weights[k] * loss(forward(network, task.query_x), task.query_y)
        trajectory.append({name: network[name] for name in meta["params"]})
    groups = {"params": start, "rates": rates, "norms": norms}
    slopes = gradient_by_group(total, {group: groups[group] for group in meta})
    # The norms in θ are not used: those of the steps stand for them. Their gradient is zero.
    slopes["params"] = {
        name: slopes["params"].get(name, torch.zeros_like(weight))
        for name, weight in meta["params"].items()
    }
    return TaskResult(total, trajectory, slopes)


COMPARISONS = (
    Comparison(
        maml_plus_plus,
        options={"multi_step_until": MULTI_STEP_UNTIL},
        progress=PROGRESS,
    ),
)
