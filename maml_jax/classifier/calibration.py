"""The temperature of probabilities."""

import numpy as np
from scipy.special import log_softmax


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    r"""The T of least $-\sum_i\log\operatorname{softmax}(l_i/T)_{y_i}$, from 0.05 to 20.

    Guo et al.: "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
      logits: `[examples, classes]`.
      labels: `[examples]`, the numbers of the classes.
    """
    grid = np.geomspace(0.05, 20, 241)
    rows = np.arange(len(labels))
    losses = [-log_softmax(logits / t, axis=1)[rows, labels].mean() for t in grid]
    return float(grid[int(np.argmin(losses))])
