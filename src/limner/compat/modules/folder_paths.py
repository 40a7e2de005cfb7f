"""Where files are. Models lie where this worker has them; input, output and temp are folders of the run alone.

What a node writes into the output or temp folder is collected when the node has run (compat/collecting.py).
"""

from __future__ import annotations

import mimetypes
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import Any

from limner.compat.lists import FolderList
from limner.compat.place import here
from limner.engine.prefixes import fill_tokens
from limner.errors import LimnerError
from limner.models.files import OLDER_NAMES

supported_pt_extensions: set[str] = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

base_path = str(here().folder)
models_dir = str(here().models.roots[0] if here().models.roots else here().folder / "models")
output_directory = str(here().folder / "output")
temp_directory = str(here().folder / "temp")
input_directory = str(here().folder / "input")
user_directory = str(here().folder / "user")
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = here().models.table
filename_list_cache: dict[str, Any] = {}

KINDS = {"output": "output_directory", "temp": "temp_directory", "input": "input_directory"}


def map_legacy(folder_name: str) -> str:
    """The folder's name of today."""
    return OLDER_NAMES.get(folder_name, folder_name)


def get_output_directory() -> str:
    return output_directory


def get_temp_directory() -> str:
    return temp_directory


def get_input_directory() -> str:
    return input_directory


def get_user_directory() -> str:
    return user_directory


def get_system_user_directory(name: str = "system") -> str:
    return str(Path(user_directory) / f"__{name}")


def get_public_user_directory(user_id: str) -> str | None:
    return None if user_id.startswith("__") else str(Path(user_directory) / user_id)


def set_output_directory(output_dir: str) -> None:
    """What is written there is the node's own affair: only Limner's folder is collected from."""
    global output_directory
    output_directory = output_dir


def set_temp_directory(temp_dir: str) -> None:
    global temp_directory
    temp_directory = temp_dir


def set_input_directory(input_dir: str) -> None:
    global input_directory
    input_directory = input_dir


def set_user_directory(user_dir: str) -> None:
    global user_directory
    user_directory = user_dir


def get_directory_by_type(type_name: str) -> str | None:
    member = KINDS.get(type_name)
    return None if member is None else str(globals()[member])


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of this kind. KeyError for one that does not exist."""
    return folder_names_and_paths[map_legacy(folder_name)][0][:]


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    """Another folder of this kind, to be looked into last, or first with `is_default`."""
    folder_name = map_legacy(folder_name)
    if folder_name not in folder_names_and_paths:
        folder_names_and_paths[folder_name] = ([full_folder_path], set())
        return
    paths = folder_names_and_paths[folder_name][0]
    if full_folder_path in paths:
        if not is_default:
            return
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_filename_list(folder_name: str) -> list[str]:
    """The files of this kind, sorted, by their names below its folders. KeyError for a kind that does not exist."""
    folder_name = map_legacy(folder_name)
    if folder_name not in folder_names_and_paths:
        raise KeyError(folder_name)
    return FolderList(folder_name, sorted(here().models.files(folder_name)))


def get_filename_list_(folder_name: str) -> tuple[list[str], dict[str, float], float]:
    return get_filename_list(folder_name), {}, time.perf_counter()


def cached_filename_list_(folder_name: str) -> None:
    """Nothing is kept: a list is read anew each time."""


def get_full_path(folder_name: str, filename: str) -> str | None:
    """Where a file lies; None where there is none, or where the name leaves its folder."""
    inside = os.path.relpath(os.path.join("/", str(filename)), "/")
    for folder in here().models.places(folder_name):
        path = os.path.join(folder, inside)
        if os.path.isfile(path):
            return path
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")
    return path


def recursive_search(
    directory: str, excluded_dir_names: Collection[str] | None = None
) -> tuple[list[str], dict[str, float]]:
    """Files below a folder by their names in it, and the folders' times of change. Links to folders are followed."""
    files: list[str] = []
    changed: dict[str, float] = {}
    seen: set[str] = set()
    for parent, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        changed[parent] = os.path.getmtime(parent)
        folders[:] = [each for each in folders if each not in (excluded_dir_names or ())]
        files += [os.path.relpath(os.path.join(parent, name), directory) for name in names]
    return files, changed


def filter_files_extensions(files: Collection[str], extensions: Collection[str]) -> list[str]:
    """Those with one of these extensions, sorted; all of them where no extension is told or "folder" is."""
    wanted = {each.lower() for each in extensions}
    return sorted(f for f in files if not wanted or "folder" in wanted or PurePath(f).suffix.lower() in wanted)


def filter_files_content_types(files: list[str], content_types: list[str]) -> list[str]:
    """Those that are pictures, videos, sounds or 3D models (`image`, `video`, `audio`, `model`), by their extension."""
    return [each for each in files if _content_type(each) in content_types]


def _content_type(name: str) -> str:
    if PurePath(name).suffix.lower() in (".glb", ".gltf", ".obj", ".fbx", ".stl"):
        return "model"
    return (mimetypes.guess_type(name)[0] or "").partition("/")[0]


def get_input_subfolders() -> list[str]:
    """Folders among the run's input files."""
    root = Path(input_directory)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir())


def annotated_filepath(name: str) -> tuple[str, str | None]:
    """(`a.png`, output folder) of `a.png [output]`; without a mark the folder is None."""
    for kind in KINDS:
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], get_directory_by_type(kind)
    return name, None


def get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    """The path of a file named as in a workflow; an input file of the job where it is one."""
    ctx = here().running()
    if ctx is not None and default_dir is None:
        try:
            return str(ctx.files.input(name))
        except LimnerError:  # none of the job's own: it may be one that a node has just written
            pass
    plain, folder = annotated_filepath(name)
    return os.path.join(folder or default_dir or input_directory, plain)


def exists_annotated_filepath(name: str) -> bool:
    return os.path.exists(get_annotated_filepath(name))


def get_save_image_path(
    filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
) -> tuple[str, str, int, str, str]:
    """(folder, file part, number of the next file, sub-folder, prefix) for files `PART_NNNNN_.EXT`.

    The folder is of this run alone, so numbers start at 1; when the file is collected it gets a number that no file of
    the tenant has. Raises Exception where the prefix leaves the folder.
    """
    filename_prefix = fill_tokens(filename_prefix, width=image_width, height=image_height, now=time.localtime())
    subfolder, filename = os.path.split(os.path.normpath(filename_prefix))
    root = os.path.abspath(output_dir)
    folder = os.path.join(root, subfolder)
    if os.path.commonpath((root, os.path.abspath(folder))) != root:
        raise Exception(f"filename_prefix {filename_prefix!r} leaves the folder {output_dir}")  # noqa: TRY002
    os.makedirs(folder, exist_ok=True)
    return folder, filename, 1 + _largest(os.listdir(folder), filename), subfolder, filename_prefix


def _largest(names: Sequence[str], filename: str) -> int:
    start = f"{filename}_"
    ends = [name[len(start) :].partition("_")[0] for name in names if name.startswith(start)]
    return max((int(each) for each in ends if each.isdigit()), default=0)
