"""Pictures and captions: Noto's emoji drawings, rendered at 64x64, under the names in `concepts.txt`."""

from __future__ import annotations

import io
import json
import random
import subprocess
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.models.text.tokenizer import END, START, tokenizer

from .common import LENGTH, PIXELS

PACKAGES = {"@iconify-json/noto": "1.2.9", "emojibase-data": "17.0.0"}
CONCEPTS = Path(__file__).parent / "concepts.txt"
EMOJI_GROUPS = {0, 3, 4, 5, 6, 7}  # faces, animals, food, places, games, things (see emojibase-data)

PREFIXES = (
    *("",) * 10,
    *("a ",) * 4,
    "an ",
    "the ",
    "one ",
    "a photo of a ",
    "a photo of ",
    "photo of a ",
    "a picture of a ",
    "a picture of ",
    "an image of a ",
    "a drawing of a ",
    "a painting of a ",
    "an icon of a ",
    "an emoji of a ",
    "emoji of ",
    "an illustration of a ",
    "a beautiful ",
    "beautiful ",
    "a cute ",
    "cute ",
    "a small ",
    "a big ",
    "a portrait of a ",
    "masterpiece, best quality, ",
    "best quality, ",
)
SUFFIXES = (
    "best quality",
    "high quality",
    "masterpiece",
    "detailed",
    "highly detailed",
    "4k",
    "8k",
    "hd",
    "beautiful",
    "sharp focus",
    "professional photography",
    "photo",
    "photorealistic",
    "realistic",
    "cinematic lighting",
    "soft light",
    "colorful",
    "digital art",
    "illustration",
    "cartoon",
    "white background",
    "on white",
    "simple background",
    "icon",
    "emoji",
    "very detailed, intricate",
    "trending on artstation",
    "studio lighting",
    "award winning",
    "nature",
    "close up",
)
# What may follow a name. Most of these words are outside the vocabulary, as most words of a user's prompt are.
LINKS = (
    *(" and a ", " and ", " with a ", " with ", " on a ", " on the ", " in a ", " in the ", " sitting on a "),
    *(" near a ", " next to a ", " wearing a ", " in front of a ", " under the ", " holding a ", " behind a "),
)
FILLERS = (
    *("table", "mat", "field", "meadow", "room", "hill", "kitchen", "background", "wooden table", "street"),
    "garden",
)
BAD = (
    *("text", "watermark", "bad quality", "worst quality", "low quality", "blurry", "bad hands", "bad anatomy", "ugly"),
    *("deformed", "jpeg artifacts", "signature", "extra fingers", "bad", "noise", "cropped", "logo", "nsfw", "lowres"),
)


@dataclass
class Concept:
    """One picture and the names it goes by."""

    icon: str
    names: list[str]
    weight: int


@dataclass
class Data:
    """The concepts, their pictures (-1..1) and the rows of the token embeddings."""

    concepts: list[Concept]
    pictures: Tensor
    rows: dict[int, int]  # CLIP token id -> row; row 0 stands for every other token


def read_concepts(path: Path = CONCEPTS) -> list[Concept]:
    """The concepts in the order of the list."""
    out = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            weight, icon, names = line.split(None, 2)
            out.append(Concept(icon, names.split("; "), int(weight)))
    return out


def fetch(folder: Path) -> None:
    """Downloads and unpacks the npm packages that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in PACKAGES.items():
        target = folder / name.split("/")[-1]
        if target.exists():
            continue
        call = ["npm", "pack", "--silent", f"{name}@{version}"]
        packed = subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(folder / packed) as archive:
            archive.extractall(folder / "unpacked", filter="data")
        (folder / "unpacked" / "package").rename(target)


def render(svg: str) -> np.ndarray:
    """The picture of an SVG on white, 64x64x3."""
    import resvg_py

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=PIXELS * 4, height=PIXELS * 4))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB").resize((PIXELS, PIXELS), Image.Resampling.LANCZOS))


def icon_svg(icons: dict[str, dict], name: str) -> str:
    """A whole SVG of one icon of the set."""
    if name == "@galaxy-bottle":
        return galaxy_bottle(icons)
    return _svg(icons[name]["body"])


def galaxy_bottle(icons: dict[str, dict]) -> str:
    """What ComfyUI's first prompt asks for: a bottle with a purple galaxy in it, in a landscape."""
    bottle = "M54 14h20v26c0 8 22 12 22 30v40c0 8-4 12-12 12H44c-8 0-12-4-12-12V70c0-18 22-22 22-30z"
    return _svg(
        f'<defs><clipPath id="bottle"><path d="{bottle}"/></clipPath></defs>'
        f'<g transform="translate(0 0)">{icons["national-park"]["body"]}</g>'
        f'<path d="{bottle}" fill="#e8f4ff"/>'
        f'<g clip-path="url(#bottle)"><g transform="translate(12 22) scale(.82)">{icons["milky-way"]["body"]}</g></g>'
        f'<path d="{bottle}" fill="none" stroke="#d7ecff" stroke-width="5"/>'
        '<path d="M41 74v30" stroke="#fff" stroke-width="4" stroke-linecap="round"/>'
        '<rect x="53" y="4" width="22" height="14" rx="3" fill="#a5703f"/>'
    )


