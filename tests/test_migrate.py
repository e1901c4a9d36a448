"""docs/migrate.md: the programs of other libraries have the meta-gradient of maml-jax."""

import re
from pathlib import Path

import jax
import pytest

torch = pytest.importorskip("torch")

PAGE = (Path(__file__).parents[1] / "docs/migrate.md").read_text(encoding="utf-8")
SETUP, OURS, *THEIRS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
THEIRS = {re.search(r"(?:import|from) (\w+)", code)[1]: code for code in THEIRS}
DOUBLE = 'jax.config.update("jax_enable_x64", True)\n'


@pytest.fixture
def names():
    """What the page defines before it comes to another library, in double precision."""
    assert DOUBLE in SETUP  # the setting of this process is given back, below
    dtype = torch.get_default_dtype()
    found = {}
    with jax.enable_x64(True):
        try:
            exec(SETUP.replace(DOUBLE, "") + OURS, found)  # noqa: S102
            yield found
        finally:
            torch.set_default_dtype(dtype)


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("library", THEIRS)
def test_the_meta_gradient_is_the_same(library, names, capsys):
    pytest.importorskip(library, reason=f"{library} is not installed")
    exec(THEIRS[library], names)  # noqa: S102
    assert float(capsys.readouterr().out) < 1e-12
    assert all(float(abs(slope).max()) > 1e-3 for slope in names["grads"].values())


def test_another_meta_gradient_is_seen(names):
    """That of FOMAML, in the place of the other library's."""
    learner = names["mj"].fomaml(names["apply"], inner_lr=0.1, inner_steps=3)
    _, slopes = names["mj"].over_tasks(learner)(names["meta"], names["episodes"])
    for name, weight in names["net"].named_parameters():
        weight.grad = torch.tensor(slopes[name].tolist())
    assert names["difference"](names["net"]) > 1e-3


def test_all_libraries_are_there():
    assert list(THEIRS) == ["higher", "torchopt", "learn2learn", "torchmeta"]
