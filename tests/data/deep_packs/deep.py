"""A pack that reaches deep: samplers, guiders, patches and models of its own, as authors write them from the docs."""

import comfy.k_diffusion.sampling
import comfy.latent_formats
import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import latent_preview
import torch
from comfy.ldm.modules.attention import optimized_attention


def sample_own_euler(model, x, sigmas, extra_args=None, callback=None, disable=None, strength=1.0):
    extra_args = {} if extra_args is None else extra_args
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra_args)
        d = comfy.k_diffusion.sampling.to_d(x, sigmas[i], denoised)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + d * (sigmas[i + 1] - sigmas[i]) * strength
    return x


def sample_own_ancestral(model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, noise_sampler=None):
    extra_args = {} if extra_args is None else extra_args
    noise_sampler = noise_sampler or comfy.k_diffusion.sampling.default_noise_sampler(x, seed=extra_args.get("seed"))
    s_in = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * s_in, **extra_args)
        down, up = comfy.k_diffusion.sampling.get_ancestral_step(sigmas[i], sigmas[i + 1], eta=eta)
        d = comfy.k_diffusion.sampling.to_d(x, sigmas[i], denoised)
        x = x + d * (down - sigmas[i])
        if sigmas[i + 1] > 0:
            x = x + noise_sampler(sigmas[i], sigmas[i + 1]) * up
    return x


class OwnSampler:
    """SAMPLER of a function of its own."""

    def go(self, name, **options):
        function = {"euler": sample_own_euler, "ancestral": sample_own_ancestral}[name]
        return (comfy.samplers.KSAMPLER(function, options),)


class SampleByHand:
    """What KSampler does, by comfy.sample."""

    def go(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=1.0):
        samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
        callback = latent_preview.prepare_callback(model, steps)
        out = comfy.sample.sample(
            model, noise, steps, cfg, sampler_name, scheduler, positive, negative, samples, denoise=denoise,
            disable_noise=False, start_step=None, last_step=None, force_full_denoise=False,
            noise_mask=latent.get("noise_mask"), callback=callback, disable_pbar=True, seed=seed,
        )
        return ({**latent, "samples": out},)


class SampleCustomByHand:
    def go(self, model, seed, sampler, sigmas, cfg, positive, negative, latent):
        noise = comfy.sample.prepare_noise(latent["samples"], seed)
        out = comfy.sample.sample_custom(
            model, noise, cfg, sampler, sigmas, positive, negative, latent["samples"], noise_mask=None, callback=None,
            disable_pbar=True, seed=seed,
        )
        return ({"samples": out},)


class RescaledCfg:
    """A CFG function that does what guidance does, in terms of what x loses."""

    def go(self, model, factor):
        def cfg(args):
            cond, uncond, scale = args["cond"], args["uncond"], args["cond_scale"]
            return uncond + (cond - uncond) * scale * factor

        m = model.clone()
        m.set_model_sampler_cfg_function(cfg)
        return (m,)


class PostCfg:
    def go(self, model, seen):
        def post(args):
            seen.append((float(args["sigma"][0]), args["cond_scale"], args["input"].shape))
            return args["denoised"] * 1.0

        m = model.clone()
        m.set_model_sampler_post_cfg_function(post, disable_cfg1_optimization=True)
        return (m,)


class OwnAttention:
    """Cross-attention by the pack's call of the host's attention, or with something added (as IP-Adapter does)."""

    def go(self, model, added=None, weight=0.0):
        m = model.clone()

        def attention(q, k, v, extra_options):
            out = optimized_attention(q, k, v, extra_options["n_heads"])
            if added is not None and weight:
                assert len(extra_options["cond_or_uncond"]) * extra_options["activations_shape"][0] >= 1
                ip = added.to(q)[:, :, : k.shape[-1]].repeat(q.shape[0], 1, 1)
                ip = torch.nn.functional.pad(ip, (0, k.shape[-1] - ip.shape[-1]))
                out = out + weight * optimized_attention(q, ip, ip, extra_options["n_heads"])
            return out.to(q.dtype)

        for number in range(12):
            m.set_model_attn2_replace(attention, "input", number)
            m.set_model_attn2_replace(attention, "output", number)
        m.set_model_attn2_replace(attention, "middle", 0)
        return (m,)


class LoraByHand:
    def go(self, model, clip, path, strength_model, strength_clip):
        lora = comfy.utils.load_torch_file(path, safe_load=True)
        return comfy.sd.load_lora_for_models(model, clip, lora, strength_model, strength_clip)


