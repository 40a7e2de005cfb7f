"""Samplers written down as others published them, to hold ours against.

Of k-diffusion (https://github.com/crowsonkb/k-diffusion, MIT License, (c) 2022 Katherine Crowson) and of papers; each
in the form it was published in: time t = -log sigma, slopes d, slow and plain. `kept` is alpha(sigma) of the path.
`heunpp2` has no publication to hold it against: it is our own reading, written out a second time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
Between = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[], Tensor]
Kept = Callable[[Tensor], Tensor]


def ancestral(now: Tensor, then: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """k-diffusion, get_ancestral_step."""
    up = torch.minimum(then, eta * (then**2 * (now**2 - then**2) / now**2) ** 0.5)
    return (then**2 - up**2) ** 0.5, up


def straight_ancestral(now: Tensor, then: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The step of LTX's Euler ancestral scheduler for straight paths, as diffusers has it (Apache-2.0)."""
    down = then * (1 + (then / now - 1) * eta)
    ratio = (1 - then) / (1 - down)
    return down, ratio, (then**2 - down**2 * (1 - then) ** 2 / (1 - down) ** 2) ** 0.5


def euler(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i])) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def heun(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i])) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            x_2 = x + d * dt
            d_2 = (x_2 - model(x_2, sigmas[i + 1])) / sigmas[i + 1]
            x = x + (d + d_2) / 2 * dt
    return x


def dpm_2(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i])) / sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * (sigmas[i + 1] - sigmas[i])
        else:
            mid = sigmas[i].log().lerp(sigmas[i + 1].log(), 0.5).exp()
            x_2 = x + d * (mid - sigmas[i])
            x = x + (x_2 - model(x_2, mid)) / mid * (sigmas[i + 1] - sigmas[i])
    return x


