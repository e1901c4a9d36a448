"""MAML++."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from maml_jax.core.metagrad import Differentiate
from maml_jax.core.objectives import supervised
from maml_jax.core.rule import Adapts
from maml_jax.core.unrolled import unrolled
from maml_jax.errors import InputError, check_count, check_number
from maml_jax.inner import per_step
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Apply, Loss, MetaLearner, Scalar


def maml_plus_plus(
    apply: Apply,
    inner_lr: float,
    inner_steps: int = 5,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    adapts: Adapts | None = None,
    differentiate: Differentiate = "mixed",
    batch_size: int | None = None,
    learn_rates: bool = True,
    norm_per_step: bool = True,
    multi_step_until: float = 0.1,
    second_order_from: float = 0.0,
) -> MetaLearner:
    r"""MAML++: MAML with what makes its training stable, each part with its own switch.

    $$\varphi_{k+1} = \varphi_k - \alpha_{l,k}\nabla_l L_S(\varphi_k), \qquad
      \min\; \textstyle\sum_k w_k(p)\, L_Q(\varphi_k)$$

    for layers l, steps k < K and the progress p of training in [0, 1]. Of the weights $w_k$, the
    non-final ones are $\max(\tfrac1K(1 - p/p_0), \tfrac{0.03}K)$ until $p_0$ and then 0; the last
    is what remains of 1. Antoniou, Edwards, Storkey: "How to train your MAML", ICLR 2019; the
    annealing is that of their code. Give `progress` to the step of `over_tasks`; without it,
    training is at its end. The remaining part, the outer rate's cosine, is the outer optimiser's.
    Batch norm takes the current batch's statistics, so those are each step's own, as in their code,
    which keeps running averages for each step but does not normalise by them.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: the rate, or where all rates start (0.1 in their code).
      inner_steps: K, at least 1. Steps beyond it, at test, use the last rates and norms.
      loss: as in `maml`.
      query_loss: as in `maml`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      differentiate: as in `maml`.
      batch_size: as in `maml`.
      learn_rates: learn a rate for each array of weights and each step.
      norm_per_step: learn batch norm's scales and biases for each step; they do not adapt. A
        norm is known by its name ("norm" or "bn" with a number), or as a layer that holds a scale
        and a bias, vectors of one length, and nothing else; the log says if none is found.
      multi_step_until: $p_0$; 0 has the last step's loss alone.
      second_order_from: before this progress the inner gradients are constants.

    Returns:
      A `MetaLearner`; its meta-parameters are `{"params": weights}` and, where switched on,
      `"rates"`, `{path: [K]}`, and `"norms"`, `{path: [K, …]}`.

    Raises:
      InputError: as `maml`; `multi_step_until` or `second_order_from` outside [0, 1].
    """
    steps = check_count("inner_steps", inner_steps)
    multi_step_until = _part("multi_step_until", multi_step_until)
    second_order_from = _part("second_order_from", second_order_from)

    def step_weights(progress: Scalar) -> Float[Array, " inner_steps"]:
        others = jnp.maximum((1 - progress / multi_step_until) / steps, 0.03 / steps)
        others = jnp.where(progress < multi_step_until, others, 0.0)
        return jnp.full(steps, others).at[-1].set(1 - (steps - 1) * others)

    rule = per_step(
        check_number("inner_lr", inner_lr),
        steps,
        rates=learn_rates,
        norms=norm_per_step,
        second_order_from=second_order_from,
        adapts=adapts,
    )
    return unrolled(
        supervised(apply, loss, query_loss, batch_size),
        rule,
        name="maml_plus_plus",
        inner_steps=steps,
        differentiate=differentiate,
        step_weights=step_weights if multi_step_until else None,
    )


def _part(name: str, value: float) -> float:
    """`value` if it is a part of training, in 0 to 1."""
    part = check_number(name, value)
    if part > 1:
        raise InputError(f"`{name}` was {part}; it is a part of training, in 0 to 1.")
    return part
