"""FlowFamily: what the families of transformers on a straight path have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.diffusion.conds import Cond, Regular
from limner.diffusion.denoiser import Flow
from limner.diffusion.levels import Levels
from limner.errors import UnfitInput
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.family import Family
from limner.models.flow.tables import PREFIX
from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Model
from limner.models.unet_family import with_own_colours
from limner.models.weights import Weights

Facts = Mapping[str, Any]


class FlowFamily(Family):
    """A transformer that tells which way a latent moves. Peebles and Xie 2022, arXiv:2212.09748; Lipman et al. 2023,
    arXiv:2210.02747. Its sizes come from shapes.

    not_read: keys of the file that say nothing to the network.
    """

    not_read: frozenset[str] = frozenset()

    @abstractmethod
    def config(self, header: Header) -> dict[str, Any]:
        """Arguments of the network, from shapes. Raises ModelFileError where it is built otherwise."""

    @abstractmethod
    def network(self, config: Mapping[str, Any]) -> nn.Module:
        """The network. It is made without memory for its weights."""

    @abstractmethod
    def keys(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
        """Where each original weight lies in a network with these weights."""

    @abstractmethod
    def levels(self, config: Mapping[str, Any]) -> Levels:
        """The levels of noise, and by what number the network is told of one."""

    @abstractmethod
    def widths(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        """Of the text it takes, of the vector beside it (0 without one), and how many channels of a latent."""

    def load_model(self, denoiser: Weights, file: Weights, devices: Devices) -> Model:
        header = denoiser.header
        config = self.config(header)
        network = empty(lambda: self.network(config))
        keys = self.keys(network.state_dict(), config)
        with torch.inference_mode(False):  # weights are kept, and patched, outside of it too
            tensors = {key: each for key, each in denoiser.tensors().items() if key not in self.not_read}
        fill(network, keys, tensors, header=header, part="transformer", prefix=PREFIX)
        context, vector, channels = self.widths(config)
        return Model(
            BaseModel(
                name=header.path.name,
                architecture=self,
                diffusion_model=network,
                keys=keys,
                model_sampling=Flow(self.levels(config)),
                latent_format=with_own_colours(self.latents, file.header),
                device=devices.device,
                dtype=devices.wide_dtype(sum(weight.numel() for weight in tensors.values())),
                context_width=context,
                in_channels=channels,
                adm_channels=vector,
                native_size=header.number("native_size"),
                told=header.told(),
            )
        )

    def extra_conds(self, model: BaseModel, facts: Facts) -> dict[str, Cond]:
        """The text, which is joined with another's only where both are as long: all tokens count in such a network."""
        context = facts.get("cross_attn")
        if not isinstance(context, Tensor) or context.ndim != 3 or context.shape[-1] != model.context_width:
            has = tuple(context.shape) if isinstance(context, Tensor) else "none"
            raise UnfitInput(
                f"the conditioning has the shape {has}, {model.name} ({self.title}) takes (batch, tokens, "
                f"{model.context_width}); encode the prompt with the text encoders of this family"
            )
        conds: dict[str, Cond] = {"c_crossattn": Regular(context)}
        if model.adm_channels:
            conds["y"] = Regular(self.vector(model, facts))
        return conds

    def vector(self, model: BaseModel, facts: Facts) -> Tensor:
        """The text's pooled vector, (B or 1, adm_channels); zeros where there is none. Raises UnfitInput."""
        pooled = facts.get("pooled_output")
        if pooled is None:
            return torch.zeros(1, model.adm_channels)
        if not isinstance(pooled, Tensor) or pooled.ndim != 2 or pooled.shape[1] != model.adm_channels:
            raise UnfitInput(
                f"the conditioning's pooled vector has the shape {tuple(getattr(pooled, 'shape', ()))}, {model.name} "
                f"({self.title}) takes (batch, {model.adm_channels}); encode the prompt with the text encoders of this "
                "family"
            )
        return pooled
