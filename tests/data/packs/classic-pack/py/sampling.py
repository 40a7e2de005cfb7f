import comfy.model_management as mm
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


OWN = {"CpDevices": Devices}
