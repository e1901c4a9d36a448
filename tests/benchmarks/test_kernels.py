"""A profiler's trace, written by hand, is counted by kinds of kernels."""

import jax
import pytest

from benchmarks.kernels import kernels

TRACE = """
planes {
  name: "/device:GPU:0"
  lines {
    name: "Stream #14(Compute,MemcpyD2D)"
    events { metadata_id: 1 duration_ps: 2000000 }
    events { metadata_id: 2 duration_ps: 3000000 }
    events { metadata_id: 3 duration_ps: 1000000 }
    events { metadata_id: 3 duration_ps: 5000000 }
    events { metadata_id: 4 duration_ps: 600000 }
  }
  lines { name: "Stream #15(MemcpyH2D)" events { metadata_id: 4 duration_ps: 9000000 } }
  event_metadata { key: 1 value { id: 1 name: "gemm_fusion_dot_1" } }
  event_metadata { key: 2 value { id: 2 name: "void cutlass::Kernel2<a_64x64>" } }
  event_metadata { key: 3 value { id: 3 name: "loop_select_fusion_7" } }
  event_metadata { key: 4 value { id: 4 name: "MemcpyD2D" } }
}
planes {
  name: "/host:CPU"
  lines { name: "Compute" events { metadata_id: 1 duration_ps: 9000000 } }
  event_metadata { key: 1 value { id: 1 name: "gemm_fusion" } }
}
"""


def test_a_trace_by_hand(tmp_path):
    file = tmp_path / "a.xplane.pb"
    file.write_bytes(jax.profiler.ProfileData.text_proto_to_serialized_xspace(TRACE))
    found = kernels(file, count=2)
    assert found["computing_ms"] == pytest.approx(0.0058)  # 11.6 µs in two calls
    assert found["kernels"] == 2.5
    assert found["by_kind"] == {
        "loop_select": {"kernels": 1.0, "us": 3.0},
        "matrix products": {"kernels": 1.0, "us": 2.5},
        "others": {"kernels": 0.5, "us": 0.3},
    }
