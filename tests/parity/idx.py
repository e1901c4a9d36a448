"""The files that MNIST comes in."""


def idx(array):
    """The bytes of an idx file, from the format's description."""
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
