"""Settings by name: a first look, and the experiments of Finn et al. 2017.

Inner rates are for a loss that is a mean over examples. Finn's code sums over the N classes, so its
rate 0.4 (0.1 for 20 ways) is N times that here; 5-way learns alike with 0.4 and with 2.0.
Three things differ from the paper. Omniglot's outer rate starts at 2e-3 and falls to 0, where
theirs stays at 1e-3; so fewer updates do than its 60,000 (docs/results.md says what they reach).
1-shot trains on 5 query images a class, not 1. And 20 ways take one inner step at rate 4, where
the paper takes five at 2: a quarter of the time for an update that is nearly as good.
"""

from dataclasses import replace
from typing import Any

from maml_jax import registry
from maml_jax.errors import check_choice
from maml_jax.training.config import Config

_omniglot = Config(data="omniglot", meta_lr=2e-3)
_five_way = replace(_omniglot, queries=5, inner_lr=0.4, inner_steps=1, evaluation_steps=3, tasks=32)
_twenty_way = replace(
    _omniglot, ways=20, queries=5, inner_lr=4.0, inner_steps=1, evaluation_steps=1, tasks=16
)

RECIPES = {
    name: replace(config, recipe=name)
    for name, config in {
        "quickstart": Config(filters=32, updates=500, validate_every=100),
        "sinusoid": Config(
            data="sinusoid",
            model="mlp",
            ways=2,
            shots=10,
            queries=10,
            inner_lr=0.01,
            evaluation_steps=10,
            tasks=25,
            updates=70_000,
            updates_per_dispatch=1000,
            validate_every=5000,
            checkpoint_every=10_000,
        ),
        "sequences": Config(
            data="sequences",
            model="gru",
            hidden=(64,),
            queries=5,
            evaluation_steps=1,
            updates=2000,
        ),
        "omniglot-5w1s": replace(_five_way, updates=46_600),
        "omniglot-5w5s": replace(_five_way, shots=5, updates=60_000),
        "omniglot-20w1s": replace(_twenty_way, updates=40_000),
        "omniglot-20w5s": replace(_twenty_way, shots=5, updates=20_000),
    }.items()
}

# What each algorithm needs that differs from MAML's settings in a recipe.
_IMAGES: dict[str, dict[str, Any]] = {
    # One step says too little of where a task's weights go: 84.9 % with 1, 90.4 % with 3, 90.6 %
    # with 5 on validation tasks of Omniglot after 1000 updates of 16 tasks.
    "fomaml": {"inner_steps": 5, "evaluation_steps": 5},
    # Plain steps at MAML's rate, where the paper has Adam at 1e-3 and 100,000 updates: 86 % against
    # 68 % on the same tasks after 250 updates. Then as many small mini-batches as the data has
    # images for, and a larger outer rate: docs/algorithms.md has what each is worth.
    "reptile": {"training_shots": 15, "inner_batch": 5, "inner_steps": 15}
    | {"evaluation_steps": 50, "meta_lr": 5e-3},
    # The support loss's Hessian reaches from about -8 to 18 at random weights, and further in
    # training, so that I + H/λ is not positive at λ = 2. A damping of 5 left a residual of
    # 0.22 after 400 updates and 2.1 after 550; 20 leaves 0.003 after 350 and learns faster
    # (docs/algorithms.md). The released code's 2I + H/12 is, up to scale, a damping of 11.
    "imaml": {"inner_lr": 0.2, "inner_steps": 6, "evaluation_steps": 6}
    | {"damping": 20.0, "solver_steps": 4},
    "anil": {"inner_steps": 5, "evaluation_steps": 5},
    # A context that leaves the head alone cannot say which class has which label: of 400 updates on
    # glyphs came 32 % with norms and biases shifted, 54 % with the head.
    "cavia": {
        "inner_lr": 10.0,
        "inner_steps": 2,
        "evaluation_steps": 2,
        "adapts": "head|norm",
    },
    "proto-maml": {"inner_lr": 0.1},
    "maml-plus-plus": {"inner_lr": 0.1, "inner_steps": 5, "evaluation_steps": 5},
    "protonet": {"evaluation_steps": 0},
    "pretrained": {"inner_lr": 0.1, "evaluation_steps": 50},
    "scratch": {"inner_lr": 0.1, "evaluation_steps": 50},
}
_REGRESSION: dict[str, dict[str, Any]] = {
    # The paper's, but for its outer rule: what mini-batches of a task share shows in many points.
    "reptile": {"training_shots": 50, "inner_batch": 10, "inner_lr": 0.02}
    | {"inner_steps": 32, "evaluation_steps": 32},
    # Squared errors bend far more than cross-entropies, and not all tasks alike: at 0.01 the inner
    # descent diverged after 2300 updates. Shorter, clipped steps reach 0.32 in 5000 updates; with a
    # damping of 20 they reach 0.62.
    "imaml": {"inner_lr": 0.005, "inner_clip": 10.0, "inner_steps": 16, "evaluation_steps": 16}
    | {"damping": 5.0},
    # Trained for one step, the head diverges in ten.
    "anil": {"inner_steps": 5, "evaluation_steps": 5},
    # Rates that are learned from 0.01 on become too large for some tasks: one in a thousand then
    # sends the mean into the thousands.
    "maml-plus-plus": {"inner_lr": 0.003, "inner_steps": 5, "evaluation_steps": 5}
    | {"meta_clip": 10.0},
    # What they learn is one large step: repeated ten times, it diverges.
    "meta-sgd": {"evaluation_steps": 1},
    "meta-curvature": {"evaluation_steps": 1},
}


def recipe(name: str, algorithm: str = "maml") -> Config:
    """The recipe of that name, with what the algorithm needs otherwise than MAML.

    Raises:
      InputError: there is no such recipe or algorithm.
    """
    config = RECIPES[check_choice("recipe", name, RECIPES)]
    check_choice("algorithm", algorithm, registry.names("algorithms"))
    settings = _REGRESSION if config.data == "sinusoid" else _IMAGES
    return replace(config, algorithm=algorithm, **settings.get(algorithm, {}))
