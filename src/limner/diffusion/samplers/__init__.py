"""Samplers: walks from noise down to a picture, a function each. `SAMPLERS` has them by name.

A file holds a family of them; `base` what a sampler is. A file is found because it lies in this folder.
"""

from __future__ import annotations

import importlib
import pkgutil

from limner.diffusion.samplers import base
from limner.diffusion.samplers.base import At, OnStep, Sampler, ignore, sampler

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

USUAL_ORDER = (
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
)
"""The order in which menus have always shown these names; a sampler with another name comes after them."""

_others = sorted(base.SAMPLERS.keys() - set(USUAL_ORDER))
SAMPLERS = {name: base.SAMPLERS[name] for name in [*USUAL_ORDER, *_others]}

__all__ = ["SAMPLERS", "At", "OnStep", "Sampler", "ignore", "sampler"]
