"""What the table of memory and compile time against inner steps says."""

import json
import sys

import pytest

from benchmarks import inner_steps


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
    def fake_row(mode, steps, algorithm, shots):
        assert shots == 5
        return inner_steps.Row(
            algorithm, mode, steps, 10_000_000 + 500_000 * steps, 10**6, 0.25, 4.5
        )

    monkeypatch.setattr(inner_steps, "temporary_memory", fake_row)
    monkeypatch.setattr(
        sys, "argv", ["inner_steps", "--shots", "5", "--out", str(tmp_path / "r.json")]
    )
    assert inner_steps.main() == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("   ")[-2:] == ["trace s", "compile s"]
    assert len(lines) == len(inner_steps.MODES) * len(inner_steps.STEPS)
    assert lines[1].split() == ["maml", "mixed", "5", "12.5", "0.50", "0.2", "4.5"]
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["rows"]
    assert rows[0]["compile_s"] == 4.5
    assert rows[0]["trace_s"] == 0.25
    assert {row["steps"] for row in rows} == {1, 5, 20}


def test_another_checkouts_rows_stand_beside_them(monkeypatch, tmp_path, capsys):
    out = tmp_path / "r.json"
    row = inner_steps.Row("maml", "mixed", 1, 10_000_000, 10**6, 0.25, 4.5)
    monkeypatch.setattr(inner_steps, "temporary_memory", lambda *_: row)
    monkeypatch.setattr(inner_steps, "MODES", ("mixed",))
    monkeypatch.setattr(inner_steps, "STEPS", (1,))
    folder = tmp_path / "old"
    for file in (
        "maml_jax/__init__.py",
        "benchmarks/__init__.py",
        "benchmarks/worker.py",
        "benchmarks/peers/maml_jax.py",
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    (folder / "benchmarks" / "inner_steps.py").write_text(
        "import json, sys\n"
        f"row = {{**{row.__dict__!r}, 'temporary_bytes': 12_500_000}}\n"
        "assert sys.argv[1:5] == ['--algorithms', 'maml', '--shots', '3']\n"
        "open(sys.argv[-1], 'w').write(json.dumps({'rows': [row]}))\n"
    )
    arguments = ["inner_steps", "--shots", "3", "--before", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert inner_steps.main() == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.endswith("   before MB")
    assert line.split() == ["maml", "mixed", "1", "10.0", "0.00", "0.2", "4.5", "12.5"]
    assert (
        json.loads(out.read_text(encoding="utf-8"))["rows_before"][0]["temporary_bytes"]
        == 12_500_000
    )


@pytest.mark.slow  # it compiles two networks of convolutions
def test_a_measured_row():
    row = inner_steps.temporary_memory("mixed", 2, filters=8)
    assert row.trace_s > 0
    assert row.compile_s > 0
    assert 7e3 < row.weights_bytes < 9e3
    assert row.temporary_bytes > row.weights_bytes
