"""Model: a denoising network with all that sampling must know of it, and what one user of it wants changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from limner.diffusion.conds import Cond
from limner.diffusion.denoiser import Prediction
from limner.diffusion.foreign import adapted
from limner.diffusion.latents import LatentFormat
from limner.models import wrappers
from limner.models.attention import sliced
from limner.models.keys import KeyMap
from limner.models.known_base import KnownBase
from limner.models.known_model import KnownModel
from limner.models.patcher import Patcher
from limner.models.residency import within_memory

Options = dict[str, Any]
"""`model_options` and the `transformer_options` in it, by the names that node packs know."""


class Architecture(Protocol):
    """How a family's network is called."""

    name: str
    title: str

    def forward(
        self,
        model: BaseModel,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        control: Mapping[str, list[Tensor | None]] | None,
        transformer_options: Options,
        **conds: Any,
    ) -> Tensor:
        """What the network answers. x: (B, C, h, w) as `Prediction.network_input` gives it, with c_concat behind it.

        conds: what `extra_conds` named. control: residuals of control networks by place (input, middle, output).
        """
        ...

    def extra_conds(self, model: BaseModel, facts: Mapping[str, Any]) -> dict[str, Cond]:
        """What a conditioning means to this family, by the names `forward` takes; `c_crossattn` is the text.

        facts: the extras of one conditioning (sizes in pixels), its text as `cross_attn`, and of the walk: `noise` and
        `latent_image` (B, C, h, w), the latter in the network's units, `device`, `seed`, `prompt_type` ("positive" or
        "negative"), `denoise_mask` (B, 1 or C, h, w) or None. Raises UnfitInput for another family's conditioning.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaseModel(KnownBase):
    """Weights and the facts of their family, shared by every user of one file.

    context_width: of the encoded text it takes. in_channels: of its network, with what c_concat adds. adm_channels: of
    the vector beside the text, 0 without one. native_size: edge in pixels of the pictures it learned from, if told.
    facts: what else the family needs of the file. told: what the file's `limner.config` says.
    """

    name: str
    architecture: Architecture
    diffusion_model: nn.Module
    keys: KeyMap
    model_sampling: Prediction
    latent_format: LatentFormat
    device: torch.device
    dtype: torch.dtype
    context_width: int
    in_channels: int
    adm_channels: int = 0
    native_size: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)

    def apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Mapping[str, list[Tensor | None]] | None = None,
        transformer_options: Options | None = None,
        **conds: Any,
    ) -> Tensor:
        """The clean x that the network expects behind x at level t, for each item under its own conditioning.

        x: (B, C, h, w) float32. t: (B,) or one level. c_concat: channels behind x's. c_crossattn: (B, tokens, width).
        """
        options = transformer_options or {}
        asked = wrappers.around(wrappers.APPLY_MODEL, self._apply_model, self, options)
        clean: Tensor = asked(x, t, c_concat, c_crossattn, control, options, **conds)
        return clean

    def _apply_model(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None,
        c_crossattn: Tensor | None,
        control: Mapping[str, list[Tensor | None]] | None,
        options: Options,
        **conds: Any,
    ) -> Tensor:
        sampling = adapted(options.get("model_sampling", self.model_sampling))
        level = t.reshape(-1, *[1] * (x.ndim - 1))
        scaled = sampling.network_input(x, level)
        if c_concat is not None:
            scaled = torch.cat([scaled, c_concat.to(scaled)], dim=1)
        if c_crossattn is None:
            c_crossattn = x.new_zeros(len(x), 0, self.context_width)
        given, context = scaled.to(self.dtype), c_crossattn.to(self.dtype)

        asked = wrappers.around(wrappers.DIFFUSION_MODEL, self._forward, self.diffusion_model, options)
        times, y = sampling.levels.timestep(t.reshape(-1)).expand(len(x)), conds.pop("y", None)

        def answer() -> Tensor:
            told: Tensor = asked(given, times, context, y, control, options, **conds)
            return told

        def in_less_memory() -> Tensor:
            with sliced():
                return answer()

        edges = "x".join(str(edge) for edge in x.shape)
        output = within_memory(answer, in_less_memory, what=f"a step of {self.name} at {edges}")
        return sampling.clean(x, output.float(), level)

    def _forward(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        y: Tensor | None = None,
        control: Mapping[str, list[Tensor | None]] | None = None,
        transformer_options: Options | None = None,
        **conds: Any,
    ) -> Tensor:
        """What the network answers, by a call that wrappers of packs know. y: a vector beside the text."""
        beside = conds if y is None else {"y": y, **conds}
        return self.architecture.forward(
            self, x, timestep, context, control=control, transformer_options=transformer_options or {}, **beside
        )


class Model(KnownModel, Patcher):
    """What a MODEL socket carries: a base model as one user wants it. The names are those that node packs know.

    model_options: what a user hooks into sampling and into the network (`transformer_options`). object_patches: parts
    of the base model that are replaced for this user, such as `model_sampling`. To change one, clone it first.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model.diffusion_model, model.keys, model.device, model.dtype)
        self.model = model
        self.model_options: Options = {"transformer_options": {}}
        self.object_patches: dict[str, Any] = {}
        self.begin_extras()

    def clone(self) -> Self:
        other = super().clone()
        other.model_options = copied_options(self.model_options)
        other.object_patches = dict(self.object_patches)
        self.clone_extras(other)
        return other

    @property
    def model_sampling(self) -> Prediction:
        """How the network is used, as this user wants it."""
        return adapted(self.get_model_object("model_sampling"))

    @property
    def latent_format(self) -> LatentFormat:
        latents: LatentFormat = self.get_model_object("latent_format")
        return latents

    @property
    def name(self) -> str:
        return self.model.name

    def add_object_patch(self, name: str, value: object) -> None:
        """Replaces a part of the base model, named by its path from there, for this user."""
        self.object_patches[name] = value

    def get_model_object(self, name: str) -> Any:
        """A part of the base model by its path (`model_sampling`, `diffusion_model.conv_in`), as this user has it."""
        if name in self.object_patches:
            return self.object_patches[name]
        here: Any = self.model
        for part in name.split("."):
            here = getattr(here, part)
        return here

    def set_model_sampler_cfg_function(
        self, function: Callable[[dict[str, Any]], Tensor], disable_cfg1_optimization: bool = False
    ) -> None:
        """Joins the conditional and the unconditional answer by a function of its own instead of by scale."""
        self.model_options["sampler_cfg_function"] = function
        if disable_cfg1_optimization:
            self.model_options["disable_cfg1_optimization"] = True

    def set_model_sampler_post_cfg_function(
        self, function: Callable[[dict[str, Any]], Tensor], disable_cfg1_optimization: bool = False
    ) -> None:
        """Adds a function that changes the joined answer."""
        self._append("sampler_post_cfg_function", function, disable_cfg1_optimization)

    def set_model_sampler_pre_cfg_function(
        self, function: Callable[[dict[str, Any]], list[Tensor]], disable_cfg1_optimization: bool = False
    ) -> None:
        """Adds a function that changes the answers before they are joined."""
        self._append("sampler_pre_cfg_function", function, disable_cfg1_optimization)

    def set_model_unet_function_wrapper(self, wrapper: Callable[..., Tensor]) -> None:
        """Calls `wrapper(apply_model, {"input", "timestep", "c", "cond_or_uncond"})` in place of apply_model."""
        self.model_options["model_function_wrapper"] = wrapper

    def set_model_denoise_mask_function(self, function: Callable[..., Tensor]) -> None:
        """Changes the mask at each step: `function(sigma, denoise_mask, extra_options={"model", "sigmas"})`."""
        self.model_options["denoise_mask_function"] = function

    def set_model_patch(self, patch: object, name: str) -> None:
        """Adds a function to those called at a place of the network (`attn1_patch`, `output_block_patch`, ...)."""
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches[name] = [*patches.get(name, []), patch]

    def set_model_emb_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "emb_patch")

    def set_model_patch_replace(
        self, patch: object, name: str, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        """Replaces one attention of the network, or one block."""
        replaced = self.model_options["transformer_options"].setdefault("patches_replace", {})
        place = (block_name, number) if transformer_index is None else (block_name, number, transformer_index)
        replaced[name] = {**replaced.get(name, {}), place: patch}

    def set_model_attn1_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "attn1_patch")

    def set_model_attn2_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "attn2_patch")

    def set_model_attn1_output_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "attn1_output_patch")

    def set_model_attn2_output_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "attn2_output_patch")

    def set_model_attn1_replace(
        self, patch: object, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        self.set_model_patch_replace(patch, "attn1", block_name, number, transformer_index)

    def set_model_attn2_replace(
        self, patch: object, block_name: str, number: int, transformer_index: int | None = None
    ) -> None:
        self.set_model_patch_replace(patch, "attn2", block_name, number, transformer_index)

    def set_model_input_block_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "input_block_patch")

    def set_model_input_block_patch_after_skip(self, patch: object) -> None:
        self.set_model_patch(patch, "input_block_patch_after_skip")

    def set_model_output_block_patch(self, patch: object) -> None:
        self.set_model_patch(patch, "output_block_patch")

    def _append(self, name: str, function: object, disable_cfg1_optimization: bool) -> None:
        self.model_options[name] = [*self.model_options.get(name, []), function]
        if disable_cfg1_optimization:
            self.model_options["disable_cfg1_optimization"] = True


def copied_options(options: Any) -> Any:
    """A copy in which dicts and lists are new, and what is in them the same."""
    if isinstance(options, dict):
        return {key: copied_options(value) for key, value in options.items()}
    return list(options) if isinstance(options, list) else options
