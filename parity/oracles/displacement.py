"""Reptile's gradient, from where any library's steps end."""

from parity.reference.common import Groups, Result, mean


def displaced(result: Result, meta: Groups) -> Result:
    r"""`result` with $\tfrac1T \sum_t (\theta - \varphi_{t,K})$ as its meta-gradient."""
    moved = [
        {name: (weight - path[-1][name]).detach() for name, weight in meta["params"].items()}
        for path in result.trajectories
    ]
    return result._replace(meta_gradient={"params": mean(moved)})
