"""A pack in the classic style, written as packs are: odd types, open inputs, core nodes called and subclassed."""

from .py import sampling, tools
from .py.tools import NODE_CLASS_MAPPINGS as MORE

NODE_CLASS_MAPPINGS = {**tools.OWN, **sampling.OWN, **MORE}
NODE_DISPLAY_NAME_MAPPINGS = {"Cp Odd": "Odd forms", "CpNotThere": "No such class"}
