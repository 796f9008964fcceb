"""LibTorch's operators. Weights are packed beforehand where an operator has a packed form."""
import sys

import torch
from worker import Kernel, serve

torch.set_num_threads(int(sys.argv[1]))
# linear_dynamic's engine: oneDNN's where AMX is in use; without it FBGEMM, the quicker one of the others.
torch.backends.quantized.engine = sys.argv[2]
GROUP = 128


def in_turn(weights, multiply):
    def run():
        for weight in weights:
            multiply(weight)
    return torch.inference_mode()(run)


def int8(*size):
    return torch.randint(-127, 128, size, dtype=torch.int8)


def mm(dtype):
    def make(shape, copies):
        x = torch.randn(shape.rows, shape.inner).to(dtype)
        weight = torch.randn(shape.out, shape.inner).to(dtype)
        weights = [weight.clone().t() for _ in range(copies)]
        return in_turn(weights, lambda w: torch.mm(x, w))
    return Kernel(make, lambda s: s.inner * s.out * dtype.itemsize)


def int_mm(shape, copies):
    x, weight = int8(shape.rows, shape.inner), int8(shape.out, shape.inner)
    weights = [weight.clone().t() for _ in range(copies)]
    return in_turn(weights, lambda w: torch._int_mm(x, w))


def qlinear(shape, copies):
    x, weight = int8(shape.rows, shape.inner).view(torch.uint8), int8(shape.out, shape.inner)
    scales, zeros = torch.rand(shape.out), torch.zeros(shape.out, dtype=torch.int32)
    weights = [torch.ops.onednn.qlinear_prepack(weight, [shape.rows, shape.inner]) for _ in range(copies)]
    return in_turn(weights, lambda w: torch.ops.onednn.qlinear_pointwise(
        x, 0.1, 128, w, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""))


def linear_dynamic(shape, copies):
    x = torch.randn(shape.rows, shape.inner)
    weight = torch.quantize_per_channel(torch.randn(shape.out, shape.inner), torch.full((shape.out,), 0.02),
                                        torch.zeros(shape.out, dtype=torch.int64), 0, torch.qint8)
    weights = [torch.ops.quantized.linear_prepack(weight, None) for _ in range(copies)]
    return in_turn(weights, lambda w: torch.ops.quantized.linear_dynamic(x, w, False))


def int4pack(shape, copies):
    x = torch.randn(shape.rows, shape.inner).bfloat16()
    codes = torch.randint(0, 16, (shape.out, shape.inner), dtype=torch.int32)
    packed = torch._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = torch.rand(shape.inner // GROUP, shape.out, 2).bfloat16()
    weights = [(packed.clone(), scales.clone()) for _ in range(copies)]
    return in_turn(weights, lambda w: torch._weight_int4pack_mm_for_cpu(x, w[0], GROUP, w[1]))


def int8pack(shape, copies):
    x = torch.randn(shape.rows, shape.inner).bfloat16()
    weight, scales = int8(shape.out, shape.inner), torch.rand(shape.out).bfloat16()
    weights = [weight.clone() for _ in range(copies)]
    return in_turn(weights, lambda w: torch._weight_int8pack_mm(x, w, scales))


def bytes8(shape):
    return shape.inner * shape.out


serve("LibTorch", torch.__version__, {
    "mm bf16": mm(torch.bfloat16),
    "mm f32": mm(torch.float32),
    "_int_mm": Kernel(int_mm, bytes8),
    "qlinear_pointwise": Kernel(qlinear, bytes8),
    "linear_dynamic": Kernel(linear_dynamic, bytes8),
    "_weight_int8pack_mm": Kernel(int8pack, bytes8),
    "_weight_int4pack_mm": Kernel(int4pack, lambda s: s.inner * s.out // 2 + s.inner // GROUP * s.out * 4),
})
