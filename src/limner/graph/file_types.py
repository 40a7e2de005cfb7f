"""What files are, told by their names, and which pictures are opened. Both wings of the house ask here."""

from __future__ import annotations

import struct
import zlib

TYPES = {
    "avif": "image/avif", "bmp": "image/bmp", "gif": "image/gif", "ico": "image/vnd.microsoft.icon",
    "jfif": "image/jpeg", "jp2": "image/jp2", "jpe": "image/jpeg", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "pbm": "image/x-portable-bitmap", "pgm": "image/x-portable-graymap", "png": "image/png",
    "pnm": "image/x-portable-anymap", "ppm": "image/x-portable-pixmap", "qoi": "image/x-qoi", "tga": "image/x-tga",
    "tif": "image/tiff", "tiff": "image/tiff", "webp": "image/webp",
    "aac": "audio/aac", "aif": "audio/x-aiff", "aiff": "audio/x-aiff", "flac": "audio/flac", "m4a": "audio/mp4",
    "mp3": "audio/mpeg", "oga": "audio/ogg", "ogg": "audio/ogg", "opus": "audio/ogg", "wav": "audio/x-wav",
    "avi": "video/x-msvideo", "m4v": "video/x-m4v", "mkv": "video/x-matroska", "mov": "video/quicktime",
    "mp4": "video/mp4", "mpeg": "video/mpeg", "mpg": "video/mpeg", "ogv": "video/ogg", "webm": "video/webm",
    "glb": "model/gltf-binary", "gltf": "model/gltf+json", "json": "application/json", "txt": "text/plain",
}  # fmt: skip
"""Content types by extension. What a browser would run (html, svg, scripts, styles, xml) is not here on purpose."""

UNKNOWN = "application/octet-stream"

PICTURE_FORMATS = (
    "PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "JPEG2000", "TGA", "QOI",
)  # fmt: skip
"""What is read of all that Pillow knows: pictures of pixels, and nothing that starts another program (EPS does)."""

BROKEN_PICTURE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, AttributeError, OverflowError,
    NotImplementedError, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow raises on bytes that are no sound picture, and on pictures that another format cannot hold."""


def content_type(filename: str) -> str:
    """By extension; never one that a browser would run on the server's pages."""
    return TYPES.get(filename.rpartition(".")[2].lower(), UNKNOWN)
