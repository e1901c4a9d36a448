"""Which examples a model takes: checked when it is built from a config, and when it is called."""

from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Array, Float, Num

from maml_jax.errors import InputError

Shape: TypeAlias = tuple[int, ...]
Images: TypeAlias = Num[Array, "examples height width channels"]
Maps: TypeAlias = Num[Array, "examples rows columns filters"]
Features: TypeAlias = Float[Array, "examples features"]
Outputs: TypeAlias = Float[Array, "examples outputs"]


@runtime_checkable
class ModelConfig(Protocol):
    """What the models of this package take from a run's config; see `training.config.Config`."""

    @property
    def filters(self) -> int:
        """Channels of the first block of a convolutional network."""

    @property
    def downsample(self) -> str:
        """How Conv4 halves its images: `"stride"` or `"maxpool"`."""

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers; a recurrent network has one."""

    @property
    def batch_norm(self) -> bool | None:
        """Whether an MLP has batch norm; None: where an example has several values."""

    @property
    def norm_order(self) -> str:
        """`"norm-relu"` or `"relu-norm"`, in Conv4 and MLP."""

    @property
    def norm_epsilon(self) -> float:
        """What batch norm adds to the variance."""


def image_size_and_channels(model: str, example_shape: Shape) -> tuple[int, int]:
    """Of examples that are square images, `[height, width, channels]`.

    Raises:
      InputError: they are none.
    """
    if len(example_shape) != 3 or example_shape[0] != example_shape[1]:
        raise InputError(
            f"`model` was {model!r}, which takes images of [height, width, channels] with equal "
            f"height and width; an example of this data has the shape {example_shape}. "
            "mlp takes any shape, gru and lstm take sequences."
        )
    size, _, channels = example_shape
    return size, channels


def sequence_values(model: str, example_shape: Shape) -> int:
    """Of examples that are sequences, `[times, values]`: how many values there are at each time.

    Raises:
      InputError: they are none.
    """
    if len(example_shape) != 2:
        raise InputError(
            f"`model` was {model!r}, which takes sequences of [times, values]; an example of this "
            f"data has the shape {example_shape}. mlp takes any shape, conv4, resnet12 and "
            "article-cnn take images."
        )
    return example_shape[1]


def check_images(x: Images, image_shape: Shape) -> None:
    """`x` is images of the shape that the model was built for."""
    if x.shape[1:] != image_shape:
        raise InputError(f"`x` had images of {x.shape[1:]}; the model takes {image_shape}.")


def only_width(model: str, hidden: tuple[int, ...]) -> int:
    """The width of a model that has one hidden layer.

    Raises:
      InputError: `hidden` has more.
    """
    if len(hidden) != 1:
        raise InputError(f"`hidden` was {hidden}; {model} has one width.")
    return hidden[0]
