"""Faults of runs that people met: each test names its trial, and holds the right outcome."""

import ast
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import maml_jax as mj
from maml_jax import cache, report
from maml_jax.cli import main
from maml_jax.errors import InputError
from maml_jax.training import metrics, runs
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.recipes import recipe
from maml_jax.training.recorder import train_run

pytestmark = pytest.mark.slow  # trainings and processes, for each trial

ROOT = Path(__file__).parents[2]
LINE = [
    *("train", "--recipe", "sinusoid", "--hidden", "4", "--tasks", "2", "--updates", "4"),
    *("--updates-per-dispatch", "2", "--checkpoint-every", "2", "--validate-every", "0"),
]
PICTURES = [
    *("train", "--model", "mlp", "--hidden", "4", "--image-size", "16", "--ways", "2"),
    *("--tasks", "2", "--updates", "2", "--validate-every", "0"),
]


def in_new_process(code, *, cwd=None, **variables):
    """A program of its own; its variables replace those of this process, None deletes one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environment = {name: value for name, value in environment.items() if value is not None}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        capture_output=True,
        encoding=variables.get("PYTHONIOENCODING", "utf-8"),
        check=False,
    )


def save_pictures(folder, classes=16, each=6, seed=0):
    """A folder for each class, with small noisy pictures in grey."""
    image = pytest.importorskip("PIL.Image")
    draw = np.random.default_rng(seed)
    for number in range(classes):
        (folder / f"class{number:02}").mkdir(parents=True)
        for n in range(each):
            pixels = draw.integers(0, 256, (16, 16), np.uint8)
            image.fromarray(pixels).save(folder / f"class{number:02}" / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory):
    """A run that was trained on a folder given by a relative path, which then moved."""
    place = tmp_path_factory.mktemp("work")
    save_pictures(place / "photos")
    save_pictures(place / "other", classes=4, seed=1)
    before = Path.cwd()
    os.chdir(place)
    try:
        assert main([*PICTURES, "--data", "photos", "--out", "run"]) == 0
    finally:
        os.chdir(before)
    (place / "photos").rename(place / "moved")
    return place


@pytest.fixture(scope="module")
def of_lines(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    assert main([*LINE, "--out", str(run)]) == 0
    return run


ALONE = """
import jax, numpy as np
import maml_jax as mj
from maml_jax.cli import main
run = mj.load("../run")
support = mj.Batch(np.zeros((2, 16, 16, 1), np.float32), np.arange(2))
x = np.ones((3, 16, 16, 1), np.float32)
outputs = run.learner.classify(run.meta, support, x)
assert outputs.shape == (3, 2), outputs.shape
assert main(["export", "../run", "weights.safetensors"]) == 0
assert main(["evaluate", "../run", "--data", "../other", "--tasks", "3", "--queries", "2"]) == 0
assert main(["report", "../run"]) == 0
"""


def test_a_run_stands_alone(of_pictures):
    """C: rename the folder of pictures, stand in another directory, then do all that a run can."""
    elsewhere = of_pictures / "elsewhere"
    elsewhere.mkdir()
    done = in_new_process(ALONE, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "weights.safetensors").is_file()
    assert "other (all split)" in done.stdout
    config = json.loads((of_pictures / "run" / "config.json").read_text(encoding="utf-8"))["config"]
    assert config["data"] == str(of_pictures / "photos")


def test_evaluating_on_the_missing_data_is_one_line(of_pictures, capsys):
    """C: the same; what does need the pictures says which are missing."""
    assert main(["evaluate", str(of_pictures / "run"), "--tasks", "3"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--data was {of_pictures / 'photos'}" in said


def test_moved_training_data_is_still_training_data(of_pictures, monkeypatch, capsys):
    """★ C, its kind: by another path the training pictures were another set, and split `all`."""
    monkeypatch.chdir(of_pictures)
    found = runs.evaluate("run", data="moved", tasks=3, queries=2)
    assert found["split"] == "test"
    assert runs.evaluate("run", data="other", tasks=3, queries=2)["split"] == "all"


def test_the_same_data_by_a_relative_path(tmp_path, monkeypatch):
    """★ C, its kind: `evaluate --data photos`, as training had it, tested on training classes."""
    save_pictures(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    assert main([*PICTURES, "--data", "photos", "--out", "run"]) == 0
    assert runs.evaluate("run", data="photos", tasks=3, queries=2)["split"] == "test"
    runs.evaluate("run", data_dir=str(tmp_path), tasks=3, queries=2)


def test_a_folder_with_the_name_of_a_data_set(tmp_path, monkeypatch):
    """★ C, its kind: where a folder `sinusoid` lay, a run was recorded as trained on the folder."""
    (tmp_path / "sinusoid").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main([*LINE, "--out", "run"]) == 0
    assert runs.load("run").config.data == "sinusoid"


def test_the_path_of_a_split_is_absolute(tmp_path, monkeypatch):
    """C, its kind: `--class-split split.json` was stored as it was typed."""
    save_pictures(tmp_path / "photos", classes=6)
    names = [f"class{n:02}" for n in range(6)]
    split = {"train": names[:2], "val": names[2:4], "test": names[4:]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    monkeypatch.chdir(tmp_path)
    config = recipe("quickstart")
    config = dataclasses.replace(
        config, data="photos", class_split="split.json", model="mlp", ways=2
    )
    expected = runs.create(config, "run")[1].data.fingerprint()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert runs.resume("../run")[1].data.fingerprint() == expected


def test_paths_may_be_str(of_lines, tmp_path):
    """C: `runs.load("runs/x")`, a str, was a TypeError."""
    from maml_jax.exchange.transfer import export_run, import_run

    run = str(tmp_path / "run")
    shutil.copytree(of_lines, run)
    assert int(runs.restore(run).state.update) == 4
    assert runs.load(run).config == mj.load(of_lines).config
    assert runs.evaluate(run, tasks=2, queries=2)["updates"] == 4
    assert metrics.read(run)
    assert report.write(run, tasks=2)
    file = str(tmp_path / "weights.safetensors")
    assert export_run(run, file)
    config = dataclasses.replace(recipe("sinusoid"), hidden=(4,))
    import_run(file, config, str(tmp_path / "imported"))
    with runs.locked(run):
        assert train_run(runs.resume(run)[0], run, *runs.resume(run)[1:]).ended == "done"


def test_the_compiler_and_the_processor_are_recorded(of_lines, monkeypatch, caplog):
    """C: the same seed with 1 and 2 cores; what the bits depend on is recorded and checked."""
    versions = json.loads((of_lines / "config.json").read_text(encoding="utf-8"))["versions"]
    assert versions["devices"] == 2
    assert versions["compiler"] == "none" or "." in versions["compiler"]
    assert versions["processor"]
    assert versions["jax_default_prng_impl"] == "threefry2x32"
    monkeypatch.setattr("maml_jax.training.provenance.compiler_version", lambda: "cc 0.1")
    monkeypatch.setattr("maml_jax.training.provenance.processor", lambda: "a hare")
    runs.resume(of_lines)
    for part in ("and is cc 0.1", "and is a hare", "may differ in the last bits"):
        assert part in caplog.text


def test_a_resume_on_fewer_devices_is_said(of_lines, tmp_path):
    """C: the same seed with 1 and 2 cores: the log differs and a resume does not notice."""
    run = shutil.copytree(of_lines, tmp_path / "run")
    words = ["train", "--resume", str(run), "--updates", "6"]
    done = in_new_process(f"from maml_jax.cli import main; exit(main({words}))")
    assert done.returncode == 0, done.stderr
    assert "devices was 2 and is 1" in done.stderr
    assert "its results may differ in the last bits" in done.stderr


LIBRARY = """
#include <cstdio>
__attribute__((constructor)) static void loaded() { std::fclose(std::fopen("%s", "w")); }
"""
COPY = """#!/bin/sh
for word; do last="$before"; before="$word"; done
[ "$1" = --version ] && echo "cp 1.0" && exit
cp "%s" "$before"
"""
LOAD = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from maml_jax.kernels import native
print(native.library("float32") is not None)
"""
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler"
)
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes of POSIX")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """`ours` and `theirs`, each of which makes a file of its name when it is loaded; a compiler."""
    folder = tmp_path_factory.mktemp("libraries")
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    for name in ("ours", "theirs"):
        (folder / f"{name}.cc").write_text(LIBRARY % (folder / name))
        command = [compiler, "-shared", "-fPIC", str(folder / f"{name}.cc"), "-o"]
        subprocess.run([*command, str(folder / f"{name}.so")], check=True)
    (folder / "c++").write_text(COPY % (folder / "ours.so"))
    (folder / "c++").chmod(0o755)
    return folder


@posix
@needs_compiler
def test_a_planted_library_is_not_loaded(libraries, tmp_path):
    """★ C: the cache in a folder that others can write, a library of the expected name in it."""
    shared, ours, theirs = tmp_path / "shared", libraries / "ours", libraries / "theirs"
    shared.mkdir(mode=0o700)

    def load():
        ours.unlink(missing_ok=True)
        variables = {"MAML_JAX_CXX": str(libraries / "c++"), "MAML_JAX_CACHE": str(shared)}
        done = in_new_process(LOAD, **variables)
        assert done.stdout == "True\n", done.stderr
        assert ours.exists() != theirs.exists()
        return done.stderr

    assert "compiling the convolution" in load()
    [library] = shared.glob("*.so")
    assert "compiling" not in load()  # kept, and taken from there
    shutil.copy(libraries / "theirs.so", library)
    shared.chmod(0o777)
    said = load()
    assert not theirs.exists()
    assert f"others can write to {shared}" in said
    assert "compiling the convolution" in said
    shared.chmod(0o700)
    library.chmod(0o666)  # a file that others can write, in a folder that they cannot
    assert "compiling the convolution" in load()
    assert not theirs.exists()


@posix
@pytest.mark.parametrize(
    ("mode", "risk"),
    [
        (0o700, None),
        (0o755, None),
        (0o777, "others can write to"),
        (0o1777, "others can write to"),
        (0o770, "its group can write to"),
    ],
)
def test_owner_and_mode_are_checked(mode, risk, tmp_path, monkeypatch, caplog):
    """★ C: owner and mode as ssh does with keys, for the folder and those around it."""
    monkeypatch.setattr(cache, "_is_own_group", lambda number: False)
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("MAML_JAX_CACHE", str(folder))
    cache._warn_once.cache_clear()
    assert cache.code_folder() == (None if risk else folder)
    assert (risk or "") in caplog.text
    inner = folder / "inner"
    inner.mkdir(mode=0o700)
    # In a folder with the sticky bit nobody else can rename what is ours.
    unsafe = mode in (0o777, 0o770)
    assert (cache.others_can_change(inner) is not None) is unsafe
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    if inner.stat().st_uid:
        assert "belongs to another user" in cache.others_can_change(inner)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files away")
def test_a_folder_of_another_user(tmp_path):
    """★ C: owner and mode; the folder belongs to somebody else."""
    folder = tmp_path / "theirs"
    (folder / "ours").mkdir(parents=True)
    os.chown(folder, 12345, 12345)
    assert cache.others_can_change(folder / "ours") == f"{folder} belongs to another user"


@posix
def test_compiled_programs_are_not_taken_from_there_either(tmp_path):
    """★ C, its kind: XLA's programs are machine code too, and lay in the same folder."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    code = (
        "import jax; from maml_jax.cli import _set_up_jax, _log_to_stderr; _log_to_stderr();"
        "_set_up_jax(); print(jax.config.jax_compilation_cache_dir)"
    )
    variables = {"MAML_JAX_CACHE": str(shared), "JAX_COMPILATION_CACHE_DIR": None}
    done = in_new_process(code, **variables)
    assert done.stdout == "None\n", done.stderr
    assert f"others can write to {shared}" in done.stderr
    shared.chmod(0o700)
    assert in_new_process(code, **variables).stdout.startswith(f"{shared}/compiled-")


