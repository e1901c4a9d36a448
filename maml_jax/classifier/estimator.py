"""`FewShotClassifier`: a trained learner by scikit-learn's conventions."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from maml_jax.classifier import inputs, storage
from maml_jax.classifier import network as networks
from maml_jax.classifier.calibration import best_temperature
from maml_jax.classifier.network import Network
from maml_jax.data.pictures import FITS
from maml_jax.errors import InputError, check_choice, check_count, check_number
from maml_jax.training import config, runs
from maml_jax.types import Batch, Meta, MetaLearner

BY_SUPPORT = "leave-one-out"
BATCH = 256
"""Pictures that are read and predicted before the next."""
_log = logging.getLogger("maml_jax")


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    r"""Learn classes from a few labelled pictures, and predict those of others.

    `fit` adapts a meta-trained network to the labelled pictures by some inner steps, with the mean
    cross-entropy as the loss; `predict_proba` is $\operatorname{softmax}(\text{logits}/T)$, each
    picture by itself beside the labelled ones, so that predictions do not depend on each other.

    Of up to as many classes as the head tells apart, the first outputs of the head are used. More
    are told apart by prototypes (Snell et al. 2017): a class is the mean of what the head sees.

    Pictures are paths, Pillow's images, or arrays `[n, height, width]` or `[n, height, width,
    channels]`, of any size; rows `[n, values]` are pictures as square as their length allows.
    Bytes are 0 to 255, fractions 0 to 1; other numbers are scaled from the least to the greatest
    of `fit`, whatever is predicted. Labels are strings or numbers.

    Args:
      model: `"pretrained:NAME"`, the folder of a run, or a `Network`.
      steps: inner steps; None: those of the run's evaluation.
      temperature: T; `"leave-one-out"` takes the one with which each labelled picture, predicted
        from the others, is likeliest. It needs two of each class.
      image_fit: how pictures are made square: `squash`, `crop` or `pad`.
      invert: whether black and white change places; None: where the network was trained on bright
        strokes on a dark ground, and the pictures of `fit` are bright on the whole.

    Attributes:
      classes_: the labels, sorted.
      n_features_in_: values of one example.
      temperature_: T.

    Raises:
      InputError: from `fit` and the like, never on construction, as scikit-learn has it.

    Finn, Abbeel, Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
    ICML 2017.
    """

    def __init__(
        self,
        model: Any = None,
        *,
        steps: int | None = None,
        temperature: float | str = 1.0,
        image_fit: str = "squash",
        invert: bool | None = None,
    ):
        self.model = model
        self.steps = steps
        self.temperature = temperature
        self.image_fit = image_fit
        self.invert = invert

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        steps: int | None = None,
        temperature: float | str = 1.0,
        image_fit: str = "squash",
        invert: bool | None = None,
    ) -> "FewShotClassifier":
        """The classifier of weights that are part of the package; the options are the class's.

        Raises:
          InputError: there are no weights of that name.
        """
        model = runs.PRETRAINED + name.removeprefix(runs.PRETRAINED)
        runs.folder_of(model)
        return cls(model, steps=steps, temperature=temperature, image_fit=image_fit, invert=invert)

    @classmethod
    def from_learner(
        cls,
        learner: MetaLearner,
        meta: Meta,
        *,
        input_shape: tuple[int, ...],
        steps: int | None = None,
        temperature: float | str = 1.0,
        image_fit: str = "squash",
        invert: bool | None = None,
    ) -> "FewShotClassifier":
        """The classifier of a learner and its meta-parameters; the other options are the class's.

        Args:
          learner: the learner.
          meta: its meta-parameters.
          input_shape: of one example, such as `(28, 28, 1)`.
          steps: as of the class.
          temperature: as of the class.
          image_fit: as of the class.
          invert: as of the class.
        """
        x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
        support = Batch(x, jax.ShapeDtypeStruct((1,), jnp.int32))
        outputs = jax.eval_shape(learner.classify, meta, support, x)
        network = Network(learner, meta, tuple(input_shape), outputs.shape[-1])
        return cls(
            network, steps=steps, temperature=temperature, image_fit=image_fit, invert=invert
        )

    def fit(self, X: Any, y: Any) -> "FewShotClassifier":  # noqa: N803
        """Learn the classes `y` of the pictures `X`; the classifier itself.

        Raises:
          InputError: pictures or labels that cannot be read or do not go together.
        """
        check_choice("image_fit", self.image_fit, FITS)
        if self.steps is not None:
            check_count("steps", self.steps, least=0)
        network = self._network(self.model)
        x = self._examples(X, network, y=y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if len(x) != len(y):
            raise InputError(f"`y` had {len(y)} labels; `X` has {len(x)} pictures.")
        self.invert_ = self._inverts(network, x)
        x = 1 - x if self.invert_ else x
        self.classes_, labels = np.unique(y, return_inverse=True)
        support = Batch(jnp.asarray(x), jnp.asarray(labels, jnp.int32))
        adapted = networks.adapt(network, support, len(self.classes_), self.steps)
        self._fast, self._support_x = adapted.fast, support.x
        if adapted.by_prototypes:
            _log.info(
                "%d classes are more than the %d of the model's head: by prototypes",
                len(self.classes_),
                network.ways,
            )
        self.temperature_ = self._fit_temperature(network, support)
        self._fitted_model = self._wherever_called(self.model)
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest label of each picture."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The probability of each class of `classes_`, `[pictures, classes]`."""
        check_is_fitted(self, "classes_")
        return np.concatenate(list(self.stream_proba(X)))

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """The logits, `[pictures, classes]`; of two classes the second's minus the first's."""
        check_is_fitted(self, "classes_")
        logits = np.concatenate(list(self._stream_logits(X)))
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def stream_proba(self, X: Any) -> Iterator[np.ndarray]:  # noqa: N803
        """As `predict_proba`, of 256 pictures at a time: files are read when it is their turn."""
        check_is_fitted(self, "classes_")
        for logits in self._stream_logits(X):
            yield softmax(logits.astype(np.float64) / self.temperature_, axis=1)

    def save(self, path: Path | str) -> None:
        """Write what was fitted to a new folder, without the pictures, and without pickle.

        Raises:
          InputError: the model was no run, or the folder exists.
        """
        check_is_fitted(self, "classes_")
        storage.save(self, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "FewShotClassifier":
        """What `save` wrote, fitted; or the classifier of a run's folder, still to be fitted.

        Raises:
          InputError: there is neither.
        """
        if not Path(path, storage.RECORD).is_file():
            config.read_config(Path(path))
            return cls(str(path))
        return storage.load(cls, Path(path))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.classifier_tags.poor_score = True  # on what are no pictures
        return tags

    @staticmethod
    def _wherever_called(model: Any) -> Any:
        """The folder of a run by its full path, for a program may go to another folder."""
        of_run = isinstance(model, str | Path) and not str(model).startswith(runs.PRETRAINED)
        return Path(model).absolute() if of_run else model

    @staticmethod
    def _network(model: Any) -> Network:
        if isinstance(model, Network):
            return model
        if isinstance(model, str | Path):
            return networks.load(model)
        raise InputError(
            f"`model` was a {type(model).__name__}; it must be 'pretrained:NAME', the folder "
            "of a run or a Network: FewShotClassifier.from_learner makes one."
        )

    def _stream_logits(self, X: Any) -> Iterator[np.ndarray]:  # noqa: N803
        network, classes = self._network(self._fitted_model), len(self.classes_)
        adapted = networks.Adapted(network.learner.predict, self._fast)
        is_listing = inputs.is_listing(X)
        if not is_listing:
            X = self._checked_array(X)  # noqa: N806
        for start in range(0, len(X), BATCH):
            some = X[start : start + BATCH]
            if is_listing:
                x = inputs.from_listing(some, network.input_shape, self.image_fit, self.scale_)
            else:
                x = inputs.from_array(some, network.input_shape, self.image_fit, self.scale_)
            x = 1 - x if self.invert_ else x
            yield adapted.logits(self._support_x, x, classes)

    def _examples(self, X: Any, network: Network, y: Any) -> np.ndarray:  # noqa: N803
        """The examples of `fit`, and what is to be remembered of them."""
        shape = network.input_shape
        if inputs.is_listing(X):
            self.n_features_in_ = int(np.prod(shape))
            self.scale_ = inputs.fit_scale(inputs.arrays_in(X))
            return inputs.from_listing(X, shape, self.image_fit, self.scale_)
        X = self._checked_array(X, y=y)  # noqa: N806
        self.scale_ = inputs.fit_scale([X])
        return inputs.from_array(X, shape, self.image_fit, self.scale_)

    def _checked_array(self, X: Any, **y: Any) -> np.ndarray:  # noqa: N803
        """`X` as an array of finite numbers; of rows their length is remembered, then checked."""
        if getattr(X, "ndim", 0) > 2 or (isinstance(X, list) and np.ndim(X) > 2):
            array = check_array(X, allow_nd=True, estimator=self)
            if y:
                self.n_features_in_ = int(np.prod(array.shape[1:]))
            return array
        if not y:
            return validate_data(self, X, reset=False)
        array, _ = validate_data(self, X, y["y"])
        return array

    def _inverts(self, network: Network, x: np.ndarray) -> bool:
        if self.invert is not None or len(network.input_shape) != 3:
            return bool(self.invert)
        inverts = network.bright_on_dark and float(x.mean()) > 0.5
        if inverts:
            _log.info("the model knows bright strokes on a dark ground: pictures are inverted")
        return inverts

    def _fit_temperature(self, network: Network, support: Batch) -> float:
        if not isinstance(self.temperature, str):
            return check_number("temperature", self.temperature, above_zero=True)
        check_choice("temperature", self.temperature, [BY_SUPPORT])
        labels, classes = np.asarray(support.y), len(self.classes_)
        if np.bincount(labels).min() < 2:
            raise InputError(
                f"`temperature` was {BY_SUPPORT!r}, which needs two pictures of each class; the "
                f"class {self.classes_[np.bincount(labels).argmin()]} has one."
            )
        logits = networks.leave_one_out(network, support, classes, self.steps)
        return best_temperature(logits, labels)
