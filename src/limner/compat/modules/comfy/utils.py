"""Progress, model files, pictures in other sizes, and work done in tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.compat.place import here
from limner.compat.previews import encoded
from limner.compat.unet_names import TRANSFORMER_BLOCKS as TRANSFORMER_BLOCKS
from limner.compat.unet_names import UNET_MAP_ATTENTIONS as UNET_MAP_ATTENTIONS
from limner.compat.unet_names import UNET_MAP_BASIC as UNET_MAP_BASIC
from limner.compat.unet_names import UNET_MAP_RESNET as UNET_MAP_RESNET
from limner.errors import ModelFileError
from limner.models import pickled
from limner.nodes.scaling import scale_planes

SAFE = frozenset({".safetensors", ".sft"})
PROGRESS_BAR_ENABLED = True
PROGRESS_BAR_HOOK: Callable[..., Any] | None = None
ALWAYS_SAFE_LOAD = True


def set_progress_bar_enabled(enabled: bool) -> None:
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function: Callable[..., Any] | None) -> None:
    """Another listener, called with (value, total, preview, node id) beside the run's own."""
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


class ProgressBar:
    """Tells how far the node is. Each step is a place where the run can be interrupted."""

    def __init__(self, total: float, node_id: str | None = None) -> None:
        self.total = total
        self.current: float = 0
        self.node_id = node_id
        self.hook = PROGRESS_BAR_HOOK

    def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
        """`preview`: (format, picture, largest size). Values are cut to the total."""
        if total is not None:
            self.total = total
        self.current = value = min(value, self.total)
        ctx = here().running()
        if ctx is not None:
            ctx.progress(value, self.total, encoded(preview) if preview is not None and ctx.previews else None)
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)

    def update(self, value: float) -> None:
        self.update_absolute(self.current + value)


def load_torch_file(
    ckpt: str | Path, safe_load: bool = False, device: Any = None, return_metadata: bool = False
) -> Any:
    """A file's tensors by name, with its metadata where that is wanted.

    Pickled files are read where the worker allows it, and then as data only: code in them is not run.
    Raises ModelFileError.
    """
    path = Path(ckpt)
    metadata: dict[str, str] | None = None
    if path.suffix.lower() in SAFE:
        try:
            with safetensors.safe_open(path, framework="pt", device=str(device or "cpu")) as file:
                tensors: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() if return_metadata else None
        except (safetensors.SafetensorError, OSError) as error:
            raise ModelFileError(f"{path} cannot be read: {error}") from error
    elif not pickled.allowed():
        raise ModelFileError(
            f"{path.name} is a pickled file, which is not read: such files can run code. Convert it to safetensors, or "
            "start the worker with --allow-pickle"
        )
    else:
        loaded = torch.load(path, map_location=device or "cpu", weights_only=True)
        tensors = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    return (tensors, metadata) if return_metadata else tensors


def save_torch_file(sd: Mapping[str, Tensor], ckpt: str | Path, metadata: dict[str, str] | None = None) -> None:
    safetensors.torch.save_file(dict(sd), str(ckpt), metadata=metadata)


