"""A real HTTP and WebSocket server that answers as a recorded ComfyUI did, with faults where a test wants them.

    async with Replayer() as comfyui:
        comfyui.faults.hold_after = 8     # the next prompt stops after its eighth event
        await comfyui.restart()           # forgets its queue and history, as a real restart does

What it says comes from tests/data/transcripts (recorded from ComfyUI 0.3.64) and from no code of Limner: prompt ids,
client ids, numbers, times and taken file names are put in, everything else is as it was recorded.
"""

from tests.support.replayer.faults import OLD, Faults, Version
from tests.support.replayer.library import Library
from tests.support.replayer.script import Event, Picture, Script, Text
from tests.support.replayer.server import Replayer

__all__ = ["OLD", "Event", "Faults", "Library", "Picture", "Replayer", "Script", "Text", "Version"]
