"""OpenVINO: a graph of MatMuls whose weights are int8 or int4 constants with scales. With a dynamic quantization group
size it quantizes the activations itself; with 0 it multiplies in float or bfloat16. The copies of the weights are
nodes of one graph, so that one call runs them all."""
import sys

import numpy as np
import openvino
from openvino import opset13 as ops
from worker import Kernel, serve

THREADS = int(sys.argv[1])
CORE = openvino.Core()


def weight(shape, bits, group, copy, generator, kept):
    """Constant codes x scales, in the pattern that OpenVINO keeps compressed."""
    kind = {8: openvino.Type.i8, 4: openvino.Type.i4}[bits]
    groups = shape.inner // group if group else 1
    size = [shape.out, groups, shape.inner // groups] if group else [shape.out, shape.inner]
    codes = generator.integers(0, 256, shape.out * shape.inner * bits // 8, dtype=np.uint8) ^ np.uint8(copy)
    tensor = openvino.Tensor(kind, openvino.Shape(size))  # memory of its own: a view of an array would dangle
    tensor.data.reshape(-1).view(np.uint8)[:] = codes
    kept.append(tensor)
    constant = ops.constant(tensor)
    scales = np.full(size[:-1] + [1], 0.01, np.float16)
    product = ops.multiply(ops.convert(constant, np.float16), ops.constant(scales))
    if group:
        product = ops.reshape(product, ops.constant(np.array([shape.out, shape.inner])), False)
    return ops.convert(product, np.float32)


def matmul(bits, group, options):
    def make(shape, copies):
        kept = []  # what the graph points into
        generator = np.random.default_rng(1)
        x = ops.parameter([shape.rows, shape.inner], np.float32)
        results = [ops.matmul(x, weight(shape, bits, group, i, generator, kept), False, True) for i in range(copies)]
        compiled = CORE.compile_model(openvino.Model(results, [x]), "CPU", {
            "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY", **options})
        request = compiled.create_infer_request()
        kept.append(generator.standard_normal((shape.rows, shape.inner), np.float32))
        request.set_input_tensor(openvino.Tensor(kept[-1]))
        return lambda: kept and request.infer()
    scales = (lambda s: s.inner // group * s.out * 2) if group else (lambda s: s.out * 2)
    return Kernel(make, lambda s: s.inner * s.out * bits // 8 + scales(s))


def dynamic(group):
    return {"DYNAMIC_QUANTIZATION_GROUP_SIZE": group, "INFERENCE_PRECISION_HINT": "f32"}


WHOLE_ROW = 2**63 - 1 - 1  # one activation scale per token
BF16 = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_PRECISION_HINT": "bf16"}
serve("OpenVINO", openvino.__version__.split("-")[0], {
    "int8, dynamic": matmul(8, 0, dynamic(WHOLE_ROW)),
    "int4 g128, dynamic 128": matmul(4, 128, dynamic(128)),
    "int4 g32, dynamic 32": matmul(4, 32, dynamic(32)),
    "int8, bf16": matmul(8, 0, BF16),
    "int4 g128, bf16": matmul(4, 128, BF16),
})
