import json
import os
import threading

import comfy.utils
import folder_paths
import nodes
import numpy as np
import torch
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from nodes import MAX_RESOLUTION, PreviewImage, SaveImage
from PIL import Image
from server import PromptServer

from aiohttp import web


@PromptServer.instance.routes.get("/classic/hello")
async def hello(request):
    return web.json_response({"hello": "world"})


class AlwaysEqual(str):
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


class AllInputs(dict):
    def __contains__(self, key):
        return True

    def __getitem__(self, key):
        return super().get(key, (any_type,))


class AnySlot(tuple):
    def __getitem__(self, index):
        return super().__getitem__(0 if index >= len(self) else index)


any_type = AlwaysEqual("*")


class Odd:
    @classmethod
    def INPUT_TYPES(s):
        return {
            "required": {
                "number": ("INT", {"default": 1024.0, "min": 0, "max": MAX_RESOLUTION, "step": 8}),
                "thing": (folder_paths.get_filename_list("classic_things"),),
                "lora": (["None"] + folder_paths.get_filename_list("loras"), {"default": "None"}),
                "mode": (("a", "b"), {"default": "a"}),
            },
            "optional": {"anything": (any_type, {"forceInput": True}), "table": ({},), "image": ["IMAGE"]},
            "hidden": {"unique_id": "UNIQUE_ID", "note": ("STRING", {"default": "n"})},
        }

    RETURN_TYPES = ["INT", any_type, "MASK"]
    RETURN_NAMES = ("number",)
    OUTPUT_TOOLTIPS = ("a number",)
    FUNCTION = "run"
    CATEGORY = "classic"
    DESCRIPTION = None

    def run(self, number, thing, lora, mode, unique_id, note="n", **kwargs):
        return [number, f"{thing}|{lora}|{mode}|{unique_id}|{note}|{sorted(kwargs)}"]


class Open:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": AllInputs()}

    RETURN_TYPES = AnySlot((any_type,))
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, **kwargs):
        return (sorted(kwargs.items()),)


class Encode:
    """Calls core nodes by their classes."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"color": ("INT", {"default": 0})}}

    RETURN_TYPES = ("IMAGE", "IMAGE")
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, color):
        empty = nodes.EmptyImage().generate(8, 8, 1, color)[0]
        scaled = nodes.ImageScale().upscale(empty, "nearest-exact", 16, 4, "disabled")[0]
        other = nodes.NODE_CLASS_MAPPINGS["ImageInvert"]()
        inverted, = getattr(other, other.FUNCTION)(image=scaled)
        return (scaled, inverted)


class Save(SaveImage):
    def __init__(self):
        super().__init__()
        self.compress_level = 1
        self.prefix_append = "_more"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "classic/x"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    FUNCTION = "save_images"
    CATEGORY = "classic"


class Preview(PreviewImage):
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "show"

    def show(self, images, prompt=None, extra_pnginfo=None):
        return {**self.save_images(images, "classic", prompt, extra_pnginfo), "result": (images,)}


class OwnFile:
    """Writes a file by hand, as packs that save do."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "text": ("STRING", {"default": "t"})}}

    RETURN_TYPES = ("STRING",)
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "classic"

    def __init__(self):
        self.output_dir = folder_paths.get_output_directory()

    def run(self, images, text):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path("own/%width%", self.output_dir, 8, 4)
        picture = Image.fromarray(np.clip(255.0 * images[0].numpy(), 0, 255).astype(np.uint8))
        file = f"{name}_{counter:05}_.png"
        picture.save(os.path.join(folder, file))
        with open(os.path.join(folder, "data.json"), "w") as out:
            json.dump({"text": text}, out)
        shown = [{"filename": file, "subfolder": subfolder, "type": "output"},
                 {"filename": "data.json", "subfolder": subfolder, "type": "output"}]
        return {"ui": {"images": shown, "text": (text,)}, "result": (os.path.join(folder, file),)}


class Threaded:
    """Tells its progress from a thread of its own."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"v": ("INT", {"default": 1})}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, v):
        bar = comfy.utils.ProgressBar(2)

        def work():
            bar.update(1)
            PromptServer.instance.send_sync("classic/step", {"v": v}, PromptServer.instance.client_id)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        context = get_executing_context()
        return (v if context.list_index in (0, None) and context.node_id else -1,)


class Stop:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": (any_type,)}}

    RETURN_TYPES = (any_type, "INT")
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self, image):
        return ExecutionBlocker(None)


class Missing:
    """Uses what Limner does not have; the others of the pack go on."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("INT",)
    FUNCTION = "run"
    CATEGORY = "classic"

    def run(self):
        return (comfy.utils.a_function_of_tomorrow(1),)


class Raises:
    @classmethod
    def INPUT_TYPES(cls):
        raise FileNotFoundError("no such list")

    FUNCTION = "run"


class Ends:
    """Raises what would end a process."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["exit", "print", "outside", "never"],), "salt": ("INT", {"default": 0})}}

    RETURN_TYPES = ("INT",)
    OUTPUT_NODE = True
    FUNCTION = "run"
    CATEGORY = "classic"

    @classmethod
    def IS_CHANGED(cls, **kwargs):
        return float("nan")

    def run(self, how, salt):
        if how == "exit":
            raise SystemExit(3)
        if how == "print":
            print("words on standard output")
            os.write(1, b"and past Python's buffers\n")
        if how == "outside":
            return {"ui": {"images": [{"filename": "passwd", "subfolder": "../../../../../../etc", "type": "output"}]}}
        while how == "never":
            pass
        return {"ui": {"text": [how]}}


OWN = {"Cp Odd": Odd, "CpOpen": Open, "CpEncode": Encode, "CpSave": Save, "CpPreview": Preview, "CpOwnFile": OwnFile,
       "CpThreaded": Threaded, "CpStop": Stop, "CpMissing": Missing, "CpRaises": Raises, "CpEnds": Ends}
NODE_CLASS_MAPPINGS = {"EmptyImage": Odd}
assert torch.float32 is not None
