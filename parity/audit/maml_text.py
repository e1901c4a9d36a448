"""A meta-gradient by hand, which PyTorch and JAX read alike; reproducers print it."""

MAML = """\
def maml(p, act, tasks):
    loss = lambda q, t: ((act(t[:, :1] * q[0] + q[1]) @ q[2] + q[3] - t[:, 1:]) ** 2).mean()
    def task(t):
        q = p
        for _ in range(2):
            q = [a - 0.125 * g for a, g in zip(q, grad(lambda q: loss(q, t[:4]))(tuple(q)))]
        return loss(q, t[4:])
    return vmap(task)(tasks).mean()"""
