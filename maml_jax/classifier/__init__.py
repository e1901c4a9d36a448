"""The scikit-learn face: fit some labelled pictures, predict others."""

from maml_jax.extras import require

require("sklearn", "cli")  # says in one line where to get it

from maml_jax.classifier.estimator import FewShotClassifier  # noqa: E402
from maml_jax.classifier.network import Network  # noqa: E402

__all__ = ["FewShotClassifier", "Network"]
