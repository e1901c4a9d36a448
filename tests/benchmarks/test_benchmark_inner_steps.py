"""What the table of memory and compile time against inner steps says."""

import json
import sys

from benchmarks import inner_steps


def test_rows_are_printed_and_written(monkeypatch, tmp_path, capsys):
    def measured(mode, steps, algorithm, shots):
        assert shots == 5
        return inner_steps.Row(
            algorithm, mode, steps, 10_000_000 + 500_000 * steps, 10**6, 0.25, 4.5
        )

    monkeypatch.setattr(inner_steps, "temporary_memory", measured)
    monkeypatch.setattr(
        sys, "argv", ["inner_steps", "--shots", "5", "--out", str(tmp_path / "r.json")]
    )
    assert inner_steps.main() == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split("   ")[-2:] == ["trace s", "compile s"]
    assert len(lines) == len(inner_steps.MODES) * len(inner_steps.STEPS)
    assert lines[1].split() == ["maml", "mixed", "5", "12.5", "0.50", "0.2", "4.5"]
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert rows[0]["compile_s"] == 4.5
    assert rows[0]["trace_s"] == 0.25
    assert {row["steps"] for row in rows} == {1, 5, 20}


def test_a_measured_row():
    row = inner_steps.temporary_memory("mixed", 2)
    assert row.trace_s > 0
    assert row.compile_s > 0
    assert 4e5 < row.weights_bytes < 5e5
    assert row.temporary_bytes > row.weights_bytes
