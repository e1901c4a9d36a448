"""How tasks are batched: in chunks, and over devices."""

from maml_jax.batching.devices import task_mesh, use_all_cores
from maml_jax.batching.hosts import initialize_hosts
from maml_jax.batching.over_tasks import Step, default_chunk, over_tasks
from maml_jax.batching.tune import Plan, tune

__all__ = [
    "Plan",
    "Step",
    "default_chunk",
    "initialize_hosts",
    "over_tasks",
    "task_mesh",
    "tune",
    "use_all_cores",
]
