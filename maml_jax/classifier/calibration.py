"""Whether probabilities are right: the expected calibration error, and the best temperature."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """$e^{l_c}/\\sum_k e^{l_k}$ of `[examples, classes]`, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    r"""The T of least $-\sum_i\log\operatorname{softmax}(l_i/T)_{y_i}$, from 0.05 to 20.

    Guo et al.: "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
      logits: `[examples, classes]`.
      labels: `[examples]`, the numbers of the classes.
    """
    grid = np.geomspace(0.05, 20, 241)
    rows = np.arange(len(labels))
    losses = [-np.log(softmax(logits / t)[rows, labels] + 1e-300).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    r"""$\sum_b \frac{n_b}{n}\,\lvert\text{accuracy}_b - \text{confidence}_b\rvert$ over equal bins.

    The confidence is the probability of the predicted class. Guo et al. 2017, §2.

    Args:
      probabilities: `[examples, classes]`.
      labels: `[examples]`, the numbers of the classes.
      bins: of the confidence, from 0 to 1.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for b in np.unique(place):
        inside = place == b
        error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)