def lms(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """With the integrals of the interpolating polynomials taken exactly."""
    ds: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        ds = [(x - model(x, sigmas[i])) / sigmas[i], *ds][:4]
        if sigmas[i + 1] == 0:
            return x + ds[0] * (sigmas[i + 1] - sigmas[i])
        nodes = [float(sigmas[i - k]) for k in range(len(ds))]
        for j, d in enumerate(ds):
            others = [node for k, node in enumerate(nodes) if k != j]
            basis = np.poly1d(others, r=True) / math.prod(nodes[j] - other for other in others)
            area = basis.integ()
            x = x + float(area(float(sigmas[i + 1])) - area(nodes[0])) * d
    return x


def euler_ancestral(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 1.0) -> Tensor:
    for i in range(len(sigmas) - 1):
        down, up = ancestral(sigmas[i], sigmas[i + 1], eta)
        x = x + (x - model(x, sigmas[i])) / sigmas[i] * (down - sigmas[i])
        if sigmas[i + 1] > 0:
            x = x + draw() * up
    return x


def euler_ancestral_straight(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 1.0) -> Tensor:
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        down, ratio, renoise = straight_ancestral(sigmas[i], sigmas[i + 1], eta)
        x = down / sigmas[i] * x + (1 - down / sigmas[i]) * clean
        if sigmas[i + 1] > 0:
            x = ratio * x + draw() * renoise
    return x


def dpm_2_ancestral(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 1.0) -> Tensor:
    for i in range(len(sigmas) - 1):
        down, up = ancestral(sigmas[i], sigmas[i + 1], eta)
        d = (x - model(x, sigmas[i])) / sigmas[i]
        if down == 0:
            x = x + d * (down - sigmas[i])
        else:
            mid = sigmas[i].log().lerp(down.log(), 0.5).exp()
            x_2 = x + d * (mid - sigmas[i])
            x = x + (x_2 - model(x_2, mid)) / mid * (down - sigmas[i]) + draw() * up
    return x


def dpmpp_2s_ancestral(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, eta: float = 1.0) -> Tensor:
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        down, up = ancestral(sigmas[i], sigmas[i + 1], eta)
        if down == 0:
            x = x + (x - clean) / sigmas[i] * (down - sigmas[i])
        else:
            t, t_next = -sigmas[i].log(), -down.log()
            h = t_next - t
            s = t + h / 2
            x_2 = (-s).exp() / (-t).exp() * x - (-h / 2).expm1() * clean
            x = (-t_next).exp() / (-t).exp() * x - (-h).expm1() * model(x_2, (-s).exp())
        if sigmas[i + 1] > 0:
            x = x + draw() * up
    return x


def dpmpp_sde(model: Denoise, x: Tensor, sigmas: Tensor, noise: Between, eta: float = 1.0, r: float = 1 / 2) -> Tensor:
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        t, t_next = -sigmas[i].log(), -sigmas[i + 1].log()
        s = t + r * (t_next - t)
        fac = 1 / (2 * r)
        sd, su = ancestral((-t).exp(), (-s).exp(), eta)
        s_ = -sd.log()
        x_2 = (-s_).exp() / (-t).exp() * x - (t - s_).expm1() * clean
        x_2 = x_2 + noise((-t).exp(), (-s).exp()) * su
        clean_2 = model(x_2, (-s).exp())
        sd, su = ancestral((-t).exp(), (-t_next).exp(), eta)
        t_next_ = -sd.log()
        mix = (1 - fac) * clean + fac * clean_2
        x = (-t_next_).exp() / (-t).exp() * x - (t - t_next_).expm1() * mix
        x = x + noise((-t).exp(), (-t_next).exp()) * su
    return x


def dpmpp_2m(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    old = None
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        t, t_next = -sigmas[i].log(), -sigmas[i + 1].log()
        h = t_next - t
        if old is None or sigmas[i + 1] == 0:
            x = (-t_next).exp() / (-t).exp() * x - (-h).expm1() * clean
        else:
            r = (t + sigmas[i - 1].log()) / h
            mix = (1 + 1 / (2 * r)) * clean - (1 / (2 * r)) * old
            x = (-t_next).exp() / (-t).exp() * x - (-h).expm1() * mix
        old = clean
    return x


def dpmpp_2m_sde(
    model: Denoise, x: Tensor, sigmas: Tensor, noise: Between, kept: Kept, eta: float = 1.0, heun: bool = False
) -> Tensor:
    """Lu et al. 2022, arXiv:2211.01095, appendix, for any alpha and sigma: lambda = log(alpha / sigma)."""
    old, h_last = None, torch.zeros(())
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        alpha = kept(sigmas[i + 1])
        h = (alpha / sigmas[i + 1]).log() - (kept(sigmas[i]) / sigmas[i]).log()
        h_eta = h * (eta + 1)
        x = sigmas[i + 1] / sigmas[i] * (-h * eta).exp() * x + alpha * -(-h_eta).expm1() * clean
        if old is not None:
            weight = -(-h_eta).expm1() / -h_eta + 1 if heun else -0.5 * (-h_eta).expm1()
            x = x + alpha * weight * (h / h_last) * (clean - old)
        x = x + noise(sigmas[i], sigmas[i + 1]) * sigmas[i + 1] * (-(-2 * h * eta).expm1()).sqrt()
        old, h_last = clean, h
    return x


def dpmpp_3m_sde(model: Denoise, x: Tensor, sigmas: Tensor, noise: Between, kept: Kept, eta: float = 1.0) -> Tensor:
    cleans: list[Tensor] = []
    hs: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        alpha = kept(sigmas[i + 1])
        h = (alpha / sigmas[i + 1]).log() - (kept(sigmas[i]) / sigmas[i]).log()
        h_eta = h * (eta + 1)
        x = sigmas[i + 1] / sigmas[i] * (-h * eta).exp() * x - alpha * (-h_eta).expm1() * clean
        phi_2 = (-h_eta).expm1() / h_eta + 1
        if len(cleans) == 1:
            x = x + alpha * phi_2 * (clean - cleans[0]) / (hs[0] / h)
        elif len(cleans) > 1:
            r0, r1 = hs[-1] / h, hs[-2] / h
            d1_0, d1_1 = (clean - cleans[-1]) / r0, (cleans[-1] - cleans[-2]) / r1
            d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
            d2 = (d1_0 - d1_1) / (r0 + r1)
            phi_3 = phi_2 / h_eta - 0.5
            x = x + alpha * phi_2 * d1 - alpha * phi_3 * d2
        x = x + noise(sigmas[i], sigmas[i + 1]) * sigmas[i + 1] * (-(-2 * h * eta).expm1()).sqrt()
        cleans.append(clean)
        hs.append(h)
    return x


def ddpm(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw) -> Tensor:
    """Ho et al. 2020, arXiv:2006.11239, equations 6 and 7, on x of constant variance."""
    kept = [1 / (1 + sigma**2) for sigma in sigmas]
    x = x * kept[0].sqrt()
    for i in range(len(sigmas) - 1):
        clean = model(x / kept[i].sqrt(), sigmas[i])
        alpha = kept[i] / kept[i + 1]
        beta = 1 - alpha
        mean = kept[i + 1].sqrt() * beta / (1 - kept[i]) * clean + alpha.sqrt() * (1 - kept[i + 1]) / (1 - kept[i]) * x
        x = mean
        if sigmas[i + 1] > 0:
            x = x + ((1 - kept[i + 1]) / (1 - kept[i]) * beta).sqrt() * draw()
    return x / kept[-1].sqrt()


def er_sde(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, kept: Kept) -> Tensor:
    """Cui et al. 2023, arXiv:2309.06169, VP form: algorithm 5 with lambda = sigma / alpha, 200 rectangles."""

    def phi(level: Tensor) -> Tensor:
        return level * ((level**0.3).exp() + 10)

    old = old_d = None
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        a_s, a_t = kept(sigmas[i]), kept(sigmas[i + 1])
        l_s, l_t = sigmas[i] / a_s, sigmas[i + 1] / a_t
        ratio = phi(l_t) / phi(l_s)
        x = a_t / a_s * ratio * x + a_t * (1 - ratio) * clean
        width = (l_s - l_t) / 200
        places = [l_t + k * width for k in range(200)]
        if old is not None:
            d = (clean - old) / (l_s - sigmas[i - 1] / kept(sigmas[i - 1]))
            area = sum(width / phi(place) for place in places)
            x = x + a_t * (l_t - l_s + area * phi(l_t)) * d
            if old_d is not None:
                d_2 = (d - old_d) / ((l_s - sigmas[i - 2] / kept(sigmas[i - 2])) / 2)
                area = sum(width * (place - l_s) / phi(place) for place in places)
                x = x + a_t * ((l_t - l_s) ** 2 / 2 + area * phi(l_t)) * d_2
            old_d = d
        x = x + a_t * (l_t**2 - l_s**2 * ratio**2).sqrt() * draw()
        old = clean
    return x


def seeds_2(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, kept: Kept) -> Tensor:
    """Gonzalez et al. 2023, arXiv:2305.14267, algorithm 2 for the clean picture, both noises from one motion."""
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        sigma, then = sigmas[i], sigmas[i + 1]
        lam, lam_next = (kept(sigma) / sigma).log(), (kept(then) / then).log()
        h = lam_next - lam
        middle = _at_lambda(lam + h / 2, kept)
        first, second = draw(), draw()
        x_2 = middle / sigma * (-h / 2).exp() * x - kept(middle) * (-h).expm1() * clean
        x_2 = x_2 + middle * (-(-h).expm1()).sqrt() * first
        clean_2 = model(x_2, middle)
        x = then / sigma * (-h).exp() * x - kept(then) * (-2 * h).expm1() * clean_2
        x = x + then * ((-(-h).expm1()).sqrt() * (-h / 2).exp() * first + (-(-h).expm1()).sqrt() * second)
    return x


def seeds_3(model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, kept: Kept) -> Tensor:
    """Gonzalez et al. 2023, algorithm 3 for the clean picture, the noises of thirds from one motion."""
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        sigma, then = sigmas[i], sigmas[i + 1]
        lam, lam_next = (kept(sigma) / sigma).log(), (kept(then) / then).log()
        h = lam_next - lam
        one, two = _at_lambda(lam + h / 3, kept), _at_lambda(lam + 2 * h / 3, kept)
        third = (-(-2 * h / 3).expm1()).sqrt()  # the deviation that a third of the way adds
        fade = (-h / 3).exp()
        noise = third * draw()
        x_2 = one / sigma * fade * x - kept(one) * (-2 * h / 3).expm1() * clean + one * noise
        clean_2 = model(x_2, one)
        noise = fade * noise + third * draw()
        x_3 = two / sigma * fade**2 * x - kept(two) * (-4 * h / 3).expm1() * clean + two * noise
        x_3 = x_3 + 2 * kept(two) * ((-4 * h / 3).expm1() / (4 * h / 3) + 1) * (clean_2 - clean)
        clean_3 = model(x_3, two)
        noise = fade * noise + third * draw()
        x = then / sigma * fade**3 * x - kept(then) * (-2 * h).expm1() * clean + then * noise
        x = x + 3 / 2 * kept(then) * ((-2 * h).expm1() / (2 * h) + 1) * (clean_3 - clean)
    return x


def _at_lambda(lam: Tensor, kept: Kept) -> Tensor:
    """Where log(alpha / sigma) is lam, by halving."""
    low, high = torch.zeros_like(lam), torch.full_like(lam, 1.0 if kept(torch.tensor(1.0)) == 0 else 1e4)
    for _ in range(70):
        middle = (low + high) / 2
        low, high = (middle, high) if (kept(middle) / middle).log() > lam else (low, middle)
    return (low + high) / 2


def ipndm(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Zhang and Chen 2022, arXiv:2204.13902, the table of section 3.3."""
    ds: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        ds = [(x - model(x, sigmas[i])) / sigmas[i], *ds]
        h = sigmas[i + 1] - sigmas[i]
        if len(ds) == 1 or sigmas[i + 1] == 0:
            x = x + h * ds[0]
        elif len(ds) == 2:
            x = x + h * (3 * ds[0] - ds[1]) / 2
        elif len(ds) == 3:
            x = x + h * (23 * ds[0] - 16 * ds[1] + 5 * ds[2]) / 12
        else:
            x = x + h * (55 * ds[0] - 59 * ds[1] + 37 * ds[2] - 9 * ds[3]) / 24
    return x


def dpm_fast(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """k-diffusion, DPMSolver.dpm_solver_fast."""
    t_start, t_end, nfe = -sigmas[0].log(), -sigmas[sigmas > 0][-1].log(), len(sigmas) - 1
    m = math.floor(nfe / 3) + 1
    ts = torch.linspace(float(t_start), float(t_end), m + 1, dtype=x.dtype)
    orders = [3] * (m - 2) + [2, 1] if nfe % 3 == 0 else [3] * (m - 1) + [nfe % 3]

    def eps(x: Tensor, t: Tensor) -> Tensor:
        return (x - model(x, (-t).exp())) / (-t).exp()

    for t, t_next, order in zip(ts, ts[1:], orders, strict=False):
        h, e = t_next - t, eps(x, t)
        sigma = (-t_next).exp()
        if order == 1:
            x = x - sigma * h.expm1() * e
            continue
        r1 = 1 / 2 if order == 2 else 1 / 3
        s1 = t + r1 * h
        e_1 = eps(x - (-s1).exp() * (r1 * h).expm1() * e, s1)
        if order == 2:
            x = x - sigma * h.expm1() * e - sigma / (2 * r1) * h.expm1() * (e_1 - e)
            continue
        r2 = 2 / 3
        s2 = t + r2 * h
        u2 = x - (-s2).exp() * (r2 * h).expm1() * e
        u2 = u2 - (-s2).exp() * (r2 / r1) * ((r2 * h).expm1() / (r2 * h) - 1) * (e_1 - e)
        x = x - sigma * h.expm1() * e - sigma / r2 * (h.expm1() / h - 1) * (eps(u2, s2) - e)
    return x


def exponential_shares(lams: Sequence[float], start: float, end: float, tau: float) -> list[float]:
    """SA-Solver's coefficients, Xue et al. 2023, arXiv:2309.05019, equation 14, by brute-force quadrature."""
    places, weights = np.polynomial.legendre.leggauss(60)
    lam = (end - start) / 2 * places + (start + end) / 2
    shares = []
    for j, mine in enumerate(lams):
        basis = np.prod([(lam - other) / (mine - other) for k, other in enumerate(lams) if k != j], axis=0)
        rate = 1 + tau**2
        shares.append(float(np.sum(weights * rate * np.exp(rate * (lam - end)) * basis)) * (end - start) / 2)
    return shares


def sa_solver(
    model: Denoise, x: Tensor, sigmas: Tensor, draw: Draw, tau: Callable[[Tensor], float], again: bool = False
) -> Tensor:
    """Xue et al. 2023, algorithm 1: predictor of 3, corrector of 4; ends at a level above 0."""
    lams = [-float(sigma.log()) for sigma in sigmas]
    cleans: list[Tensor] = []
    x_p, noise = x, torch.zeros_like(x)
    for i in range(len(sigmas) - 1):
        cleans.append(model(x_p, sigmas[i]))
        if i == 0:
            x = x_p
        else:
            x = _adams(x, cleans, lams, i + 1, min(4, i + 1), lams[i - 1], lams[i], tau(sigmas[i])) + noise
            if again:
                cleans[-1] = model(x, sigmas[i])
        t, h = tau(sigmas[i + 1]), lams[i + 1] - lams[i]
        noise = sigmas[i + 1] * math.sqrt(1 - math.exp(-2 * t**2 * h)) * draw() if t > 0 else torch.zeros_like(x)
        x_p = _adams(x, cleans, lams, i + 1, min(3, i + 1), lams[i], lams[i + 1], t) + noise
    return x_p


def _adams(
    x: Tensor, cleans: list[Tensor], lams: list[float], count: int, order: int, start: float, end: float, tau: float
) -> Tensor:
    shares = exponential_shares(lams[count - order : count], start, end, tau)
    x = math.exp(-(1 + tau**2) * (end - start)) * x
    return x + sum(share * clean for share, clean in zip(shares, cleans[count - order : count], strict=True))


def res_multistep(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Zhang et al. 2023, arXiv:2308.02157: the clean picture on a straight line through the last two, integrated."""
    cleans: list[Tensor] = []
    lams = [-float(sigma.log()) for sigma in sigmas]
    for i in range(len(sigmas) - 1):
        cleans.append(model(x, sigmas[i]))
        if sigmas[i + 1] == 0:
            return cleans[-1]
        x = _adams(x, cleans, lams, i + 1, min(2, i + 1), lams[i], lams[i + 1], 0.0)
    return x


def deis(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Zhang and Chen 2022, arXiv:2204.13902, equation 15, over the time of a VP diffusion from 0.002 to 80."""
    rise = 2 * (math.log(0.002**2 + 1) / 1e-3 - math.log(80**2 + 1)) / (1e-3 - 1)
    low = math.log(80**2 + 1) - 0.5 * rise
    places, weights = np.polynomial.legendre.leggauss(200)
    ts = [(math.sqrt(low**2 + 2 * rise * math.log(1 + float(sigma) ** 2)) - low) / rise for sigma in sigmas]
    ds: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        ds = [(x - clean) / sigmas[i], *ds][:3]
        t = (ts[i + 1] - ts[i]) / 2 * places + (ts[i] + ts[i + 1]) / 2
        grown = np.exp(rise * t**2 / 2 + low * t)
        speed = (rise * t + low) * grown / (2 * np.sqrt(grown - 1))  # of sigma
        for j, d in enumerate(ds):
            others = [ts[i - k] for k in range(len(ds)) if k != j]
            basis = np.prod([(t - other) / (ts[i - j] - other) for other in others], axis=0)
            x = x + float(np.sum(weights * speed * basis)) * (ts[i + 1] - ts[i]) / 2 * d
    return x


def gradient_estimation(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Permenter and Yuan 2023, arXiv:2306.04848, algorithm 2 with gamma 2; the last step is plain."""
    old = None
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i])) / sigmas[i]
        d_bar = d if old is None or sigmas[i + 1] == 0 else 2 * d - old
        x, old = x + d_bar * (sigmas[i + 1] - sigmas[i]), d
    return x


def ipndm_v(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """The coefficients of Zhou et al. 2024 (AMED, arXiv:2312.00094), slope by slope."""
    ds: list[Tensor] = []
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return clean
        ds = [(x - clean) / sigmas[i], *ds][:4]
        h, h1, h2, h3 = [float(sigmas[i + 1 - k] - sigmas[i - k]) if k <= i else 1.0 for k in range(4)]
        c = [1.0, 0.0, 0.0, 0.0]
        if len(ds) > 1:
            c = [(2 + h / h1) / 2, -(h / h1) / 2, 0.0, 0.0]
        if len(ds) > 2:
            t1 = (1 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
            c = [c[0] + t1, c[1] - (1 + h1 / h2) * t1, t1 * h1 / h2, 0.0]
        if len(ds) > 3:
            t2 = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
            t2 = t2 * (h * (h + h1) * (h + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3))
            q = h1 * (h1 + h2) / (h2 * (h2 + h3))
            c = [c[0] + t2, c[1] - (1 + h1 / h2 + q) * t2, c[2] + (h1 / h2 + q * (1 + h2 / h3)) * t2, -t2 * q * h1 / h2]
        x = x + h * sum(each * d for each, d in zip(c, ds, strict=False))
    return x


def heunpp2(model: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Three slopes, weighed by their levels: each case by itself."""
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i])) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == sigmas[-1]:
            x = x + d * dt
            continue
        x_2 = x + d * dt
        d_2 = (x_2 - model(x_2, sigmas[i + 1])) / sigmas[i + 1]
        if sigmas[i + 2] == sigmas[-1]:
            w2 = sigmas[i + 1] / (2 * sigmas[0])
            x = x + (d * (1 - w2) + d_2 * w2) * dt
            continue
        x_3 = x_2 + d_2 * (sigmas[i + 2] - sigmas[i + 1])
        d_3 = (x_3 - model(x_3, sigmas[i + 2])) / sigmas[i + 2]
        w2, w3 = sigmas[i + 1] / (3 * sigmas[0]), sigmas[i + 2] / (3 * sigmas[0])
        x = x + (d * (1 - w2 - w3) + d_2 * w2 + d_3 * w3) * dt
    return x
