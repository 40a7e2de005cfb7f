import comfy.model_management as mm
import folder_paths
import nodes
from comfy.cli_args import args
from comfy.comfy_types.node_typing import IO, ComfyNodeABC, InputTypeDict


class Devices(ComfyNodeABC):
    @classmethod
    def INPUT_TYPES(cls) -> InputTypeDict:
        return {"required": {"any": (IO.ANY, {}), "text": (IO.STRING, {"multiline": True})}}

    RETURN_TYPES = (IO.STRING,)
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, any, text):
        return (f"{mm.get_torch_device()} {mm.intermediate_device()} {args.disable_metadata} {text}",)


class Sample:
    """A whole picture by core nodes' classes and common_ksampler, in two parts."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt": (folder_paths.get_filename_list("checkpoints"),), "seed": ("INT", {"default": 0})}}

    RETURN_TYPES = ("LATENT",)
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, ckpt, seed):
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(ckpt)
        positive = nodes.CLIPTextEncode().encode(clip, "a red square")[0]
        negative = nodes.CLIPTextEncode().encode(clip=clip, text="")[0]
        empty = nodes.EmptyLatentImage().generate(64, 64, 1)[0]
        half = nodes.common_ksampler(model, seed, 4, 2.0, "euler", "normal", positive, negative, empty,
                                     start_step=0, last_step=2)[0]
        whole = nodes.common_ksampler(model, seed, 4, 2.0, "euler", "normal", positive, negative, half,
                                      disable_noise=True, start_step=2, last_step=4, force_full_denoise=True)[0]
        return (whole,)


class Same:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"a": ("LATENT",), "b": ("LATENT",)}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, a, b):
        return (f"{(a['samples'] - b['samples']).abs().max().item() < 1e-4} {nodes.NODE_CLASS_MAPPINGS['ApInt']().go(7)}",)


OWN = {"CpDevices": Devices, "CpSample": Sample, "CpSame": Same}
