"""Paths that are ComfyUI's own or Limner's, served here or not: no node pack gets requests to them."""

from __future__ import annotations

EXACT = frozenset({
    "", "/ws", "/prompt", "/queue", "/history", "/interrupt", "/free", "/view", "/upload/image", "/upload/mask",
    "/system_stats", "/features", "/object_info", "/embeddings", "/models", "/extensions", "/experiment/models",
    "/workflow_templates", "/i18n", "/users", "/settings", "/userdata", "/v2/userdata", "/jobs", "/node_replacements",
    "/global_subgraphs", "/healthz", "/livez", "/readyz", "/metrics", "/openapi.json",
})  # fmt: skip

BELOW = (
    "/history/", "/object_info/", "/models/", "/extensions/", "/view_metadata/", "/experiment/models/",
    "/workflow_templates/", "/settings/", "/userdata/", "/internal/", "/templates/", "/docs/", "/assets/", "/jobs/",
    "/global_subgraphs/", "/v1/", "/apps/", "/console/",
)  # fmt: skip

COMFY_API = "/api/v2/"


def is_core(path: str) -> bool:
    """path: decoded, with or without /api in front."""
    whole = f"{path.rstrip('/')}/"
    if whole.startswith(COMFY_API):
        return True
    plain = path.removeprefix("/api") if whole.startswith("/api/") else path
    return plain.rstrip("/") in EXACT or f"{plain.rstrip('/')}/".startswith(BELOW)
