"""Limner's workflows beside diffusers' pipelines of the same weights: two ways to put the same networks together."""
