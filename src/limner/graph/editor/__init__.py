"""The editor's save format, read into the API format that runs.

Public documents of litegraph and of ComfyUI's front end describe it; `save.py` reads the file, `flat.py` takes out
subgraphs and what only the editor knows (reroutes, primitives, bypassed nodes), `widgets.py` finds the widgets' names.
"""

from limner.graph.editor.convert import Conversion, Problem, convert

__all__ = ["Conversion", "Problem", "convert"]