def safetensors_header(safetensors_path: str | Path, max_size: int = 100 * 1024 * 1024) -> bytes | None:
    """The header's JSON; None where it is longer than `max_size`."""
    with Path(safetensors_path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return None if length > max_size else file.read(length)


def calculate_parameters(sd: Mapping[str, Tensor], prefix: str = "") -> int:
    return sum(tensor.nelement() for name, tensor in sd.items() if name.startswith(prefix))


def weight_dtype(sd: Mapping[str, Tensor], prefix: str = "") -> torch.dtype | None:
    """The precision of most of the weights; None where there are none."""
    counts: dict[torch.dtype, int] = {}
    for name, tensor in sd.items():
        if name.startswith(prefix):
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    return max(counts, key=lambda each: counts[each]) if counts else None


def state_dict_key_replace(state_dict: dict[str, Any], keys_to_replace: Mapping[str, str]) -> dict[str, Any]:
    """Renames in place."""
    for old, new in keys_to_replace.items():
        if old in state_dict:
            state_dict[new] = state_dict.pop(old)
    return state_dict


def state_dict_prefix_replace(
    state_dict: dict[str, Any], replace_prefix: Mapping[str, str], filter_keys: bool = False
) -> dict[str, Any]:
    """Other prefixes, in place; with `filter_keys` a new dict of those that had one."""
    found = {} if filter_keys else state_dict
    for old, new in replace_prefix.items():
        for name in [name for name in state_dict if name.startswith(old)]:
            found[new + name[len(old) :]] = state_dict.pop(name)
    return found


def get_attr(obj: Any, attr: str) -> Any:
    """A member of a member ...: `a.b.0.c`."""
    for name in attr.split("."):
        obj = getattr(obj, name)
    return obj


def set_attr(obj: Any, attr: str, value: Any) -> Any:
    """Puts a member of a member, and gives what was there."""
    *outer, last = attr.split(".")
    holder = get_attr(obj, ".".join(outer)) if outer else obj
    before = getattr(holder, last)
    setattr(holder, last, value)
    return before


def set_attr_param(obj: Any, attr: str, value: Tensor) -> Any:
    return set_attr(obj, attr, nn.Parameter(value, requires_grad=False))


def copy_to_param(obj: Any, attr: str, value: Tensor) -> None:
    """Overwrites a parameter's values in place."""
    get_attr(obj, attr).data.copy_(value)


def repeat_to_batch_size(tensor: Tensor, batch_size: int, dim: int = 0) -> Tensor:
    """As many items as wanted: cut, or repeated from the start."""
    has = tensor.shape[dim]
    if has > batch_size:
        return tensor.narrow(dim, 0, batch_size)
    if has == batch_size:
        return tensor
    repeats = [1] * tensor.ndim
    repeats[dim] = math.ceil(batch_size / has)
    return tensor.repeat(repeats).narrow(dim, 0, batch_size)


def resize_to_batch_size(tensor: Tensor, batch_size: int) -> Tensor:
    """As many items as wanted, taken or repeated evenly over the batch."""
    has = tensor.shape[0]
    if has == batch_size:
        return tensor
    if batch_size <= 1:
        return tensor[:batch_size]
    if batch_size < has:
        step = (has - 1) / (batch_size - 1)
        return tensor[[min(round(index * step), has - 1) for index in range(batch_size)]]
    return tensor[[min(math.floor((index + 0.5) * has / batch_size), has - 1) for index in range(batch_size)]]


def resize_list_to_batch_size(tensors: list[Any], batch_size: int) -> list[Any]:
    chosen = resize_to_batch_size(torch.arange(len(tensors)), batch_size)
    return [tensors[index] for index in chosen.tolist()]


def lanczos(samples: Tensor, width: int, height: int) -> Tensor:
    """(B, C, H, W) in another size by Pillow's Lanczos, on 8-bit values."""
    return scale_planes(samples, width, height, "lanczos")


def bislerp(samples: Tensor, width: int, height: int) -> Tensor:
    """(B, C, H, W) in another size, turning from one pixel's channels to the next one's."""
    return scale_planes(samples, width, height, "bislerp")


def common_upscale(samples: Tensor, width: int, height: int, upscale_method: str, crop: str) -> Tensor:
    """(B, C, H, W), or with frames (B, C, T, H, W), in another size; `crop` "center" first cuts the middle."""
    return scale_planes(samples, width, height, upscale_method, crop)


def reshape_mask(input_mask: Tensor, output_shape: Sequence[int]) -> Tensor:
    """A mask as large as what it is for, (B, C, ...)."""
    dimensions = len(output_shape) - 2
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[dimensions]
    mask = input_mask
    if dimensions == 1:
        mask = mask.reshape((-1, 1, mask.shape[-1]))
    elif dimensions == 2:
        mask = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1]))
    elif mask.ndim < 5:
        mask = mask.reshape((1, 1, -1, mask.shape[-2], mask.shape[-1]))
    mask = F.interpolate(mask, size=list(output_shape[2:]), mode=mode)
    if mask.shape[1] < output_shape[1]:
        mask = mask.repeat((1, output_shape[1], *[1] * dimensions))[:, : output_shape[1]]
    return repeat_to_batch_size(mask, output_shape[0])


