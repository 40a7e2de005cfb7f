"""What a node shows in the editor, made of values: pictures and sounds are written to files of the run."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from limner.compat.api.inputs import FolderType, plain
from limner.compat.place import here
from limner.compat.saving import write_pictures
from limner.nodes.media.audio import sound
from limner.nodes.media.audio_files import FLAC, write_sound
from limner.nodes.media.saving import texts


class SavedResult(dict[str, Any]):
    """A file by name, folder and type."""

    def __init__(self, filename: str, subfolder: str, type: Any) -> None:
        super().__init__(filename=filename, subfolder=subfolder, type=str(plain(type)))

    @property
    def filename(self) -> str:
        return str(self["filename"])

    @property
    def subfolder(self) -> str:
        return str(self["subfolder"])

    @property
    def type(self) -> FolderType:
        return FolderType(self["type"])


class UIOutput:
    """Base: `as_dict` gives what is shown."""

    def as_dict(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} shows nothing")


class SavedImages(UIOutput):
    def __init__(self, results: Sequence[SavedResult], is_animated: bool = False) -> None:
        self.results = list(results)
        self.is_animated = is_animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.results, **({"animated": [True]} if self.is_animated else {})}


class SavedAudios(UIOutput):
    def __init__(self, results: Sequence[SavedResult]) -> None:
        self.results = list(results)

    def as_dict(self) -> dict[str, Any]:
        return {"audio": self.results}


class ImageSaveHelper:
    """Writes pictures (B, H, W, C). `cls`: the node class, of whose hidden values prompt and workflow go inside."""

    @staticmethod
    def save_images(
        images: Any, filename_prefix: str, folder_type: FolderType, cls: Any = None, compress_level: int = 4
    ) -> list[SavedResult]:
        folder = here().folder / str(plain(folder_type))
        inside = _inside(cls)
        saved = write_pictures(images, filename_prefix, folder, inside, compress_level)
        return [SavedResult(name, subfolder, folder_type) for name, subfolder in saved]

    @staticmethod
    def get_save_images_ui(images: Any, filename_prefix: str, cls: Any = None, compress_level: int = 4) -> SavedImages:
        return SavedImages(ImageSaveHelper.save_images(images, filename_prefix, FolderType.output, cls, compress_level))


class AudioSaveHelper:
    """Writes sounds as FLAC files."""

    @staticmethod
    def save_audio(
        audio: Any,
        filename_prefix: str,
        folder_type: FolderType,
        cls: Any = None,
        format: str = "flac",
        quality: str = "128k",
    ) -> list[SavedResult]:
        from limner.compat.modules import folder_paths

        if format != "flac":
            raise ValueError(
                f"AudioSaveHelper writes flac, not {format!r}; SaveAudioMP3 and SaveAudioOpus write others"
            )
        waveform, rate = sound(audio)
        root = str(here().folder / str(plain(folder_type)))
        folder, part, number, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, root)
        saved = []
        for index, each in enumerate(waveform):
            name = f"{part.replace('%batch_num%', str(index))}_{number + index:05}_.flac"
            write_sound(each, rate, Path(folder) / name, FLAC, "flac", _inside(cls))
            saved.append(SavedResult(name, subfolder, folder_type))
        return saved

    @staticmethod
    def get_save_audio_ui(
        audio: Any, filename_prefix: str, cls: Any = None, format: str = "flac", quality: str = "128k"
    ) -> SavedAudios:
        return SavedAudios(AudioSaveHelper.save_audio(audio, filename_prefix, FolderType.output, cls, format, quality))


class PreviewImage(UIOutput):
    """Shows pictures; the files are temporary."""

    def __init__(self, image: Any, animated: bool = False, cls: Any = None, **_more: Any) -> None:
        self.values = ImageSaveHelper.save_images(image, _temp_prefix(), FolderType.temp, cls, compress_level=1)
        self.animated = animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": [self.animated]}


class PreviewMask(PreviewImage):
    """Shows masks (B, H, W) as grey pictures."""

    def __init__(self, mask: Any, animated: bool = False, cls: Any = None, **more: Any) -> None:
        grey = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1])).movedim(1, -1).expand(-1, -1, -1, 3)
        super().__init__(grey, animated, cls, **more)


class PreviewAudio(UIOutput):
    """Lets a sound be heard."""

    def __init__(self, audio: Any, cls: Any = None, **_more: Any) -> None:
        self.values = AudioSaveHelper.save_audio(audio, _temp_prefix(), FolderType.temp, cls)

    def as_dict(self) -> dict[str, Any]:
        return {"audio": self.values}


class PreviewVideo(UIOutput):
    """Shows video files that the node has written."""

    def __init__(self, values: Iterable[SavedResult], **_more: Any) -> None:
        self.values = list(values)

    def as_dict(self) -> dict[str, Any]:
        return {"images": self.values, "animated": [True]}


class PreviewText(UIOutput):
    def __init__(self, value: str, **_more: Any) -> None:
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        return {"text": [self.value]}


class PreviewUI3D(UIOutput):
    """Shows a 3D model's file."""

    def __init__(self, model_file: Any, camera_info: Any, **more: Any) -> None:
        self.model_file = model_file
        self.camera_info = camera_info
        self.more = more

    def as_dict(self) -> dict[str, Any]:
        return {"result": [self.model_file, self.camera_info, self.more.get("bg_image_path")]}


def _inside(cls: Any) -> dict[str, str]:
    hidden = getattr(cls, "hidden", None)
    return {} if hidden is None else texts(hidden.prompt, hidden.extra_pnginfo)


def _temp_prefix() -> str:
    return "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))
