"""A ComfyUI's URL, taken apart."""

from __future__ import annotations

import socket

import pytest

from limner.errors import Misconfigured
from limner.worker.engines.comfyui.address import Address


@pytest.mark.parametrize(
    ("url", "base", "ws"),
    [
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188", "ws://127.0.0.1:8188/ws?clientId=a"),
        ("http://127.0.0.1:8188/", "http://127.0.0.1:8188", "ws://127.0.0.1:8188/ws?clientId=a"),
        ("https://gpu.example", "https://gpu.example:443", "wss://gpu.example:443/ws?clientId=a"),
        ("http://gpu/comfy/", "http://gpu:80/comfy", "ws://gpu:80/comfy/ws?clientId=a"),
        ("http://[::1]:8188", "http://[::1]:8188", "ws://[::1]:8188/ws?clientId=a"),
    ],
)
def test_urls_of_http_and_of_the_socket(url: str, base: str, ws: str) -> None:
    address = Address.parse(url)
    assert address.base == base
    assert address.ws("a") == ws


def test_a_password_is_used_and_never_shown() -> None:
    address = Address.parse("http://me:p%40ss@gpu:8188/x")
    assert address.auth == ("me", "p@ss")
    for shown in (address.base, address.shown, address.ws("a"), address.worker_id(), repr(address)):
        assert "p@ss" not in shown
        assert "p%40ss" not in shown


@pytest.mark.parametrize(
    "url", ["", "gpu:8188", "127.0.0.1:8188", "ftp://gpu", "http://", "http://gpu:0", "http://gpu:99999", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        Address.parse(url)


@pytest.mark.parametrize("password", ["secret", "a/secret", "1/secret", "a@secret", "?secret", "#secret"])
def test_a_refused_address_shows_no_password(password: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Address.parse(f"http://me:{password}@gpu:8188/?token=1")
    assert "secret" not in str(refused.value)


def test_a_password_is_not_taken_for_a_path() -> None:
    with pytest.raises(Misconfigured, match="%2F"):
        Address.parse("http://me:1/secret@gpu:8188")


def test_a_workers_name_follows_from_the_address() -> None:
    assert Address.parse("http://10.0.0.5:8188").worker_id() == "comfyui-10-0-0-5-8188"
    assert Address.parse("https://Gpu.example/a/").worker_id() == "comfyui-gpu-example-443-a"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_loopback_address_is_named_after_its_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the workers of two machines, each with a ComfyUI of its own, would have one name."""
    monkeypatch.setattr(socket, "gethostname", lambda: "box_1.lan")
    assert Address.parse(f"http://{host}:8188").worker_id() == "comfyui-box-1-lan-8188"
