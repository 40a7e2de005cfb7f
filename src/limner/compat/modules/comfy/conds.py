"""What a network is given beside x, in kinds that know how batches and areas treat them: Limner's own."""

from limner.diffusion.conds import Constant as CONDConstant
from limner.diffusion.conds import CrossAttention as CONDCrossAttn
from limner.diffusion.conds import NoiseShape as CONDNoiseShape
from limner.diffusion.conds import Regular as CONDRegular
from limner.diffusion.conds import Several as CONDList

__all__ = ["CONDConstant", "CONDCrossAttn", "CONDList", "CONDNoiseShape", "CONDRegular"]
