"""onnxruntime's com.microsoft MatMulNBits with accuracy_level 4: it quantizes the activations to int8 by itself. The
copies of the weights are nodes of one graph, so that one call runs them all."""
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from worker import Kernel, serve

THREADS = int(sys.argv[1])


def session(model, files):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    names = list(files)
    options.add_external_initializers(names, [onnxruntime.OrtValue.ortvalue_from_numpy(files[n]) for n in names])
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def external(name, array):
    """A tensor whose bytes come with the session options: protobuf ends at 2 GiB."""
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape,
                         data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=name)
    return tensor


def matmul_nbits(bits, block, level):
    def make(shape, copies):
        blocks = shape.inner // block
        generator = np.random.default_rng(1)
        codes = generator.integers(0, 256, (shape.out, blocks, block * bits // 8), dtype=np.uint8)
        scales = np.full((shape.out, blocks), 0.01, np.float32)
        nodes, arrays = [], {}
        for i in range(copies):
            arrays[f"w{i}"], arrays[f"s{i}"] = codes ^ np.uint8(i), scales.copy()
            nodes.append(helper.make_node("MatMulNBits", ["x", f"w{i}", f"s{i}"], [f"y{i}"], domain="com.microsoft",
                                          K=shape.inner, N=shape.out, bits=bits, block_size=block,
                                          accuracy_level=level))
        size = [shape.rows, shape.inner]
        graph = helper.make_graph(
            nodes, "products", [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [shape.rows, shape.out]) for i in range(copies)],
            [external(name, array) for name, array in arrays.items()])
        model = helper.make_model(graph, ir_version=10, opset_imports=[
            helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)])
        run_session = session(model, arrays)
        binding = run_session.io_binding()
        binding.bind_cpu_input("x", generator.standard_normal(size, np.float32))
        for i in range(copies):
            binding.bind_output(f"y{i}", "cpu")
        return lambda: run_session.run_with_iobinding(binding)
    return Kernel(make, lambda s: s.inner * s.out * bits // 8 + s.inner // block * s.out * 4)


serve("onnxruntime", onnxruntime.__version__, {
    "MatMulNBits 8 b128": matmul_nbits(8, 128, 4),
    "MatMulNBits 4 b128": matmul_nbits(4, 128, 4),
    "MatMulNBits 4 b32": matmul_nbits(4, 32, 4),
})
