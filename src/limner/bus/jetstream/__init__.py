"""The bus over NATS (adapter.py), in files of one idea each."""

from limner.bus.jetstream.adapter import JetStreamBus

__all__ = ["JetStreamBus"]
