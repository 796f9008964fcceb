"""A quantized folder against the compressed-tensors package, tensor by tensor."""

import json
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file

SCALE = ".weight_scale"


def load_folder(folder):
    """All tensors of a checkpoint, by their names in the files."""
    return {name: tensor for file in sorted(Path(folder).glob("model*.safetensors"))
            for name, tensor in load_file(file).items()}


def read_scheme(folder):
    """The folder's declaration, parsed by the package (which refuses unknown keys): its single
    scheme and its format."""
    declared = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(declared)
    (scheme,) = config.config_groups.values()
    return scheme, scheme.format or config.format


def quantized_modules(tensors):
    return sorted(name.removesuffix(SCALE) for name in tensors if name.endswith(SCALE))


def stored_tensors(tensors, module):
    """The module's tensors by their short names, its bias left out."""
    start = module + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items()
            if name.startswith(start) and name != start + "bias"}


def package_scales(weight, scheme, dtype):
    """The package's scales for a weight: computed in float32, then stored in `dtype`."""
    weights = scheme.weights
    groups = weight.float().unflatten(-1, (-1, weights.group_size or weight.shape[-1]))
    scales, _ = calculate_qparams(groups.amin(-1), groups.amax(-1), weights)
    return scales.to(dtype)


def package_tensors(weight, scheme, form, dtype):
    """What the package stores for a weight. Scales are rounded to the model's dtype first, since
    those are the ones a reader will have; the division is done in float32."""
    scales = package_scales(weight, scheme, dtype)
    compressor = BaseCompressor.get_value_from_registry(form)
    stored = compressor.compress(
        {"weight": weight.float(), "weight_scale": scales.float()}, scheme)
    return stored | {"weight_scale": scales}


def same_bytes(ours, theirs):
    return (ours.dtype == theirs.dtype and ours.shape == theirs.shape
            and torch.equal(ours.contiguous().view(torch.uint8),
                            theirs.contiguous().view(torch.uint8)))


def check_files(source, folder):
    """Checks of one folder: (what, passed, figure)."""
    tensors = load_folder(folder)
    scheme, form = read_scheme(folder)
    modules = quantized_modules(tensors)
    yield "the package reads quantization_config", bool(modules), f"{form}, {len(modules)} linears"
    wrong = {"names": [], "scales": [], "codes": []}
    for module in modules:
        ours = stored_tensors(tensors, module)
        theirs = package_tensors(
            source[module + ".weight"], scheme, form, ours["weight_scale"].dtype)
        if ours.keys() != theirs.keys():
            wrong["names"].append(f"{module}: {sorted(ours)} instead of {sorted(theirs)}")
            continue
        for name in ours:
            if not same_bytes(ours[name], theirs[name]):
                wrong["scales" if name == "weight_scale" else "codes"].append(f"{module}.{name}")
    for what, problems in wrong.items():
        yield f"{what} equal the package's, byte for byte", not problems, "; ".join(problems[:3])
    others = {name for name in source if name.removesuffix(".weight") not in modules}
    changed = [name for name in sorted(others)
               if name not in tensors or not same_bytes(tensors[name], source[name])]
    yield "all other tensors are the source's", not changed, "; ".join(changed[:3])


def real_weights(folder):
    """The float32 weight of every quantized linear, from the codes and scales in the files."""
    tensors = load_folder(folder)
    scheme, _ = read_scheme(folder)
    result = {}
    for module in quantized_modules(tensors):
        stored = stored_tensors(tensors, module)
        codes = stored.get("weight")
        if codes is None:
            codes = unpack_from_int32(stored["weight_packed"], scheme.weights.num_bits,
                                      torch.Size(stored["weight_shape"].tolist()))
        scales = stored["weight_scale"].float()
        result[module] = codes.float() * scales.repeat_interleave(
            codes.shape[1] // scales.shape[1], dim=1)
    return result
