"""Writes OpenEXR files: pictures of half or float values with any texts in their header.

After "OpenEXR File Layout" (openexr.com): one part, scan lines in blocks of 16, ZIP compression.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from limner.nodes.media.colours import Chromaticities

MAGIC, VERSION, LONG_NAMES = 20000630, 2, 0x400
HALF, FLOAT = 1, 2
ZIP, LINES = 3, 16
SHORT_NAME = 31
LARGEST_HALF = 65504.0
CHANNELS = {1: "Y", 3: "RGB", 4: "RGBA"}


def write_exr(values: np.ndarray, path: Path, *, half: bool, colours: Chromaticities, texts: Mapping[str, str]) -> None:
    """Writes a picture (H, W, 1, 3 or 4) float32 of linear light, values beyond a half's range cut to it."""
    height, width, count = values.shape
    if half:
        values = values.clip(-LARGEST_HALF, LARGEST_HALF)
    planes = values.astype("<f2" if half else "<f4")
    order = sorted(range(count), key=CHANNELS[count].__getitem__)  # by name
    head = _header([CHANNELS[count][each] for each in order], width, height, half=half, colours=colours, texts=texts)
    blocks = [
        _block(top, np.ascontiguousarray(planes[top : top + LINES][:, :, order].transpose(0, 2, 1)))
        for top in range(0, height, LINES)
    ]
    place, places = len(head) + 8 * len(blocks), []
    for block in blocks:
        places.append(place)
        place += len(block)
    path.write_bytes(head + struct.pack(f"<{len(places)}Q", *places) + b"".join(blocks))


def _header(
    names: list[str], width: int, height: int, *, half: bool, colours: Chromaticities, texts: Mapping[str, str]
) -> bytes:
    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", HALF if half else FLOAT, 0, 1, 1) for name in names
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", channels + b"\0"),
        ("chromaticities", "chromaticities", struct.pack("<8f", *colours)),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", bytes(1)),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    ]
    own = {name for name, _, _ in attributes}
    attributes += [(f"{name}_" if name in own else name, "string", text.encode()) for name, text in texts.items()]
    version = VERSION | (LONG_NAMES if any(len(name) > SHORT_NAME for name, _, _ in attributes) else 0)
    written = [
        name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(data)) + data
        for name, kind, data in attributes
    ]
    return struct.pack("<2i", MAGIC, version) + b"".join(written) + b"\0"


def _block(top: int, lines: np.ndarray) -> bytes:
    """Lines (lines, channels, width) as a block: low bytes before high ones, differences, deflated where that helps."""
    raw = np.frombuffer(lines.tobytes(), dtype=np.uint8)
    parted = np.concatenate([raw[::2], raw[1::2]])
    steps = parted.copy()
    steps[1:] = parted[1:] - parted[:-1] + np.uint8(128)  # modulo 256
    packed = zlib.compress(steps.tobytes())
    data = packed if len(packed) < len(raw) else raw.tobytes()
    return struct.pack("<2i", top, len(data)) + data
