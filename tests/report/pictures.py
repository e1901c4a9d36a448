"""Small pictures whose classes have names that a page must escape."""

import numpy as np

EVIL = '<b>"it\'s" & more</b>'
"""What the name of a folder may be."""


def pictures(path, classes=16, each=6):
    """An .npz of small pictures, each class a bright square at its place, with noise."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 120, (classes * each, 8, 8), np.uint8)
    for n, image in enumerate(images):
        row, column = divmod(n // each, 4)
        image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 255
    names = np.array([f"{n:02} {EVIL}" for n in range(classes)]).repeat(each)
    np.savez(path, images=images, labels=names)
    return path
