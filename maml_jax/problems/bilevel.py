"""The primitive: an inner objective, an outer objective, a rule, and a differentiation."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import optax
from jaxtyping import Array, PyTree

from maml_jax.core.checkpointing import Policy
from maml_jax.core.implicit import Solver, implicit
from maml_jax.core.loop import Minimizer
from maml_jax.core.objectives import Inner, Outer, Problem, next_of_stream, whole
from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, State, StepNumber
from maml_jax.core.unrolled import OuterSteps, unrolled
from maml_jax.errors import InputError, check_choice, check_count, shown
from maml_jax.inner import can_be_made_safe, descent, inner_optimizer_from, made_safe
from maml_jax.types import Apply, Data, Meta, MetaLearner, Params, Scalar

Hyper: TypeAlias = PyTree[Array]
"""What is meta-learned besides the initial weights."""
Differentiation: TypeAlias = Literal["mixed", "reverse", "first_order", "implicit"]


def bilevel(
    inner: Inner,
    outer: Outer,
    inner_lr: float | Callable[[Hyper], PyTree[Array]] | None = None,
    inner_steps: int = 1,
    *,
    hyper: Hyper | None = None,
    inner_optimizer: (
        optax.GradientTransformation | Callable[[Hyper], optax.GradientTransformation] | None
    ) = None,
    adapts: Adapts | None = None,
    rule: InnerRule | None = None,
    minimizer: Minimizer | None = None,
    differentiate: Differentiation = "mixed",
    stream: bool = False,
    outer_steps: OuterSteps = "last",
    stored_steps: int | None = None,
    last_steps: int | None = None,
    step_policy: Policy | None = None,
    gradient_norms: bool = False,
    solver: Solver = "cg",
    solver_steps: int = 20,
    damping: float = 0.0,
    predict: Apply | None = None,
) -> MetaLearner:
    r"""Any problem of two levels: meta-parameters that make an inner minimisation end well.

    $$\min_{\theta, h}\; L_{\text{outer}}(\varphi_K, \theta, h; Q), \qquad
      \varphi_0 = \theta, \qquad
      \varphi_{k+1} = \varphi_k - \alpha\nabla_\varphi L_{\text{inner}}(\varphi_k, \theta, h; S)$$

    The meta-parameters are `{"params": θ, "hyper": h}`, or with a `rule` whose meta-parameters have
    other keys, these and `"hyper"`. `mj.maml(apply, loss=…)` is the case of an inner objective
    `loss(apply(weights, batch.x), batch.y)`. Support and query set may be any pytrees of arrays in
    an `mj.Episode(support, query)`.

    Random numbers come from the `key` that `adapt`, `value_and_grad` and the step of `over_tasks`
    take; `mj.train` gives a new one in each update. Of `inside, after = jax.random.split(key)`,
    step k gets `fold_in(inside, k)`, and the outer objective after k steps `fold_in(after, k)`.

    Args:
      inner: `inner(weights, meta, batch, key) -> scalar`; or `(scalar, changed)`, where `changed`
        has new values of some entries of the weights, such as running statistics: they are carried
        to the next step and to `outer`, and no gradient flows through them. They must not adapt.
      outer: `outer(weights, meta, batch, key) -> scalar`, or `(scalar, metrics)`.
      inner_lr: α; or `inner_lr(hyper)`, a learned rate, or a pytree of them whose leaves stand for
        whole branches of the weights.
      inner_steps: K.
      hyper: h at the start, any pytree of arrays; None: there is none.
      inner_optimizer: any optax optimiser, or `inner_optimizer(hyper)`, instead of `inner_lr`.
      adapts: a predicate on the paths of the weights that adapt; None: all of them.
      rule: any inner rule (`maml_jax.inner`), instead of `inner_lr`, `inner_optimizer`, `adapts`.
      minimizer: `minimizer(objective, start) -> minimum`, which stops by itself, instead of steps;
        with `differentiate="implicit"` alone.
      differentiate: `"mixed"` (exact, little memory), `"reverse"` (exact), `"first_order"`; or
        `"implicit"`, the derivative of the minimum itself, however it was reached.
      stream: whether each inner step has its own batch, the next along the leading axis of the
        support set's arrays, `[K, …]`.
      outer_steps: `"last"`: the outer objective is that after K steps. `"each"`: the mean of those
        before each step, on the query set's arrays `[K, …]` one after another.
      stored_steps: about how many copies of the weights are stored for the meta-gradient; the
        others are computed again, in nested scans. None: one copy a step.
      last_steps: the meta-gradient goes through the last of so many steps, as if the weights before
        them were constants: it is biased, the more the fewer they are. None: all steps.
      step_policy: what is stored within a step beside the weights, one of
        `jax.checkpoint_policies`; None: what JAX stores. The weights that a step starts from, with
        the optimiser's state, have the name `inner_weights` and its gradient `inner_gradient`, to
        be saved, or offloaded to the host's memory.
      gradient_norms: whether `metrics` has `meta_gradient_norm`, `[K]`: the norm of the outer
        objective's derivative in the weights that each step starts from.
      solver: of the implicit derivative, `"cg"`, or `"neumann"`.
      solver_steps: its iterations.
      damping: a multiple of the identity added to the inner Hessian.
      predict: the model, `predict(weights, x) -> outputs`, for the learner's `predict` and
        `classify`; None: it has neither.

    Returns:
      A `MetaLearner`, which `mj.over_tasks` and `mj.train` take; its `adapt(meta, support, steps,
      key=key)` returns the weights.

    Raises:
      InputError: an argument out of its range, or one that the others leave without effect.
    """
    check_choice("differentiate", differentiate, get_args(Differentiation))
    _check_combination(
        differentiate,
        minimizer,
        of_steps={
            "stream": stream,
            "outer_steps": outer_steps != "last",
            "stored_steps": stored_steps is not None,
            "last_steps": last_steps is not None,
            "step_policy": step_policy is not None,
            "gradient_norms": gradient_norms,
        },
        of_solver={
            "solver": solver != "cg",
            "solver_steps": solver_steps != 20,
            "damping": damping != 0.0,
        },
        instead_of_minimizer={
            "inner_lr": inner_lr is not None,
            "inner_optimizer": inner_optimizer is not None,
            "inner_steps": inner_steps != 1,
        },
    )
    if minimizer is not None and inner_lr is None and inner_optimizer is None and rule is None:
        inner_lr = 0.0  # there are no steps
    hyper = {} if hyper is None else hyper
    differentiated = differentiate != "first_order"
    rules = _rules(inner_lr, inner_optimizer, adapts, rule, hyper, differentiated)
    steps = check_count("inner_steps", inner_steps, least=0)
    if outer_steps == "each" and steps == 0:
        raise InputError("`inner_steps` was 0 and `outer_steps` 'each', the mean over no step.")

    problem = Problem(inner, outer, next_of_stream if stream else whole, predict)
    chosen = _with_hyper(rules, hyper)
    if differentiate == "implicit":
        return implicit(
            problem,
            chosen,
            name="bilevel",
            inner_steps=steps,
            minimizer=minimizer,
            solver=solver,
            solver_steps=solver_steps,
            damping=damping,
        )
    return unrolled(
        problem,
        chosen,
        name="bilevel",
        inner_steps=steps,
        differentiate=differentiate,
        outer_steps=outer_steps,
        stored_steps=stored_steps,
        last_steps=last_steps,
        step_policy=step_policy,
        gradient_norms=gradient_norms,
    )


def _rules(
    inner_lr: float | Callable[[Hyper], PyTree[Array]] | None,
    inner_optimizer: Any,
    adapts: Adapts | None,
    rule: InnerRule | None,
    at_first: Hyper,
    differentiated: bool,
) -> Callable[[Hyper], InnerRule]:
    """The rule, given the hyper-parameters; `at_first` are those at the start."""
    if rule is not None:
        if not (inner_lr is inner_optimizer is adapts is None):
            raise InputError(
                "`rule` was given together with `inner_lr`, `inner_optimizer` or `adapts`; it says "
                "all that they say: pass it alone."
            )
        return lambda hyper: rule
    if callable(inner_lr) and inner_optimizer is None:
        return lambda hyper: descent(_at_rates(inner_lr(hyper)), adapts)
    if inner_lr is None and inner_optimizer is not None and not hasattr(inner_optimizer, "update"):
        unsafe = differentiated and can_be_made_safe(inner_optimizer(at_first))
        return lambda hyper: descent(
            made_safe(inner_optimizer(hyper)) if unsafe else inner_optimizer(hyper), adapts
        )
    fixed = descent(
        inner_optimizer_from(inner_lr, inner_optimizer, differentiated=differentiated),  # type: ignore[arg-type]  # one of them is callable only where the other is given too, which it refuses
        adapts,
    )
    return lambda hyper: fixed


def _at_rates(rates: PyTree[Array]) -> optax.GradientTransformation:
    """Gradient descent at rates whose leaves stand for whole branches of the weights."""

    def update(gradient: Fast, state: Any, params: Any = None) -> tuple[Fast, Any]:
        del params
        try:
            changes = jax.tree.map(
                lambda rate, branch: jax.tree.map(lambda leaf: -rate * leaf, branch),
                rates,
                gradient,
            )
        except ValueError as error:
            raise InputError(
                f"`inner_lr` returned {shown(rates, 80)} for weights {shown(gradient, 80)}; it "
                "must be a number, or have a number for each branch of the weights that adapt."
            ) from error
        return changes, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _with_hyper(rules: Callable[[Hyper], InnerRule], hyper: Hyper) -> InnerRule:
    """The rule whose meta-parameters have `"hyper"` beside those of `rules(hyper)`."""
    at_first = rules(hyper)

    def of_rule(meta: Meta) -> Meta:
        return meta if at_first.meta_keys else meta["params"]

    def init(params: Params) -> Meta:
        meta = at_first.init(params)
        return {**(meta if at_first.meta_keys else {"params": meta}), "hyper": hyper}

    def start(meta: Meta, support: Data, progress: Scalar) -> tuple[Fast, Frozen, State]:
        return rules(meta["hyper"]).start(of_rule(meta), support, progress)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        return rules(meta["hyper"]).update(of_rule(meta), gradient, state, fast, step)

    keys = (*(at_first.meta_keys or ("params",)), "hyper")
    return InnerRule(init, start, at_first.weights, update, keys, at_first.needs_classes)


def _check_combination(
    differentiate: str,
    minimizer: Minimizer | None,
    of_steps: dict[str, bool],
    of_solver: dict[str, bool],
    instead_of_minimizer: dict[str, bool],
) -> None:
    """An `InputError` where an argument is given, by name, that would have no effect."""
    if minimizer is not None and differentiate != "implicit":
        raise InputError(
            f"`differentiate` was {differentiate!r}; what a `minimizer` did has no steps to "
            'differentiate through: pass `differentiate="implicit"`.'
        )
    for name, given in of_solver.items():
        if given and differentiate != "implicit":
            raise InputError(
                f"`{name}` was given and `differentiate` {differentiate!r}, which solves nothing; "
                'it is for "implicit".'
            )
    for name, given in instead_of_minimizer.items():
        if given and minimizer is not None:
            raise InputError(f"`{name}` was given beside a `minimizer`, which takes no steps.")
    for name, given in of_steps.items():
        if given and differentiate == "implicit":
            raise InputError(
                f'`{name}` was given and `differentiate` "implicit", which goes through no steps; '
                'it may be "mixed", "reverse" or "first_order".'
            )
