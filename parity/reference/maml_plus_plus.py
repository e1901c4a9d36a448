"""MAML++."""

from collections.abc import Sequence

import torch

from parity.models import Forward, Weights
from parity.reference.common import Groups, Loss, Result, Task, gradient, leaves, mean

PROGRESS = 0.04
MULTI_STEP_UNTIL = 0.1


def maml_plus_plus(
    forward: Forward,
    loss: Loss,
    meta: Groups,
    tasks: Sequence[Task],
    *,
    inner_lr: float,
    inner_steps: int,
    optimizer: str = "sgd",
) -> Result:
    r"""MAML++ at 4 % of training, when the losses of all steps count (Antoniou et al. 2019).

    $$\varphi_{k+1} = \varphi_k - \alpha_{l,k} \nabla_l L_S(\varphi_k), \qquad
      \tfrac1T \sum_t \tfrac{d}{d(\theta, \alpha, \nu)} \sum_k w_k L_{Q_t}(\varphi_{t,k})$$

    The norms ν of step k serve the support set in it and the query set after it, and do not adapt.

    Args:
      forward: the network.
      loss: a mean over examples.
      meta: θ as `params`; α as `rates` `[K]` for each weight that adapts; ν as `norms` `[K, …]`,
        which may be none.
      tasks: the T tasks.
      inner_lr: where α starts; of no account here.
      inner_steps: K.
      optimizer: has no part in it.
    """
    del inner_lr, optimizer
    share = max((1 - PROGRESS / MULTI_STEP_UNTIL) / inner_steps, 0.03 / inner_steps)
    shares = [share] * (inner_steps - 1) + [1 - (inner_steps - 1) * share]
    losses, trajectories = [], []
    gradients: dict[str, list[Weights]] = {group: [] for group in meta}
    for task in tasks:
        start = leaves({n: w for n, w in meta["params"].items() if n not in meta.get("norms", {})})
        rates, norms = leaves(meta["rates"]), leaves(meta.get("norms", {}))
        fast = start
        first = {**fast, **{name: steps[0] for name, steps in norms.items()}}
        trajectory = [{name: first[name] for name in meta["params"]}]
        total = torch.zeros((), dtype=next(iter(start.values())).dtype)
        for k in range(inner_steps):
            now = {name: steps[k] for name, steps in norms.items()}
            support_loss = loss(forward({**fast, **now}, task.support_x), task.support_y)
            slope = gradient(support_loss, fast, create_graph=True)
            fast = {name: weight - rates[name][k] * slope[name] for name, weight in fast.items()}
            after = {**fast, **now}
            total = total + shares[k] * loss(forward(after, task.query_x), task.query_y)
            trajectory.append({name: after[name] for name in meta["params"]})
        named = {
            f"{group} {name}": tensor
            for group, tensors in {"params": start, "rates": rates, "norms": norms}.items()
            for name, tensor in tensors.items()
        }
        found = gradient(total, named)
        for group, tensors in meta.items():
            gradients[group].append(
                {  # the norms among θ have no part: those of the steps stand for them
                    name: found.get(f"{group} {name}", torch.zeros_like(tensor))
                    for name, tensor in tensors.items()
                }
            )
        losses.append(total.detach())
        trajectories.append(trajectory)
    return Result(losses, trajectories, {group: mean(found) for group, found in gradients.items()})
