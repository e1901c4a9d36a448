"""Checks of the sizes that models are built with."""


def check_positive(**sizes: int) -> None:
    """Raise a `ValueError` that names the first size which is not an integer of at least 1."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"`{name}` was {size!r}; it must be an integer of at least 1.")