@pytest.mark.skipif(sys.platform != "linux", reason="a home that cannot be written, of Linux")
def test_a_home_that_cannot_be_written(tmp_path):
    """C: home not writable: even `glyphs` was refused, with a variable that nobody had set."""
    save_pictures(tmp_path / "photos")
    code = (
        "import logging; logging.basicConfig(format='%(message)s'); import maml_jax as mj;"
        f"print(mj.data.load({str(tmp_path / 'photos')!r}).input_shape)"
    )
    nowhere = {"MAML_JAX_CACHE": None, "XDG_CACHE_HOME": None, "HOME": "/proc/nowhere"}
    done = in_new_process(code, **nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(16, 16, 1)\n"
    assert "/proc/nowhere/.cache/maml-jax cannot be written" in done.stderr
    assert "temporary folder" in done.stderr


def test_without_a_home_there_is_a_temporary_folder(monkeypatch, caplog):
    """C: the same, where there is no home at all."""

    def no_home(*_, **__):
        raise RuntimeError

    monkeypatch.delenv("MAML_JAX_CACHE", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", no_home)
    cache._warn_once.cache_clear()
    folder = cache.cache_folder()
    assert folder.is_dir()
    assert folder == cache.cache_folder()
    assert caplog.text.count("the user has no home folder") == 1


def test_training_in_a_thread(tmp_path):
    """C: `main(["train", …])` in a thread: signal only works in main thread."""
    codes = []
    words = [*LINE, "--out", str(tmp_path / "run")]
    thread = threading.Thread(target=lambda: codes.append(main(words)))
    thread.start()
    thread.join()
    assert codes == [0]
    assert int(runs.restore(tmp_path / "run").state.update) == 4


COMMANDS = ("", "train", "evaluate", "report", "export", "import", "data", "data show")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk"])
def test_help_in_any_encoding(encoding):
    """C: `PYTHONIOENCODING=cp1252 maml-jax train --help` was a UnicodeEncodeError."""
    code = (
        "import sys; from maml_jax.cli import main\n"
        f"for command in {COMMANDS}:\n"
        "    try: main([*command.split(), '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0, command\n"
    )
    done = in_new_process(code, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "--updates INT" in done.stdout


def opened_without_encoding(path):
    """The calls in a file of Python that open text in the encoding of whoever runs it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        binary = any(isinstance(word, str) and "b" in word and len(word) < 4 for word in words)
        owner = getattr(getattr(node.func, "value", None), "id", "")
        is_text = name in ("read_text", "write_text") and owner != "script"
        is_open = isinstance(node.func, ast.Name) and name == "open" and not binary
        is_open |= name == "fdopen" and not binary
        is_pipe = "text" in given or "universal_newlines" in given
        if (is_text or is_open or is_pipe) and "encoding" not in given:
            yield f"{path}:{node.lineno}: {name}"


def test_text_is_utf8_wherever_a_file_is_opened():
    """C: gbk locales reading the C++ sources: UnicodeDecodeError."""
    folders = (ROOT / name for name in ("maml_jax", "parity", "benchmarks"))
    files = [path for folder in folders for path in folder.rglob("*.py")]
    own = ROOT / "benchmarks" / "script.py"  # whose `write_text` is a function of its own
    found = [line for path in files if path != own for line in opened_without_encoding(path)]
    found = [
        line for line in found if "benchmarks/readme.py" not in line or "write_text" not in line
    ]
    assert found == []


@needs_compiler
def test_the_sources_are_read_in_any_locale(libraries, tmp_path):
    """C: gbk locales reading the C++ sources; here the locale is C, without UTF-8 mode."""
    done = in_new_process(
        LOAD,
        MAML_JAX_CXX=str(libraries / "c++"),
        MAML_JAX_CACHE=str(tmp_path / "cache"),
        **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert done.stdout == "True\n", done.stderr


def test_resuming_a_finished_run_says_so(of_lines, tmp_path, capsys):
    """C: `--resume` of a finished run: "done", nothing happens."""
    run = shutil.copytree(of_lines, tmp_path / "run")
    assert main(["train", "--resume", str(run)]) == 0
    line = "it has made its 4 updates already; --updates goes on to more\n"
    assert line in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--updates", "6"]) == 0
    assert line not in capsys.readouterr().err


@pytest.fixture
def failing_source(monkeypatch):
    """Tasks that are fetched from a host whose disk fails after the first block."""
    from maml_jax.data.sets.sinusoid import Sinusoid
    from maml_jax.training import prefetch

    monkeypatch.setattr(prefetch, "BLOCK_BYTES", 1)
    calls, tasks = [], Sinusoid.tasks

    def failing(self, *args, **options):
        source = tasks(self, *args, **options)

        def load(keys):
            calls.append(keys)
            if len(calls) > 5:  # one for the shapes, then two updates on two devices
                raise OSError(5, "Input/output error", "photos.npy")
            return jax.vmap(jax.random.key_data)(keys.ravel()).reshape(*keys.shape, -1)

        def sample(store, data):
            return source.sample(store, jax.random.wrap_key_data(data))

        return source._replace(load=load, sample=sample)

    return lambda: monkeypatch.setattr(Sinusoid, "tasks", failing)


def test_a_fault_of_reading_is_no_fault_of_writing(tmp_path, failing_source, capsys):
    """C: an OSError of the fetching thread was reported as a disk that cannot be written."""
    failing_source()
    run = tmp_path / "run"
    assert main([*LINE, "--out", str(run)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "maml-jax train:" in line]
    assert len(said) == 1
    assert "cannot be read: [Errno 5] Input/output error: 'photos.npy'" in said[0]
    assert "written" not in said[0]
    assert "the examples of update 3 " in said[0]
    assert Checkpoints(run).updates() == [2]  # the last good state is kept


def test_a_fault_of_saving_is_told_by_its_own_reason(tmp_path, monkeypatch, capsys):
    """C: a ValueError in saving was reported as a disk that cannot be written."""
    import orbax.checkpoint as ocp

    def save(*_, **__):
        raise ValueError("a tree of 3 leaves\nand many lines more")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    run = tmp_path / "run"
    assert main([*LINE, "--out", str(run)]) == 1
    said = capsys.readouterr().err
    assert f"{run} was not saved: a tree of 3 leaves\n" in said
    assert "cannot be written" not in said

    def full(*_, **__):
        raise ValueError('"x": Error writing "/y": No space left on device')

    monkeypatch.setattr(ocp.Checkpointer, "save", full)
    assert main([*LINE, "--out", str(tmp_path / "full")]) == 1
    assert "cannot be written: No space left on device" in capsys.readouterr().err


def test_the_folder_is_synced_before_older_checkpoints_go(tmp_path, monkeypatch):
    """C: after the rename of a checkpoint its folder was not synced before older ones went."""
    checkpoints = tmp_path / "run" / "checkpoints"
    done, opened = [], {}
    rename, rmtree, fsync, open_ = Path.rename, shutil.rmtree, os.fsync, os.open

    def spied_open(path, *args, **options):
        handle = open_(path, *args, **options)
        opened[handle] = Path(path)
        return handle

    monkeypatch.setattr(os, "open", spied_open)
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(("sync", opened.get(n))), fsync(n))[1])
    monkeypatch.setattr(
        Path, "rename", lambda a, b: (done.append(("rename", Path(b))), rename(a, b))[1]
    )

    def spied_rmtree(path, *args, **options):
        if Path(path).exists():
            done.append(("delete", Path(path)))
        return rmtree(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", spied_rmtree)
    assert main([*LINE, "--keep-checkpoints", "1", "--out", str(tmp_path / "run")]) == 0
    renamed = done.index(("rename", checkpoints / "4"))
    deleted = done.index(("delete", checkpoints / "2"))
    assert ("sync", checkpoints) in done[renamed:deleted]
    # So are the folders in which the first checkpoint, and the run itself, appeared.
    first = done.index(("rename", checkpoints / "2"))
    assert ("sync", tmp_path / "run") in done[first:renamed]
    assert ("sync", tmp_path) in done[:first]


def test_a_damaged_log_is_still_bad_input(of_lines, tmp_path, capsys):
    """C, its kind: reasons of their own are kept where they are bad input."""
    run = shutil.copytree(of_lines, tmp_path / "run")
    (run / "metrics.jsonl").write_text("no JSON\n")
    assert main(["train", "--resume", str(run)]) == 2
    assert "its metrics.jsonl is damaged" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged"):
        metrics.read(str(run))
