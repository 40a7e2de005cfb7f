"""Weights become objects: files, families, networks and text encoders."""

import os

# Before torch is loaded: OpenMP threads that wait shall give up their core. By default they spin, and beside other work
# on the same cores a picture then takes twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
