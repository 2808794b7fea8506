"""The compute type by the kind of device, by flags that were recorded."""

import pytest

from simclrv2_tf import precision

# The flags that differ, of /proc/cpuinfo on machines of each kind.
PROCESSORS = {
    "Intel Xeon Sapphire Rapids": "fma avx2 avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile",
    "AMD EPYC of the fourth generation": "fma avx2 avx512f avx512_bf16 avx512_vnni",
    "Intel Xeon Cascade Lake": "fma avx2 avx512f avx512_vnni",
    "Intel Core of the eighth generation": "fma avx2",
    "ARM, whose flags have another name": "",
}
FAST = {"Intel Xeon Sapphire Rapids": "AMX", "AMD EPYC of the fourth generation": "AVX-512 BF16"}


@pytest.mark.parametrize("name", PROCESSORS)
def test_processors(name, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {PROCESSORS[name]}\n\n"
        "processor\t: 1\nflags\t\t: amx_bf16 of another\n"
    )
    found, reason = precision.choose(False, [], precision.processor_flags(str(cpuinfo)))
    assert found == ("mixed_bfloat16" if name in FAST else "float32")
    other = "neither AMX nor AVX-512 BF16" if PROCESSORS[name] else "instructions are unknown"
    assert FAST.get(name, other) in reason


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([{"device_name": "NVIDIA H100", "compute_capability": (9, 0)}], "mixed_bfloat16"),
        ([{"device_name": "NVIDIA A100", "compute_capability": (8, 0)}], "mixed_bfloat16"),
        ([{"device_name": "Tesla T4", "compute_capability": (7, 5)}], "float32"),
        ([{"compute_capability": (8, 6)}, {"compute_capability": (7, 0)}], "float32"),
        ([{}], "float32"),  # not NVIDIA's: nothing is known of it
    ],
)
def test_gpus_decide_before_the_processor(gpus, expected):
    for flags in (frozenset(), frozenset({"amx_bf16"})):
        found, reason = precision.choose(False, gpus, flags)
        assert found == expected and "compute capability" in reason
        assert ("unknown" in reason) == (gpus == [{}])


def test_a_tpu_decides_before_everything():
    assert precision.choose(True, [{}], frozenset())[0] == "mixed_bfloat16"


def test_without_linux_nothing_is_known(tmp_path):
    flags = precision.processor_flags(str(tmp_path / "nothing"))
    assert precision.choose(False, [], flags) == (
        "float32",
        "the processor's instructions are unknown",
    )


def test_this_machine_has_one_of_both():
    found, reason = precision.detect()
    assert found in precision.PRECISIONS[1:] and reason
