"""The command that kills runs, in small."""

import json

import pytest

from benchmarks import kills


@pytest.mark.slow  # it trains, is killed, and resumes in real processes
def test_two_kills_and_a_term(tmp_path, monkeypatch, capsys):
    out = tmp_path / "kills.json"
    arguments = ["kills", "--kills", "2", "--terms", "1", "--updates", "400", "--out", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    assert kills.main() == 0
    trials = json.loads(out.read_text(encoding="utf-8"))["trials"]
    assert [trial["signals"] for trial in trials] == [2, 1]
    assert trials[0]["state"] == trials[1]["state"]
    assert trials[0]["metrics"] == trials[1]["metrics"]


def test_other_bits_are_seen(monkeypatch):
    prints = iter([{"state": "a"}, {"state": "b"}])
    monkeypatch.setattr(kills, "fingerprint", lambda run: next(prints))
    monkeypatch.setattr(kills, "run_until_signal", lambda *_: (0, "done; now"))
    monkeypatch.setattr(kills.shutil, "rmtree", lambda *_: None)
    with pytest.raises(SystemExit, match="ended in other bits"):
        kills.trial(kills.Path("nowhere"), 1, 10, "KILL", 0)
