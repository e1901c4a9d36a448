"""Pre-training on all classes, then fine-tuning: a baseline without meta-learning."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from maml_jax.algorithms.fomaml import fomaml
from maml_jax.core.checks import checked_loss
from maml_jax.core.entry import entry_points
from maml_jax.core.rule import Adapts
from maml_jax.errors import check_count
from maml_jax.inner import without_head
from maml_jax.inner.prototypes import check_head
from maml_jax.losses import accuracy, softmax_cross_entropy
from maml_jax.types import (
    Apply,
    Batch,
    Episode,
    Examples,
    Loss,
    Meta,
    MetaLearner,
    Metrics,
    Params,
    RandomKey,
    Scalar,
)


def pretrained(
    apply: Apply,
    inner_lr: float | None = None,
    inner_steps: int = 1,
    *,
    loss: Loss = softmax_cross_entropy,
    query_loss: Loss | None = None,
    inner_optimizer: optax.GradientTransformation | None = None,
    adapts: Adapts | None = None,
    batch_size: int | None = None,
    classes: int | None = None,
    features: Apply | None = None,
    head: str = "head",
) -> MetaLearner:
    r"""Pre-training and fine-tuning: a network trained on everything at once adapts as in MAML.

    $$\theta = \arg\min \sum_{(x, y)} L\!\left(C f_\theta(x),\, y\right), \qquad
      \varphi_{k+1} = \varphi_k - \alpha \nabla L_S(\varphi_k)$$

    The baseline of Finn et al. 2017 and of Chen et al.: "A Closer Look at Few-shot Classification",
    ICLR 2019. For classification C is a classifier of all training classes at once, on the input
    of the head; the labels of the episodes it trains on must be the classes' numbers, the same in
    every episode. In a task the head starts as it was drawn, and everything is fine-tuned. With
    `classes=None` (regression) the network itself is trained on all tasks together. Both learn from
    the support and the query set alike.

    Args:
      apply: the model, `apply(params, x) -> outputs`.
      inner_lr: α of the fine-tuning.
      inner_steps: K of the fine-tuning.
      loss: as in `maml`; of these options training uses only `loss`.
      query_loss: as in `maml`.
      inner_optimizer: as in `maml`.
      adapts: as in `maml`.
      batch_size: as in `maml`.
      classes: how many there are in training.
      features: the input of the head, as in `proto_maml`.
      head: the path of the head, as in `proto_maml`.

    Returns:
      A `MetaLearner`; its meta-parameters are the weights, or with `classes` `{"params": weights,
      "classifier": {"kernel": [features, classes], "bias": [classes]}}`.

    Raises:
      InputError: as `maml`; from `init` with `classes`, no such head.
    """
    if classes is not None:
        classes = check_count("classes", classes, least=2)
    tuned = fomaml(
        apply,
        inner_lr,
        inner_steps,
        loss=loss,
        query_loss=query_loss,
        inner_optimizer=inner_optimizer,
        adapts=adapts,
        batch_size=batch_size,
    )
    head_input = features or without_head(apply, head)

    def init(params: Params) -> Meta:
        tuned.init(params)
        if classes is None:
            return params
        size, _ = check_head(params, head)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        kernel, bias = jnp.zeros((size, classes), dtype), jnp.zeros(classes, dtype)
        return {"params": params, "classifier": {"kernel": kernel, "bias": bias}}

    def weights(meta: Meta) -> Params:
        return meta if classes is None else meta["params"]

    def training_outputs(meta: Meta, x: Examples) -> Float[Array, "examples outputs"]:
        if classes is None:
            return apply(meta, x)
        classifier = meta["classifier"]
        return head_input(meta["params"], x) @ classifier["kernel"] + classifier["bias"]

    def value_and_grad(
        meta: Meta,
        episode: Episode,
        progress: float | Scalar = 1.0,
        *,
        key: RandomKey | None = None,
    ) -> tuple[tuple[Scalar, Metrics], Meta]:
        del progress, key
        x, y = jax.tree.map(lambda s, q: jnp.concatenate([s, q]), *episode)

        def total_loss(meta: Meta) -> tuple[Scalar, Examples]:
            outputs = training_outputs(meta, x)
            return checked_loss(loss)(outputs, y), outputs

        (value, outputs), grads = jax.value_and_grad(total_loss, has_aux=True)(meta)
        metrics = {"loss": value}
        if classes is not None:
            metrics["accuracy"] = accuracy(outputs, y)
        return (value, metrics), grads

    def adapt(
        meta: Meta, support: Batch, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        return tuned.adapt(weights(meta), support, steps, key=key)

    def trajectory(
        meta: Meta, support: Batch, steps: int | None = None, *, key: RandomKey | None = None
    ) -> Params:
        return tuned.trajectory(weights(meta), support, steps, key=key)

    def classify(
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
        key: RandomKey | None = None,
    ) -> Examples:
        return tuned.classify(
            weights(meta), support, x, transductive=transductive, steps=steps, key=key
        )

    def untrained(meta: Meta, support: Batch, x: Examples) -> Examples:
        del support
        return apply(weights(meta), x)

    def untrained_in_training(meta: Meta, support: Batch, x: Examples) -> Examples:
        del support
        return training_outputs(meta, x)

    learner = tuned._replace(
        init=init,
        adapt=adapt,
        trajectory=trajectory,
        classify=classify,
        value_and_grad=value_and_grad,
        description=tuned.description.replace("fomaml", "pretrained"),
    )
    return entry_points(
        learner,
        untrained,
        meta_keys=() if classes is None else ("params", "classifier"),
        query_loss=loss,
        training_outputs=untrained_in_training,
    )
