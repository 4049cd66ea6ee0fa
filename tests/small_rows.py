"""The rows SigLIP 2 and CLAP one layer deep and narrow: what tests export and save."""

import msgspec

from export.profiles import CLAP, SIGLIP2_B16

TOWER = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 128,
}
WORDS = 30_522  # the stand-in's tokens
SIGLIP = {
    "model_type": "siglip",
    "text_config": TOWER | {"vocab_size": 1_300, "bos_token_id": 2, "eos_token_id": 1},
    "vision_config": TOWER | {"image_size": 64},
}
HTSAT = {
    "model_type": "clap",
    "text_config": TOWER | {"vocab_size": WORDS},
    "audio_config": {
        "depths": [1, 1, 1, 1],
        "patch_embeds_hidden_size": 16,
        "num_attention_heads": [2, 2, 4, 4],
        "hidden_size": 128,
    },
    "projection_dim": 48,
}

SMALL_SIGLIP = msgspec.structs.replace(
    SIGLIP2_B16,
    width=64,
    image_size_px=64,
    checkpoint=msgspec.structs.replace(SIGLIP2_B16.checkpoint, architecture=SIGLIP),
)
SMALL_CLAP = msgspec.structs.replace(
    CLAP,
    width=48,
    checkpoint=msgspec.structs.replace(CLAP.checkpoint, architecture=HTSAT),
)
