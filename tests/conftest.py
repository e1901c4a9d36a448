"""Two CPU devices, so that meshes can be tested; double precision where a test asks for it.

Most of a test's time is XLA's, optimising programs that run once: that is left out, but for the
tests of what a program stores.
"""

import os
from pathlib import Path

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()  # read on import

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture
def x64():
    """Double precision within the test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, from MAML_JAX_DATA; without it the test is skipped."""
    folder = os.environ.get("MAML_JAX_DATA")
    if folder is None:
        pytest.skip("MAML_JAX_DATA is not set: it names the folder that holds omniglot/")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_dir(data_dir) -> Path:
    """The folder of real data, if it holds MNIST too; else the test is skipped."""
    if not (data_dir / "mnist").is_dir():
        pytest.skip("MAML_JAX_DATA holds no folder mnist/")
    return data_dir


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What tests read or tune is kept for this process; the user's own is left alone."""
    os.environ["MAML_JAX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def free_programs():
    """Programs of a file of tests are freed after it.

    Each takes several memory maps, of which Linux allows a process 65530: a whole suite's are more,
    and then XLA aborts.
    """
    yield
    jax.clear_caches()
