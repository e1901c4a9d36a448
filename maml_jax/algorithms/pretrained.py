"""Pre-training on all classes, then fine-tuning: a baseline without meta-learning."""

from typing import Any

import jax
import jax.numpy as jnp

from maml_jax.algorithms.maml import maml
from maml_jax.errors import check_count
from maml_jax.inner import without_head
from maml_jax.inner.prototypes import check_head
from maml_jax.losses import accuracy
from maml_jax.types import Apply, MetaLearner


def pretrained(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    classes: int | None = None,
    features: Apply | None = None,
    head: str = "head",
    **options: Any,
) -> MetaLearner:
    r"""Pre-training and fine-tuning: a network trained on everything at once adapts as in MAML.

    $$\theta = \arg\min \sum_{(x, y)} L\!\left(C f_\theta(x),\, y\right), \qquad
      \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k)$$

    The baseline of Finn et al. 2017 and of Chen et al.: "A Closer Look at Few-shot Classification",
    ICLR 2019. For classification C is a classifier of all training classes at once, on what the
    head sees; the labels of the episodes it trains on must be the classes' numbers, the same in
    every episode. In a task the head starts as it was drawn, and everything is fine-tuned. With
    `classes=None` (regression) the network itself is trained on all tasks together. Both learn from
    the support and the query set alike.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: α of the fine-tuning.
      inner_steps: K of the fine-tuning.
      classes: how many there are in training.
      features: what the head sees, as in `proto_maml`.
      head: the path of the head, as in `proto_maml`.
      options: as in `maml`; of no account to the training but for `loss`.

    Returns:
      A `MetaLearner`; its meta-parameters are the weights, or with `classes` `{"params": weights,
      "classifier": {"kernel": [features, classes], "bias": [classes]}}`.

    Raises:
      InputError: as `maml`; from `init` with `classes`, no such head.
    """
    tuned = maml(apply, inner_lr, inner_steps, **{**options, "differentiate": "first_order"})
    seen = features or without_head(apply, head)

    def init(params):
        tuned.init(params)
        if classes is None:
            return params
        check_count("classes", classes, least=2)
        size, _ = check_head(params, head)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        kernel, bias = jnp.zeros((size, classes), dtype), jnp.zeros(classes, dtype)
        return {"params": params, "classifier": {"kernel": kernel, "bias": bias}}

    def outputs(meta, x):
        if classes is None:
            return apply(meta, x)
        return seen(meta["params"], x) @ meta["classifier"]["kernel"] + meta["classifier"]["bias"]

    def total_loss(meta, episode):
        x, y = (jnp.concatenate(both) for both in zip(*episode, strict=True))
        results = outputs(meta, x)
        return tuned.loss(results, y), (results, y)

    def value_and_grad(meta, episode, progress=1.0):
        del progress
        (value, (results, y)), grads = jax.value_and_grad(total_loss, has_aux=True)(meta, episode)
        metrics = {"loss": value}
        if classes is not None:
            metrics["accuracy"] = accuracy(results, y)
        return (value, metrics), grads

    def weights(meta):
        return meta if classes is None else meta["params"]

    return tuned._replace(
        init=init,
        adapt=lambda meta, support, steps=None: tuned.adapt(weights(meta), support, steps),
        trajectory=lambda meta, support, steps=None: tuned.trajectory(
            weights(meta), support, steps
        ),
        value_and_grad=value_and_grad,
    )
