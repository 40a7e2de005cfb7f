"""What server and clients can do beyond the first version of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SERVER_FEATURE_FLAGS: dict[str, Any] = {"supports_preview_metadata": True, "max_upload_size": 100 * 1024 * 1024}


def get_connection_feature(
    sockets_metadata: Mapping[str, Any], sid: str, feature_name: str, default: Any = False
) -> Any:
    """What a client said of itself. Limner's gateways know that, and an engine does not: the default."""
    return sockets_metadata.get(sid, {}).get("feature_flags", {}).get(feature_name, default)


def supports_feature(sockets_metadata: Mapping[str, Any], sid: str, feature_name: str) -> bool:
    return get_connection_feature(sockets_metadata, sid, feature_name) is True


def get_server_features() -> dict[str, Any]:
    return dict(SERVER_FEATURE_FLAGS)
