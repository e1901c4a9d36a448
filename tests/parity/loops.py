"""Training loops in PyTorch as people write them, each with one mistake.

Each is a function `loop(forward, weights, tasks, alpha, steps, loss)` that returns the mean
meta-gradient by the weights' names. `forward(weights, x)` is the network; those of batch norm take
`forward(weights, x, statistics, training)`.
"""

import torch

from parity.torch_tools import gradient, leaves

TOGETHER_WITH = 0.9
"""The momentum of an optimizer that has some."""


def mean(per_task, theta):
    return {n: torch.stack([g[n] for g in per_task]).mean(0) for n in theta}


def last_graph_alone(forward, weights, tasks, alpha, steps, loss):
    theta, found = leaves(weights), []
    for sx, sy, qx, qy in tasks:
        fast = theta
        for k in range(steps):
            g = gradient(loss(forward(fast, sx), sy), fast, create_graph=k == steps - 1)
            fast = {n: w - alpha * g[n] for n, w in fast.items()}
        found.append(gradient(loss(forward(fast, qx), qy), theta))
    return mean(found, theta)


def weights_detached(forward, weights, tasks, alpha, steps, loss):
    theta, found = leaves(weights), []
    for sx, sy, qx, qy in tasks:
        fast = theta
        for _ in range(steps):
            g = gradient(loss(forward(fast, sx), sy), fast, create_graph=True)
            fast = {n: w.detach() - alpha * g[n] for n, w in fast.items()}
        found.append(gradient(loss(forward(fast, qx), qy), theta))
    return mean(found, theta)


def adapted(forward, theta, x, y, alpha, steps, loss):
    fast = theta
    for _ in range(steps):
        g = gradient(loss(forward(fast, x), y), fast, create_graph=True)
        fast = {n: w - alpha * g[n] for n, w in fast.items()}
    return fast


def on_sets(choose, forward, weights, tasks, alpha, steps, loss):
    """`choose(task)` says what to adapt to and what to take the outer loss on."""
    theta, found = leaves(weights), []
    for task in tasks:
        x, y, outer_x, outer_y = choose(task)
        fast = adapted(forward, theta, x, y, alpha, steps, loss)
        found.append(gradient(loss(forward(fast, outer_x), outer_y), theta))
    return mean(found, theta)


def support_twice(*problem):
    return on_sets(lambda t: (t.support_x, t.support_y, t.support_x, t.support_y), *problem)


def query_twice(*problem):
    return on_sets(lambda t: (t.query_x, t.query_y, t.query_x, t.query_y), *problem)


def leaked(*problem):
    def both(t):
        x, y = torch.cat([t.support_x, t.query_x]), torch.cat([t.support_y, t.query_y])
        return t.support_x, t.support_y, x, y

    return on_sets(both, *problem)


def losses_of_tasks(forward, weights, tasks, alpha, steps, loss):
    theta = leaves(weights)
    for sx, sy, qx, qy in tasks:
        fast = adapted(forward, theta, sx, sy, alpha, steps, loss)
        yield theta, loss(forward(fast, qx), qy)


def retained(forward, weights, tasks, *how):
    total, theta = 0.0, {}
    for theta, value in losses_of_tasks(forward, weights, tasks, *how):  # noqa: B007
        total = total + value / len(tasks)
        total.backward(retain_graph=True)  # of all tasks so far, once more after each
    return {n: w.grad for n, w in theta.items()}


def one_task(which, as_mean, forward, weights, tasks, *how):
    values = list(losses_of_tasks(forward, weights, tasks, *how))
    theta, value = values[which]  # `=` where `+=` was meant, or a `return` in the loop
    return gradient(value if as_mean else value / len(tasks), theta)


def by_optimizer(step, kept, forward, weights, tasks, alpha, steps, loss):
    """`step(state, fast, g, alpha)`, differentiable; its state is kept from task to task or not."""
    theta, found, state = leaves(weights), [], {}
    for sx, sy, qx, qy in tasks:
        fast = theta
        state = {k: detached(v) for k, v in state.items()} if kept else {}
        for _ in range(steps):
            g = gradient(loss(forward(fast, sx), sy), fast, create_graph=True)
            fast = step(state, fast, g, alpha)
        found.append(gradient(loss(forward(fast, qx), qy), theta))
    return mean(found, theta)


def detached(value):
    return {n: v.detach() for n, v in value.items()} if isinstance(value, dict) else value


def momentum(state, fast, g, alpha, beta=TOGETHER_WITH):
    buffer = state.get("buffer")
    state["buffer"] = g if buffer is None else {n: beta * buffer[n] + g[n] for n in g}
    return {n: w - alpha * state["buffer"][n] for n, w in fast.items()}


def summed(state, fast, g, alpha):
    return momentum(state, fast, g, alpha, beta=1.0)


def adam(state, fast, g, alpha):
    t = state["t"] = state.get("t", 0) + 1
    zero = {n: torch.zeros_like(w) for n, w in g.items()}
    m, v = state.get("m", zero), state.get("v", zero)
    state["m"] = m = {n: 0.9 * m[n] + 0.1 * g[n] for n in g}
    state["v"] = v = {n: 0.999 * v[n] + 0.001 * g[n] ** 2 for n in g}

    def move(n):
        root = (v[n] / (1 - 0.999**t)).clamp(min=1e-300).sqrt()
        return alpha * m[n] / (1 - 0.9**t) / (root + 1e-8)

    return {n: w - move(n) for n, w in fast.items()}


def optimizer_of_torch(make, kept, zero_grad, forward, weights, tasks, alpha, steps, loss):
    """Weights updated in place by `torch.optim`: first-order, with the outer gradient in `.grad`.

    `make(parameters, alpha)` makes the optimizer, once or for each task. `zero_grad` says before
    what it is called: `inner` steps, the `query` loss, each `task`.
    """
    fast = leaves(weights)
    optimizer, found = make(list(fast.values()), alpha), []
    for sx, sy, qx, qy in tasks:
        with torch.no_grad():
            for n, w in fast.items():
                w.copy_(weights[n])
        if not kept:
            optimizer = make(list(fast.values()), alpha)
        if "task" in zero_grad:
            optimizer.zero_grad()
        for _ in range(steps):
            if "inner" in zero_grad:
                optimizer.zero_grad()
            loss(forward(fast, sx), sy).backward()
            optimizer.step()
        if "query" in zero_grad:
            optimizer.zero_grad()
        loss(forward(fast, qx), qy).backward()
        found.append({n: w.grad.clone() for n, w in fast.items()})
    return mean(found, fast)


def evaluation_for_the_query(updated, kept, forward, weights, tasks, alpha, steps, loss):
    """net.train() to adapt, net.eval() for the query, with the running statistics of PyTorch."""
    theta, found, statistics = leaves(weights), [], None
    for sx, sy, qx, qy in tasks:
        if statistics is None or not kept:
            scale = weights["norms.0.weight"]
            statistics = torch.zeros_like(scale), torch.ones_like(scale)
        fast = theta
        for _ in range(steps):
            used = statistics if updated else tuple(s.clone() for s in statistics)
            value = loss(forward(fast, sx, used, True), sy)
            g = gradient(value, fast, create_graph=True)
            fast = {n: w - alpha * g[n] for n, w in fast.items()}
        value = loss(forward(fast, qx, statistics, False), qy)
        found.append(gradient(value, theta))
    return mean(found, theta)
