"""What a TPU's program moves, of programs written by hand whose bytes can be counted by hand."""

import pytest

from benchmarks.traffic import Traffic, traffic

TILED = 64 * 128 * 4
"""Bytes of `f32[64,5]` in tiles of 8 x 128."""
IN_MEMORY = "f32[64,5]{1,0:T(8,128)}"
ON_CHIP = "f32[64,5]{1,0:T(8,128)S(1)}"


def program(*lines, others=""):
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m\n\n{others}\nENTRY %main (x: f32[64,5]) -> f32[64,5] {{\n{body}\n}}\n"


@pytest.mark.parametrize(
    ("source", "result", "expected"),
    [
        (IN_MEMORY, IN_MEMORY, Traffic(2 * TILED, 0, 1)),
        (IN_MEMORY, ON_CHIP, Traffic(TILED, TILED, 1)),
        (ON_CHIP, ON_CHIP, Traffic(0, 2 * TILED, 1)),
        # The minor axis is the first; then two numbers of 2 bytes, and one bit-wide truth.
        ("bf16[64,5]{0,1:T(8,128)(2,1)}", "pred[]", Traffic(8 * 128 * 2 + 1, 0, 1)),
        ("f32[3,64,5]{2,1,0:T(8,128)}", "f32[200]{0:T(256)}", Traffic(3 * TILED + 1024, 0, 1)),
    ],
)
def test_whole_tiles_are_counted_where_the_array_lies(source, result, expected):
    text = program(f"%x = {source} parameter(0)", f"ROOT %y = {result} negate(%x), metadata={{}}")
    assert traffic(text) == expected


def test_a_copy_counts_both_of_its_ends_once():
    text = program(
        f"%x = {IN_MEMORY} parameter(0)",
        f"%start = ({ON_CHIP}, {IN_MEMORY}, u32[]{{:S(2)}}) copy-start(%x)",
        f"ROOT %y = {ON_CHIP} copy-done(%start)",
    )
    assert traffic(text) == Traffic(TILED, TILED, 1)


def test_a_slice_counts_what_is_taken():
    row = "f32[8,5]{1,0:T(8,128)S(1)}"
    inner = (
        f"%inside (p: f32[64,5]) -> f32[8,5] {{\n  %p = {IN_MEMORY} parameter(0)\n"
        f"  %b = {IN_MEMORY} bitcast(%p)\n"
        f"  ROOT %s = {row} dynamic-slice(%b, %b), dynamic_slice_sizes={{8,5}}\n}}\n"
    )
    x = f"%x = {IN_MEMORY} parameter(0)"
    fused = program(x, f"ROOT %y = {row} fusion(%x), kind=kLoop, calls=%inside", others=inner)
    alone = program(x, f"ROOT %y = {row} slice(%x), slice={{[0:8], [0:5]}}")
    assert traffic(fused) == traffic(alone) == Traffic(TILED / 8, TILED / 8, 1)


def test_a_change_in_place_counts_what_is_changed():
    row = "f32[8,5]{1,0:T(8,128)S(1)}"
    text = program(
        f"%x = {IN_MEMORY} parameter(0)",
        f"%row = {row} parameter(1)",
        f"ROOT %y = {IN_MEMORY} dynamic-update-slice(%x, %row)",
    )
    assert traffic(text) == Traffic(TILED / 8, TILED / 8, 1)


def loop(condition):
    others = (
        f"%body (p: (s32[], f32[64,5])) -> (s32[], f32[64,5]) {{\n"
        f"  %p = (s32[], {ON_CHIP}) parameter(0)\n"
        f"  %v = {ON_CHIP} get-tuple-element(%p), index=1\n"
        f"  %w = {ON_CHIP} negate(%v)\n"
        f"  ROOT %t = (s32[], {ON_CHIP}) tuple(%v, %w)\n}}\n\n"
        f"%ends (p: (s32[], f32[64,5])) -> pred[] {{\n{condition}"
        f"  %p = (s32[], {ON_CHIP}) parameter(0)\n"
        f"  ROOT %c = pred[] compare(%p, %p), direction=LT\n}}\n"
    )
    return program(
        f"%x = (s32[], {ON_CHIP}) parameter(0)",
        f"ROOT %y = (s32[], {ON_CHIP}) while(%x), condition=%ends, body=%body",
        others=others,
    )


def test_a_loop_counts_each_round():
    text = loop("  %n = s32[]{:T(128)} constant(7)\n")
    assert traffic(text) == Traffic(0, 7 * 2 * TILED, 7)


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="ends has 0 constants"):
        traffic(loop(""))


def test_nested_fusions_that_slice():
    row = "f32[8,5]{1,0:T(8,128)S(1)}"
    inner = (
        f"%innermost (q: f32[64,5]) -> f32[8,5] {{\n  %q = {IN_MEMORY} parameter(0)\n"
        f"  ROOT %s = {row} dynamic-slice(%q, %q), dynamic_slice_sizes={{8,5}}\n}}\n\n"
        f"%inside (p: f32[64,5]) -> f32[8,5] {{\n  %p = {IN_MEMORY} parameter(0)\n"
        f"  ROOT %f = {row} fusion(%p), kind=kLoop, calls=%innermost\n}}\n"
    )
    x = f"%x = {IN_MEMORY} parameter(0)"
    text = program(x, f"ROOT %y = {row} fusion(%x), kind=kLoop, calls=%inside", others=inner)
    assert traffic(text) == Traffic(TILED / 8, TILED / 8, 1)


def test_a_fusion_of_two_results_one_of_them_changed_in_place():
    row = "f32[8,5]{1,0:T(8,128)S(1)}"
    inner = (
        f"%inside (p: f32[64,5], r: f32[8,5]) -> (f32[64,5], f32[8,5]) {{\n"
        f"  %p = {IN_MEMORY} parameter(0)\n  %r = {row} parameter(1)\n"
        f"  %u = {IN_MEMORY} dynamic-update-slice(%p, %r)\n  %n = {row} negate(%r)\n"
        f"  ROOT %t = ({IN_MEMORY}, {row}) tuple(%u, %n)\n}}\n"
    )
    text = program(
        f"%x = {IN_MEMORY} parameter(0)",
        f"%row = {row} parameter(1)",
        f"ROOT %y = ({IN_MEMORY}, {row}) fusion(%x, %row), kind=kLoop, calls=%inside",
        others=inner,
    )
    assert traffic(text) == Traffic(TILED / 8, 2 * TILED / 8, 1)


def test_a_fusion_that_only_reinterprets_reads_all():
    inner = (
        f"%inside (p: f32[64,5]) -> f32[320] {{\n  %p = {IN_MEMORY} parameter(0)\n"
        f"  ROOT %b = {ON_CHIP} bitcast(%p)\n}}\n"
    )
    x = f"%x = {IN_MEMORY} parameter(0)"
    text = program(x, f"ROOT %y = {ON_CHIP} fusion(%x), kind=kLoop, calls=%inside", others=inner)
    assert traffic(text) == Traffic(TILED, TILED, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"ROOT %y = {ON_CHIP} conditional(%x, %x)", "which branch of y"),
        (f"ROOT %y = ({ON_CHIP}, {ON_CHIP}) all-gather-start(%x)", "all-gather-start"),
        (f"ROOT %y = {ON_CHIP[:-1]}S(5)}} negate(%x)", "the host's memory"),
    ],
)
def test_what_is_not_counted_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        traffic(program(f"%x = {ON_CHIP} parameter(0)", line))


def test_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        traffic("")
