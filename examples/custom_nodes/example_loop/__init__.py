"""A node pack of one node, as pack authors write them: it puts a graph of its own in its place."""

from comfy_execution.graph_utils import GraphBuilder


class ExampleRepeatSteps:
    """Samples several times in a row, each time from what the round before gave."""

    CATEGORY = "example"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "expand"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {
            "required": {
                "model": ("MODEL",),
                "positive": ("CONDITIONING",),
                "negative": ("CONDITIONING",),
                "latent": ("LATENT",),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32}),
                "rounds": ("INT", {"default": 2, "min": 1, "max": 10}),
            }
        }

    def expand(self, model, positive, negative, latent, seed, rounds):
        graph = GraphBuilder()
        for number in range(rounds):
            latent = graph.node(
                "KSampler",
                model=model,
                positive=positive,
                negative=negative,
                latent_image=latent,
                seed=seed + number,
                steps=3,
                cfg=5.0,
                sampler_name="euler",
                scheduler="normal",
                denoise=1.0 if number == 0 else 0.5,
            ).out(0)
        return {"result": (latent,), "expand": graph.finalize()}


NODE_CLASS_MAPPINGS = {"ExampleRepeatSteps": ExampleRepeatSteps}
NODE_DISPLAY_NAME_MAPPINGS = {"ExampleRepeatSteps": "Repeat Steps (example)"}
