"""Which programs take part, how each is started, and which of their kernels are compared with which of ours."""
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TORCH_PYTHON = ROOT / ".venv/bin/python"
PEERS_PYTHON = ROOT / "build/peers-venv/bin/python"

# oneDNN's own limit, which the copies inside LibTorch and OpenVINO obey too.
NO_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


@dataclass
class Program:
    name: str
    command: list  # the number of threads is appended, then `arguments`
    arguments: list = field(default_factory=list)
    environment: dict = field(default_factory=dict)


def programs(build: Path):
    binaries, torch, peers = build / "benchmarks", [TORCH_PYTHON, HERE / "torch_worker.py"], PEERS_PYTHON
    openvino = [peers, HERE / "openvino_worker.py"]
    result = [Program("qvlm", [binaries / "kernels_worker"])]
    if "amx_int8" in Path("/proc/cpuinfo").read_text():
        result += [Program("LibTorch (AMX)", torch, ["onednn"]),
                   Program("oneDNN (AMX)", [binaries / "onednn_worker"]),
                   Program("OpenVINO (AMX)", openvino)]
    return result + [Program("LibTorch", torch, ["fbgemm"], NO_AMX),
                     Program("oneDNN", [binaries / "onednn_worker"], [], NO_AMX),
                     Program("OpenVINO", openvino, [], NO_AMX),
                     Program("onnxruntime", [peers, HERE / "onnxruntime_worker.py"])]


@dataclass
class Class:
    title: str
    peak: str        # which of the peaks M >= 8 is quoted in
    ours: list       # the first one is the one that ratios are about
    peers: dict      # program name without " (AMX)" -> kernels


CLASSES = [
    Class("8-bit weights x 8-bit activations", "int8", ["w8a8"], {
        "LibTorch": ["_int_mm", "qlinear_pointwise", "linear_dynamic"],
        "oneDNN": ["u8s8"],
        "OpenVINO": ["int8, dynamic"],
        "onnxruntime": ["MatMulNBits 8 b128"]}),
    Class("4-bit weights x 8-bit activations", "int8", ["w4a8_g128", "w4a8", "w4a8_g32", "w4a4"], {
        "OpenVINO": ["int4 g128, dynamic 128", "int4 g32, dynamic 32"],
        "onnxruntime": ["MatMulNBits 4 b128", "MatMulNBits 4 b32"]}),
    Class("4-bit weights x bf16", "bf16", ["w4a16_g128"], {
        "LibTorch": ["_weight_int4pack_mm"],
        "OpenVINO": ["int4 g128, bf16"]}),
    Class("8-bit weights x bf16", "bf16", ["w8a16"], {
        "LibTorch": ["_weight_int8pack_mm"],
        "OpenVINO": ["int8, bf16"]}),
    Class("not quantized", "bf16", [], {
        "LibTorch": ["mm bf16", "mm f32"],
        "oneDNN": ["bf16"]}),
]

# What the time of a kernel holds besides the product. Packing the weights is never in it.
INCLUDES = {
    "qvlm": "activations from f32 to codes or bf16, scales, f32 output",
    "_int_mm": "nothing: int8 in, int32 out",
    "qlinear_pointwise": "scales, f32 output; activations are uint8 already",
    "linear_dynamic": "activations from f32 (one scale for all), scales, f32 output",
    "u8s8": "scales, f32 output; activations are uint8 already",
    "bf16": "nothing: bf16 in and out",
    "mm bf16": "nothing: bf16 in and out",
    "mm f32": "nothing: f32 in and out",
    "_weight_int8pack_mm": "scales, bf16 output; activations are bf16 already",
    "_weight_int4pack_mm": "scales and zeros, bf16 output; activations are bf16 already",
    "OpenVINO": "activations from f32 to codes or bf16, scales, f32 output",
    "onnxruntime": "activations from f32 (one scale per block), scales, f32 output",
}
