"""ControlLora: a ControlNet told as what it adds to the weights of whatever model it steers (Stability AI, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from limner.errors import UnfitInput
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.controlnet import layout
from limner.models.controlnet.net import ControlNet
from limner.models.keys import KeyMap
from limner.models.lora.sums import LowRank
from limner.models.model import BaseModel
from limner.models.patcher import Patcher
from limner.models.weights import Weights

MARK = "lora_controlnet"
"""Files of this kind have a tensor of this name."""

SHARED = ("input_blocks.", "middle_block.", "time_embed.", "label_emb.")
"""The parts of a UNet that a control network has too."""


class ControlLora(ControlNet):
    """It becomes a network when a walk begins, of the walking model's weights, and is none any more afterwards."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        nothing = Patcher(nn.Module(), KeyMap({}), device)
        hint_channels = weights.header.size(f"{layout.HINT}0.weight", 1)
        super().__init__(
            nothing, weights.header.path.name, context_width=0, adm_channels=0, hint_channels=hint_channels
        )
        self.weights = weights

    def get_models(self) -> list[Patcher]:
        """Those of the networks before it: its own is made of weights that are in their place already."""
        return [] if self.previous_controlnet is None else self.previous_controlnet.get_models()

    def pre_run(self, model: BaseModel, percent_to_timestep_function: Callable[[float], float]) -> None:
        if self.base is not model:
            with torch.inference_mode(False), torch.no_grad():  # a module takes no tensors of inference mode
                self._become_network(model)
        super().pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        self.patcher = Patcher(nn.Module(), KeyMap({}), self.patcher.load_device)
        super().cleanup()

    def _become_network(self, model: BaseModel) -> None:
        from diffusers.models.controlnets.controlnet import ControlNetModel

        tensors = {key: each.to(model.device, model.dtype) for key, each in self._summed(model).items()}
        header = self.weights.header
        whole = Header(
            path=header.path,
            shapes={key: tuple(each.shape) for key, each in tensors.items()},
            dtypes={},
            metadata=header.metadata,
        )
        made_of = layout.config(whole)
        network = empty(lambda: ControlNetModel(**made_of))
        keys = layout.key_map(network.state_dict(), made_of)
        fill(network, keys, tensors, header=whole, part="Control-LoRA", prefix="control_model.")
        self.patcher = Patcher(network, keys, model.device, model.dtype)
        self.context_width = made_of.get("cross_attention_dim", 0)
        self.adm_channels = made_of.get("projection_class_embeddings_input_dim", 0)

    def _summed(self, model: BaseModel) -> Mapping[str, Tensor]:
        """The model's weights with what the file adds, and the file's own, by original key."""
        found: dict[str, Tensor] = {}
        for key in model.keys:
            name = key.removeprefix("diffusion_model.")
            if name.startswith(SHARED):
                found[name] = model.keys.gather(model.diffusion_model, key)
        for key in self.weights:
            module, _, part = key.rpartition(".")
            if part == "up":
                found[f"{module}.weight"] = self._added(module, found, model)
            elif part != "down" and key != MARK:
                found[key] = self.weights.tensor(key)
        return found

    def _added(self, module: str, found: Mapping[str, Tensor], model: BaseModel) -> Tensor:
        """A weight of the model with the product that the file has for it. Raises UnfitInput where it does not fit."""
        change = LowRank(up=self.weights.tensor(f"{module}.up"), down=self.weights.tensor(f"{module}.down"))
        weight = found.get(f"{module}.weight")
        if weight is None or not change.fits(tuple(weight.shape)):
            has = "no such weight" if weight is None else f"one of the shape {tuple(weight.shape)}"
            raise UnfitInput(
                f"{self.name} does not fit {model.name}: it was made for models of another family, whose {module} is "
                f"of size {change.size()}; there is {has}"
            )
        return change.apply(weight.float())
