"""The tiny LLaVA checkpoints of make_goldens.py: what each one covers."""

from dataclasses import dataclass, field
from typing import Callable

import numpy as np

VOCAB = 296
IMAGE_TOKEN = 290
BOS, EOS = 1, 2
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


@dataclass
class Case:
    name: str
    covers: str
    seed: int
    text: dict
    vision: dict
    top: dict = field(default_factory=dict)
    # Names in the files. "hub": those of 4.x, most common; "saved5": what save_pretrained of 5.23
    # writes by default; "newest": the same with save_original_format=False; "runtime": in memory
    # from 4.52 to 5.0; "short": hub without the language model's inner "model".
    layout: str = "hub"
    sharded: bool = False
    bf16: bool = False
    nested_processor: bool = False  # processor_config.json instead of preprocessor_config.json
    rewrite: Callable = lambda config: config  # the last word on config.json

    @property
    def rename(self):
        renames = {"hub": with_vision_model, "runtime": with_vision_model, "short": short}
        return renames.get(self.layout)

    def image_processor(self):
        size = self.vision["image_size"]
        return {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}

    def processor_files(self):
        image = {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
                 "do_resize": True, "do_center_crop": True, "do_rescale": True,
                 "do_normalize": True, "resample": 3, "rescale_factor": 1 / 255,
                 "image_mean": MEAN, "image_std": STD} | self.image_processor()
        if not self.nested_processor:
            return {"preprocessor_config.json": image}
        return {"processor_config.json": {
            "image_processor": image, "processor_class": "LlavaProcessor",
            "patch_size": self.vision["patch_size"], "image_token": "<image>",
            "vision_feature_select_strategy": self.top["vision_feature_select_strategy"],
            "num_additional_image_tokens": 1}}


def with_vision_model(name):
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def short(name):
    return with_vision_model(name).replace("language_model.model.", "language_model.")


def prompt_texts(seed):
    """(image, ids before, ids after) of two prompts: a late image and an early one."""
    random = np.random.default_rng(seed)

    def words(count):
        return random.integers(3, IMAGE_TOKEN, count).tolist()

    return [("a.png", [BOS] + words(5), words(8)), ("b.png", [BOS], words(17))]


def text(**changes):
    return {"model_type": "llama", "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 56,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-5} | changes


def vision(**changes):
    return {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28, "patch_size": 14,
            "projection_dim": 16} | changes


def v4_rope(theta, scaling):
    """Rewrites config.json with the keys of transformers 4."""
    def rewrite(config):
        config["text_config"].pop("rope_parameters")
        config["text_config"] |= {"rope_theta": theta, "rope_scaling": scaling}
        config["torch_dtype"] = config.pop("dtype")
        return config
    return rewrite


def partial(config):
    """Only what differs from the class defaults, as hub configs of LLaVA-1.5 have it; the tie is
    declared by the text model alone."""
    keep_text = ("model_type", "vocab_size", "hidden_size", "intermediate_size",
                 "num_hidden_layers", "num_attention_heads", "tie_word_embeddings")
    keep_vision = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                   "image_size", "patch_size")
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "image_token_index": IMAGE_TOKEN,
        "text_config": {key: config["text_config"][key] for key in keep_text},
        "vision_config": {key: config["vision_config"][key] for key in keep_vision},
        "vision_feature_layer": config["vision_feature_layer"],
    }


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # short, so that the tiny prompts feel it

CASES = (
    Case("hub_default", "hub layout, separate head, default selection of layer -2, v5 rope",
         seed=11, text=text(hidden_size=64, intermediate_size=64), vision=vision(),
         top={"vision_feature_layer": -2}),
    Case("runtime_gqa", "runtime layout with vision_model level, grouped queries, full selection "
         "of layer -1, v4 linear rope, exact gelu tower, nested processor_config.json",
         seed=12, text=text(num_key_value_heads=2), layout="runtime", nested_processor=True,
         vision=vision(hidden_act="gelu", image_size=42, num_hidden_layers=2),
         top={"vision_feature_layer": -1, "vision_feature_select_strategy": "full"},
         rewrite=v4_rope(10000.0, {"type": "linear", "factor": 2.0})),
    Case("newest_tied", "newest layout without vision_model level, tied head, layers [-2, -1] "
         "joined, v5 llama3 rope, tanh gelu tower, patches of 7",
         seed=23, text=text(rope_parameters=LLAMA3 | {"rope_theta": 20000.0},
                            tie_word_embeddings=True),
         vision=vision(hidden_act="gelu_pytorch_tanh", patch_size=7), layout="newest",
         top={"vision_feature_layer": [-2, -1], "tie_word_embeddings": True}),
    Case("sharded_head_dim", "hub layout in shards with an index, head_dim 16 that is not hidden / "
         "heads, one key-value head, v4 llama3 rope, layer list of one",
         seed=14, text=text(hidden_size=48, head_dim=16, num_key_value_heads=1),
         vision=vision(num_hidden_layers=2), sharded=True, top={"vision_feature_layer": [-2]},
         rewrite=v4_rope(500000.0, LLAMA3)),
    Case("biases_bf16", "bfloat16 weights, attention_bias and mlp_bias, projector without bias and "
         "with tanh gelu, two attention heads, other eps",
         seed=15, bf16=True, text=text(attention_bias=True, mlp_bias=True, num_attention_heads=2,
                                       num_key_value_heads=1, rms_norm_eps=1e-3),
         vision=vision(layer_norm_eps=1e-3, image_size=35, patch_size=7),
         top={"multimodal_projector_bias": False, "projector_hidden_act": "gelu_pytorch_tanh"}),
    Case("partial_tied", "sub-configs that leave out what equals the class defaults, tie declared "
         "in text_config only, language_model.layers names, three decoder layers, layer 1",
         seed=16, text=text(num_hidden_layers=3, tie_word_embeddings=True, rms_norm_eps=1e-6,
                            max_position_embeddings=2048),
         vision=vision(projection_dim=512), layout="short", rewrite=partial,
         top={"vision_feature_layer": 1, "tie_word_embeddings": True}),
    Case("full_two_layers", "layout of a default save in 5.23, full selection of layers [1, -1] "
         "joined, v5 linear rope, quick_gelu tower, nested processor_config.json",
         seed=27, text=text(rope_parameters={"rope_type": "linear", "factor": 4.0,
                                             "rope_theta": 10000.0}, num_key_value_heads=2),
         vision=vision(image_size=21, patch_size=7), layout="saved5", nested_processor=True,
         top={"vision_feature_layer": [1, -1], "vision_feature_select_strategy": "full"}),
)
