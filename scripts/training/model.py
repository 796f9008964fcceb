"""The reference LLaVA: configuration, first weights, a packed forward and export.

The packed forward computes what transformers computes for every question of a picture
alone, but runs the picture's prefix (BOS, "USER:", image tokens) once for all of them.
"""

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from .tokenizer import VOCABULARY

IMAGE_SIZE, PATCH = 96, 12
ROPE_THETA = 10000.0
VISION_PARTS = ("model.vision_tower.", "model.multi_modal_projector.")
IMAGE_TOKENS = (IMAGE_SIZE // PATCH) ** 2
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\\n' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def build_config(tokenizer, decoder_layers):
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=128,
    )
    text = LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=decoder_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=1024,
        rope_theta=ROPE_THETA,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        tie_word_embeddings=False,
    )


def build_processor(tokenizer):
    pixels = CLIPImageProcessor(
        do_resize=True,
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
    )
    return LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer, seed, decoder_layers):
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(build_config(tokenizer, decoder_layers))
    depth = {
        "vision": model.config.vision_config.num_hidden_layers,
        "text": model.config.text_config.num_hidden_layers,
    }
    for name, parameter in model.named_parameters():
        initialise(name, parameter.data, depth["vision" if "vision" in name else "text"])
    positions = model.model.vision_tower.embeddings.position_embedding.weight
    positions.data[1:] = patch_waves(positions.shape[1])
    return model


def patch_waves(width):
    """Sines and cosines of the patch row and column, so that neighbours start out alike."""
    side, waves = IMAGE_SIZE // PATCH, width // 4
    angles = torch.outer(torch.arange(side).float(), 100.0 ** -(torch.arange(waves) / waves))
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    rows, columns = axis.repeat_interleave(side, 0), axis.repeat(side, 1)
    return torch.cat((rows, columns), dim=1)


def initialise(name, weight, depth):
    """Fan-in scaling, with the layers that write to the residual stream damped.

    The fixed deviation of 0.02 that large models use starts a width of 256 too small.
    """
    if name.endswith(".bias"):
        weight.zero_()
    elif "norm" in name or "layrnorm" in name:
        weight.fill_(1.0)
    elif "lm_head" in name:
        weight.normal_(std=0.02)
    elif "embed_tokens" in name or "position_embedding" in name or "class_embedding" in name:
        weight.normal_(std=0.5)
    else:
        fan_in = weight[0].numel()
        damped = any(part in name for part in ("o_proj", "down_proj", "out_proj", "fc2"))
        weight.normal_(std=fan_in**-0.5 * ((2 * depth) ** -0.5 if damped else 1.0))


