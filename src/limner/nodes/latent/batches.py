"""Nodes that put latents into batches and take them out."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Choices, Int, Socket
from limner.nodes.fitting import counted, repeated, samples_of
from limner.nodes.latent.arithmetic import as_large
from limner.nodes.latent.placing import MODULE
from limner.nodes.latent.rebatching import Item, items_of, joined, places_of
from limner.nodes.memory import check_room
from limner.nodes.sockets import Latent


@node("LatentFromBatch", display_name="Latent From Batch", category="latent/batch")
def from_batch(
    *,
    samples: Latent,
    batch_index: Annotated[int, Int(0, 63)] = 0,
    length: Annotated[int, Int(1, 64)] = 1,
) -> Latent:
    """Takes some latents of a batch, counted from 0; each keeps its own noise. Beyond the end the last one is taken."""
    counted(batch_index=batch_index, length=length)
    tensor = samples_of(samples)
    start = min(batch_index, len(tensor) - 1)
    part = slice(start, start + length)
    taken: Latent = {**samples, "samples": tensor[part].clone(), "batch_index": places_of(samples)[part]}
    if "noise_mask" in samples and len(samples["noise_mask"]) > 1:
        taken["noise_mask"] = repeated(samples["noise_mask"], len(tensor))[part].clone()
    return taken


@node("RepeatLatentBatch", display_name="Repeat Latent Batch", category="latent/batch")
def repeat_batch(*, samples: Latent, amount: Annotated[int, Int(1, 64)] = 1) -> Latent:
    """Repeats a batch of latents, the whole of it one time after the other. Each repetition has noise of its own."""
    tensor = samples_of(samples)
    check_room(amount, *tensor.shape)
    more: Latent = {**samples, "samples": tensor.repeat(amount, *[1] * (tensor.ndim - 1))}
    if "noise_mask" in samples and len(samples["noise_mask"]) > 1:
        mask = repeated(samples["noise_mask"], len(tensor))
        more["noise_mask"] = mask.repeat(amount, *[1] * (mask.ndim - 1))
    if samples.get("batch_index"):
        places = places_of(samples)
        step = max(places) - min(places) + 1
        more["batch_index"] = [place + step * number for number in range(amount) for place in places]
    return more


@node("LatentBatch", category="latent/batch", module=MODULE, schema_style=True)
def batch_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Joins latents into one batch. The second ones are brought to the size of the first, cut in the middle."""
    first = samples_of(samples1, "samples1")
    second = as_large(samples_of(samples2, "samples2"), first)
    return {**samples1, "samples": torch.cat([first, second]), "batch_index": places_of(samples1) + places_of(samples2)}


@node("LatentBatchSeedBehavior", category="latent/advanced", module=MODULE, schema_style=True)
def seed_behavior(
    *, samples: Latent, seed_behavior: Annotated[str, Choices("random", "fixed", options={})] = "fixed"
) -> Latent:
    """Says whether the latents of a batch start from noise of their own (random) or all from the same (fixed)."""
    tensor = samples_of(samples)
    if seed_behavior == "fixed":
        return {**samples, "batch_index": [places_of(samples)[0]] * len(tensor)}
    plain = samples.copy()
    plain.pop("batch_index", None)
    return plain


@node(
    "RebatchLatents",
    display_name="Rebatch Latents",
    category="latent/batch",
    module="comfy_extras.nodes_rebatch",
    schema_style=True,
    input_is_list=True,
    outputs=(OutputSpec(name="LATENT", type="LATENT", is_list=True),),
)
def rebatch_latents(
    *,
    latents: Annotated[list[Latent], Socket("LATENT")],
    batch_size: Annotated[list[int], Int(1, 4096, default=1)],
) -> list[Latent]:
    """Makes batches of another number of latents out of one or several; each keeps its own noise and mask.

    A batch ends early where latents of another size follow.
    """
    items: list[Item] = []
    for latent in latents:
        items += items_of(latent, first_place=len(items))
    return [joined(group) for group in _grouped(items, batch_size[0])]


def _grouped(items: list[Item], size: int) -> list[list[Item]]:
    groups: list[list[Item]] = []
    for item in items:
        if groups and len(groups[-1]) < size and groups[-1][0].samples.shape == item.samples.shape:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups
