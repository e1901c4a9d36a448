"""Two CPU devices, so that meshes can be tested; double precision where a test asks for it.

Most of a test's time is spent by XLA, optimising programs that run once: that is left out, but for
the tests of what a program stores. What is compiled is kept in `.xla_cache`, for other processes
and for the next run.
"""

import atexit
import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones end at this flag
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()  # read on import

# Read on import, here and by the programs that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".xla_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if "MAML_JAX_CACHE" not in os.environ:
    # What tests compile and read is kept for this run, by all its processes, which inherit the
    # name; the user's own cache is left alone.
    os.environ["MAML_JAX_CACHE"] = tempfile.mkdtemp(prefix="maml-jax-tests-")
    atexit.register(shutil.rmtree, os.environ["MAML_JAX_CACHE"], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
gc.set_threshold(200_000, 20, 100)  # traces are many small objects: fewer searches for garbage


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The tests of a file run in one process, which makes their fixtures once.

    Larger groups, and smaller ones in long files, name themselves.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


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


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser():
    """Playwright's own Chromium, or else the system's; without either the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as session:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        own = session.chromium.executable_path
        path = own if os.path.exists(own) else found
        if path is None:
            pytest.skip("there is no Chromium: `playwright install chromium` has one")
        started = session.chromium.launch(executable_path=path, args=options)
        yield started
        started.close()


@pytest.fixture(scope="module", autouse=True)
def free_programs():
    """Programs of a file of tests are freed after it.

    Each takes several memory maps, of which Linux allows a process 65530: a whole suite's are more,
    and then XLA aborts.
    """
    yield
    jax.clear_caches()
