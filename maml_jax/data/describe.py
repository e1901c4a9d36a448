"""Data sets in words: sizes and shapes, never examples."""

import html

from maml_jax.data.archive import in_words
from maml_jax.data.sources import DataSet, Size


def one_line(data: DataSet) -> str:
    """Name, shape of an example, classes and examples of each split."""
    splits = [f"{split} {_size(data, size)}" for split, size in data.sizes().items()]
    return f"<{'; '.join([_title(data), *splits])}>"


def summary(data: DataSet) -> str:
    """The same as a few lines, with the sizes of the smallest and the largest class."""
    lines = [_title(data)]
    if left_out := getattr(data, "left_out", None):
        lines.append(f"left out: {in_words(left_out)}")
    for split, size in data.sizes().items():
        line = f"{split:>5}: {_size(data, size)}"
        if size.classes and size.examples is not None:
            line += f", {size.fewest} to {size.most} in a class"
        lines.append(line)
    return "\n".join(lines)


def as_html(data: DataSet) -> str:
    """The same as a table, which notebooks show."""
    rows = "".join(
        f"<tr><td>{split}</td><td>{size.classes}</td>"
        f"<td>{'drawn anew' if size.examples is None else size.examples}</td></tr>"
        for split, size in data.sizes().items()
    )
    head = f"<tr><th>split</th><th>classes</th><th>{noun(data, 2)}</th></tr>" if rows else ""
    return f"<table><caption>{html.escape(_title(data))}</caption>{head}{rows}</table>"


def noun(data: DataSet, count: int) -> str:
    """What the examples are called."""
    return ("image" if data.kind == "images" else "example") + "s" * (count != 1)


def shape(data: DataSet) -> str:
    """The shape of an example, as in 28×28×1."""
    return "×".join(map(str, data.input_shape))


def _title(data: DataSet) -> str:
    return f"{data.name}: {data.kind}, each input {shape(data)}"


def _size(data: DataSet, size: Size) -> str:
    classes = f"{size.classes} class{'es' * (size.classes != 1)}"
    if size.examples is None:
        return classes
    return f"{classes}, {size.examples} {noun(data, size.examples)}"
