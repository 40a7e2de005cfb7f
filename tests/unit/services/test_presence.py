from __future__ import annotations

from limner.services.presence import Presence


def test_a_client_is_there_until_its_last_socket_is_gone() -> None:
    presence = Presence()
    presence.came("t", "c")
    presence.came("t", "c")
    presence.left("t", "c")
    assert presence.watching("t", "c")
    assert not presence.watching("another", "c")
    presence.left("t", "c")
    assert not presence.watching("t", "c")
    assert not presence.watching("t", None)
