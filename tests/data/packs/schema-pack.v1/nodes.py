import folder_paths
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import GraphBuilder


class Blend(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SpBlend",
            display_name="Blend two",
            category="schema pack",
            description="Mixes two pictures.",
            inputs=[
                io.Image.Input("first", tooltip="shown at 0"),
                io.Image.Input("second", optional=True),
                io.Float.Input("share", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                               display_mode=io.NumberDisplay.slider),
                io.Combo.Input("mode", options=["mix", "max"], default="mix"),
                io.String.Input("note", multiline=True, placeholder="words"),
                io.Boolean.Input("clip", default=True, label_on="yes", label_off="no"),
                io.Int.Input("seed", default=0, min=0, max=99, control_after_generate=True),
                io.Combo.Input("lora", options=["None"] + folder_paths.get_filename_list("loras")),
            ],
            outputs=[io.Image.Output(display_name="picture"), io.Float.Output("used", tooltip="what was used")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, share):
        return True if share != 0.25 else "a quarter is not allowed"

    @classmethod
    def fingerprint_inputs(cls, seed, **kwargs):
        return seed % 2

    @classmethod
    def execute(cls, first, share, mode, note, clip, seed, lora, second=None):
        if cls.hidden.unique_id is None or cls.hidden.prompt is not None:
            raise RuntimeError("the hidden values are not those that were asked for")
        other = first if second is None else second
        mixed = first * (1 - share) + other * share if mode == "mix" else first.maximum(other)
        return io.NodeOutput(mixed, share)


class Writer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="SpWriter", inputs=[io.Image.Input("images")], outputs=[], is_output_node=True)

    @classmethod
    def execute(cls, images):
        saved = ui.ImageSaveHelper.get_save_images_ui(images, "schema/made", cls=cls)
        return io.NodeOutput(ui=saved)


class Preview(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="SpPreview", inputs=[io.Image.Input("images")], outputs=[], is_output_node=True)

    @classmethod
    async def execute(cls, images):
        return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))


class Twice(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SpTwice",
            inputs=[io.Int.Input("size", default=8)],
            outputs=[io.Image.Output()],
            enable_expand=True,
        )

    @classmethod
    def execute(cls, size):
        graph = GraphBuilder()
        empty = graph.node("EmptyImage", width=size, height=size, batch_size=1, color=0)
        inverted = graph.node("ImageInvert", image=empty.out(0))
        return io.NodeOutput(inverted.out(0), expand=graph.finalize())


class Gate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SpGate",
            inputs=[io.AnyType.Input("value"), io.Boolean.Input("open")],
            outputs=[io.AnyType.Output(), io.AnyType.Output()],
        )

    @classmethod
    def execute(cls, value, open):
        if not open:
            return io.NodeOutput(block_execution="the gate is closed")
        return io.NodeOutput(value, value)


class Sum(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        template = io.Autogrow.TemplatePrefix(io.Float.Input("n"), prefix="n", min=2, max=5)
        return io.Schema(
            node_id="SpSum",
            inputs=[
                io.Autogrow.Input("numbers", template=template),
                io.DynamicCombo.Input("how", options=[
                    io.DynamicCombo.Option("plain", []),
                    io.DynamicCombo.Option("scaled", [io.Float.Input("factor", default=2.0)]),
                ]),
                io.MultiType.Input(io.Int.Input("start", default=1), types=[io.Float]),
            ],
            outputs=[io.Float.Output()],
        )

    @classmethod
    def execute(cls, numbers, how, start):
        total = start + sum(numbers.values())
        return (total * how["factor"] if how["how"] == "scaled" else total,)


class Locked(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="SpLocked", inputs=[], outputs=[io.Int.Output()])

    @classmethod
    def execute(cls):
        cls.seen = 1
        return io.NodeOutput(1)


SchemaNodes = [Blend, Writer, Preview, Twice, Gate, Sum, Locked]
