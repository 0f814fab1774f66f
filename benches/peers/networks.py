"""The networks of src/nets in PyTorch, as a competent user would write them, on the weights of a model folder.

Weights are stored (in, out) in half precision; here they become (out, in) in single precision. Linear maps of one input
are one product: query, key and value, the scales and shifts of a block, gate and value of the text encoder.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

EPS = 1e-6
PNORM_EPS = 1e-8
FREQUENCIES = 64
KERNEL = 5


class Weights:
    """A place in the tree of a model's parameter names."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str = ""):
        self.tensors, self.prefix = tensors, prefix

    @classmethod
    def read(cls, *files: Path) -> "Weights":
        tensors = {name: x.float() for file in files for name, x in load_file(file).items()}
        return cls(tensors)

    def at(self, *names) -> "Weights":
        return Weights(self.tensors, ".".join([*filter(None, [self.prefix]), *map(str, names)]))

    def get(self, name: str) -> Tensor:
        return self.tensors[f"{self.prefix}.{name}"]

    def linear(self, *names: str, bias: bool = True) -> nn.Linear:
        """The maps of these names side by side, as one."""
        weight = torch.cat([self.at(name).get("weight") for name in names], 1).T.contiguous()
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
        layer.weight.data = weight
        if bias:
            layer.bias.data = torch.cat([self.at(name).get("bias") for name in names])
        return layer


def rms(x: Tensor, eps: float = EPS) -> Tensor:
    # On the CPU quicker than F.rms_norm.
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class Mlp(nn.Module):
    def __init__(self, w: Weights):
        super().__init__()
        self.up, self.down = w.linear("up"), w.linear("down")

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.up(x)))


class TextEncoder(nn.Module):
    """src/nets/text.rs."""

    def __init__(self, w: Weights):
        super().__init__()
        self.table = nn.Parameter(w.get("table"))
        self.words = w.linear("gate", "value", bias=False)
        self.hidden, self.out = w.linear("hidden"), w.linear("out")

    def forward(self, rows: Tensor, offsets: Tensor, batch: int) -> Tensor:
        """Bags of n-gram rows, one a word, `batch` texts of equally many (perhaps empty) bags."""
        words = F.embedding_bag(rows, self.table, offsets, mode="mean").view(batch, -1, self.table.shape[1])
        return self.pool(words)

    def pool(self, words: Tensor) -> Tensor:
        gate, value = self.words(4.0 * words).chunk(2, -1)
        pooled = rms((F.silu(gate) * value).sum(1))
        return rms(self.out(F.silu(self.hidden(pooled))))


class PaddedTextEncoder(TextEncoder):
    """The same on rows (B, W, G) with weights: what ONNX, which has no bags, makes of it."""

    def forward(self, rows: Tensor, weights: Tensor) -> Tensor:
        return self.pool((weights.unsqueeze(2) @ F.embedding(rows, self.table)).squeeze(2))


