"""Frames between supervisor and engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.enginehost.protocol import LENGTHS, MAX_FRAME_BYTES, Decoder, Frame, ProtocolBroken, encode

HEADERS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20) | st.booleans(), max_size=4)


@given(frames=st.lists(st.tuples(HEADERS, st.binary(max_size=50)), max_size=5), cut=st.integers(1, 40))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[dict[str, object], bytes]], cut: int
) -> None:
    wanted = [Frame({**header, "kind": "k"}, tail) for header, tail in frames]
    stream = b"".join(encode(frame.header, frame.tail) for frame in wanted)
    decoder = Decoder()
    got = [frame for at in range(0, len(stream), cut) for frame in decoder.feed(stream[at : at + cut])]
    assert got == wanted


def test_values_that_json_does_not_know_are_sent_as_text() -> None:
    [frame] = Decoder().feed(encode({"kind": "event", "tuple": (1, 2), "odd": {1: object}}))
    assert frame.header["tuple"] == [1, 2]
    assert frame.header["odd"] == {"1": "<class 'object'>"}


@pytest.mark.parametrize("head", [b"[]", b"{}", b"nonsense"])
def test_what_is_no_frame_is_told(head: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        list(Decoder().feed(LENGTHS.pack(len(head), 0) + head))


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolBroken, match="the limit is"):
        list(Decoder().feed(LENGTHS.pack(2, MAX_FRAME_BYTES)))
