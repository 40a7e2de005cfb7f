from pathlib import Path
from typing import Any

import torch

from limner.models.device import Devices
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.nodes import library
from tests.support.tiny.checkpoints import save_sd15
from tests.support.tiny.gligen import save_gligen
from tests.unit.nodes.contexts import Run, run_in

NODES = library.load()
CPU = Devices(device=torch.device("cpu"), half=None)


def call(name: str, run: Run, **inputs: Any) -> Any:
    values = NODES[name].call(inputs, run.ctx).values
    return values[0] if len(values) == 1 else values


def test_things_go_into_their_boxes(tmp_path: Path) -> None:
    save_sd15(tmp_path / "checkpoints/a.safetensors")
    save_gligen(tmp_path / "gligen/g.safetensors")
    models = ModelLibrary(ModelFolders([tmp_path]), CPU)
    run = run_in(tmp_path, services={ModelLibrary: models})
    model, clip, _ = models.checkpoint("a.safetensors")
    gligen = call("GLIGENLoader", run, gligen_name="g.safetensors")
    text, negative = (call("CLIPTextEncode", run, text=each, clip=clip) for each in ("a cat", ""))
    told = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    latent = {"samples": torch.zeros(1, 4, 8, 8)}

    def drawn(positive: Any) -> torch.Tensor:
        made = call("KSampler", run, model=model, positive=positive, negative=negative, latent_image=latent, **told)
        samples: torch.Tensor = made["samples"]
        return samples

    def placed(positive: Any, **box: int) -> Any:
        where = {"width": 16, "height": 32, "x": 0, "y": 8, **box}
        return call(
            "GLIGENTextBoxApply", run, conditioning_to=positive, clip=clip, gligen_textbox_model=gligen, text="a hat",
            **where,
        )  # fmt: skip

    one = placed(text)
    ((phrase, *box),) = one[0][1]["gligen"][2]
    assert box == [4, 2, 1, 0]
    assert phrase.shape == (1, 64)
    two = placed(one, x=32)
    assert len(two[0][1]["gligen"][2]) == 2
    assert len(one[0][1]["gligen"][2]) == 1
    pictures = [drawn(each) for each in (text, one, placed(text, x=32), two)]
    assert all(not torch.allclose(a, b) for n, a in enumerate(pictures) for b in pictures[:n])
    assert torch.equal(drawn(text), pictures[0])