class PackedForward:
    """Forward pass over packed questions, on the parameters of a transformers model."""

    def __init__(self, model, dtype, image_start, compiled=False):
        self.dtype, self.image_start = dtype, image_start
        self.config = model.config
        self.parameters = dict(model.named_parameters())
        text = model.config.text_config
        head_dim = text.hidden_size // text.num_attention_heads
        steps = torch.arange(0, head_dim, 2).float() / head_dim
        angles = torch.outer(torch.arange(text.max_position_embeddings).float(), ROPE_THETA**-steps)
        angles = torch.cat((angles, angles), dim=-1)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)
        compile_maybe = torch.compile if compiled else lambda function: function
        self.body, self.vision_body = (
            compile_maybe(self.hidden_states),
            compile_maybe(self.image_features),
        )

    def weights(self, parts=""):
        """Parameters in the compute type; gradients flow back through the cast."""
        return {n: p.to(self.dtype) for n, p in self.parameters.items() if n.startswith(parts)}

    def vision(self, pixels):
        """Projected image features [N, IMAGE_TOKENS, width of the decoder]."""
        return self.vision_body(self.weights(VISION_PARTS), pixels.to(self.dtype))

    def __call__(self, batch):
        """Logits [answer positions, vocabulary] of a packed batch."""
        w = self.weights()
        hidden = self.body(w, batch["pixels"], batch["ids"], batch["positions"], batch["mask"])
        hidden = hidden.flatten(0, 1)[batch["targets_at"]]
        return F.linear(
            self.rms_norm(hidden, w["model.language_model.norm.weight"]), w["lm_head.weight"]
        )

    def hidden_states(self, w, pixels, ids, positions, mask):
        image = self.image_features(w, pixels.to(self.dtype))
        text = F.embedding(ids, w["model.language_model.embed_tokens.weight"])
        end = self.image_start + IMAGE_TOKENS
        hidden = torch.cat((text[:, : self.image_start], image, text[:, end:]), dim=1)
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        for layer in range(self.config.text_config.num_hidden_layers):
            hidden = self.decoder_layer(
                w, f"model.language_model.layers.{layer}.", hidden, cos, sin, mask
            )
        return hidden

    def image_features(self, w, pixels):
        vision = "model.vision_tower."
        patches = F.conv2d(pixels, w[vision + "embeddings.patch_embedding.weight"], stride=PATCH)
        patches = patches.flatten(2).transpose(1, 2)
        cls = w[vision + "embeddings.class_embedding"].expand(len(pixels), 1, -1)
        hidden = (
            torch.cat((cls, patches), dim=1) + w[vision + "embeddings.position_embedding.weight"]
        )
        hidden = self.layer_norm(w, vision + "pre_layrnorm", hidden)
        for layer in range(self.config.vision_config.num_hidden_layers):
            hidden = self.vision_layer(w, f"{vision}encoder.layers.{layer}.", hidden)
        projector = "model.multi_modal_projector."
        hidden = F.gelu(linear(w, projector + "linear_1", hidden[:, 1:]))
        return linear(w, projector + "linear_2", hidden)

    def layer_norm(self, w, name, x):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)

    def vision_layer(self, w, name, hidden):
        heads = self.config.vision_config.num_attention_heads
        x = self.layer_norm(w, name + "layer_norm1", hidden)
        q, k, v = (split_heads(linear(w, f"{name}self_attn.{p}_proj", x), heads) for p in "qkv")
        x = join_heads(attention(q, k, v))
        hidden = hidden + linear(w, name + "self_attn.out_proj", x)
        x = linear(w, name + "mlp.fc1", self.layer_norm(w, name + "layer_norm2", hidden))
        return hidden + linear(w, name + "mlp.fc2", x * torch.sigmoid(1.702 * x))

    def rms_norm(self, x, weight):
        wide = x.float()
        scale = torch.rsqrt(
            wide.square().mean(-1, keepdim=True) + self.config.text_config.rms_norm_eps
        )
        return (wide * scale).to(self.dtype) * weight

    def decoder_layer(self, w, name, hidden, cos, sin, mask):
        text = self.config.text_config
        x = self.rms_norm(hidden, w[name + "input_layernorm.weight"])
        q = split_heads(F.linear(x, w[name + "self_attn.q_proj.weight"]), text.num_attention_heads)
        k = split_heads(F.linear(x, w[name + "self_attn.k_proj.weight"]), text.num_key_value_heads)
        v = split_heads(F.linear(x, w[name + "self_attn.v_proj.weight"]), text.num_key_value_heads)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        x = join_heads(attention(q, k, v, mask))
        hidden = hidden + F.linear(x, w[name + "self_attn.o_proj.weight"])
        x = self.rms_norm(hidden, w[name + "post_attention_layernorm.weight"])
        gate, up = (F.linear(x, w[f"{name}mlp.{p}_proj.weight"]) for p in ("gate", "up"))
        return hidden + F.linear(F.silu(gate) * up, w[name + "mlp.down_proj.weight"])


def linear(w, name, x):
    return F.linear(x, w[name + ".weight"], w[name + ".bias"])


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x):
    return x.transpose(1, 2).flatten(2)


def attention(q, k, v, mask=None):
    """Attention by plain products: PyTorch's fused kernel is slow backwards on CPUs.

    The query heads that share a key head are stacked along the row axis.
    """
    batch, heads, length, width = q.shape
    shared = heads // k.shape[1]
    q = (q * width**-0.5).reshape(batch, -1, shared * length, width)
    scores = q @ k.transpose(-1, -2)
    if mask is not None:
        scores = (scores.unflatten(2, (shared, length)) + mask.unsqueeze(1)).flatten(2, 3)
    return (scores.softmax(-1) @ v).reshape(batch, heads, length, width)


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def export_model(model, tokenizer, folder):
    """Writes a Hugging Face folder in bf16; each file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    copy = LlavaForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy = copy.to(torch.bfloat16)
    copy.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=8,
    )
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        copy.save_pretrained(temporary)
        build_processor(tokenizer).save_pretrained(temporary)
        for file in sorted(Path(temporary).iterdir()):
            file.chmod(0o644)
            os.replace(file, folder / file.name)
