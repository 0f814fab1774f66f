"""The training steps of src/train in PyTorch: loss, gradient, clipping and AdamW on a fixed batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import networks
from cases import Model, bags, chunk, flat
from contenders import Peer
from networks import Weights

SD = 0.5
RATE = 1e-3
TANGENT_DAMPING = 0.1
# Spectrogram frames of a codec training window.
CODEC_WINDOW = 128
STEPS = ["teacher", "student", "codec"]


@dataclass
class Step:
    """A training step: what our side reads, and the other side, which gives the loss and the gradient's norm."""

    batch: int
    inputs: dict[str, Tensor]
    peer: Peer


class LogWeight(nn.Module):
    """src/train/weight.rs."""

    def __init__(self, w: Weights):
        super().__init__()
        self.input, self.out = w.linear("input"), w.linear("out", bias=False)

    def forward(self, t: Tensor) -> Tensor:
        return self.out(F.silu(self.input(t)))


def optimised(loss, modules: list[nn.Module], clip: float) -> Peer:
    """A run of `loss`, its gradient and an update of the modules' parameters."""
    parameters = [p for module in modules for p in module.parameters()]
    adamw = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=0.0, fused=True)

    def run():
        adamw.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
        adamw.step()
        return torch.stack([value.detach(), norm.detach()])

    return Peer("torch", run)


def weighted(error: Tensor, log_weight: Tensor) -> Tensor:
    """`mean(e^w / D |error|^2 - w)`, src/scm/trigflow.rs."""
    square = error.square().flatten(1).mean(1, keepdim=True)
    return (log_weight.exp() * square - log_weight).mean()


def batch_of(model: Model, size: int) -> tuple[dict[str, Tensor], tuple]:
    """A batch of the generator's training, and the arguments of its text encoder."""
    random = torch.Generator().manual_seed(size)
    inputs = chunk(model, size, random)
    texts = bags(size, model.spec["text"]["buckets"], random)
    width = model.spec["text"]["width"]
    inputs |= texts | {
        "z": SD * torch.randn(inputs["x"].shape, generator=random),
        "x0": SD * inputs.pop("x"),
        "controls": inputs.pop("condition")[:, width:].contiguous(),
        "keep": (torch.rand(size, 1, generator=random) > 0.1).float(),
        "batch": torch.tensor([float(size)]),
    }
    return inputs, (*flat(texts), size)


def rotate(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    t = t.unsqueeze(2)
    return t.cos() * a + t.sin() * b


def teacher(model: Model, size: int) -> Step:
    inputs, bagged = batch_of(model, size)
    generator, text = model.generator(), networks.TextEncoder(model.weights("text", "text"))
    weight = LogWeight(model.initial.at("weight"))
    x0, z, t, context, present, noise, controls, keep = (
        inputs[k] for k in ("x0", "z", "t", "context", "present", "noise", "controls", "keep")
    )

    def loss() -> Tensor:
        condition = torch.cat([text(*bagged), controls], 1) * keep
        cache = generator.encode(context, present, noise)
        output = generator(rotate(x0, z, t) / SD, t, condition, None, None, *cache)
        return weighted(SD * output - rotate(z, -x0, t), weight(t))

    return Step(size, inputs, optimised(loss, [generator, text, weight], 1.0))


def student(model: Model, size: int) -> Step:
    inputs, bagged = batch_of(model, size)
    guide, text = model.generator(), networks.TextEncoder(model.weights("text", "text"))
    generator, weight = model.generator(), LogWeight(model.initial.at("weight"))
    x0, z, t, context, present, noise, controls, keep, scale = (
        inputs[k] for k in ("x0", "z", "t", "context", "present", "noise", "controls", "keep", "guidance")
    )
    fold = (t.cos() * t.sin()).unsqueeze(2)

    def target(x: Tensor, condition: Tensor) -> Tensor:
        """Where the loss pulls the student, src/scm/distill.rs, with the tangent by forward-mode differentiation."""
        cache = guide.encode(context, present, noise)
        asked = guide(x / SD, t, condition, None, None, *cache)
        free = guide(x / SD, t, torch.zeros_like(condition), None, None, *cache)
        dx_dt = SD * (free + scale.unsqueeze(2) * (asked - free))

        cache = generator.encode(context, present, noise)
        with sdpa_kernel(SDPBackend.MATH):
            value, tangent = torch.func.jvp(
                lambda x, t: generator(x, t, condition, scale, None, *cache), (x / SD, t), (fold * dx_dt / SD, fold.squeeze(2))
            )
        toward = t.cos().square().unsqueeze(2) * (SD * value - dx_dt)
        g = -toward - (fold * x + SD * tangent)
        norm = g.flatten(1).norm(dim=1)[:, None, None]
        return value + g / (norm + TANGENT_DAMPING)

    def loss() -> Tensor:
        x = rotate(x0, z, t)
        with torch.no_grad():
            condition = torch.cat([text(*bagged), controls], 1) * keep
            goal = target(x, condition)
        cache = generator.encode(context, present, noise)
        return weighted(generator(x / SD, t, condition, scale, None, *cache) - goal, weight(t))

    return Step(size, inputs, optimised(loss, [generator, weight], 100.0))


def codec(model: Model, size: int) -> Step:
    random = torch.Generator().manual_seed(size)
    config = model.spec["codec"]
    shape = (size, CODEC_WINDOW, config["frame_values"])
    latents = (size, CODEC_WINDOW // config["frames_per_latent"], config["latent_channels"])
    y = torch.randn(shape, generator=random)
    importance = 1.0 + 2.0 * torch.rand(shape, generator=random)
    noise = torch.randn(latents, generator=random)
    encoder = networks.Encoder(model.initial.at("encoder"), config)
    decoder = networks.Decoder(model.weights("decoder", "decoder"), config)

    def loss() -> Tensor:
        z = encoder(y)
        std = z.detach().flatten(0, 1).std(0, correction=0)
        output, *_ = decoder(z + 0.05 * std * noise, *decoder.start(size))
        return ((output - y).abs() * importance).mean() + 1e-4 * z.square().mean()

    inputs = {"frames": y, "importance": importance, "noise": noise, "batch": torch.tensor([float(size)])}
    return Step(size, inputs, optimised(loss, [encoder, decoder], 1.0))


def step(model: Model, name: str) -> Step:
    """The step of a stage at its usual batch."""
    match name:
        case "teacher":
            return teacher(model, 64)
        case "student":
            return student(model, 64)
        case "codec":
            return codec(model, 16)
    raise ValueError(f"unknown training step: {name}")
