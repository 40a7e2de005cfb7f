"""What the engine process is told of model files and of memory, out of the settings."""

from __future__ import annotations

from limner.settings import Settings


def model_options(settings: Settings) -> tuple[str, ...]:
    """The arguments of `limner.processes.engine` for these."""
    options: list[str] = []
    for file in settings.extra_model_paths:
        options += ["--extra-model-paths", str(file)]
    if settings.allow_pickle:
        options.append("--allow-pickle")
    for name, gigabytes in (("--vram-budget", settings.vram_budget_gb), ("--ram-budget", settings.ram_budget_gb)):
        if gigabytes:
            options += [name, str(gigabytes)]
    return tuple(options)
