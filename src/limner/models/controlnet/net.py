"""ControlNet: a copy of a UNet's way down that reads a picture. Zhang et al. 2023, arXiv:2302.05543."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limner.diffusion.denoiser import Prediction
from limner.errors import UnfitInput
from limner.models.attention import sliced
from limner.models.controlnet.chain import Control, Residuals
from limner.models.controlnet.run import run
from limner.models.patcher import Patcher
from limner.models.residency import within_memory


class ControlNet(Control):
    """A ControlNet for UNets of the Stable Diffusion kind.

    context_width: of the text it looks at, 0 where it looks at none. adm_channels: of the vector beside it. kinds: how
    many kinds of picture it was trained for, where it must be told which (`control_type` of `extra_args`).
    """

    def __init__(
        self, patcher: Patcher, name: str, *, context_width: int, adm_channels: int, hint_channels: int, kinds: int = 0
    ) -> None:
        super().__init__(patcher, name)
        self.context_width = context_width
        self.adm_channels = adm_channels
        self.hint_channels = hint_channels
        self.kinds = kinds

    @property
    def control_model(self) -> nn.Module:
        """The network itself."""
        return self.patcher.module

    def residuals(
        self, x_noisy: Tensor, t: Tensor, cond: Mapping[str, Any], batched_number: int, options: Mapping[str, Any]
    ) -> Residuals:
        context = cond.get("crossattn_controlnet", cond["c_crossattn"])
        y = cond.get("y")
        self._check(x_noisy, context, y)
        assert self.base is not None
        sampling: Prediction = options.get("model_sampling", self.base.model_sampling)
        dtype = self.patcher.dtype or x_noisy.dtype
        hint = self.hint(x_noisy, batched_number, self.hint_channels).to(dtype)
        x = sampling.network_input(x_noisy, t.reshape(-1, *[1] * (x_noisy.ndim - 1))).to(dtype)

        def answer() -> Residuals:
            return run(
                self.control_model,
                x,
                sampling.levels.timestep(t).expand(len(x)),
                context.to(dtype),
                hint,
                y=y.to(dtype) if y is not None and self.adm_channels else None,
                kinds=list(self.extra_args.get("control_type", ())) if self.kinds else None,
            )

        def answer_in_slices() -> Residuals:
            with sliced():
                return answer()

        return within_memory(answer, answer_in_slices, what=f"{self.name} at {x.shape[-1]}x{x.shape[-2]} places")

    def _check(self, x: Tensor, context: Tensor, y: Tensor | None) -> None:
        if self.base is None:
            raise UnfitInput(f"{self.name} was not prepared for a walk (pre_run)")
        wanted = self.control_model.get_parameter("conv_in.weight").shape[1]
        faults = []
        if x.shape[1] != wanted:
            faults.append(f"latents with {wanted} channels, not {x.shape[1]}")
        if self.context_width and context.shape[-1] != self.context_width:
            faults.append(f"text of width {self.context_width}, not {context.shape[-1]}")
        if self.adm_channels and (y is None or y.shape[-1] != self.adm_channels):
            faults.append(f"a vector of {self.adm_channels} beside the text, not {0 if y is None else y.shape[-1]}")
        if faults:
            raise UnfitInput(
                f"{self.name} does not fit {self.base.name}: it was made for models of another family, with "
                f"{' and '.join(faults)}"
            )