def prepare(work: Path) -> None:
    """Renders the concepts (`pictures.npy`) and all plain emoji (`wide.npy`), and writes `data.json`."""
    packages = work / "dl"
    fetch(packages)
    icons = _icons(packages)
    concepts = read_concepts()
    np.save(work / "pictures.npy", np.stack([render(icon_svg(icons, c.icon)) for c in concepts]))
    np.save(work / "wide.npy", np.stack([render(_svg(icons[name]["body"])) for name in plain_emoji(packages)]))
    texts = [name for c in concepts for name in with_plurals(c.names)]
    texts_all = (*texts, *PREFIXES, *SUFFIXES, *BAD, ", . and with in on")
    tokens = {START, END, *(token for text in texts_all for token in tokenizer()(text))}
    record = {"concepts": [asdict(c) for c in concepts], "tokens": sorted(tokens)}
    (work / "data.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    print(f"{len(concepts)} concepts, {len(texts)} names, {len(tokens)} tokens")


def plain_emoji(packages: Path) -> list[str]:
    """Icons of emoji that are things: no people, flags, symbols or clock faces."""
    names: dict[str, str] = json.loads((packages / "noto/chars.json").read_text(encoding="utf-8"))
    known = {}
    for entry in json.loads((packages / "emojibase-data/en/data.json").read_text(encoding="utf-8")):
        known[entry["hexcode"].lower().replace("-fe0f", "")] = entry
    icons = _icons(packages)
    out = set()
    for code, name in names.items():
        entry = known.get(code.lower().replace("-fe0f", ""))
        clock = entry and ("o’clock" in entry["label"] or "-thirty" in entry["label"])
        if entry and entry.get("group") in EMOJI_GROUPS and not clock and name in icons:
            out.add(name)
    return sorted(out)


def load_data(work: Path) -> Data:
    """Reads what `prepare` wrote."""
    record = json.loads((work / "data.json").read_text(encoding="utf-8"))
    rows = {token: row for row, token in enumerate(record["tokens"], start=1)}
    return Data([Concept(**c) for c in record["concepts"]], as_pictures(work / "pictures.npy"), rows)


def as_pictures(path: Path) -> Tensor:
    """Stored pictures as a batch in -1..1."""
    return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).float() / 127.5 - 1


def with_plurals(names: list[str]) -> list[str]:
    """The names, and the first one with an s."""
    first = names[0]
    plural = [] if first.endswith(("s", "y", "sh", "ch")) or not first.replace(" ", "").isalpha() else [first + "s"]
    return names + plural


def caption(concept: Concept, rng: random.Random, others: list[Concept]) -> str:
    """A caption for a picture: empty or a list of faults now and then, else a name among words that say little.

    Now and then something else is named after it, so that of two things the first is drawn.
    """
    kind = rng.random()
    if kind < 0.08:
        return ""
    if kind < 0.11:
        return ", ".join(rng.sample(BAD, rng.randint(1, 5)))
    name = concept.names[0] if rng.random() < 0.6 else rng.choice(with_plurals(concept.names))
    if len(name) > 40:
        return name
    text = rng.choice(PREFIXES) + name
    if rng.random() < 0.2:
        second = rng.choice(others).names[0] if rng.random() < 0.5 else rng.choice(FILLERS)
        text += rng.choice(LINKS) + second
    if rng.random() < 0.25:
        text += ", " + ", ".join(rng.sample(SUFFIXES, rng.randint(1, 4)))
    return text


def encode_texts(texts: list[str], rows: dict[int, int], rng: random.Random | None = None) -> Tensor:
    """Rows of the token embeddings, padded with the end token. With `rng`, unknown words are strewn in."""
    out = torch.full((len(texts), LENGTH), rows[END])
    for place, text in enumerate(texts):
        ids = [rows.get(token, 0) for token in tokenizer()(text)]
        if rng and text and rng.random() < 0.12:
            for _ in range(rng.randint(1, 3)):
                ids.insert(rng.randint(0, len(ids)), 0)
        ids = [rows[START], *ids[: LENGTH - 2], rows[END]]
        out[place, : len(ids)] = torch.tensor(ids)
    return out


def _icons(packages: Path) -> dict[str, dict]:
    folder = packages / "noto"
    return json.loads((folder / "icons.json").read_text(encoding="utf-8"))["icons"]


def _svg(body: str) -> str:
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} viewBox="0 0 128 128" width="256" height="256">{body}</svg>'
