"""Dense layers, products and recurrent cells."""

from parity.audit.operations.operation import Operation
from parity.audit.primitives import Array, Primitives

_X_W_B = {
    "x": "rng.normal(size=(3, 4))",
    "w": "rng.normal(size=(5, 4))",
    "b": "rng.normal(size=5)",
}
_CELL = {
    "x": "rng.normal(size=(2, 3))",
    "h": "rng.normal(size=(2, 4))",
    "w": "rng.normal(size=({gates}, 3, 4)) / 2",
    "v": "rng.normal(size=({gates}, 4, 4)) / 2",
    "b": "rng.normal(size=({gates}, 4)) / 2",
}


def _cell(gates: int) -> dict[str, str]:
    return {name: text.replace("{gates}", str(gates)) for name, text in _CELL.items()}


def dense(xp: Primitives, x: Array, w: Array, b: Array) -> Array:
    return xp.einsum("ni,oi->no", x, w) + b


def bilinear(xp: Primitives, x: Array, y: Array, w: Array) -> Array:
    return xp.einsum("ni,oij,nj->no", x, w, y)


def batched_product(xp: Primitives, x: Array, y: Array) -> Array:
    return xp.sum(x[:, :, :, None] * y[:, None, :, :], 2)


def two_layers(xp: Primitives, x: Array, w: Array, b: Array, v: Array) -> Array:
    return xp.einsum("nh,oh->no", xp.tanh(dense(xp, x, w, b)), v)


def sigmoid(xp: Primitives, x: Array) -> Array:
    """½(1 + tanh(x/2)), which overflows nowhere."""
    return 0.5 * (1 + xp.tanh(x / 2))


def _gates(xp: Primitives, x: Array, h: Array, w: Array, v: Array, b: Array) -> list[Array]:
    return [
        xp.einsum("ni,io->no", x, w[k]) + xp.einsum("nh,ho->no", h, v[k]) + b[k]
        for k in range(w.shape[0])
    ]


def rnn_cell(xp: Primitives, x: Array, h: Array, w: Array, v: Array, b: Array) -> Array:
    return xp.tanh(_gates(xp, x, h, w, v, b)[0])


def lstm_cell(xp: Primitives, x: Array, h: Array, c: Array, w: Array, v: Array, b: Array) -> Array:
    i, f, g, o = _gates(xp, x, h, w, v, b)
    cell = sigmoid(xp, f) * c + sigmoid(xp, i) * xp.tanh(g)
    return xp.concatenate((sigmoid(xp, o) * xp.tanh(cell), cell), 1)


def gru_cell(xp: Primitives, x: Array, h: Array, w: Array, v: Array, b: Array) -> Array:
    """The gate r multiplies the memory's product alone; the bias b[2] is outside of it."""
    inputs = [xp.einsum("ni,io->no", x, w[k]) + b[k] for k in range(3)]
    memory = [xp.einsum("nh,ho->no", h, v[k]) for k in range(3)]
    r, z = (sigmoid(xp, inputs[k] + memory[k]) for k in range(2))
    return (1 - z) * xp.tanh(inputs[2] + r * memory[2]) + z * h


_LSTM = {**_cell(4)}
_LSTM = {"x": _LSTM["x"], "h": _LSTM["h"], "c": "rng.normal(size=(2, 4))"} | {
    name: _LSTM[name] for name in ("w", "v", "b")
}
_TORCH_WEIGHTS = "w.transpose(1, 2).reshape(-1, 3), v.transpose(1, 2).reshape(-1, 4), b.reshape(-1)"

OPERATIONS = [
    Operation("dense", "dense", _X_W_B, dense, "F.linear(x, w, b)", "x @ w.T + b"),
    Operation(
        "bilinear",
        "dense",
        {
            "x": "rng.normal(size=(3, 2))",
            "y": "rng.normal(size=(3, 4))",
            "w": "rng.normal(size=(3, 2, 4))",
        },
        bilinear,
        "F.bilinear(x, y, w)",
        "jnp.einsum('ni,oij,nj->no', x, w, y)",
    ),
    Operation(
        "batched_product",
        "dense",
        {"x": "rng.normal(size=(2, 3, 4))", "y": "rng.normal(size=(2, 4, 2))"},
        batched_product,
        "torch.bmm(x, y)",
        "lax.batch_matmul(x, y)",
    ),
    Operation(
        "two_layers",
        "dense",
        _X_W_B | {"v": "rng.normal(size=(2, 5))"},
        two_layers,
        "F.linear(torch.tanh(F.linear(x, w, b)), v)",
        "jnp.tanh(x @ w.T + b) @ v.T",
    ),
    Operation(
        "rnn_cell",
        "recurrent",
        _cell(1),
        rnn_cell,
        f"torch.rnn_tanh_cell(x, h, {_TORCH_WEIGHTS}, torch.zeros(4))",
        "linen.SimpleCell(4).apply({'params': {'i': {'kernel': w[0], 'bias': b[0]}, "
        "'h': {'kernel': v[0]}}}, h, x)[1]",
    ),
    Operation(
        "lstm_cell",
        "recurrent",
        _LSTM,
        lstm_cell,
        f"torch.cat(torch.lstm_cell(x, (h, c), {_TORCH_WEIGHTS}, torch.zeros(16)), 1)",
        "jnp.concatenate(linen.LSTMCell(4).apply({'params': {'i' + g: {'kernel': w[k]} "
        "for k, g in enumerate('ifgo')} | {'h' + g: {'kernel': v[k], 'bias': b[k]} "
        "for k, g in enumerate('ifgo')}}, (c, h), x)[0][::-1], 1)",
    ),
    Operation(
        "gru_cell",
        "recurrent",
        _cell(3),
        gru_cell,
        f"torch.gru_cell(x, h, {_TORCH_WEIGHTS}, torch.zeros(12))",
        "linen.GRUCell(4).apply({'params': {'i' + g: {'kernel': w[k], 'bias': b[k]} "
        "for k, g in enumerate('rzn')} | {'h' + g: {'kernel': v[k]} | "
        "({'bias': jnp.zeros(4)} if g == 'n' else {}) for k, g in enumerate('rzn')}}, h, x)[1]",
    ),
]
