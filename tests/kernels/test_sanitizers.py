"""The C++ library reads and writes nothing that is not its own, under three sanitizers."""

import shutil

import pytest
import sanitizers

from maml_jax.kernels import native

pytestmark = pytest.mark.slow  # each compiles the library with a sanitizer, for half a minute


def skip_without(sanitizer):
    reason = sanitizers.missing(sanitizer)
    if reason is not None:
        pytest.skip(reason)


# Threads share memory in the same way whatever the numbers are.
@pytest.mark.parametrize(
    ("sanitizer", "dtype"),
    [("address,undefined", dtype) for dtype in native.DTYPES] + [("thread", "float32")],
)
def test_nothing_is_found(sanitizer, dtype):
    skip_without(sanitizer)
    done = sanitizers.check(sanitizer, dtype)
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stderr == ""
    assert done.stdout == f"{len(sanitizers.shapes())} shapes, 0 wrong\n"


@pytest.mark.parametrize(
    ("sanitizer", "file", "right", "wrong", "said"),
    [
        (
            "address,undefined",
            "taps.h",
            "column >= s.width",
            "column > s.width",
            "heap-buffer-overflow",
        ),
        (
            "address,undefined",
            "patches.h",
            "row >= s.height",
            "row > s.height",
            "heap-buffer-overflow",
        ),
        ("address,undefined", "threads.h", "/ 64 * 64)", "/ 64 * 64 + 1)", "misaligned address"),
        ("thread", "threads.h", "  thread_local std", "  static std", "data race"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, sanitizer, file, right, wrong, said):
    """A pixel beyond the border, memory that is not aligned, and memory that threads share."""
    skip_without(sanitizer)
    sources = tmp_path / "cpu"
    shutil.copytree(native.SOURCES, sources)
    text = (sources / file).read_text(encoding="utf-8")
    assert right in text
    (sources / file).write_text(text.replace(right, wrong), encoding="utf-8")
    done = sanitizers.check(sanitizer, "float32", sources, count=0)
    assert done.returncode != 0
    assert said in done.stderr
