"""Mistakes of whole training loops are named, and no other with them."""

from functools import partial

import loops
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from test_diagnosis import (
    FIRST_ORDER,
    IN_LOOPS,
    NETWORKS,
    OF_BATCH_NORM,
    STEPS,
    catalogue,
    cross_entropy,
    flattened_of,
    named,
    problem,
    tasks_of,
)

import parity
from parity.conversion import to_flax, to_torch
from parity.torch_layers import dense

SGD = torch.optim.SGD
ADAM = torch.optim.Adam
KEPT = ", its state shared by the tasks"
MOMENTUM = "momentum 0.9 in the inner optimizer"
AS_ADAM = "Adam as the inner optimizer"
IN_PLACE = "weights updated in place: "
FOR_QUERY = "batch norm in evaluation mode for the query alone"
in_place = partial(partial, loops.optimizer_of_torch, SGD, False)

# One process, which computes each catalogue once.
pytestmark = pytest.mark.xdist_group("catalogues")
PLANTED = {
    "inner graph created in the last inner step alone": loops.last_graph_alone,
    "weights detached in the inner step (.detach() or .data)": loops.weights_detached,
    "query loss taken on the support set": loops.support_twice,
    "adapted to the query set": loops.query_twice,
    "query loss taken over support and query set together": loops.leaked,
    "earlier tasks counted again: zero_grad forgotten between tasks, or the sum of losses "
    "differentiated after each (retain_graph)": loops.retained,
    "only the last task counted": partial(loops.one_task, -1, False),
    "only the last task counted, as a mean of one": partial(loops.one_task, -1, True),
    "only the first task counted": partial(loops.one_task, 0, False),
    "only the first task counted, as a mean of one": partial(loops.one_task, 0, True),
    MOMENTUM: partial(loops.by_optimizer, loops.momentum, False),
    MOMENTUM + KEPT: partial(loops.by_optimizer, loops.momentum, True),
    AS_ADAM: partial(loops.by_optimizer, loops.adam, False),
    AS_ADAM + KEPT: partial(loops.by_optimizer, loops.adam, True),
    "gradients of earlier inner steps added: zero_grad forgotten in the inner loop": partial(
        loops.by_optimizer, loops.summed, False
    ),
    IN_PLACE + "the last inner gradient left in the outer one, zero_grad forgotten before the "
    "query loss": in_place({"inner"}),
    IN_PLACE + "zero_grad called once in a task": in_place({"task"}),
    IN_PLACE + "zero_grad never called": in_place(set()),
    FOR_QUERY: partial(loops.evaluation_for_the_query, False, False),
    FOR_QUERY + ", by running statistics that each task starts anew": partial(
        loops.evaluation_for_the_query, True, False
    ),
    FOR_QUERY + ", by running statistics that are carried from task to task": partial(
        loops.evaluation_for_the_query, True, True
    ),
}


def with_statistics(weights, x, statistics, training):
    """The network of `mlp-batch-norm`, with running statistics."""
    x = dense(weights, "layers.0", x)
    scale, bias = weights["norms.0.weight"], weights["norms.0.bias"]
    x = F.batch_norm(x, *statistics, scale, bias, training=training, momentum=0.1, eps=1e-5)
    return dense(weights, "head", F.relu(x))


def run(loop, name, forward=None):
    weights = to_torch(problem(name).params, flattened_of(name))
    found = loop(
        forward or NETWORKS[name],
        weights,
        tasks_of(name),
        problem(name).inner_lr,
        STEPS,
        cross_entropy,
    )
    return parity.diagnose(
        to_flax(found, flattened_of(name)), problem(name), catalogue=catalogue(name)
    )


def test_every_mistake_of_loops_is_planted():
    assert PLANTED.keys() == IN_LOOPS | OF_BATCH_NORM


@pytest.mark.parametrize("name", ["mlp-batch-norm", "mlp"])
@pytest.mark.parametrize("mistake", sorted(IN_LOOPS))
def test_a_mistake_of_a_loop_is_named(mistake, name):
    found = run(PLANTED[mistake], name)
    assert not found.correct
    assert named(found) == [(mistake,)], str(found)


@pytest.mark.parametrize("mistake", sorted(OF_BATCH_NORM))
def test_evaluation_mode_for_the_query_is_named(mistake):
    found = run(PLANTED[mistake], "mlp-batch-norm", with_statistics)
    assert named(found) == [(mistake,)], str(found)


@pytest.mark.slow  # no single mistake fits, so that all pairs are tried
@pytest.mark.parametrize(
    ("make", "kept", "mistake"),
    [
        (lambda ps, lr: SGD(ps, lr, momentum=0.9), False, MOMENTUM),
        (lambda ps, lr: SGD(ps, lr, momentum=0.9), True, MOMENTUM + KEPT),
        (ADAM, False, AS_ADAM),
        (ADAM, True, AS_ADAM + KEPT),
    ],
)
def test_optimizers_of_torch_are_first_order_too(make, kept, mistake):
    loop = partial(loops.optimizer_of_torch, make, kept, {"inner", "query"})
    assert named(run(loop, "mlp")) == [(FIRST_ORDER, mistake)]


def test_right_loops_are_right():
    """The same loops without their mistakes: the first-order ones are first-order, no more."""
    right = partial(loops.on_sets, lambda task: task)
    assert run(right, "mlp").correct
    assert run(right, "mlp-batch-norm").correct
    in_order = in_place({"inner", "query"})
    assert named(run(in_order, "mlp")) == [(FIRST_ORDER,)]
    assert named(run(in_order, "mlp-batch-norm")) == [(FIRST_ORDER,)]
