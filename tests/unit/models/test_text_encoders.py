"""Text encoders from files against transformers' own forward, and how families join them."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from limner.errors import ModelFileError, OutOfMemory, UnfitInput
from limner.models.clip import Clip
from limner.models.device import Devices
from limner.models.text import kinds
from limner.models.text.clip_text import ClipEncoder, clip_config
from limner.models.text.encoder import Choice
from limner.models.text.load import of_checkpoint, of_files
from limner.models.text.tokenizer import END, START, tokenizer
from limner.models.weights import open_weights
from tests.support.tiny import text_encoders as tiny

CPU = Devices(device=torch.device("cpu"), half=None)
PROMPT = "a photo of a cat"


def load(type_: str, *paths: Path, tokenizers: tuple[Path, ...] = ()) -> Clip:
    return of_files([open_weights(path) for path in paths], type_, CPU, lambda _: None, tokenizers)


def ids(text: str, padding: int = END) -> Tensor:
    tokens = [START, *tokenizer()(text), END]
    return torch.tensor([tokens + [padding] * (77 - len(tokens))])


def seen(made: torch.nn.Module, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """The last state, the states of all layers, and the projected vector at the first end token."""
    with torch.no_grad():
        inner = made.text_model(tokens, output_hidden_states=True)
        vector = made(tokens).text_embeds
    return inner.last_hidden_state, inner.hidden_states, vector


def close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, atol=1e-5, rtol=1e-5)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text encoder and no tokenizer may ask the network for anything."""

    def refuse(*_: object) -> None:
        raise AssertionError("something asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
def test_sd1_takes_the_last_state_and_the_projected_vector(layout: str, tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "l.safetensors", "clip_l", layout=layout)
    context, pooled = load("stable_diffusion", tmp_path / "l.safetensors").read(PROMPT)
    last, _, vector = seen(made, ids(PROMPT))
    assert close(context, last)
    assert pooled is not None
    assert close(pooled, vector)


@pytest.mark.parametrize("layout", ["transformers", "open_clip"])
def test_sd2_takes_the_layer_before_the_last_through_the_norm_and_pads_with_0(layout: str, tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "h.safetensors", "clip_h", layout=layout, width=128)
    context, _ = load("stable_diffusion", tmp_path / "h.safetensors").read(PROMPT)
    _, layers, _ = seen(made, ids(PROMPT, 0))
    assert close(context, made.text_model.final_layer_norm(layers[-2]))


def test_sdxl_joins_both_encoders_and_takes_the_vector_of_g(tmp_path: Path) -> None:
    l_made = tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    g_made = tiny.save_clip(tmp_path / "g.safetensors", "clip_g", layout="open_clip", width=128)
    for order in (("l", "g"), ("g", "l")):
        context, pooled = load("sdxl", *(tmp_path / f"{name}.safetensors" for name in order)).read(PROMPT)
        _, l_layers, _ = seen(l_made, ids(PROMPT))
        _, g_layers, vector = seen(g_made, ids(PROMPT, 0))
        assert close(context, torch.cat([l_layers[-2], g_layers[-2]], dim=-1))
        assert pooled is not None
        assert close(pooled, vector)


def test_the_refiner_has_g_alone(tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "g.safetensors", "clip_g", layout="open_clip")
    context, pooled = load("stable_diffusion", tmp_path / "g.safetensors").read(PROMPT)
    _, layers, vector = seen(made, ids(PROMPT, 0))
    assert close(context, layers[-2])
    assert pooled is not None
    assert close(pooled, vector)


def test_the_vector_before_the_projection_can_be_had(tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "g.safetensors", "clip_g")
    clip = load("stable_diffusion", tmp_path / "g.safetensors")
    _, pooled = clip.encode_from_tokens(clip.tokenize(PROMPT), return_pooled="unprojected")
    last, _, _ = seen(made, ids(PROMPT, 0))
    assert close(pooled, last[:, 6])


@pytest.mark.parametrize("inside", [True, False])
def test_t5_reads_its_own_tokens(inside: bool, tmp_path: Path) -> None:
    made = tiny.save_t5(tmp_path / "t5.safetensors", inside=inside)
    context, pooled = load("sd3", tmp_path / "t5.safetensors").read(PROMPT)
    told = json.loads((tiny.SPIECE.parent / "spiece.json").read_text())[PROMPT]
    tokens = torch.tensor([[*told, 1] + [0] * (77 - len(told) - 1)])
    with torch.no_grad():
        assert close(context, made(tokens).last_hidden_state)
    assert pooled is not None
    assert torch.equal(pooled, torch.zeros(1, 768 + 1280))


def test_sd3_puts_t5_behind_both_others(tmp_path: Path) -> None:
    l_made = tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    g_made = tiny.save_clip(tmp_path / "g.safetensors", "clip_g")
    tiny.save_t5(tmp_path / "t5.safetensors", width=256)
    paths = [tmp_path / f"{name}.safetensors" for name in ("t5", "l", "g")]
    context, pooled = load("sd3", *paths).read(PROMPT)
    t5_alone, _ = load("sd3", paths[0]).read(PROMPT)
    l_last, l_layers, _ = seen(l_made, ids(PROMPT))
    _, g_layers, g_vector = seen(g_made, ids(PROMPT, 0))
    both = torch.cat([l_layers[-2], g_layers[-2]], dim=-1)
    assert close(context, torch.cat([pad(both, (0, 256 - 128)), t5_alone], dim=1))
    assert pooled is not None
    assert close(pooled, torch.cat([l_last[:, 6], g_vector], dim=1))  # L's vector is not projected


@pytest.mark.parametrize(("name", "before"), [("clip_l", 0), ("clip_g", 768)])
def test_sd3_with_one_encoder_leaves_the_place_of_the_other_empty(name: str, before: int, tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "one.safetensors", name)
    context, pooled = load("sd3", tmp_path / "one.safetensors").read(PROMPT)
    _, layers, _ = seen(made, ids(PROMPT, 0 if name == "clip_g" else END))
    assert close(context, pad(layers[-2], (before, 4096 - before - 64)))
    assert pooled is not None
    assert pooled.shape == (1, 64 + (768 if name == "clip_g" else 1280))


def test_flux_takes_t5s_states_and_the_vector_of_l(tmp_path: Path) -> None:
    made = tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    t5 = tiny.save_t5(tmp_path / "t5.safetensors")
    clip = load("flux", tmp_path / "l.safetensors", tmp_path / "t5.safetensors")
    context, pooled = clip.read(PROMPT)
    tokens = torch.tensor([[token for token, _ in clip.tokenize(PROMPT)["t5xxl"][0]]])
    assert tokens.shape == (1, 256)
    with torch.no_grad():
        assert close(context, t5(tokens).last_hidden_state)
    assert pooled is not None
    assert close(pooled, seen(made, ids(PROMPT))[0][:, 6])


def test_z_image_asks_qwen_and_takes_the_layer_before_the_last(tmp_path: Path) -> None:
    made = tiny.save_qwen(tmp_path / "qwen.safetensors")
    clip = load("lumina2", tmp_path / "qwen.safetensors")
    context, pooled = clip.read("a (cat:1.5)")
    tokens = torch.tensor([[1, 3, 5, 7, 6, 9, 10, 11, 12, 8, 2, 1, 4]])  # brackets are text here
    assert [token for token, _ in clip.tokenize("a (cat:1.5)")["qwen3_4b"][0]] == tokens[0].tolist()
    with torch.no_grad():
        assert close(context, made(tokens, output_hidden_states=True).hidden_states[-2])
    assert pooled is None


@pytest.mark.parametrize("layer", [-1, -2, -3, -4, -24])
def test_another_last_layer_holds_for_every_encoder_and_only_for_the_clone(layer: int, tmp_path: Path) -> None:
    l_made = tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    g_made = tiny.save_clip(tmp_path / "g.safetensors", "clip_g")
    clip = load("sdxl", tmp_path / "l.safetensors", tmp_path / "g.safetensors")
    before, _ = clip.read(PROMPT)
    other = clip.clone()
    other.clip_layer(layer)
    context, _ = other.read(PROMPT)
    (l_last, l_layers, _), (g_last, g_layers, _) = seen(l_made, ids(PROMPT)), seen(g_made, ids(PROMPT, 0))
    inside = layer >= -tiny.LAYERS  # a layer before the first is the last, through its norm
    left, right = (l_layers[layer], g_layers[layer]) if inside else (l_last, g_last)
    assert close(context, torch.cat([left, right], dim=-1))
    assert torch.equal(clip.read(PROMPT)[0], before)


@pytest.mark.parametrize("layer", [-1, -2, -24])
def test_another_last_layer_holds_for_t5_too(layer: int, tmp_path: Path) -> None:
    made = tiny.save_t5(tmp_path / "t5.safetensors")
    clip = load("sd3", tmp_path / "t5.safetensors")
    clip.clip_layer(layer)
    tokens = torch.tensor([[token for token, _ in clip.tokenize(PROMPT)["t5xxl"][0]]])
    with torch.no_grad():
        told = made(tokens, output_hidden_states=True)
        want = made.encoder.final_layer_norm(told.hidden_states[-2]) if layer == -2 else told.last_hidden_state
    assert close(clip.read(PROMPT)[0], want)


def checkpoint(kind: str, path: Path) -> None:
    makers: dict[str, Callable[[], dict[str, Tensor]]] = {
        "sd15": lambda: {
            f"cond_stage_model.transformer.text_model.{key}": weight
            for key, weight in tiny.plain(tiny.clip("clip_l")).state_dict().items()
        },
        "sd2": lambda: {
            **tiny.clip_weights(tiny.clip("clip_h"), "open_clip", "cond_stage_model.model."),
            "cond_stage_model.model.logit_scale": torch.ones(()),
        },
        "sdxl": lambda: {
            **tiny.clip_weights(tiny.clip("clip_l"), "transformers", "conditioner.embedders.0.transformer."),
            **tiny.clip_weights(tiny.clip("clip_g"), "open_clip", "conditioner.embedders.1.model."),
        },
        "refiner": lambda: tiny.clip_weights(tiny.clip("clip_g"), "open_clip", "conditioner.embedders.0.model."),
    }
    tiny.save(path, makers[kind]())


@pytest.mark.parametrize(("kind", "width"), [("sd15", 64), ("sd2", 64), ("sdxl", 128), ("refiner", 64)])
def test_checkpoints_bring_their_encoders_along(kind: str, width: int, tmp_path: Path) -> None:
    checkpoint(kind, tmp_path / "a.safetensors")
    clip = of_checkpoint(kind, open_weights(tmp_path / "a.safetensors"), CPU, lambda _: None)
    context, pooled = clip.read(PROMPT)
    assert context.shape == (1, 77, width)
    assert pooled is not None
    assert pooled.shape == (1, 64)


def test_a_checkpoint_without_its_encoder_says_so(tmp_path: Path) -> None:
    checkpoint("sd15", tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"no text encoder \(conditioner.embedders.0.transformer"):
        of_checkpoint("sdxl", open_weights(tmp_path / "a.safetensors"), CPU, lambda _: None)


@pytest.mark.parametrize("kind", ["sd15", "sdxl", "flux"])
def test_original_keys_lead_to_the_weights(kind: str, tmp_path: Path) -> None:
    if kind == "flux":
        tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
        tiny.save_t5(tmp_path / "t5.safetensors")
        clip = load("flux", tmp_path / "l.safetensors", tmp_path / "t5.safetensors")
    else:
        checkpoint(kind, tmp_path / "a.safetensors")
        clip = of_checkpoint(kind, open_weights(tmp_path / "a.safetensors"), CPU, lambda _: None)
    made = tiny.clip("clip_l").state_dict()["text_model.encoder.layers.1.self_attn.v_proj.weight"]
    assert torch.equal(clip.weight("clip_l.transformer.text_model.encoder.layers.1.self_attn.v_proj.weight"), made)
    last = {
        "sd15": "clip_l.transformer.text_model.final_layer_norm.weight",
        "sdxl": "clip_g.transformer.text_projection.weight",
        "flux": "t5xxl.transformer.encoder.block.1.layer.1.DenseReluDense.wo.weight",
    }
    assert last[kind] in clip.keys
    own = {place.parameter for places in clip.keys.places.values() for place in places}
    tied = {"t5xxl.transformer.encoder.embed_tokens.weight"}
    assert own == set(clip.cond_stage_model.state_dict()) - tied


def test_fp16_files_are_read_with_full_precision_of_the_arithmetic(tmp_path: Path) -> None:
    made = tiny.clip("clip_l").half()
    tiny.save(tmp_path / "l.safetensors", tiny.clip_weights(made, "transformers"), {"text": {"kind": "clip_l"}})
    context, _ = load("stable_diffusion", tmp_path / "l.safetensors").read(PROMPT)
    assert close(context, seen(made.float(), ids(PROMPT))[0])


def test_t5_in_fp8_with_scales_is_read(tmp_path: Path) -> None:
    made = tiny.t5()
    weights: dict[str, Tensor] = {}
    for key, weight in made.state_dict().items():
        if key.endswith("SelfAttention.q.weight"):
            scale = weight.abs().max() / 448
            eight = (weight / scale).to(torch.float8_e4m3fn)
            weights |= {key: eight, key.replace(".weight", ".scale_weight"): scale.reshape(())}
            weight.copy_((eight.float() * scale).bfloat16().float())
        elif key != "encoder.embed_tokens.weight":
            weights[key] = weight
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    weights["spiece_model"] = torch.frombuffer(bytearray(tiny.SPIECE.read_bytes()), dtype=torch.uint8)
    tiny.save(tmp_path / "t5.safetensors", weights)
    clip = load("sd3", tmp_path / "t5.safetensors")
    tokens = torch.tensor([[token for token, _ in clip.tokenize(PROMPT)["t5xxl"][0]]])
    with torch.no_grad():
        assert close(clip.read(PROMPT)[0], made(tokens).last_hidden_state)


def test_a_prompt_that_is_too_long_for_this_machine_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny.save_t5(tmp_path / "t5.safetensors")
    clip = load("sd3", tmp_path / "t5.safetensors")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    assert clip.read(PROMPT)[0].shape == (1, 77, 64)
    with pytest.raises(OutOfMemory, match=r"a prompt of 20002 tokens needs 8\.9 GiB in the text encoder t5xxl"):
        clip.read("a" * 20000)


def test_where_memory_runs_out_sections_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    clip = load("stable_diffusion", tmp_path / "l.safetensors")
    encoder = clip.cond_stage_model.encoder("clip_l")
    assert isinstance(encoder, ClipEncoder)
    read, sizes = encoder.read, []

    def scant(ids: Tensor, choice: Choice) -> tuple[Tensor, Tensor | None]:
        sizes.append(len(ids))
        if len(ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(ids, choice)

    want, _ = clip.read("word " * 100)
    clip.cond_stage_model.encodings.clear()
    monkeypatch.setattr(encoder, "read", scant)
    assert close(clip.read("word " * 100)[0], want)
    assert sizes == [2, 1, 1]


@pytest.mark.parametrize(
    ("type_", "names", "says"),
    [
        ("stable_diffusion", ["t5"], "t5.safetensors is a T5 encoder, and the type 'stable_diffusion' takes CLIP-L"),
        ("sdxl", ["l", "t5"], "l.safetensors is CLIP-L and t5.safetensors is a T5 encoder, and the type 'sdxl' takes"),
        ("flux", ["l", "l"], "is CLIP-L and l.safetensors is CLIP-L"),
        ("lumina2", ["l"], "takes Qwen3"),
    ],
)
def test_files_that_do_not_go_with_the_type_are_refused_by_what_they_are(
    type_: str, names: list[str], says: str, tmp_path: Path
) -> None:
    tiny.save_clip(tmp_path / "l.safetensors", "clip_l")
    tiny.save_t5(tmp_path / "t5.safetensors")
    with pytest.raises(ModelFileError, match=says):
        load(type_, *(tmp_path / f"{name}.safetensors" for name in names))


def test_a_type_without_a_family_is_refused_by_name(tmp_path: Path) -> None:
    tiny.save_t5(tmp_path / "t5.safetensors")
    with pytest.raises(UnfitInput, match="type 'wan' cannot be run by this version"):
        load("wan", tmp_path / "t5.safetensors")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", "looks like UMT5"),
        ("model.layers.0.post_feedforward_layernorm.weight", "looks like Gemma"),
        ("model.layers.0.self_attn.q_proj.bias", "looks like Qwen2"),
        ("vision_model.encoder.layers.0.x", "looks like a CLIP vision model"),
        ("model.diffusion_model.x", "looks like a checkpoint"),
        ("something.else", "is no text encoder"),
    ],
)
def test_other_files_are_refused_by_what_they_look_like(key: str, says: str, tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "a.safetensors", {key: torch.zeros(2, 2)})
    with pytest.raises(ModelFileError, match=says):
        load("sd3", path)


