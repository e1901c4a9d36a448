"""The commands for a short loan of a GPU: each within its limit, none ends the others."""

import sys

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import STEPS, Step, run
from benchmarks.options import chosen_workloads, make_parser
from benchmarks.peers import PEERS


def test_all_of_it_takes_less_than_nine_minutes():
    assert sum(step.limit_s for step in STEPS) < 9 * 60


@pytest.mark.parametrize("step", [s for s in STEPS if s.arguments[0] == "benchmarks"])
def test_the_commands_know_their_options(step):
    parser = make_parser()
    options = parser.parse_args(step.arguments[1:])
    assert 60 * options.minutes < step.limit_s
    assert chosen_workloads(parser, options.only, quick=False, device="gpu")
    assert set(options.peers.split(",")) <= set(PEERS)


def test_a_step_that_fails_or_hangs_leaves_the_others(tmp_path, monkeypatch):
    (tmp_path / "writes.py").write_text(
        "import sys, time\n"
        "_, word, _, out, *data = sys.argv\n"
        "time.sleep(60 if word == 'hang' else 0)\n"
        "open(out, 'w', encoding='utf-8').write(' '.join(data))\n"
        "sys.exit(3 if word == 'fail' else 0)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    steps = (
        Step("a", 20, ["writes", "fail"]),
        Step("b", 1, ["writes", "hang"]),
        Step("c", 20, ["writes", "end"], reads_data=True),
    )
    ends = run(steps, tmp_path / "data", tmp_path)
    assert ends == {"a": "failed with 3", "b": "ended after its 1 s", "c": "done"}
    assert (tmp_path / "c.json").read_text(encoding="utf-8") == f"--data-dir {tmp_path / 'data'}"
    monkeypatch.setattr(accelerator, "STEPS", steps[:1])
    arguments = ["", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert accelerator.main() == 1
    monkeypatch.setattr(accelerator, "STEPS", steps[2:])
    assert accelerator.main() == 0
