"""Models of other libraries as `apply(params, x)`, and the precision they compute in."""
