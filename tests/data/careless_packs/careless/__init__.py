"""A pack whose nodes do what no node should: each in its own way, named by `how`."""

import asyncio
import os
import sys

import torch

HELD = []


# ruff: noqa: N802, PTH123, SIM115


class Careless:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": ("STRING", {"default": ""})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "go"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def go(self, how):
        return WAYS[how]() or {"ui": {"text": [how]}, "result": (how,)}


class CarelessAsync(Careless):
    async def go(self, how):
        await asyncio.sleep(0)
        return super().go(how)


class CarelessImage(Careless):
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False

    def go(self, how):
        return (IMAGES[how](),)


class CarelessGraph(Careless):
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_NODE = False

    def go(self, how):
        return {"result": (["made", 0],), "expand": GRAPHS[how]}


def interrupt():
    raise KeyboardInterrupt


def leave():
    sys.exit(3)


def keep_files_open():
    while True:
        HELD.append(open("/dev/null"))


def close_output():
    sys.stdout.close()


def raise_what_cannot_be_told():
    class Mute(Exception):
        def __str__(self):
            return str(1 / 0)

    raise Mute


EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}

WAYS = {
    "interrupt": interrupt,
    "leave": leave,
    "end": lambda: os._exit(0),
    "keep files open": keep_files_open,
    "close output": close_output,
    "mute": raise_what_cannot_be_told,
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "device": lambda: torch.set_default_device("meta"),
    "gradients": lambda: torch.set_grad_enabled(True) and None,
    "threads": lambda: torch.set_num_threads(1),
    "elsewhere": lambda: os.chdir("/"),
    "environment": os.environ.clear,
    "number": lambda: 5,
    "show much": lambda: {"ui": {"text": ["x" * 3_000_000]}, "result": ("x",)},
    "show no list": lambda: {"ui": "text", "result": ("x",)},
}

IMAGES = {
    "nan": lambda: torch.full((1, 8, 8, 3), float("nan")),
    "none": lambda: None,
    "text": lambda: "a picture",
    "flat": lambda: torch.zeros(8, 8),
    "empty": lambda: torch.zeros(0, 8, 8, 3),
}

GRAPHS = {
    "unknown class": {"made": {"class_type": "NoSuchNode", "inputs": {}}},
    "link to nowhere": {"made": {"class_type": "ImageInvert", "inputs": {"image": ["nowhere", 0]}}},
    "circle": {
        "made": {"class_type": "ImageInvert", "inputs": {"image": ["other", 0]}},
        "other": {"class_type": "ImageInvert", "inputs": {"image": ["made", 0]}},
    },
    "no graph": [1, 2],
    "nothing": {},
}

NODE_CLASS_MAPPINGS = {each.__name__: each for each in (Careless, CarelessAsync, CarelessImage, CarelessGraph)}
