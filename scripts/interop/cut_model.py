"""A copy of a LLaVA folder with only the first decoder layers."""

import json
import re
import shutil

from safetensors.torch import save_file

from .files import load_folder


def layer_of(name):
    """The decoder layer that a tensor belongs to; None for all others."""
    found = re.search(r"language_model\..*layers\.(\d+)\.", name)
    return int(found[1]) if found else None


def cut_model(source, target, layers):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("model*.safetensors*"))
    file = target / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["num_hidden_layers"] = layers
    file.write_text(json.dumps(config, indent=1) + "\n")
    kept = {name: tensor for name, tensor in load_folder(source).items()
            if layer_of(name) is None or layer_of(name) < layers}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
