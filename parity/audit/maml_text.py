"""A meta-gradient by hand, which PyTorch and JAX read alike; reproducers print it."""

MAML = """\
def maml(p, act, tasks):
    loss = lambda q, x, y: ((act(x @ q[0] + q[1]) @ q[2] + q[3] - y) ** 2).mean()
    def task(x, y, new_x, new_y):
        q = p
        for _ in range(2): q = tuple(a - 0.1 * g for a, g in zip(q, grad(loss)(q, x, y)))
        return loss(q, new_x, new_y)
    return vmap(task)(*tasks).mean()"""
