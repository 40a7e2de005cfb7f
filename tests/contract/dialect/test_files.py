"""/upload and /view, against what was recorded."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.contract.dialect.stack import Stack, load_workflow
from tests.unit.comfy.recordings import TRANSCRIPTS

VIEWS = json.loads((TRANSCRIPTS / "31_view.json").read_text())["exchanges"]
PICTURES = {
    name: next(
        base64.b64decode(each["response"]["body_base64"])
        for each in VIEWS
        if each["request"]["path"].startswith(f"/view?filename={name}") and each["response"]["status"] == 200
    )
    for name in ("v.png", "sub.png")
}
SAFER = {"x.js", "x.svg"}


async def upload(gateway: Stack, name: str, data: bytes, **fields: str) -> httpx.Response:
    return await gateway.http.post("/upload/image", files={"image": (name, data)}, data=fields)


@pytest.fixture
async def recorded_files(gateway: Stack) -> Stack:
    """The files that were there when /view was recorded."""
    opaque = io.BytesIO()
    Image.open(io.BytesIO(PICTURES["v.png"])).convert("RGB").save(opaque, "PNG")
    await upload(gateway, "v.png", PICTURES["v.png"])
    await upload(gateway, "rgb.png", opaque.getvalue())
    await upload(gateway, "sub.png", PICTURES["sub.png"], type="temp", subfolder="deep/er")
    for extension in ("html", "js", "css", "txt", "mp4", "svg", "unknownext", "json"):
        await upload(gateway, f"x.{extension}", b"hello")
    return gateway


async def test_view_answers_as_recorded(recorded_files: Stack) -> None:
    for each in VIEWS:
        request, expected = each["request"], each["response"]
        answer = await recorded_files.http.request(
            request["method"], request["path"], headers=request.get("headers", {})
        )
        told = (answer.status_code, answer.headers.get("content-type"), answer.headers.get("content-disposition"))
        headers = expected["headers"]
        if expected["status"] == 500:
            assert answer.status_code == 400, request
            continue
        name = request["path"].partition("filename=")[2].partition("&")[0]
        content_type = "application/octet-stream" if name in SAFER else headers.get("content-type")
        assert told == (expected["status"], content_type, headers.get("content-disposition")), request
        if expected["status"] >= 400:
            assert answer.content == b""
        if "preview" not in request["path"] and "channel" not in request["path"] and "body_base64" in expected:
            assert answer.content == base64.b64decode(expected["body_base64"]), request


async def test_parts_of_files(recorded_files: Stack) -> None:
    async def part(wanted: str) -> httpx.Response:
        return await recorded_files.http.get("/view?filename=x.txt&type=input", headers={"range": wanted})

    answer = await part("bytes=1-2")
    assert (answer.status_code, answer.content) == (206, b"el")
    assert answer.headers["content-range"] == "bytes 1-2/5"
    assert (await part("bytes=-2")).content == b"lo"
    beyond = await part("bytes=5-")
    assert (beyond.status_code, beyond.headers["content-range"], beyond.content) == (416, "bytes */5", b"")
    for unclear in ("nonsense", f"bytes=0-{'9' * 5000}"):
        assert (await part(unclear)).content == b"hello"


async def test_head_tells_the_size_and_sends_nothing(recorded_files: Stack) -> None:
    answer = await recorded_files.http.head("/view?filename=x.txt&type=input")
    assert (answer.headers["content-length"], answer.content) == ("5", b"")


async def test_a_large_file_comes_whole(gateway: Stack) -> None:
    data = bytes(range(256)) * 20_000
    await upload(gateway, "large.bin", data)
    assert (await gateway.http.get("/view?filename=large.bin&type=input")).content == data


async def test_a_name_is_kept_or_numbered_as_comfyui_does(gateway: Stack) -> None:
    async def kept(data: bytes, **fields: str) -> Any:
        return (await upload(gateway, "a.png", data, **fields)).json()

    assert await kept(b"one") == {"name": "a.png", "subfolder": "", "type": "input"}
    assert (await kept(b"one"))["name"] == "a.png"
    assert (await kept(b"two"))["name"] == "a (1).png"
    assert (await kept(b"two"))["name"] == "a (1).png"
    assert (await kept(b"three", overwrite="true"))["name"] == "a.png"
    assert await kept(b"one", subfolder="in/side") == {"name": "a.png", "subfolder": "in/side", "type": "input"}
    assert (await gateway.http.get("/view?filename=a.png&type=input")).content == b"three"


@pytest.mark.parametrize(
    "name",
    [
        "ü\U0001f600.png",
        "with space.png",
        'quote".png',
        "a%2Fb.png",
        "narrow\u202fspace.png",
        "wide\u3000space.png",
        "no\u00a0break.png",
        "\U0001f469\u200d\U0001f4bb.png",
    ],
)
async def test_any_plain_name_makes_the_way_there_and_back(gateway: Stack, name: str) -> None:
    kept = (await upload(gateway, name, b"x")).json()["name"]
    answer = await gateway.http.get("/view", params={"filename": kept, "type": "input"})
    assert (answer.status_code, answer.content) == (200, b"x")


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", ".."])
async def test_no_name_and_no_subfolder_leaves_its_place(gateway: Stack, name: str) -> None:
    assert (await upload(gateway, name, b"x")).status_code == 400
    assert (await upload(gateway, "ok.png", b"x", subfolder=name)).status_code == 400
    assert (await gateway.http.get("/view", params={"filename": name, "type": "input"})).status_code == 400
    shown = await gateway.http.get("/view", params={"filename": "ok.png", "subfolder": name, "type": "input"})
    assert shown.status_code == 403


async def test_what_is_no_upload_is_a_400_that_says_so(gateway: Stack) -> None:
    http = gateway.http
    answers = [
        await http.post("/upload/image", files={"other": ("a.png", b"x")}),
        await http.post("/upload/image", files={"x": ("x", b"x")}, data={"image": "text"}),
        await http.post("/upload/image", json={"image": "x"}),
        await http.post("/upload/image", content=b"broken", headers={"content-type": "multipart/form-data"}),
        await upload(gateway, "a.png", b"x", type="elsewhere"),
    ]
    for answer in answers:
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]


async def test_a_mask_replaces_the_alpha_of_a_picture(gateway: Stack) -> None:
    await upload(gateway, "v.png", PICTURES["v.png"])
    mask = io.BytesIO()
    Image.new("RGBA", (4, 3), (0, 0, 0, 9)).save(mask, "PNG")
    form = {"original_ref": json.dumps({"filename": "v.png", "type": "input"})}
    answer = await gateway.http.post("/upload/mask", files={"image": ("m.png", mask.getvalue())}, data=form)
    assert answer.json() == {"name": "m.png", "subfolder": "", "type": "input"}
    shown = Image.open(io.BytesIO((await gateway.http.get("/view?filename=m.png&type=input")).content))
    assert set(shown.getchannel("A").tobytes()) == {9}
    form = {"original_ref": json.dumps({"filename": "nope.png", "type": "input"})}
    absent = await gateway.http.post("/upload/mask", files={"image": ("n.png", mask.getvalue())}, data=form)
    assert (absent.status_code, absent.json()["name"]) == (200, "n.png")
    assert (await gateway.http.get("/view?filename=n.png&type=input")).status_code == 404
    assert (await gateway.http.post("/upload/mask", files={"image": ("n.png", b"x")})).status_code == 400


async def test_a_workflow_may_read_an_uploaded_file_and_no_other(gateway: Stack) -> None:
    await upload(gateway, "v.png", PICTURES["v.png"])
    await gateway.post(load_workflow("v.png"))
    _, claimed = await gateway.claim()
    assert [each["reference"] for each in claimed.inputs] == ["v.png"]
    refused = await gateway.http.post("/prompt", json={"prompt": load_workflow("nope.png")})
    errors = refused.json()["node_errors"]["1"]["errors"]
    assert (refused.status_code, errors[0]["details"]) == (400, "image - Invalid image file: nope.png")


async def test_a_missing_file_of_another_folder_drops_only_the_outputs_that_need_it(gateway: Stack) -> None:
    await upload(gateway, "v.png", PICTURES["v.png"], type="output", subfolder="s")
    names = {
        "good": "s/v.png [output]",
        "gone": "gone.png [output]",
        "none": "v.png [temp]",
        "bad": "../v.png [output]",
    }
    workflow = {key: node for each, name in names.items() for key, node in load_workflow(name, each).items()}
    answer = await gateway.http.post("/prompt", json={"prompt": workflow})
    assert answer.status_code == 200
    told = {each: errors["errors"] for each, errors in answer.json()["node_errors"].items()}
    assert told == {
        each: [
            {
                "type": "custom_validation_failed",
                "message": "Custom validation failed for node",
                "details": f"image - Invalid image file: {names[each]}",
                "extra_info": {"input_name": "image"},
            }
        ]
        for each in ("gone", "none", "bad")
    }
    _, claimed = await gateway.claim()
    assert claimed.outputs == ["good shown"]
    assert [each["reference"] for each in claimed.inputs] == ["s/v.png [output]"]
    refused = await gateway.http.post("/prompt", json={"prompt": load_workflow("gone.png [output]")})
    assert refused.status_code == 400
    assert refused.json()["node_errors"]["1"]["errors"] == told["gone"]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n%%EOF\n"


async def test_no_uploaded_program_is_ever_run(gateway: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def ghostscript(*_args: object, **_options: object) -> Image.Image:
        started.append(True)
        return Image.new("RGB", (4, 4))

    started: list[bool] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", ghostscript)
    for name, data in (("p.png", EPS), ("v.png", PICTURES["v.png"])):
        await upload(gateway, name, data)
    answers = [
        await gateway.http.get("/view?filename=p.png&type=input&preview=webp"),
        await gateway.http.get("/view?filename=p.png&type=input&channel=rgb"),
        await gateway.http.get("/view?filename=p.png&type=input&channel=a"),
    ]
    for original, mask in (("p.png", PICTURES["v.png"]), ("v.png", EPS)):
        form = {"original_ref": json.dumps({"filename": original, "type": "input"})}
        answers.append(await gateway.http.post("/upload/mask", files={"image": ("m.png", mask)}, data=form))
    assert [answer.status_code for answer in answers] == [400] * 5
    assert started == []


@pytest.mark.parametrize("charset", ["undefined", "idna", "hex", "nonsense", "a\x00b"])
async def test_a_form_in_any_charset_is_read_or_refused(gateway: Stack, charset: str) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="\xc3\xbc..png"\r\n\r\nx\r\n--b--\r\n'
    headers = {"content-type": f'multipart/form-data; boundary=b; charset="{charset}"'}
    answer = await gateway.http.post("/upload/image", content=body, headers=headers)
    assert answer.status_code in (200, 400), answer.text
    if charset == "undefined":
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_input")
