"""What a config says about the outer loop: its optimizer, and when the host interrupts it."""

from typing import Any

import optax

from maml_jax.training.config import Config


def outer_optimizer(config: Config) -> optax.GradientTransformation:
    """Adam at the rate of the config, after clipping where the config says so."""
    rate: Any = config.meta_lr
    if config.meta_schedule == "cosine":
        after = config.updates - config.warm_up
        rate = optax.cosine_decay_schedule(config.meta_lr, max(after, 1))
    if config.warm_up:
        flat = optax.constant_schedule(config.meta_lr) if not callable(rate) else rate
        rising = optax.linear_schedule(0.0, config.meta_lr, config.warm_up)
        rate = optax.join_schedules([rising, flat], [config.warm_up])
    if config.meta_clip is None:
        return optax.adam(rate)
    return optax.chain(optax.clip_by_global_norm(config.meta_clip), optax.adam(rate))


def next_stop(done: int, config: Config) -> int:
    """The next update after which the host logs, validates or saves."""
    periods = [config.updates_per_dispatch, config.checkpoint_every, config.validate_every]
    return min(*(done + period - done % period for period in periods if period), config.updates)
