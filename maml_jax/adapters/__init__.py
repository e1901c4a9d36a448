"""Models of other libraries as `apply(params, x)`, and the precision they compute in."""

PRECISIONS = ("default", "float32", "tensorfloat32", "bfloat16")
"""What `in_precision` takes; here, so that a config can name them without JAX."""
