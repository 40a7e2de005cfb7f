"""Clip: prompts into encodings, by one or several text networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self, cast, overload

import torch
from torch import Tensor, nn

from limner.diffusion.conditioning import Conditioning
from limner.errors import UnfitInput
from limner.models import residency
from limner.models.keys import KeyMap, Place
from limner.models.patcher import Patcher
from limner.models.text.cache import EncodingCache, identity
from limner.models.text.embeddings import Embedding, FindEmbedding
from limner.models.text.encoder import SECTIONS_AT_ONCE, Choice, TextEncoder
from limner.models.text.families import Encoded, Part, TextFamily
from limner.models.text.sections import Cutter, Section, check

Tokens = Mapping[str, Sequence[Sequence[Sequence[Any]]]]
"""By part (`l`, `g`, `t5xxl`): sections of (token, weight) or (token, weight, word)."""

MIN_LENGTH, MIN_PADDING, DISABLE_WEIGHTS = "min_length", "min_padding", "disable_weights"


class TextEncoders(nn.Module):
    """The networks of a Clip, each under its name (`clip_l`), with the encodings they made."""

    def __init__(self, encoders: Sequence[TextEncoder]) -> None:
        super().__init__()
        self.encodings = EncodingCache()
        for each in encoders:
            self.add_module(each.name, each)

    def encoder(self, name: str) -> TextEncoder | None:
        """The network of this name, if it is there."""
        found = self._modules.get(name)
        return found if isinstance(found, TextEncoder) else None

    def keys(self) -> KeyMap:
        """Original keys of all networks, and where their weights lie below this module."""
        return KeyMap({
            key: tuple(Place(f"{name}.{place.parameter}", place.rows) for place in places)
            for name, each in self._modules.items()
            if isinstance(each, TextEncoder)
            for key, places in each.keys.places.items()
        })  # fmt: skip


class Clip(Patcher):
    """What a CLIP socket carries: text encoders as one user wants them. The names are those that node packs know.

    layer_idx: the layer whose states are taken from every encoder, counted from the last (-1); None for the one that
    the family was made with. tokenizer_options: see `set_tokenizer_option`. To change one, clone it first.
    """

    def __init__(
        self,
        family: TextFamily,
        encoders: Sequence[TextEncoder],
        *,
        device: torch.device,
        dtype: torch.dtype,
        embedding: FindEmbedding = lambda name: None,  # noqa: ARG005
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """encoders: all of the family's, or some where it does with some. device, dtype: where and how they run.

        told: what the file's metadata `limner.config` says, for files that are saved of it.

        Raises ValueError where an encoder is missing.
        """
        self.cond_stage_model = TextEncoders(encoders)
        super().__init__(self.cond_stage_model, self.cond_stage_model.keys(), device, dtype)
        self.family = family
        self.embedding = embedding
        self.told = dict(told or {})
        self.layer_idx: int | None = None
        self.tokenizer_options: dict[str, Any] = {}
        missing = [part.encoder for part in family.parts if self.cond_stage_model.encoder(part.encoder) is None]
        if missing and (not family.partial or len(missing) == len(family.parts)):
            raise ValueError(f"{family.title} needs {', '.join(missing)}")

    @property
    def patcher(self) -> Self:
        """What holds the weights and their patches: this object itself."""
        return self

    def clone(self) -> Self:
        other = super().clone()
        other.tokenizer_options = dict(self.tokenizer_options)
        return other

    def clip_layer(self, layer_idx: int) -> None:
        """Takes the states of another layer, for every encoder: -1 is the last. One before the first is the last."""
        self.layer_idx = layer_idx

    def load_model(self) -> Self:
        """Brings the networks to their device, where they stay until others need the room."""
        with residency.use(self):
            return self

    def get_sd(self) -> dict[str, Tensor]:
        """The weights by their original keys, as they were loaded."""
        return self.model_state_dict()

    def set_tokenizer_option(self, name: str, value: int | bool) -> None:
        """`disable_weights`, and for encoders that read a prompt as a whole `t5xxl_min_length`, `t5xxl_min_padding`."""
        self.tokenizer_options[name] = value

    def tokenize(self, text: str, return_word_ids: bool = False, **options: Any) -> dict[str, list[Any]]:
        """The prompt for each encoder, by part: sections of (token, weight), or of (token, weight, word).

        A token is an id, or a learned row (width,). word: 0 for start, end and padding, else the same number for all
        tokens of one weighted piece. options: `disable_weights`, or `tokenizer_options`, a dict of what
        `set_tokenizer_option` takes. Raises UnfitInput for too long a prompt, for what is no text, and for options
        that this encoder does not have.
        """
        check(text)
        told = {**self.tokenizer_options, **options.pop("tokenizer_options", {}), **options}
        self._check_options(told)
        known: dict[str, Embedding | None] = {}

        def found(name: str) -> Embedding | None:
            if name not in known:
                known[name] = self.embedding(name)
            return known[name]

        weightless = bool(told.get(DISABLE_WEIGHTS))
        cut = {
            part.name: self._cutter(part, encoder, told).cut(text, found, disable_weights=weightless)
            for part, encoder in self._loaded()
        }
        if return_word_ids:
            return dict(cut)
        return {name: [[place[:2] for place in section] for section in sections] for name, sections in cut.items()}

    @overload
    def encode_from_tokens(
        self, tokens: Tokens, return_pooled: Literal[False] = False, return_dict: Literal[False] = False
    ) -> Tensor: ...
    @overload
    def encode_from_tokens(
        self, tokens: Tokens, return_pooled: bool | str, return_dict: Literal[False] = False
    ) -> Tensor | tuple[Tensor, Tensor | None]: ...
    @overload
    def encode_from_tokens(
        self, tokens: Tokens, return_pooled: bool | str = False, *, return_dict: Literal[True]
    ) -> dict[str, Any]: ...
    def encode_from_tokens(
        self, tokens: Tokens, return_pooled: bool | str = False, return_dict: bool = False
    ) -> Tensor | tuple[Tensor, Tensor | None] | dict[str, Any]:
        """The context (1, tokens, width), float32 on the CPU, of what `tokenize` gave.

        return_pooled: with the pooled vector (1, P) or None behind it; "unprojected" for the one before the projection.
        return_dict: as {"cond": context, "pooled_output": pooled} instead.
        """
        context, pooled = self._encode(tokens, projected=return_pooled != "unprojected")
        if return_dict:
            return {"cond": context, "pooled_output": pooled}
        return (context, pooled) if return_pooled else context

    def encode_from_tokens_scheduled(
        self,
        tokens: Tokens,
        unprojected: bool = False,
        add_dict: Mapping[str, Any] | None = None,
    ) -> Conditioning:
        """A conditioning of these tokens, with the pooled vector and `add_dict` among its extras."""
        context, pooled = self._encode(tokens, projected=not unprojected)
        return cast(Conditioning, [[context, {"pooled_output": pooled, **(add_dict or {})}]])

    def read(self, text: str) -> tuple[Tensor, Tensor | None]:
        """The encoded prompt (1, tokens, width), and its pooled vector (1, P) or None; float32 on the CPU."""
        return self._encode(self.tokenize(text), projected=True)

    def encode(self, text: str) -> Tensor:
        """The encoded prompt (1, tokens, width) alone, as node packs know it."""
        return self.read(text)[0]

    def _encode(self, tokens: Tokens, *, projected: bool) -> tuple[Tensor, Tensor | None]:
        """Joined encodings, from memory where these very tokens were read before with the same weights."""
        wanted = [
            _Reading(part, encoder, _plain(part, tokens), self._choice(part, projected))
            for part, encoder in self._loaded()
            if tokens.get(part.name) or not self.family.partial
        ]
        kept = self.cond_stage_model.encodings
        version = self.patches_uuid if self.patches else None
        keys = [(each.part.name, each.choice, version, identity(each.sections)) for each in wanted]
        found = [kept.get(key) for key in keys]
        if any(value is None for value in found):
            with residency.use(self):
                for number, each in enumerate(wanted):
                    if found[number] is None:
                        made = residency.within_memory(
                            each.read, partial(each.read, at_once=1), what="encoding a prompt"
                        )
                        kept.put(keys[number], made)
                        found[number] = made
        encoded = {
            each.part.name: Encoded(states=value[0], pooled=value[1])
            for each, value in zip(wanted, found, strict=True)
            if value is not None
        }
        return self.family.join(encoded, {part.name: encoder.width for part, encoder in self._loaded()})

    def _loaded(self) -> list[tuple[Part, TextEncoder]]:
        pairs = [(part, self.cond_stage_model.encoder(part.encoder)) for part in self.family.parts]
        return [(part, encoder) for part, encoder in pairs if encoder is not None]

    def _choice(self, part: Part, projected: bool) -> Choice:
        choice = part.choice if self.layer_idx is None else replace(part.choice, layer=self.layer_idx)
        return choice if projected else replace(choice, projected=False)

    def _cutter(self, part: Part, encoder: TextEncoder, told: Mapping[str, Any]) -> Cutter:
        cutter = part.cutter(encoder)
        least = told.get(f"{encoder.name}_{MIN_LENGTH}", cutter.least)
        return replace(cutter, least=least, padding=told.get(f"{encoder.name}_{MIN_PADDING}", cutter.padding))

    def _check_options(self, told: Mapping[str, Any]) -> None:
        whole = [encoder.name for _, encoder in self._loaded() if encoder.length is None]
        known = {DISABLE_WEIGHTS} | {f"{name}_{option}" for name in whole for option in (MIN_LENGTH, MIN_PADDING)}
        strange = sorted(set(told) - known)
        if strange:
            raise UnfitInput(f"the text encoder of {self.family.title} has no option {', '.join(strange)}")


class _Reading:
    """One encoder's part of a prompt, to be read."""

    def __init__(self, part: Part, encoder: TextEncoder, sections: list[Section], choice: Choice) -> None:
        self.part = part
        self.encoder = encoder
        self.sections = sections
        self.choice = choice

    def read(self, at_once: int = SECTIONS_AT_ONCE) -> tuple[Tensor, Tensor | None]:
        """States (1, all places, width), weighted, and the first section's pooled vector, which has no weights.

        A place of weight w becomes empty + w * (plain - empty), with the empty prompt's encoding at that place.
        """
        cutter = self.part.cutter(self.encoder)
        places = max((len(section) for section in self.sections), default=cutter.length or cutter.least)
        if cutter.length is not None and places > cutter.length:
            raise UnfitInput(f"a section has {places} tokens, this text encoder reads {cutter.length} at a time")
        even = [section + [(cutter.pad, 1.0)] * (places - len(section)) for section in self.sections]
        weights = torch.tensor([[weight for _, weight in section] for section in even])
        if even and bool((weights == 1).all()):
            states, pooled = self.encoder(even, self.choice, at_once=at_once)
        else:
            states, pooled = self.encoder([*even, cutter.empty(places)], self.choice, at_once=at_once)
            states = apply_weights(states[:-1], states[-1:], weights) if even else states
        return states.reshape(1, -1, states.shape[-1]), None if pooled is None else pooled[:1]


def apply_weights(states: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Encodings (N, L, W), each place drawn to or away from the empty prompt's (1, L, W) by its weight, (N, L)."""
    return torch.where(weights[..., None] == 1, states, empty + weights[..., None] * (states - empty))


def _plain(part: Part, tokens: Tokens) -> list[Section]:
    """The sections of one part without word numbers. Raises UnfitInput where the tokens are another family's."""
    if part.name not in tokens:
        raise UnfitInput(f"the tokens have no part {part.name!r}; they were made for another kind of text encoder")
    return [[(place[0], float(place[1])) for place in section] for section in tokens[part.name]]
