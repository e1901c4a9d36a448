"""Compilation of programs that run once or a few times."""

import jax

# Without optimisation XLA may round the same value differently in two places. Derivatives that look
# a maximum up by equality, such as that of `jnp.max`, then miss it and raise a false alarm.
UNOPTIMIZED: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": False,
}


def compile_quickly(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Without XLA's optimisations on a CPU, where they would take most of the time."""
    if jax.default_backend() == "cpu":
        try:
            return lowered.compile(UNOPTIMIZED)
        except jax.errors.JaxRuntimeError as error:  # such options come and go with XLA's versions
            if "No such compile option" not in str(error):
                raise
    return lowered.compile()