class ScalarEmbedding(nn.Module):
    def __init__(self, w: Weights):
        super().__init__()
        powers = torch.arange(FREQUENCIES, dtype=torch.float64) / FREQUENCIES
        self.register_buffer("frequencies", (1e4**-powers).float())
        self.hidden, self.out = w.linear("hidden"), w.linear("out", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        angles = x * self.frequencies
        return self.out(F.silu(self.hidden(torch.cat([angles.sin(), angles.cos()], 1))))


def heads(x: Tensor, count: int) -> Tensor:
    """(B, T, heads x depth) to (B, heads, T, depth)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class Block(nn.Module):
    """A block over the chunk."""

    def __init__(self, w: Weights, count: int):
        super().__init__()
        self.count = count
        names = ["attention.scale", "attention.shift", "feed_forward.scale", "feed_forward.shift"]
        self.modulation = w.linear(*names)
        self.qkv, self.out = w.linear("query", "key", "value", bias=False), w.linear("out", bias=False)
        self.context = w.linear("context_key", "context_value", bias=False)
        self.mlp = Mlp(w.at("mlp"))

    def encode(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.context(memory).chunk(2, -1)
        return rms(heads(key, self.count)), heads(value, self.count)

    def forward(self, x: Tensor, embedding: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        modulation = self.modulation(embedding).unflatten(-1, (4, 1, -1))
        scale, shift, scale2, shift2 = rms(modulation, PNORM_EPS).unbind(1)
        query, key, value = self.qkv(torch.addcmul(shift, rms(x), scale)).chunk(3, -1)
        query, key = rms(heads(query, self.count)), rms(heads(key, self.count))
        keys, values = torch.cat([keys, key], 2), torch.cat([values, heads(value, self.count)], 2)
        mixed = F.scaled_dot_product_attention(query, keys, values)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(torch.addcmul(shift2, rms(x), scale2))


class ContextBlock(nn.Module):
    def __init__(self, w: Weights, count: int):
        super().__init__()
        self.count = count
        self.qkv, self.out = w.linear("query", "key", "value", bias=False), w.linear("out", bias=False)
        self.mlp = Mlp(w.at("mlp"))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (heads(y, self.count) for y in self.qkv(rms(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(rms(query), rms(key), value)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(rms(x))


class Generator(nn.Module):
    """src/nets/generator.rs."""

    def __init__(self, w: Weights, config: dict):
        super().__init__()
        count = config["heads"]
        self.input, self.output = w.linear("input"), w.linear("output")
        self.position = nn.Parameter(w.get("position"))
        self.condition = w.linear("condition", bias=False)
        self.lasting = config["condition_width"]
        deep = config.get("condition_hidden")
        self.interplay = (
            nn.Sequential(w.at("interplay").linear("hidden"), nn.SiLU(), w.at("interplay").linear("out", bias=False)) if deep else None
        )
        self.metre = w.linear("metre", bias=False) if config.get("metre_width") else None
        self.time, self.guidance = ScalarEmbedding(w.at("time")), ScalarEmbedding(w.at("guidance"))
        self.end = ScalarEmbedding(w.at("end")) if config.get("segments") else None
        self.blocks = nn.ModuleList(Block(w.at("blocks", i), count) for i in range(config["blocks"]))
        self.modulation = w.at("modulation").linear("scale", "shift")
        c = w.at("context")
        self.context_input, self.context_position = c.linear("input"), nn.Parameter(c.get("position"))
        blocks = range(config["context_blocks"])
        self.context_blocks = nn.ModuleList(ContextBlock(c.at("blocks", i), count) for i in blocks)

    def encode(self, context: Tensor, present: Tensor, noise: Tensor) -> list[Tensor]:
        """Keys and values of every block, one behind the other."""
        x = self.context_input(torch.cat([context * present, present, noise * present], 2)) + self.context_position
        for block in self.context_blocks:
            x = block(x)
        x = rms(x)
        return [y for block in self.blocks for y in block.encode(x)]

    def forward(
        self, x: Tensor, t: Tensor, condition: Tensor, guidance: Tensor | None, end: Tensor | None, *cache: Tensor
    ) -> Tensor:
        lasting = condition[:, : self.lasting]
        embedding = self.time(t) + self.condition(lasting)
        if self.interplay is not None:
            embedding = embedding + self.interplay(lasting)
        if guidance is not None:
            embedding = embedding + self.guidance(guidance)
        if end is not None:
            embedding = embedding + self.end(end)
        embedding = F.silu(rms(embedding))
        h = self.input(x) + self.position[: x.shape[1]]
        if self.metre is not None:
            h = h + self.metre(condition[:, self.lasting :].unflatten(1, (x.shape[1], -1)))
        for i, block in enumerate(self.blocks):
            h = block(h, embedding, cache[2 * i], cache[2 * i + 1])
        scale, shift = rms(self.modulation(embedding).unflatten(-1, (2, 1, -1)), PNORM_EPS).unbind(1)
        return self.output(torch.addcmul(shift, rms(h), scale))


class ContextEncoder(nn.Module):
    """The part of the generator that runs once a chunk."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, context: Tensor, present: Tensor, noise: Tensor) -> list[Tensor]:
        return self.generator.encode(context, present, noise)


class ConvBlock(nn.Module):
    """`x + mlp(rms(depthwise(x)))`; the convolution sees channels-last memory as an image of height 1."""

    def __init__(self, w: Weights):
        super().__init__()
        kernel = w.get("kernel").T.reshape(-1, 1, 1, KERNEL)
        self.kernel = nn.Parameter(kernel.contiguous(memory_format=torch.channels_last))
        self.mlp = Mlp(w.at("mlp"))

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        image = padded.transpose(1, 2).unsqueeze(2)
        y = F.conv2d(image, self.kernel, groups=x.shape[-1]).squeeze(2).transpose(1, 2)
        return x + self.mlp(rms(y))


class Encoder(nn.Module):
    """src/nets/codec.rs, spectrogram to latents."""

    def __init__(self, w: Weights, config: dict):
        super().__init__()
        self.group, blocks = config["frames_per_latent"], range(config["encoder_blocks"])
        self.input, self.gather, self.output = w.linear("input"), w.linear("gather"), w.linear("output")
        self.frame = nn.ModuleList(ConvBlock(w.at("frame", i)) for i in blocks)
        self.latent = nn.ModuleList(ConvBlock(w.at("latent", i)) for i in blocks)

    def forward(self, frames: Tensor) -> Tensor:
        side = KERNEL // 2
        x = self.input(frames)
        for block in self.frame:
            x = block(x, F.pad(x, (0, 0, side, side)))
        x = self.gather(x.reshape(x.shape[0], x.shape[1] // self.group, -1))
        for block in self.latent:
            x = block(x, F.pad(x, (0, 0, side, side)))
        return self.output(rms(x))


class LowBranch(nn.Module):
    """src/nets/low_branch.rs, latents to what is added to the lowest values of the frames."""

    def __init__(self, w: Weights, codec: dict, config: dict):
        super().__init__()
        self.values, self.others = config["values"], codec["frame_values"] - config["values"]
        self.input, self.output = w.linear("input"), w.linear("output")
        self.blocks = nn.ModuleList(ConvBlock(w.at("block", i)) for i in range(config["blocks"]))

    def give(self, x: Tensor) -> Tensor:
        return F.pad(self.output(rms(x)).reshape(x.shape[0], -1, self.values), (0, self.others))


class Decoder(nn.Module):
    """src/nets/codec.rs, latents to spectrogram."""

    def __init__(self, w: Weights, config: dict):
        super().__init__()
        self.group, blocks = config["frames_per_latent"], range(config["decoder_blocks"])
        self.input, self.scatter, self.output = w.linear("input"), w.linear("scatter"), w.linear("output")
        self.latent = nn.ModuleList(ConvBlock(w.at("latent", i)) for i in blocks)
        self.frame = nn.ModuleList(ConvBlock(w.at("frame", i)) for i in blocks)
        branch = config.get("low_branch")
        self.low = LowBranch(w.at("low"), config, branch) if branch else None

    def start(self, batch: int) -> list[Tensor]:
        blocks = [*self.latent, *self.frame, *(self.low.blocks if self.low else [])]
        return [torch.zeros(batch, KERNEL - 1, block.kernel.shape[0]) for block in blocks]

    def forward(self, latents: Tensor, *pasts: Tensor) -> tuple[Tensor, ...]:
        """A step of a stream: frames, and the pasts for the next one."""
        state, pasts = [], list(pasts)

        def step(blocks: nn.ModuleList, x: Tensor) -> Tensor:
            for block in blocks:
                padded = torch.cat([pasts.pop(0), x], 1)
                state.append(padded[:, -(KERNEL - 1) :].contiguous())
                x = block(x, padded)
            return x

        x = self.scatter(step(self.latent, self.input(latents)))
        x = step(self.frame, x.reshape(x.shape[0], x.shape[1] * self.group, -1))
        frames = self.output(rms(x))
        if self.low:
            frames = frames + self.low.give(step(self.low.blocks, self.low.input(latents)))
        return frames, *state
