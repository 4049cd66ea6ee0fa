"""The published architectures, as transformers' own configurations.

What `--random-weights` builds, and what a checkpoint's `config.json` says once it is there. Only
what differs from the defaults of the configuration's class is written down.

Sources: the `config.json` of the repositories that `export/profiles.py` names.
"""

from typing import Any

Architecture = dict[str, Any]


def _clip(
    width: int, text: tuple[int, int, int], vision: tuple[int, int, int, int], activation: str
) -> Architecture:
    """Write a CLIP configuration: (hidden, heads, layers) and, for pixels, the patch's side."""
    hidden, heads, layers = text
    pixel_hidden, pixel_heads, pixel_layers, patch_px = vision
    return {
        "model_type": "clip",
        "projection_dim": width,
        "text_config": {
            **_tower(hidden, heads, layers, activation),
            "eos_token_id": 2,  # as published: pools at the highest id, the end of the text
        },
        "vision_config": {
            **_tower(pixel_hidden, pixel_heads, pixel_layers, activation),
            "patch_size": patch_px,
        },
    }


def _tower(hidden: int, heads: int, layers: int, activation: str) -> Architecture:
    return {
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "hidden_act": activation,
    }


CLIP_B32 = _clip(512, (512, 8, 12), (768, 12, 12, 32), "quick_gelu")
CLIP_L14 = _clip(768, (768, 12, 12), (1024, 16, 24, 14), "quick_gelu")
CLIP_H14 = _clip(1024, (1024, 16, 24), (1280, 16, 32, 14), "gelu")

SIGLIP2_B16: Architecture = {
    "model_type": "siglip",  # the class of the checkpoints of one resolution
    "text_config": {"vocab_size": 256_000},
    "vision_config": {},
}

MINILM_L6 = {
    "model_type": "bert",
    **_tower(384, 12, 6, "gelu"),
    "vocab_size": 30_522,
}
MPNET_BASE = {
    "model_type": "mpnet",
    "vocab_size": 30_527,
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-5,
}
BERT_LARGE = {
    "model_type": "bert",
    **_tower(1024, 16, 24, "gelu"),
    "vocab_size": 30_522,
}
XLM_ROBERTA_LARGE = {
    "model_type": "xlm-roberta",
    **_tower(1024, 16, 24, "gelu"),
    "vocab_size": 250_002,
    "max_position_embeddings": 8_194,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}

WAV2VEC2_BASE: Architecture = {"model_type": "wav2vec2"}  # the defaults of its configuration
WAV2VEC2_LARGE = {"model_type": "wav2vec2", **_tower(1024, 16, 24, "gelu")}
CLAP_HTSAT: Architecture = {"model_type": "clap"}  # the unfused checkpoints have the defaults
