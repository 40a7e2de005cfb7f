"""From the bus's Live messages to ComfyUI's frames, in ComfyUI's order. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from limner.bus.messages import Live
from limner.comfy.dialect import frames
from limner.comfy.dialect.endings import closing
from limner.comfy.dialect.frames import Frame, Node

FULL_SNAPSHOTS = 128
"""Up to so many nodes every change sends a progress_state; beyond, they come ever more seldom. A snapshot names every
node that has started, so one at each change of a run of n nodes would be n² of them: gigabytes for 10,000 nodes."""

Preview: TypeAlias = tuple[Node, str, bytes]
"""Node, image type, picture."""


class RunFrames:
    """What sockets are shown of one job's current attempt. Feed it the attempt's messages in their order."""

    def __init__(self, prompt_id: str, client: str | None) -> None:
        self.prompt_id = prompt_id
        self.client = client
        self.node: str | None = None  # the one that runs now
        self._states: dict[str, str] = {}  # node id -> its part of progress_state, as JSON
        self._steps: dict[str, tuple[float, float]] = {}
        self._preview: Preview | None = None
        self._bare_step: str | None = None  # the node of the step just shown, if it came without a picture
        self._unsent = 0  # changes since the last progress_state
        self._told: set[str] = set()  # what a run tells once

    def apply(self, live: Live, picture: bytes = b"") -> Iterator[Frame]:
        """The frames that one message becomes; `picture`: the bytes of a PreviewReady."""
        data = live.data
        if live.kind != "StepDone":
            yield from self._previews()  # the step that it should come with was lost on the way
        match live.kind:
            case "RunStarted" | "NodesCached" if live.kind in self._told:
                return  # a worker that was started again tells the beginning of its run again
            case "RunStarted":
                self._told.add(live.kind)
                yield from self._tell("execution_start", prompt_id=self.prompt_id, timestamp=data["timestamp_ms"])
            case "NodesCached":
                self._told.add(live.kind)
                told = {"nodes": data["nodes"], "prompt_id": self.prompt_id, "timestamp": data["timestamp_ms"]}
                yield from self._tell("execution_cached", **told)
            case "NodeStarted":
                yield from self._started(data["node"])
            case "StepDone":
                yield from self._stepped(data["node"], data["value"], data["maximum"])
            case "PreviewReady":
                yield from self._pictured((data["node"], data["image_type"], picture))
            case "NodeOutput":
                yield from self._tell("executed", **self._about(data["node"], output=data["ui"]))
            case "NodeFinished":
                yield from self._finished(data["node"], cached=data["cached"])
            case "Warned":
                yield from self._words(data["node"], data["text"])
            case "TextShown":
                yield from self._words(
                    data["node"], data["text"], snapshot=f"text {self.prompt_id} {data['node']['id']}"
                )
            case "PackEvent":
                everyone = data.get("everyone", False)
                if everyone or self.client is not None:
                    words = frames.text(data["name"], self._for_client(data["data"], live.job))
                    yield Frame(client=None if everyone else self.client, data=words)
            case "NodeBlocked":
                yield from self._blocked(data)
            case "Ended":
                yield from self._ended(data)

    def _tell(self, event: str, /, **data: Any) -> Iterator[Frame]:
        """A frame for the prompt's client; none where it has no client."""
        if self.client is not None:
            yield Frame(client=self.client, data=frames.text(event, data))

    def _words(self, node: Node, text: str, snapshot: str = "") -> Iterator[Frame]:
        """Words that the prompt's client shows at a node."""
        if self.client is not None:
            yield Frame(client=self.client, data=frames.node_text(node["id"], text), snapshot=snapshot)

    def _for_client(self, data: dict[str, Any], job: str) -> dict[str, Any]:
        """A node pack's own data, with the caller's prompt id where the engine put the id that it knows: the job's."""
        told = _replaced(data, job, self.prompt_id)
        return {**told, "prompt_id": self.prompt_id} if "prompt_id" in told else told

    def _about(self, node: Node, **more: Any) -> dict[str, Any]:
        return {"node": node["id"], "display_node": node["display"], **more, "prompt_id": self.prompt_id}

    def _started(self, node: Node) -> Iterator[Frame]:
        self.node = node["id"]
        self._bare_step = None
        self._set(node, "running", 0.0, 1.0)
        yield from self._snapshot()
        yield from self._tell("executing", **self._about(node))

    def _stepped(self, node: Node, value: float, maximum: float) -> Iterator[Frame]:
        """ComfyUI shows a step's picture before `progress` to sockets that take metadata, and after it to others."""
        self.node = node["id"]
        self._steps[node["id"]] = (value, maximum)
        self._set(node, "running", value, maximum)
        pictures = list(self._previews())
        self._bare_step = None if pictures else node["id"]
        yield from self._snapshot()
        yield from (frame for frame in pictures if frame.metadata)
        told = {"value": value, "max": maximum, "prompt_id": self.prompt_id, "node": node["id"]}
        yield Frame(client=self.client, data=frames.text("progress", told), snapshot=f"progress {self.prompt_id}")
        yield from (frame for frame in pictures if not frame.metadata)

    def _pictured(self, preview: Preview) -> Iterator[Frame]:
        """A picture waits for its step, unless that came just before it."""
        self._preview = preview
        if self._bare_step == preview[0]["id"]:
            yield from self._previews()

    def _finished(self, node: Node, *, cached: bool) -> Iterator[Frame]:
        _, maximum = self._steps.pop(node["id"], (1.0, 1.0))
        if cached:
            maximum = 1
        self._set(node, "finished", maximum, maximum)
        yield from self._snapshot()

    def _blocked(self, data: Mapping[str, Any]) -> Iterator[Frame]:
        """ComfyUI tells it as an error, though the run goes on and may well succeed."""
        yield from self._tell(
            "execution_error",
            prompt_id=self.prompt_id,
            node_id=data["node"]["real"],
            node_type=data["node_type"],
            executed=data["executed"],
            exception_message=f"Execution Blocked: {data['message']}",
            exception_type="ExecutionBlocked",
            traceback=[],
            current_inputs=[],
            current_outputs=[],
        )

    def _ended(self, data: Mapping[str, Any]) -> Iterator[Frame]:
        """The end of the run, the queue's new length for all, and `executing` nothing."""
        if self._unsent:
            yield self._progress_state()
        end = closing(self.prompt_id, data["state"], data["messages"], data.get("error"))
        if self.client is not None or end[0] == "execution_interrupted":
            yield Frame(client=self.client, data=frames.text(*end))
        yield Frame(data=frames.status(data["queue_remaining"]))
        yield from self._tell("executing", node=None, prompt_id=self.prompt_id)

    def _set(self, node: Node, state: str, value: float, maximum: float) -> None:
        self._unsent += 1
        self._states[node["id"]] = frames.compact(
            {
                "value": value,
                "max": maximum,
                "state": state,
                "node_id": node["id"],
                "prompt_id": self.prompt_id,
                "display_node_id": node["display"],
                "parent_node_id": node["parent"],
                "real_node_id": node["real"],
            }
        )

    def _snapshot(self) -> Iterator[Frame]:
        if self._unsent >= max(1, len(self._states) // FULL_SNAPSHOTS) ** 2:
            yield self._progress_state()

    def _progress_state(self) -> Frame:
        """Every node that has started, with its state."""
        self._unsent = 0
        nodes = ",".join(f"{frames.compact(node)}:{state}" for node, state in self._states.items())
        told = (
            f'{{"type":"progress_state","data":{{"prompt_id":{frames.compact(self.prompt_id)},"nodes":{{{nodes}}}}}}}'
        )
        return Frame(client=self.client, data=told, snapshot=f"progress_state {self.prompt_id}")

    def _previews(self) -> Iterator[Frame]:
        """The picture that waits for its step, in both forms. Only a prompt's own client gets pictures."""
        waiting, self._preview = self._preview, None
        if waiting is None or self.client is None:
            return
        node, image_type, picture = waiting
        rich = frames.preview_with_metadata(self.prompt_id, node, image_type, picture)
        yield Frame(client=self.client, data=rich, metadata=True, snapshot="preview")
        yield Frame(client=self.client, data=frames.preview(image_type, picture), metadata=False, snapshot="preview")


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(each, old, new) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, old, new) for each in value]
    return new if value == old else value
