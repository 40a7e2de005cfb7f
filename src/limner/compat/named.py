"""Modules that packs import and that Limner has nothing for: their names are there, and raise once used."""

from __future__ import annotations

NAMED: dict[str, tuple[str, ...]] = {
    "comfy.cldm": (),
    "comfy.cldm.cldm": ("ControlNet",),
    "comfy.cldm.mmdit": ("ControlNet",),
    "comfy.diffusers_convert": (),
    "comfy.ldm.cosmos": (),
    "comfy.ldm.cosmos.predict2": ("Attention",),
    "comfy.ldm.lightricks": (),
    "comfy.ldm.lightricks.model": ("apply_rotary_emb", "LTXVModel"),
    "comfy.ldm.lightricks.vae": (),
    "comfy.ldm.lightricks.vae.causal_conv3d": ("CausalConv3d",),
    "comfy.ldm.lightricks.vae.causal_video_autoencoder": ("Decoder", "Encoder", "ResnetBlock3D"),
    "comfy.ldm.lightricks.vae.pixel_norm": ("PixelNorm",),
    "comfy.ldm.lumina": (),
    "comfy.ldm.lumina.model": ("FeedForward",),
    "comfy.ldm.models": (),
    "comfy.ldm.models.autoencoder": ("AutoencoderKL", "AutoencodingEngine"),
    "comfy.ldm.modules.diffusionmodules.model": ("ResnetBlock", "Encoder", "Decoder"),
    "comfy.ldm.modules.diffusionmodules.openaimodel": (
        "Downsample", "ResBlock", "TimestepEmbedSequential", "UNetModel", "Upsample", "VideoResBlock", "apply_control",
        "forward_timestep_embed",
    ),
    "comfy.ldm.wan": (),
    "comfy.ldm.wan.model": ("WanI2VCrossAttention", "WanT2VCrossAttention", "WanModel"),
    "comfy.ldm.wan.vae": ("CausalConv3d", "RMS_norm", "WanVAE"),
    "comfy.text_encoders": (),
    "comfy.text_encoders.sd3_clip": ("SD3ClipModel", "SD3Tokenizer", "T5XXLModel"),
    "comfy.sd1_clip": ("SD1ClipModel", "SDClipModel", "SDTokenizer", "SD1Tokenizer"),
    "comfy.sdxl_clip": ("SDXLClipG", "SDXLClipModel", "SDXLRefinerClipModel", "SDXLTokenizer"),
    "comfy.context_windows": (
        "ContextFuseMethod", "ContextSchedule", "IndexListContextHandler", "create_prepare_sampling_wrapper",
        "get_matching_context_schedule", "get_matching_fuse_method",
    ),
    "comfy_extras.nodes_align_your_steps": ("AlignYourStepsScheduler",),
    "comfy_extras.nodes_gits": ("GITSScheduler",),
    "comfy_extras.nodes_perpneg": ("Guider_PerpNeg", "PerpNegGuider"),
    "comfy_extras.nodes_lt": ("LTXVAddGuide", "get_noise_mask"),
    "comfy_extras.nodes_stable3d": ("camera_embeddings",),
}  # fmt: skip
"""Modules that consist of such names, and the packages they are in. Most are parts of networks: Limner's are others."""
