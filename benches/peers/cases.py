"""What is timed: every network of a model at a batch, with inputs that both sides share."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import networks
from networks import Weights


@dataclass
class Case:
    """A network on its inputs."""

    name: str
    batch: int
    # What our side reads from a file.
    inputs: dict[str, Tensor]
    module: nn.Module
    args: tuple
    # What a run hands to the next one.
    state: list[Tensor] = field(default_factory=list)
    # Module and arguments for ONNX, where they differ.
    onnx: tuple | None = None
    # Whether the outputs can be compared: the context's show in the generator's.
    compared: bool = True


class Model:
    """A model folder, and the initial weights of what it has no more."""

    def __init__(self, folder: Path, initial: Path):
        self.folder, self.initial = folder, Weights.read(initial)
        self.spec = json.loads((folder / "model.json").read_text())

    def weights(self, part: str, name: str) -> Weights:
        return Weights.read(self.folder / f"{part}.safetensors").at(name)

    def generator(self, segments: bool = False) -> networks.Generator:
        """With `segments`, one that reads the time to jump to if the model's was distilled to."""
        config = self.spec["generator"]
        config = config | {"segments": segments and config.get("segments", False)}
        return networks.Generator(self.weights("generator", "generator"), config)


def bags(batch: int, rows: int, random: torch.Generator) -> dict[str, Tensor]:
    """Texts of eight words of 9 to 24 n-grams, padded with the table's first row."""
    counts = torch.randint(9, 25, (batch, 8), generator=random)
    table = torch.randint(0, rows, (batch, 8, 24), generator=random)
    table = table * (torch.arange(24) < counts.unsqueeze(2))
    return {"rows": table, "counts": counts}


def flat(texts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The same for an embedding bag: rows one behind the other, and where each word begins."""
    counts = texts["counts"].flatten()
    rows = texts["rows"][torch.arange(texts["rows"].shape[2]) < texts["counts"].unsqueeze(2)]
    return rows, counts.cumsum(0) - counts


def chunk(model: Model, batch: int, random: torch.Generator) -> dict[str, Tensor]:
    """The generator's inputs."""
    c = model.spec["generator"]
    frames, before, channels = c["chunk_frames"], c["context_frames"], c["latent_channels"]

    def normal(*shape):
        return torch.randn(shape, generator=random)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=random)

    return {
        "x": normal(batch, frames, channels),
        "t": uniform(0.1, 1.56, batch, 1),
        "condition": normal(batch, c["condition_width"] + frames * c.get("metre_width", 0)),
        "guidance": uniform(1.0, 3.0, batch, 1),
        "context": normal(batch, before, channels),
        "present": (uniform(0.0, 1.0, batch, before, 1) > 0.1).float(),
        "noise": uniform(0.0, 0.3, batch, before, 1),
        "end": uniform(0.0, 0.1, batch, 1),
    }


NETWORKS = ["text", "context", "generator", "decoder", "encoder"]


def case(model: Model, name: str, batch: int) -> Case:
    random = torch.Generator().manual_seed(batch)
    codec = model.spec["codec"]
    frames = model.spec["generator"]["chunk_frames"]
    match name:
        case "text":
            texts = bags(batch, model.spec["text"]["buckets"], random)
            weights = model.weights("text", "text")
            padded = (torch.arange(24) < texts["counts"].unsqueeze(2)) / texts["counts"].unsqueeze(2)
            onnx = (networks.PaddedTextEncoder(weights), (texts["rows"], padded))
            return Case(name, batch, texts, networks.TextEncoder(weights), (*flat(texts), batch), onnx=onnx)
        case "context":
            inputs = chunk(model, batch, random)
            args = tuple(inputs[k] for k in ("context", "present", "noise"))
            return Case(name, batch, inputs, networks.ContextEncoder(model.generator()), args, compared=False)
        case "generator":
            inputs = chunk(model, batch, random)
            generator = model.generator(segments=True)
            with torch.no_grad():
                cache = generator.encode(*(inputs[k] for k in ("context", "present", "noise")))
            end = inputs["end"] if generator.end else None
            args = (*(inputs[k] for k in ("x", "t", "condition", "guidance")), end, *(y.contiguous() for y in cache))
            return Case(name, batch, inputs, generator, args)
        case "decoder":
            latents = torch.randn(batch, frames, codec["latent_channels"], generator=random)
            decoder = networks.Decoder(model.weights("decoder", "decoder"), codec)
            return Case(name, batch, {"latents": latents}, decoder, (latents,), decoder.start(batch))
        case "encoder":
            shape = (batch, frames * codec["frames_per_latent"], codec["frame_values"])
            spectrogram = torch.randn(shape, generator=random)
            encoder = networks.Encoder(model.initial.at("encoder"), codec)
            return Case(name, batch, {"frames": spectrogram}, encoder, (spectrogram,))
    raise ValueError(f"unknown network: {name}")