def test_a_missing_tokenizer_is_named_with_the_place_to_put_it(tmp_path: Path) -> None:
    tiny.save_t5(tmp_path / "t5.safetensors", inside=False)
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(ModelFileError, match=f"put tokenizer.json .* into {tmp_path}/tokenizers/t5xxl"):
        load("sd3", tmp_path / "t5.safetensors", tokenizers=(tmp_path / "tokenizers",))


@pytest.mark.parametrize("name", ["tokenizers/t5xxl/spiece.model", "tokenizers/t5xxl.spiece.model", "t5.spiece.model"])
def test_a_tokenizer_may_lie_in_several_places(name: str, tmp_path: Path) -> None:
    tiny.save_t5(tmp_path / "t5.safetensors", inside=False)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "spiece.model").rename(tmp_path / name)
    clip = load("sd3", tmp_path / "t5.safetensors", tokenizers=(tmp_path / "tokenizers",))
    assert clip.tokenize(PROMPT)["t5xxl"][0][0][0] > 2


def test_a_damaged_tokenizer_and_that_of_another_encoder_are_refused(tmp_path: Path) -> None:
    tiny.save_t5(tmp_path / "t5.safetensors", inside=False)
    whole = (tmp_path / "spiece.model").read_bytes()
    (tmp_path / "spiece.model").write_bytes(whole[:1000])
    with pytest.raises(ModelFileError, match="is no tokenizer"):
        load("sd3", tmp_path / "t5.safetensors").read(PROMPT)
    (tmp_path / "spiece.model").write_bytes(whole)
    (tmp_path / "t5.tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match="is no tokenizer"):
        load("sd3", tmp_path / "t5.safetensors").read(PROMPT)
    (tmp_path / "t5.tokenizer.json").unlink()
    weights = {key: weight for key, weight in tiny.t5(vocabulary=100).state_dict().items() if key != "shared.weight"}
    tiny.save(tmp_path / "t5.safetensors", weights)
    with pytest.raises(ModelFileError, match="tokens up to 299, the text encoder has 100 rows"):
        load("sd3", tmp_path / "t5.safetensors").read(PROMPT)


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    weights = tiny.clip_weights(tiny.clip("clip_g"), "open_clip")
    del weights["transformer.resblocks.1.ln_2.weight"]
    path = tiny.save(tmp_path / "g.safetensors", weights, {"text": {"kind": "clip_g"}})
    with pytest.raises(ModelFileError, match=r"encoder\.layers\.1\.layer_norm2\.weight"):
        load("stable_diffusion", path)


@pytest.mark.parametrize(
    ("name", "width", "layers", "heads"), [("clip_l", 768, 12, 12), ("clip_h", 1024, 24, 16), ("clip_g", 1280, 32, 20)]
)
def test_the_sizes_of_the_real_ones_show_in_their_weights(
    name: str, width: int, layers: int, heads: int, tmp_path: Path
) -> None:
    header = open_weights(tiny.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)})).header
    with torch.device("meta"):
        made = tiny.clip(name, width=width, layers=layers).text_model
    made_config = made.config.to_dict()
    told = clip_config(header, dict(made.state_dict()), name)
    assert (told["hidden_size"], told["num_hidden_layers"], told["num_attention_heads"]) == (width, layers, heads)
    same = ("vocab_size", "intermediate_size", "max_position_embeddings", "hidden_act", "eos_token_id")
    assert {key: told[key] for key in same} == {key: made_config[key] for key in same}


def test_the_metadata_may_tell_the_number_of_heads_for_each_encoder(tmp_path: Path) -> None:
    weights = dict(tiny.plain(tiny.clip("clip_g", width=128)).state_dict())
    for told, heads in [({"text": {"num_heads": 4}}, 4), ({"text": {"num_heads": 4}, "clip_g": {"num_heads": 8}}, 8)]:
        header = open_weights(tiny.save(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, told)).header
        assert clip_config(header, weights, "clip_g")["num_attention_heads"] == heads


def test_the_kind_of_a_clip_shows_in_its_width_and_depth(tmp_path: Path) -> None:
    for width, layers, kind in [(768, 1, "clip_l"), (1024, 1, "clip_h"), (1280, 1, "clip_g"), (64, 32, "clip_g")]:
        weights = {"text_model.embeddings.token_embedding.weight": torch.zeros(4, width)}
        for layer in range(layers):
            weights[f"text_model.encoder.layers.{layer}.layer_norm1.weight"] = torch.zeros(1)
        assert kinds.kind_of(open_weights(tiny.save(tmp_path / "a.safetensors", weights)).header) == kind
