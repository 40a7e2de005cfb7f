from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.diffusion.denoiser import Epsilon, Velocity
from limner.errors import ModelFileError
from limner.models.checkpoint import read_header
from limner.models.device import Devices
from limner.models.families.sd15 import Sd15
from limner.models.family import detect
from limner.models.files import ModelFolders
from limner.models.library import ModelLibrary
from limner.models.prediction import prediction
from limner.models.residency import use
from limner.models.unet_layout import unet_config
from limner.models.vae_layout import vae_config
from limner.models.weights import Weights, open_weights
from tests.support.tiny import layout
from tests.support.tiny.layout import SD15, Size

CPU = Devices(device=torch.device("cpu"), half=None)

SIZES = {
    "like SD1.5": Size(),
    "attention everywhere": Size(widths=(64, 64), attention=(True, True), layers=1),
    "three levels": Size(widths=(32, 64, 96), attention=(True, True, False), layers=1),
    "linear projections": Size(linear=True, heads=4),
    "no attention in the VAE": Size(vae_attention=False, vae_widths=(32, 64), layers=1),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_checkpoint_of_any_size_gives_the_networks_that_were_saved(size: Size, tmp_path: Path) -> None:
    made = layout.networks(size)
    layout.save(
        tmp_path / "checkpoints/a.safetensors", layout.keys(size, made), config={"unet": {"num_heads": size.heads}}
    )
    model, clip, vae = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")

    x, context, sigma = (
        torch.randn(2, 4, 16, 16),
        torch.randn(2, 77, size.text_width),
        model.model_sampling.levels.table[400],
    )
    with torch.inference_mode(), use(model):
        noise = made.unet(x / (1 + sigma**2).sqrt(), torch.tensor([400, 400]), context).sample
        assert torch.allclose(
            model.model.apply_model(x, sigma.reshape(1), c_crossattn=context), x - sigma * noise, atol=1e-5
        )
        assert torch.allclose(
            vae.decode(x), (made.vae.decode(x).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1), atol=1e-5
        )
        tokens = torch.tensor([[49406, 320, 2368] + [49407] * 74])
        assert torch.allclose(clip.read("a cat")[0], made.text(tokens).last_hidden_state, atol=1e-5)


def test_the_real_size_is_read_from_shapes_alone(tmp_path: Path) -> None:
    """The whole SD1.5, as keys and shapes: an fp16 file would have 2 GB."""
    made = layout.networks(SD15, empty=True)
    shapes = {key: tuple(weight.shape) for key, weight in layout.keys(SD15, made).items()}
    header = read_header(layout.save(tmp_path / "a.safetensors", {"x": torch.zeros(1)}))
    header = replace(header, shapes=shapes, dtypes=dict.fromkeys(shapes, "F16"), places={})

    found = detect(Weights(header=header, names={key: key for key in shapes}, fetch={}.__getitem__))
    assert isinstance(found.family, Sd15)
    assert unet_config(found.denoiser.header) == {
        "sample_size": None,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "transformer_layers_per_block": (1, 1, 1, 1),
        "cross_attention_dim": 768,
        "use_linear_projection": False,
        "attention_head_dim": 8,
        "norm_num_groups": 32,
    }
    vae = vae_config(header.under("first_stage_model."))
    assert (vae["block_out_channels"], vae["layers_per_block"]) == ((128, 256, 512, 512), 2)


@pytest.mark.parametrize(
    ("metadata", "extra", "kind"),
    [
        ({}, {}, Epsilon),
        ({"modelspec.prediction_type": "epsilon"}, {}, Epsilon),
        ({"modelspec.prediction_type": "v"}, {}, Velocity),
        ({}, {"v_pred": torch.zeros(0)}, Velocity),
    ],
)
def test_the_prediction_is_v_only_where_the_file_says_so(
    metadata: dict, extra: dict, kind: type, tmp_path: Path
) -> None:
    file = open_weights(layout.save(tmp_path / "a.safetensors", {"x": torch.zeros(1), **extra}, **metadata))
    assert type(prediction(file)) is kind


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    size = SIZES["no attention in the VAE"]
    return layout.keys(size, layout.networks(size))


def load(path: Path) -> None:
    ModelLibrary(ModelFolders([path.parents[1]]), CPU).checkpoint(path.name)


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ("model.diffusion_model.", "looks like a VAE without a model"),
        ("model.diffusion_model.out.2.bias", "UNet is not complete or not of this family: it lacks out.2.bias"),
        ("first_stage_model.decoder.norm_out.", "VAE is not complete"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.", "text encoder is not complete"),
        ("model.diffusion_model.middle_block.", "a checkpoint of another family"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_says_which(
    weights: dict[str, torch.Tensor], lost: str, what: str, tmp_path: Path
) -> None:
    kept = {key: each for key, each in weights.items() if not key.startswith(lost)}
    path = layout.save(tmp_path / "checkpoints/a.safetensors", kept)
    with pytest.raises(ModelFileError, match=rf"(?s)a\.safetensors cannot be used: .*{what}"):
        load(path)


@pytest.mark.parametrize(
    ("lost", "use", "what"),
    [
        ("first_stage_model.", lambda clip, vae: vae.decode(torch.zeros(1, 4, 8, 8)), "holds no VAE .*VAELoader"),
        ("cond_stage_model.", lambda clip, vae: clip.read("a cat"), "has no text encoder .*CLIPLoader"),
    ],
)
def test_a_part_that_is_not_there_at_all_is_told_once_it_is_used(
    weights: dict[str, torch.Tensor], lost: str, use: Callable[..., object], what: str, tmp_path: Path
) -> None:
    kept = {key: each for key, each in weights.items() if not key.startswith(lost)}
    layout.save(tmp_path / "checkpoints/a.safetensors", kept)
    _, clip, vae = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")
    with pytest.raises(ModelFileError, match=what):
        use(clip, vae)


@pytest.mark.parametrize(
    ("key", "weight", "what"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", torch.zeros(64, 7, 3, 3), "takes 7 channels"),
        ("model.diffusion_model.out.2.weight", torch.zeros(4, 64, 3, 3, dtype=torch.int8), "quantised"),
        (
            "model.diffusion_model.time_embed.0.weight",
            torch.zeros(7, 7),
            r"time_embed.0.weight has the shape \(7, 7\), \(\d+, \d+\) is right",
        ),
        ("model.diffusion_model.label_emb.0.0.weight", torch.zeros(7, 7), "another family"),
    ],
)
def test_a_checkpoint_that_departs_from_the_family_says_how(
    weights: dict[str, torch.Tensor], key: str, weight: torch.Tensor, what: str, tmp_path: Path
) -> None:
    path = layout.save(tmp_path / "checkpoints/a.safetensors", {**weights, key: weight})
    with pytest.raises(ModelFileError, match=what):
        load(path)


@pytest.mark.parametrize(
    ("config", "what"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"unet": {"num_heads": "8"}}', "no number above 0")],
)
def test_damaged_metadata_is_told(weights: dict[str, torch.Tensor], config: str, what: str, tmp_path: Path) -> None:
    path = layout.save(tmp_path / "checkpoints/a.safetensors", weights, **{"limner.config": config})
    with pytest.raises(ModelFileError, match=what):
        load(path)


def test_the_native_size_comes_from_the_metadata(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    layout.save(tmp_path / "checkpoints/a.safetensors", weights, config={"native_size": 64})
    model, _, _ = ModelLibrary(ModelFolders([tmp_path]), CPU).checkpoint("a.safetensors")
    assert model.model.native_size == 64


def test_a_file_may_tell_what_colours_its_latents_mean(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    rows = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0.5, -1, 0]]
    layout.save(tmp_path / "checkpoints/a.safetensors", weights, config={"latent_rgb": rows})
    layout.save(tmp_path / "checkpoints/b.safetensors", weights, config={"latent_rgb": rows[1:]})
    library = ModelLibrary(ModelFolders([tmp_path]), CPU)
    latents = library.checkpoint("a.safetensors")[0].latent_format
    assert latents.colours(torch.zeros(1, 4, 1, 1)).flatten().tolist() == [191, 0, 127]
    with pytest.raises(ModelFileError, match="latent_rgb with 3 channels"):
        library.checkpoint("b.safetensors")


def test_old_files_name_the_text_encoder_without_its_last_prefix(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    renamed = {key.replace(".text_model.", "."): each for key, each in weights.items()}
    renamed |= {"cond_stage_model.transformer.embeddings.position_ids": torch.arange(77)[None]}
    load(layout.save(tmp_path / "checkpoints/a.safetensors", renamed))
