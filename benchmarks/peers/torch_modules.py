"""The benchmark's networks as a `torch.nn.Module`, for libraries that take nothing else."""

from torch import Tensor, nn

from benchmarks.peers.torch_models import Weights, apply, gradient_of
from benchmarks.workloads import Network


class Net(nn.Module):
    """The network with its weights as parameters; a parameter's name has `-` for the dots."""

    def __init__(self, network: Network, weights: Weights):
        super().__init__()
        self.network, self.names = network, list(weights)
        for name, tensor in weights.items():
            self.register_parameter(_flat(name), nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        # Looked up by name at each call: libraries put the adapted weights there.
        weights = {name: getattr(self, _flat(name)) for name in self.names}
        return apply(self.network, weights, x)

    def gradient(self) -> Weights:
        """What backward passes have added up, by the names of the weights."""
        return {name: gradient_of(getattr(self, _flat(name))) for name in self.names}


def _flat(name: str) -> str:
    return name.replace(".", "-")
