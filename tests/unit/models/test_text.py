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

from limner.errors import ModelFileError, UnfitInput
from limner.models.clip import PROMPT_LIMIT, Clip, apply_weights
from limner.models.files import ModelFolders
from limner.models.text.embeddings import read_embedding
from limner.models.text.tokenizer import END, START, tokenizer
from limner.models.text.weights import weighted_pieces

FIXTURES = Path(__file__).parents[2] / "data/fixtures"
PROMPTS = json.loads((FIXTURES / "prompts.json").read_text())["prompts"]
WEIGHTS = json.loads((FIXTURES / "prompt_weights.json").read_text())
ROW = torch.ones(2, 4)


class Encoder(nn.Module):
    """The made-up encoder of prompt_weights.json: row i of token t is sin(t * 0.001 * (k + 1) + 0.1 * i), k in 0..3."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(49408, 4)
        table = torch.arange(49408)[:, None] * 0.001 * torch.arange(1, 5)
        self.embeddings.token_embedding.weight.data = table.to(torch.float64)

    def forward(self, ids: Tensor) -> SimpleNamespace:
        rows = self.embeddings.token_embedding(ids)
        return SimpleNamespace(last_hidden_state=(rows + 0.1 * torch.arange(ids.shape[1])[:, None]).sin())


def clip(length: int = 77) -> Clip:
    return Clip(network=Encoder(), length=length, embedding={"fakeemb": ROW}.get)


@pytest.mark.parametrize("recorded", PROMPTS, ids=lambda recorded: recorded["text"][:40])
def test_a_prompt_becomes_the_recorded_tokens_and_weights(recorded: dict) -> None:
    sections = clip().tokenize(recorded["text"])
    assert len(sections) == recorded["sections"]
    for section, want in zip(sections, recorded["sd1"], strict=True):
        got = [("row" if place.row is not None else place.token, pytest.approx(place.weight)) for place in section]
        pairs = [(token if isinstance(token, int) else "row", weight) for token, weight in want["pairs"]]
        assert len(section) == want["length"]
        assert got == pairs + [(END, 1.0)] * (want["length"] - len(pairs))


@pytest.mark.parametrize("case", WEIGHTS["cases"], ids=range(len(WEIGHTS["cases"])))
def test_weights_draw_places_away_from_the_empty_prompt(case: dict) -> None:
    encode = Encoder()
    sections, count = case["sections"], len(case["sections"][0])
    states = torch.cat(
        [encode(torch.tensor([[token for token, _ in section]])).last_hidden_state for section in sections]
    )
    empty = encode(torch.tensor([[START] + [END] * (count - 1)])).last_hidden_state
    weighted = apply_weights(states, empty, torch.tensor([[weight for _, weight in section] for section in sections]))
    assert weighted.reshape(-1, 4).flatten().tolist() == pytest.approx(
        torch.tensor(case["output"]).flatten().tolist(), abs=1e-5
    )


def test_sections_are_joined_and_the_pooled_vector_is_the_first_ones_end() -> None:
    states, pooled = clip(length=10).encode("a photo of a (cat:1.5) and a dog in the snow")
    plain, _ = clip(length=10).encode("a photo of a cat and a dog in the snow")
    assert states.shape == (1, 20, 4)
    assert not torch.equal(states, plain)
    tokens = clip(length=10).tokenize("a photo of a (cat:1.5) and a dog in the snow")[0]
    end = [place.token for place in tokens].index(END)
    assert torch.equal(
        pooled[0], Encoder()(torch.tensor([[place.token for place in tokens]])).last_hidden_state[0, end].float()
    )


def test_learned_rows_stand_where_the_prompt_names_them() -> None:
    states, _ = clip().encode("a embedding:fakeemb b")
    want = (1.0 + 0.1 * torch.tensor([2.0, 3.0])).sin()
    assert torch.allclose(states[0, 2:4], want[:, None].expand(2, 4))


def test_a_small_vocabulary_gives_its_own_rows_and_row_0_to_strangers() -> None:
    seen: list[Tensor] = []

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = nn.Module()
            self.embeddings.token_embedding = nn.Embedding(4, 4)

        def forward(self, ids: Tensor) -> SimpleNamespace:
            seen.append(ids)
            return SimpleNamespace(last_hidden_state=self.embeddings.token_embedding(ids))

    small = Clip(network=Table(), length=6, rows={2368: 1, START: 2, END: 3})
    small.encode("cat dog")
    assert seen[0].tolist() == [[2, 1, 0, 3, 3, 3]]


def test_clips_own_example_is_tokenized_as_documented() -> None:
    assert tokenizer()("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert tokenizer()("A  PHOTO\tof a Cat") == [320, 1125, 539, 320, 2368]
    assert tokenizer()("cat<|endoftext|>") == [2368, END]


@pytest.mark.parametrize("text", ["a" * PROMPT_LIMIT, "😀" * PROMPT_LIMIT, "猫が好き" * (PROMPT_LIMIT // 4)])
def test_the_longest_words_are_read_in_a_moment(text: str) -> None:
    began = time.process_time()
    assert len(tokenizer()(text)) > 1000
    assert time.process_time() - began < 10


def test_a_prompt_without_end_is_refused() -> None:
    with pytest.raises(UnfitInput, match="20001 characters, 20000 is the most"):
        clip().encode("a" * (PROMPT_LIMIT + 1))


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
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


def test_an_embedding_file_is_found_by_name_with_and_without_its_ending(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    save_file({"emb_params": ROW}, tmp_path / "embeddings/style.safetensors")
    folders = ModelFolders([tmp_path])
    for name in ("style", "style.safetensors"):
        found = read_embedding(folders, name)
        assert found is not None
        assert torch.equal(found, ROW)
    assert read_embedding(folders, "none") is None


def test_a_pickled_embedding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    torch.save({"string_to_param": {"*": ROW}}, tmp_path / "embeddings/old.pt")
    with pytest.raises(ModelFileError, match="pickled"):
        read_embedding(ModelFolders([tmp_path]), "old")


def test_the_model_library_is_there_before_diffusers_is() -> None:
    """Starting shall not wait for libraries that only a checkpoint needs."""
    code = "import sys, limner.models.library, limner.nodes.library as n; n.load(); print('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
