"""The article's numbers."""

from maml_jax.exchange import Flattened

LEARNING_RATE = 0.001
BATCH = 32
CLASSES = 10
EPOCHS = 20
REPORTED_ACCURACY = 0.83
"""The article's accuracy on the test images after `EPOCHS`."""

FLATTENED: Flattened = {"hidden": (5, 5, 64)}
"""The image that the dense layer `hidden` takes: height, width, channels."""
