"""Graphs that nodes expand to."""

from __future__ import annotations

from limner.engine.blocker import ExecutionBlocker as ExecutionBlocker
from limner.engine.graph_builder import GraphBuilder as GraphBuilder
from limner.engine.graph_builder import add_graph_prefix as add_graph_prefix
from limner.engine.graph_builder import is_link as is_link
