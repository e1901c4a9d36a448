"""The C++ library under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

    python tests/kernels/sanitizers.py

compiles `sanitizer_driver.cc` with each of them in both precisions, and runs it on odd and random
shapes. The exit status is 0 if nothing was found, 1 if something was, 2 if a sanitizer is missing.
"""

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from maml_jax.kernels import native

DRIVER = Path(__file__).with_name("sanitizer_driver.cc")
SANITIZERS = {
    "address,undefined": (
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
    "thread": ("-fsanitize=thread",),
}
FLAGS = ("-std=c++17", "-O1", "-g", "-w", "-march=native", "-pthread")
# Groups, images, height, width, the kernel's two, channels, filters, stride, padding.
SHAPES = (
    (1, 5, 7, 7, 3, 3, 64, 64, 1, 1),  # Winograd's form, odd
    (3, 2, 8, 6, 3, 3, 16, 40, 1, 0),  # and without padding: flipped, it is padded by 2
    (1, 2, 6, 6, 3, 3, 16, 16, 1, 3),  # flipped, it would be padded by less than 0
    (2, 2, 14, 14, 3, 3, 64, 32, 2, 1),
    (1, 2, 1, 1, 3, 3, 16, 16, 1, 1),  # all but one tap of the window see only border
    (1, 3, 9, 9, 3, 3, 1, 64, 1, 1),
    (2, 11, 1, 1, 1, 1, 28, 20, 1, 0),  # dense layers
    (1, 11, 1, 1, 1, 1, 20, 12, 1, 0),
    (1, 11, 1, 1, 1, 1, 1, 28, 1, 0),
    (1, 11, 1, 1, 1, 1, 39, 1, 1, 0),
    (1, 0, 5, 5, 3, 3, 4, 4, 1, 1),  # no images
    (3, 6, 20, 20, 3, 3, 32, 32, 1, 1),  # so much that groups go to threads,
    (1, 5, 32, 32, 3, 3, 64, 64, 1, 1),  # and the images of one group
    (2, 9, 40, 41, 5, 4, 3, 24, 2, 2),
)
CHANNELS = (1, 2, 3, 7, 8, 12, 16, 17, 20, 24, 28, 32, 40, 64)


def shapes(count: int = 60, seed: int = 0) -> list[tuple[int, ...]]:
    """The shapes above, and random ones."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    found = list(SHAPES)
    while len(found) < len(SHAPES) + count:
        image, window = ([draw.randint(1, most) for _ in range(2)] for most in (9, 4))
        if draw.random() < 0.5:
            window = [3, 3]
        stride, padding = draw.randint(1, 3), draw.randint(0, 3)
        if all(i + 2 * padding >= w for i, w in zip(image, window, strict=True)):
            ends = draw.choice(CHANNELS), draw.choice(CHANNELS), stride, padding
            found.append((draw.randint(1, 3), draw.randint(1, 4), *image, *window, *ends))
    return found


def missing(sanitizer: str) -> str | None:
    """Why the sanitizer cannot be used here; None: it can."""
    if native.compiler() is None:
        return "no C++ compiler (c++, g++, clang++)"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.cc")
        source.write_text("int main() { return 0; }\n", encoding="utf-8")
        program = Path(folder, "empty")
        done = _run([native.compiler(), *SANITIZERS[sanitizer], str(source), "-o", str(program)])
        if done.returncode == 0:
            done = _run([str(program)])
    if done.returncode == 0:
        return None
    return f"{native.compiler()} has no -fsanitize={sanitizer} that runs here: {done.stderr[:200]}"


def check(
    sanitizer: str, dtype: str, sources: Path = native.SOURCES, count: int = 60
) -> subprocess.CompletedProcess[str]:
    """Compile the driver and run it on the shapes; the status is not 0 if anything was found.

    Args:
      sanitizer: one of `SANITIZERS`.
      dtype: `float32` or `float64`.
      sources: the folder of the library.
      count: how many random shapes.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "driver"))
        flags = [*FLAGS, *SANITIZERS[sanitizer], f"-DNUMBER={native.DTYPES[dtype]}"]
        folders = [f"-I{sources}", f"-I{jax.ffi.include_dir()}"]
        compiled = _run([native.compiler(), *flags, *folders, str(DRIVER), "-o", program])
        if compiled.returncode:
            raise RuntimeError(f"the driver does not compile: {compiled.stderr[:2000]}")
        lines = "\n".join(" ".join(map(str, shape)) for shape in shapes(count))
        return _run([program], lines)


def _run(command: list, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={
            **os.environ,
            "ASAN_OPTIONS": "detect_leaks=0",  # leaks need ptrace, often forbidden
            "TSAN_OPTIONS": "halt_on_error=1",  # a race may damage what the program waits for
        },
        check=False,
    )


def main() -> int:
    """Run all of them and print what they found."""
    status = 0
    for sanitizer in SANITIZERS:
        reason = missing(sanitizer)
        if reason is not None:
            print(f"{sanitizer}: skipped, {reason}")
            status = max(status, 2)
            continue
        for dtype in native.DTYPES:
            done = check(sanitizer, dtype)
            print(f"{sanitizer}, {dtype}: {done.stdout.strip() or 'stopped'}", flush=True)
            if done.returncode:
                print(done.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