class LoraByKeys:
    """The same, with keys and patches in the pack's own hands."""

    def go(self, model, clip, path, strength):
        lora = comfy.utils.load_torch_file(path, safe_load=True)
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
        loaded = comfy.lora.load_lora(lora, keys)
        m, c = model.clone(), clip.clone()
        taken = m.add_patches(loaded, strength)
        taken += c.add_patches(loaded, strength)
        assert set(taken) == set(loaded)
        return m, c


class MergeByHand:
    def go(self, one, other, ratio):
        m = one.clone()
        patches = other.get_key_patches("diffusion_model.")
        for key in patches:
            m.add_patches({key: patches[key]}, 1.0 - ratio, ratio)
        return (m,)


class OwnSampling:
    """A model_sampling put together of two parts, as model-sampling nodes of packs do."""

    def go(self, model, kind, shift=3.0):
        m = model.clone()
        if kind == "eps":
            base, meaning = comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS
        elif kind == "v":
            base, meaning = comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION
        else:
            base, meaning = comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST

        class ModelSamplingAdvanced(base, meaning):
            pass

        sampling = ModelSamplingAdvanced(model.model.model_config)
        if kind == "flow":
            sampling.set_parameters(shift=shift)
        m.add_object_patch("model_sampling", sampling)
        return (m,)


class Doubled(comfy.samplers.CFGGuider):
    """A guider that goes its own way: the mean of two scales."""

    def set_cfg(self, low, high):
        self.low, self.high = low, high

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        negative, positive = self.conds.get("negative"), self.conds.get("positive")
        uncond, cond = comfy.samplers.calc_cond_batch(
            self.inner_model, [negative, positive], x, timestep, model_options
        )
        assert cond.shape == uncond.shape == x.shape
        both = [
            comfy.samplers.sampling_function(
                self.inner_model, x, timestep, negative, positive, scale, model_options=model_options, seed=seed
            )
            for scale in (self.low, self.high)
        ]
        return (both[0] + both[1]) / 2


class OwnGuider:
    def go(self, model, positive, negative, low, high):
        guider = Doubled(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(low, high)
        return (guider,)


class Wrapped:
    """Wrappers around every part of a walk, callbacks, an injection and an attachment."""

    KEY = "deep"

    def go(self, model, seen):
        mp, cb = comfy.patcher_extension.WrappersMP, comfy.patcher_extension.CallbacksMP
        m = model.clone()

        def around(name):
            def wrapper(executor, *args, **kwargs):
                seen.append(name)
                return executor(*args, **kwargs)

            return wrapper

        for name in ("OUTER_SAMPLE", "SAMPLER_SAMPLE", "PREDICT_NOISE", "CALC_COND_BATCH", "APPLY_MODEL", "DIFFUSION_MODEL"):
            m.add_wrapper_with_key(getattr(mp, name), self.KEY, around(name))
        m.add_callback(cb.ON_PRE_RUN, lambda patcher: seen.append("ON_PRE_RUN"))
        m.add_callback_with_key(cb.ON_CLEANUP, self.KEY, lambda patcher: seen.append("ON_CLEANUP"))
        m.set_injections(
            self.KEY,
            [
                comfy.patcher_extension.PatcherInjection(
                    inject=lambda patcher: seen.append("inject"), eject=lambda patcher: seen.append("eject")
                )
            ],
        )
        m.set_attachments(self.KEY, {"kept": 1})
        return (m,)


class UnetWrapper:
    def go(self, model, seen):
        def wrapper(apply_model, args):
            seen.append(list(args["cond_or_uncond"]))
            return apply_model(args["input"], args["timestep"], **args["c"])

        m = model.clone()
        m.set_model_unet_function_wrapper(wrapper)
        return (m,)


class Preview:
    """A picture of a latent as the host's previewer makes it, and of a previewer of its own."""

    class Own(latent_preview.LatentPreviewer):
        def __init__(self, inner):
            self.inner = inner

        def decode_latent_to_preview(self, x0):
            return self.inner.decode_latent_to_preview(x0 * 2)

    def go(self, model, x0):
        own = latent_preview.Latent2RGBPreviewer(
            model.model.latent_format.latent_rgb_factors, model.model.latent_format.latent_rgb_factors_bias
        )
        return own.decode_latent_to_preview(x0), self.Own(own).decode_latent_to_preview(x0)


NODE_CLASS_MAPPINGS = {}
CLASSES = {
    each.__name__: each
    for each in (
        OwnSampler, SampleByHand, SampleCustomByHand, RescaledCfg, PostCfg, OwnAttention, LoraByHand, LoraByKeys,
        MergeByHand, OwnSampling, OwnGuider, Wrapped, UnetWrapper, Preview,
    )
}