def get_tiled_scale_steps(width: int, height: int, tile_x: int, tile_y: int, overlap: int) -> int:
    rows = 1 if height <= tile_y else math.ceil((height - overlap) / (tile_y - overlap))
    columns = 1 if width <= tile_x else math.ceil((width - overlap) / (tile_x - overlap))
    return rows * columns


def tiled_scale(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile_x: int = 64,
    tile_y: int = 64,
    overlap: int = 8,
    upscale_amount: float = 4,
    out_channels: int = 3,
    output_device: Any = "cpu",
    pbar: ProgressBar | None = None,
) -> Tensor:
    """What a function that enlarges makes of (B, C, H, W), tile by tile, blended where they overlap."""
    return tiled_scale_multidim(
        samples,
        function,
        (tile_y, tile_x),
        overlap=overlap,
        upscale_amount=upscale_amount,
        out_channels=out_channels,
        output_device=output_device,
        pbar=pbar,
    )


def tiled_scale_multidim(
    samples: Tensor,
    function: Callable[[Tensor], Tensor],
    tile: Sequence[int] = (64, 64),
    overlap: Any = 8,
    upscale_amount: Any = 4,
    out_channels: int = 3,
    output_device: Any = "cpu",
    downscale: bool = False,
    index_formulas: Any = None,
    pbar: ProgressBar | None = None,
) -> Tensor:
    """The same in any number of dimensions. Numbers and functions of a size may differ for each dimension."""
    count = len(tile)
    overlaps = _for_each(overlap, count)
    factors = _for_each(upscale_amount, count)
    formulas = factors if index_formulas is None else _for_each(index_formulas, count)

    def scaled(size: float, factor: Any) -> float:
        if callable(factor):
            return float(factor(size))
        return float(size / factor if downscale else size * factor)

    def size_of(dimension: int, size: int) -> int:
        return max(1, round(scaled(size, factors[dimension])))

    sizes = [size_of(each, samples.shape[each + 2]) for each in range(count)]
    made = torch.empty((samples.shape[0], out_channels, *sizes), device=output_device)
    for index in range(samples.shape[0]):
        item = samples[index : index + 1]
        if all(item.shape[each + 2] <= tile[each] for each in range(count)):
            made[index : index + 1] = function(item).to(output_device)
            if pbar is not None:
                pbar.update(1)
            continue
        total = torch.zeros((1, out_channels, *sizes), device=output_device)
        weight = torch.zeros_like(total)
        for starts in _grid(item.shape[2:], tile, overlaps):
            piece, corner = item, []
            for each, start in enumerate(starts):
                first = max(0, min(item.shape[each + 2] - overlaps[each], start))
                length = min(tile[each], item.shape[each + 2] - first)
                piece = piece.narrow(each + 2, first, length)
                corner.append(round(scaled(first, formulas[each])))
            done = function(piece).to(output_device)
            mask = torch.ones_like(done)
            for each in range(count):
                _feather(mask, each + 2, round(scaled(overlaps[each], factors[each])))
            place, shown = total, weight
            for each, first in enumerate(corner):
                place = place.narrow(each + 2, first, mask.shape[each + 2])
                shown = shown.narrow(each + 2, first, mask.shape[each + 2])
            place.add_(done * mask)
            shown.add_(mask)
            if pbar is not None:
                pbar.update(1)
        made[index : index + 1] = total / weight
    return made


def _for_each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value] * count


def _grid(sizes: Sequence[int], tile: Sequence[int], overlaps: Sequence[int]) -> list[tuple[int, ...]]:
    grids: list[tuple[int, ...]] = [()]
    for size, length, overlap in zip(sizes, tile, overlaps, strict=True):
        starts = range(0, size - overlap, length - overlap) if size > length else [0]
        grids = [(*grid, start) for grid in grids for start in starts]
    return grids


def _feather(mask: Tensor, dimension: int, width: int) -> None:
    """Edges of a tile count less, so that no seam is seen."""
    if width >= mask.shape[dimension]:
        return
    for step in range(width):
        share = (step + 1) / width
        mask.narrow(dimension, step, 1).mul_(share)
        mask.narrow(dimension, mask.shape[dimension] - 1 - step, 1).mul_(share)


def string_to_seed(data: str) -> int:
    """CRC-32 of a text."""
    import zlib

    return zlib.crc32(data.encode())
