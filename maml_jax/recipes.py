"""Settings by name: a first look, and the experiments of Finn et al. 2017.

Inner rates are for a loss that is a mean over examples. Finn's code sums over the N classes, so its
rate 0.4 (0.1 for 20 ways) is N times that here; 5-way learns alike with 0.4 and with 2.0.
Two things differ from the paper, for the sake of short runs: Omniglot's outer rate starts at 2e-3
and falls to 0, where theirs stays at 1e-3; and 1-shot trains on 5 query images a class, not 1, so
that batch norm sees batches more like those at test.
"""

from dataclasses import replace

from maml_jax.config import Config

_omniglot = Config(data="omniglot", updates=60_000, meta_lr=2e-3)
_five_way = replace(_omniglot, queries=5, inner_lr=0.4, inner_steps=1, evaluation_steps=3, tasks=32)
_twenty_way = replace(_omniglot, ways=20, inner_lr=2.0, inner_steps=5, evaluation_steps=5, tasks=16)

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
        "omniglot-5w1s": _five_way,
        "omniglot-5w5s": replace(_five_way, shots=5),
        "omniglot-20w1s": _twenty_way,
        "omniglot-20w5s": replace(_twenty_way, shots=5, queries=5),
    }.items()
}
