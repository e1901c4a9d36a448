"""The article's numbers."""

from parity.weights import Flattened

LEARNING_RATE = 0.001
BATCH = 32
CLASSES = 10
EPOCHS = 20
REPORTED_ACCURACY = 0.83
"""On the test images after `EPOCHS`."""

FLATTENED: Flattened = {"hidden": (5, 5, 64)}
"""The image behind the dense layer: height, width, channels."""
