import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.engine.context import calling
from limner.errors import ModelFileError, UnfitInput
from limner.models import pickled
from limner.models.clip import Clip
from limner.models.files import ModelFolders
from limner.models.patches import Difference
from limner.models.text import families
from limner.models.text.cache import EncodingCache, identity
from limner.models.text.clip_text import ClipEncoder
from limner.models.text.embeddings import Embedding, read_embedding
from limner.models.text.sections import PROMPT_LIMIT
from limner.models.text.tokenizer import END, START, tokenizer
from limner.models.text.weights import weighted_pieces
from tests.unit.nodes.contexts import run_in

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
RECORDED = json.loads((FIXTURES / "prompts.json").read_text())
PROMPTS = RECORDED["prompts"]
WEIGHTS = json.loads((FIXTURES / "prompt_weights.json").read_text())
ROW = torch.ones(2, 4)


class Encoder(nn.Module):
    """The made-up encoder of prompt_weights.json: row i of token t is sin(t * 0.001 * (k + 1) + 0.1 * i), k in 0..3."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(49408, width)
        table = torch.arange(49408)[:, None] * 0.001 * torch.arange(1, width + 1)
        self.embeddings.token_embedding.weight.data = table.to(torch.float64)
        self.final_layer_norm = nn.Identity()

    def forward(self, ids: Tensor, output_hidden_states: bool = False) -> SimpleNamespace:
        rows = self.embeddings.token_embedding(ids)
        states = (rows + 0.1 * torch.arange(ids.shape[1])[:, None]).sin()
        return SimpleNamespace(last_hidden_state=states, hidden_states=(states,) * 3)


def find(name: str) -> Embedding | None:
    return Embedding(name=name, tables={"emb_params": ROW}) if name == "fakeemb" else None


def clip(length: int = 77, *, width: int = 4, family: families.TextFamily = families.SD15) -> Clip:
    names = {part.encoder: width for part in family.parts}
    encoders = [
        ClipEncoder(name=name, transformer=Encoder(width), width=width, length=length) for name, width in names.items()
    ]
    return Clip(family, encoders, device=torch.device("cpu"), dtype=torch.float64, embedding=find)


@pytest.mark.parametrize("recorded", PROMPTS, ids=lambda recorded: recorded["text"][:40])
def test_a_prompt_becomes_the_recorded_tokens_and_weights(recorded: dict) -> None:
    sections = clip().tokenize(recorded["text"])["l"]
    assert len(sections) == recorded["sections"]
    for section, want in zip(sections, recorded["sd1"], strict=True):
        got = [("row" if isinstance(token, Tensor) else token, pytest.approx(weight)) for token, weight in section]
        pairs = [(token if isinstance(token, int) else "row", weight) for token, weight in want["pairs"]]
        assert len(section) == want["length"]
        assert got == pairs + [(END, 1.0)] * (want["length"] - len(pairs))


@pytest.mark.parametrize("recorded", PROMPTS, ids=lambda recorded: recorded["text"][:40])
def test_the_second_encoder_of_sdxl_pads_with_0(recorded: dict) -> None:
    sections = clip(family=families.SDXL).tokenize(recorded["text"])["g"]
    assert len(sections) == recorded["sdxl_g_sections"]
    tail = recorded["sdxl_g_last_section_tail"]
    assert [list(place) for place in sections[-1][-len(tail) :]] == tail


def test_weights_may_be_disabled() -> None:
    told = RECORDED["disable_weights_example"]
    for options in ({"disable_weights": True}, {"tokenizer_options": {"disable_weights": True}}):
        tokens = clip().tokenize(told["text"], **options)
        assert [list(place) for place in tokens["l"][0][: len(told["sd1"][0])]] == told["sd1"][0]


def test_words_are_numbered_by_piece() -> None:
    told = RECORDED["word_ids_example"]
    tokens = clip().tokenize(told["text"], return_word_ids=True)
    assert [list(place) for place in tokens["l"][0][: len(told["triples"])]] == told["triples"]
    plain = clip().encode_from_tokens(clip().tokenize(told["text"]))
    assert torch.equal(clip().encode_from_tokens(tokens), plain)


@pytest.mark.parametrize("case", WEIGHTS["cases"], ids=range(len(WEIGHTS["cases"])))
def test_weights_draw_places_away_from_the_empty_prompt(case: dict) -> None:
    states = clip(length=4).encode_from_tokens({"l": case["sections"]})
    assert states.flatten().tolist() == pytest.approx(torch.tensor(case["output"]).flatten().tolist(), abs=1e-5)


def test_sections_are_joined_and_the_pooled_vector_is_the_first_ones_end() -> None:
    states, pooled = clip(length=10).read("a photo of a (cat:1.5) and a dog in the snow")
    plain, _ = clip(length=10).read("a photo of a cat and a dog in the snow")
    assert states.shape == (1, 20, 4)
    assert not torch.equal(states, plain)
    tokens = [token for token, _ in clip(length=10).tokenize("a photo of a (cat:1.5) and a dog in the snow")["l"][0]]
    last = Encoder()(torch.tensor([tokens])).last_hidden_state
    assert pooled is not None
    assert torch.equal(pooled[0], last[0, tokens.index(END)].float())


def test_learned_rows_stand_where_the_prompt_names_them() -> None:
    states, _ = clip().read("a embedding:fakeemb b")
    want = (1.0 + 0.1 * torch.tensor([2.0, 3.0])).sin()
    assert torch.allclose(states[0, 2:4], want[:, None].expand(2, 4))


def test_a_small_vocabulary_gives_its_own_rows_and_row_0_to_strangers() -> None:
    seen: list[Tensor] = []

    class Table(Encoder):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings.token_embedding = nn.Embedding(4, 4)

        def forward(self, ids: Tensor, output_hidden_states: bool = False) -> SimpleNamespace:
            seen.append(ids)
            return super().forward(ids, output_hidden_states)

    rows = {2368: 1, START: 2, END: 3}
    small = ClipEncoder(name="clip_l", transformer=Table(), width=4, length=6, rows=rows)
    Clip(families.SD15, [small], device=torch.device("cpu"), dtype=torch.float32).read("cat dog")
    assert seen[0].tolist() == [[2, 1, 0, 3, 3, 3]]


def test_a_prompt_that_comes_again_is_not_read_again() -> None:
    read: list[int] = []
    mine = clip()
    encoder = mine.cond_stage_model.encoder("clip_l")
    assert encoder is not None
    encoder.transformer.register_forward_pre_hook(lambda _module, inputs: read.append(len(inputs[0])))
    first, _ = mine.read("a cat")
    with torch.inference_mode():
        first.zero_()  # what a node does with its own does not reach the next one
    again, _ = mine.clone().read("a cat")
    assert read == [1]
    assert again.abs().sum() > 0
    mine.read("a (cat:1.2)")
    assert read == [1, 2]
    other = mine.clone()
    other.clip_layer(-2)
    other.read("a cat")
    assert read == [1, 2, 1]
    patched = mine.clone()
    key = "clip_l.transformer.text_model.embeddings.token_embedding.weight"
    patched.add_weight_patches({key: Difference(difference=torch.ones(49408, 4, dtype=torch.float64))})
    assert not torch.equal(patched.read("a cat")[0], again)
    assert torch.equal(mine.read("a cat")[0], again)
    assert read == [1, 2, 1, 1]


def test_encodings_are_forgotten_in_the_order_of_their_last_use() -> None:
    cache = EncodingCache(limit_bytes=3 * 16)
    for name in ("a", "b", "c"):
        cache.put(name, (torch.ones(4), None))
    assert cache.get("a") is not None
    cache.put("d", (torch.ones(2), torch.ones(2)))
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    cache.put("large", (torch.ones(100), None))
    assert cache.get("large") is None
    cache.clear()
    assert cache.get("a") is None


def test_equal_rows_are_equal_tokens() -> None:
    assert identity([[(torch.ones(4), 1.0)]]) == identity([[(torch.ones(4), 1.0)]])
    assert identity([[(torch.ones(4), 1.0)]]) != identity([[(torch.zeros(4), 1.0)]])


def test_a_long_prompt_goes_through_the_network_in_parts() -> None:
    text = "word " * 3000
    states, _ = clip().read(text)
    assert states.shape == (1, 40 * 77, 4)
    section = torch.tensor([[token for token, _ in clip().tokenize(text)["l"][30]]])
    assert torch.equal(states[0, 30 * 77 : 31 * 77], Encoder()(section).last_hidden_state[0].float())


def test_tokens_of_another_kind_of_encoder_are_refused() -> None:
    with pytest.raises(UnfitInput, match="no part 'l'"):
        clip().encode_from_tokens({"g": [[(START, 1.0)]]})
    with pytest.raises(UnfitInput, match="there is no token 50000"):
        clip().encode_from_tokens({"l": [[(50000, 1.0)]]})
    with pytest.raises(UnfitInput, match="a section has 80 tokens"):
        clip().encode_from_tokens({"l": [[(START, 1.0)] * 80]})
    with pytest.raises(UnfitInput, match="no option images"):
        clip().tokenize("a", images=[])


def test_no_sections_count_as_the_empty_prompt() -> None:
    states, pooled = clip().read("")
    none = clip().encode_from_tokens({"l": []}, return_dict=True)
    assert torch.equal(none["cond"], states)
    assert pooled is not None
    assert torch.equal(none["pooled_output"], pooled)


def test_a_conditioning_has_the_pooled_vector_and_what_is_added() -> None:
    mine = clip()
    [[context, extras]] = mine.encode_from_tokens_scheduled(mine.tokenize("a cat"), add_dict={"width": 512})
    states, pooled = mine.read("a cat")
    assert torch.equal(context, states)
    assert torch.equal(extras["pooled_output"], pooled)
    assert extras["width"] == 512


def test_clips_own_example_is_tokenized_as_documented() -> None:
    assert tokenizer()("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert tokenizer()("A  PHOTO\tof a Cat") == [320, 1125, 539, 320, 2368]
    assert tokenizer()("cat<|endoftext|>") == [2368, END]


def test_odd_letters_are_text_like_any_other() -> None:
    assert tokenizer()("a\ud800b") == tokenizer()("a?b")
    assert weighted_pieces("(\ue000:1.5)\ue001") == [("\ue000", 1.5), ("\ue001", 1.0)]
    for text in ("\x00", "\u200b\u202e", "\U0010ffff", "e\u0301\u0301", "\ufeffcat"):
        assert len(clip().tokenize(text)["l"]) == 1


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UnfitInput, match="of type int, a text is needed"):
        clip().tokenize(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["a" * PROMPT_LIMIT, "😀" * PROMPT_LIMIT, "猫が好き" * (PROMPT_LIMIT // 4)])
def test_the_longest_words_are_read_in_a_moment(text: str) -> None:
    began = time.process_time()
    assert len(tokenizer()(text)) > 1000
    assert time.process_time() - began < 10


def test_a_prompt_without_end_is_refused() -> None:
    with pytest.raises(UnfitInput, match="20001 characters, 20000 is the most"):
        clip().read("a" * (PROMPT_LIMIT + 1))


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("(a\\)b:1.2) c", [("a)b", 1.2), (" c", 1.0)]),
        ("(a (b:1.5) c:0.8)", [("a ", 0.8), ("b", 1.5), (" c", 0.8)]),
        ("a) (b)", [("a) (b)", 1.0)]),
        ("(a) (b", [("a", 1.1), (" (b", 1.0)]),
        ("(a:nan) (b:inf)", [("a:nan", 1.1), (" ", 1.0), ("b:inf", 1.1)]),
        ("\\(a\\)", [("(a)", 1.0)]),
        ("", []),
    ],
)
def test_brackets_give_weights(prompt: str, pieces: list[tuple[str, float]]) -> None:
    assert weighted_pieces(prompt) == [(text, pytest.approx(weight)) for text, weight in pieces]


def test_brackets_may_be_ten_thousand_deep() -> None:
    depth = 10_000
    [(text, weight)] = weighted_pieces("(" * depth + "cat:0.5" + ")" * depth)
    assert (text, weight) == ("cat", 0.5)


def embedding(folder: Path, name: str, weights: dict[str, Tensor]) -> ModelFolders:
    (folder / "embeddings").mkdir(exist_ok=True)
    save_file(weights, folder / f"embeddings/{name}.safetensors")
    return ModelFolders([folder])


def test_an_embedding_file_is_found_by_name_with_and_without_its_ending(tmp_path: Path) -> None:
    folders = embedding(tmp_path, "style", {"emb_params": ROW})
    for name in ("style", "style.safetensors"):
        found = read_embedding(folders, name)
        assert found is not None
        rows = found.rows("clip_l", 4)
        assert rows is not None
        assert torch.equal(rows, ROW)


@pytest.mark.parametrize("key", ["emb_params", "string_to_param.*", "*", "any name"])
def test_rows_may_have_several_keys(key: str, tmp_path: Path) -> None:
    found = read_embedding(embedding(tmp_path, "style", {key: ROW, "step": torch.zeros(())}), "style")
    assert found is not None
    rows = found.rows("clip_g", 4)
    assert rows is not None
    assert torch.equal(rows, ROW)


def test_one_row_is_a_table_of_one(tmp_path: Path) -> None:
    found = read_embedding(embedding(tmp_path, "style", {"emb_params": ROW[0]}), "style")
    assert found is not None
    assert [len(table) for table in found.tables.values()] == [1]


def test_an_embedding_for_sdxl_has_rows_for_each_encoder(tmp_path: Path) -> None:
    found = read_embedding(embedding(tmp_path, "xl", {"clip_g": torch.ones(3, 8), "clip_l": ROW}), "xl")
    assert found is not None
    left, right = found.rows("clip_l", 4), found.rows("clip_g", 8)
    assert left is not None
    assert right is not None
    assert (left.shape, right.shape) == ((2, 4), (3, 8))


def test_what_does_not_fit_or_is_not_there_is_left_out_with_a_warning(tmp_path: Path) -> None:
    folders = embedding(tmp_path, "style", {"emb_params": torch.ones(2, 8)})
    mine = clip()
    mine.embedding = lambda name: read_embedding(folders, name)
    run = run_in(tmp_path)
    with calling(run.ctx):
        assert mine.tokenize("a embedding:style embedding:none b") == mine.tokenize("a b")
    assert run.warnings == [
        "embedding:style has rows of width 8, the text encoder clip_l takes 4; it is left out there",
        "the prompt names embedding:none, and there is no such file; it is left out",
    ]


def test_a_file_without_rows_is_no_embedding(tmp_path: Path) -> None:
    for weights in ({"emb_params": torch.ones(2, 2, 2)}, {"emb_params": torch.ones(2, 4, dtype=torch.int32)}):
        with pytest.raises(ModelFileError, match="an embedding holds"):
            read_embedding(embedding(tmp_path, "style", weights), "style")


def test_a_pickled_embedding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    torch.save({"string_to_param": {"*": ROW}}, tmp_path / "embeddings/old.pt")
    with pytest.raises(ModelFileError, match="pickled"):
        read_embedding(ModelFolders([tmp_path]), "old")


def test_a_pickled_embedding_is_read_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    told = {"string_to_token": {"*": 265}, "string_to_param": {"*": ROW}, "name": "old", "step": 5}
    torch.save(told, tmp_path / "embeddings/old.pt")
    pickled.allow(True)
    try:
        found = read_embedding(ModelFolders([tmp_path]), "old")
    finally:
        pickled.allow(False)
    assert found is not None
    rows = found.rows("clip_l", 4)
    assert rows is not None
    assert torch.equal(rows, ROW)


def test_the_model_library_is_there_before_diffusers_is() -> None:
    """Starting shall not wait for libraries that only a checkpoint needs."""
    code = "import sys, limner.models.library, limner.nodes.library as n; n.load(); print('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
