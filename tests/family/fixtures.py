"""Makes models of the ConsistencyTTA family with random weights. Run it where Python 3.11 has

    torch==2.6.0 transformers==4.51.3 diffusers==0.33.1 tokenizers==0.21.4 sentencepiece==0.2.3 numpy==2.2.6 safetensors==0.8.0

    python tests/family/fixtures.py              tests/fixtures/consistency_tta: a tiny one, and what the reference
                                                 implementations compute with it
    python tests/family/fixtures.py --full DIR   one of the public model's size, 4 GB
"""

import json
import math
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, HeunDiscreteScheduler, UNet2DConditionModel
from diffusers.models.embeddings import GaussianFourierProjection, TimestepEmbedding
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig, T5Config, T5EncoderModel

FOLDER = Path(__file__).parent.parent / "fixtures" / "consistency_tta"
PROMPT = "rain on a tin roof"
GUIDANCE = 3.5
ROWS = 16


class GuidedUNet(UNet2DConditionModel):
    """The U-Net with the guidance scale as an input. Its embedding is added to the time's, for all blocks."""

    def with_guidance(self):
        width = 4 * self.config.block_out_channels[0]
        self.guidance_proj = GaussianFourierProjection(
            width // 2, set_W_to_weight=False, log=False, flip_sin_to_cos=True
        )
        self.guidance_embedding = TimestepEmbedding(width, width)
        return self

    def get_class_embed(self, sample, class_labels):
        return self.guidance_embedding(self.guidance_proj(class_labels).to(sample.dtype))


def shake(model, generator, gain=1.0, bias=0.1):
    """Weights as large as a network's that computes something, and no bias or norm at its neutral value."""
    for p in model.parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            p.data += bias * noise
        elif p.ndim > 2:
            p.data = gain * noise / math.sqrt(p[0].numel())


def tokenizer():
    words = ["▁rain", "▁on", "▁a", "▁tin", "▁roof", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(word, -1.0 if len(word) > 1 else -4.0 - 0.01 * i) for i, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


# The public model's configurations, and the tiny one's.
FULL = {
    "text": dict(vocab_size=32128, d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16),
    "unet": dict(block_out_channels=(256, 512, 1024, 1024), attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024,
                 norm_num_groups=32),
    "vae": dict(block_out_channels=(128, 256, 512), layers_per_block=2, norm_num_groups=32),
    "vocoder": dict(model_in_dim=64, upsample_initial_channel=1024, resblock_kernel_sizes=[3, 7, 11],
                    resblock_dilation_sizes=[[1, 3, 5]] * 3, normalize_before=False),
}
TINY = {
    "text": dict(vocab_size=40, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
                 relative_attention_num_buckets=8, relative_attention_max_distance=16),
    "unet": dict(block_out_channels=(8, 16, 16, 16), attention_head_dim=[3, 3, 5, 5], cross_attention_dim=24,
                 norm_num_groups=4),
    "vae": dict(block_out_channels=(8, 16, 16), layers_per_block=1, norm_num_groups=4),
    "vocoder": dict(model_in_dim=32, upsample_initial_channel=64, resblock_kernel_sizes=[3, 7],
                    resblock_dilation_sizes=[[1, 3]] * 2, normalize_before=True),
}


def build(size, folder, generator):
    """Makes a model and writes its folder."""
    t5 = T5EncoderModel(T5Config(**size["text"], feed_forward_proj="gated-gelu")).eval()
    unet = GuidedUNet(
        sample_size=(32, 2), in_channels=8, out_channels=8, layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        use_linear_projection=True, upcast_attention=True, **size["unet"],
    ).with_guidance().eval()
    vae = AutoencoderKL(
        in_channels=1, out_channels=1, latent_channels=8, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, scaling_factor=0.9227, sample_size=1024, **size["vae"],
    ).eval()
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(
        sampling_rate=16000, upsample_rates=[5, 4, 2, 2, 2], upsample_kernel_sizes=[16, 16, 8, 4, 4], **size["vocoder"],
    )).eval()
    for model in (t5, unet, vae):
        shake(model, generator)
    shake(vocoder, generator, gain=1.25, bias=0.02)
    if vocoder.config.normalize_before:
        bands = vocoder.config.model_in_dim
        vocoder.mean.data = 0.3 * torch.randn(bands, generator=generator)
        vocoder.scale.data = 1 + 0.2 * torch.randn(bands, generator=generator).abs()
    scheduler = HeunDiscreteScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction",
    )

    folder.mkdir(parents=True, exist_ok=True)
    t5.save_pretrained(folder / "text_encoder")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    vocoder.save_pretrained(folder / "vocoder")
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir(exist_ok=True)
    text = tokenizer()
    text.save(str(folder / "tokenizer" / "tokenizer.json"))
    index = {
        "_class_name": "ConsistencyTTAPipeline",
        "_diffusers_version": "0.33.1",
        "scheduler": ["diffusers", "HeunDiscreteScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "unet": ["modeling_unet", "UNet2DConditionGuidedModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "vocoder": ["transformers", "SpeechT5HifiGan"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    card = "---\nlicense: cc0-1.0\n---\n\nRandom weights, made by tests/family/fixtures.py.\n"
    (folder / "README.md").write_text(card)
    return text, t5, unet, vae, vocoder, scheduler


def main():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    if sys.argv[1:2] == ["--full"]:
        build(FULL, Path(sys.argv[2]), generator)
        return
    text, t5, unet, vae, vocoder, scheduler = build(TINY, FOLDER, generator)
    normal = lambda *shape: torch.randn(shape, generator=generator)

    kept = {}
    ids = torch.tensor([text.encode(PROMPT).ids])
    context = t5(ids).last_hidden_state
    kept |= {"t5.ids": ids, "t5.out": context}

    def f(x, t, w, mask=None):
        return unet(x, t, encoder_hidden_states=context, class_labels=torch.tensor([w]),
                    encoder_attention_mask=mask).sample

    # diffusers makes a bias of a mask, -10 000 where it is 0; what it makes of this is of the size of a weight.
    x, mask = normal(1, 8, ROWS, 8), 1 + torch.log(torch.rand(1, ids.shape[1], generator=generator)) / 10_000
    kept |= {"unet.x": x, "unet.bias": (1 - mask[0]) * -10_000}
    kept |= {"unet.late": f(x, 999.0, GUIDANCE), "unet.middle": f(x, 528.8823529411765, 1.0)}
    kept["unet.biased"] = f(x, 528.8823529411765, 6.0, mask)

    decode = lambda latents: vae.decode(latents / vae.config.scaling_factor).sample
    mel = decode(x)
    # A spectrogram as a vocoder gets it; that of the random autoencoder would only touch one side of its range.
    heard = normal(1, 4 * ROWS, 32)
    kept |= {"vae.mel": mel, "vocoder.mel": heard, "vocoder.wave": vocoder(heard)}

    # As the authors sample: https://github.com/Bai-YT/ConsistencyTTA, easy_inference/consistencytta.py, but for the
    # second time, which is one that the model was trained at, the nearest to 1.1 radians.
    scheduler.set_timesteps(18)
    times, sigmas = scheduler.timesteps[::2], scheduler.sigmas[:-1:2]
    middle = min(range(1, 18), key=lambda i: abs(math.atan(sigmas[i]) - 1.1))
    first, second = normal(1, 8, ROWS, 8), normal(1, 8, ROWS, 8)
    known = normal(1, 8, 6, 8)
    kept |= {"noise.first": first, "noise.second": second, "known": known}
    kept["times"] = torch.tensor([times[0], times[middle]], dtype=torch.float32)

    def paint(latents, known):
        return latents if known is None else torch.cat([known, latents[:, :, known.shape[2]:]], 2)

    def sample(steps, known=None):
        z = first * scheduler.init_noise_sigma
        if known is not None:
            z[:, :, : known.shape[2]] += known
        zhat = paint(f(z / (sigmas[0] ** 2 + 1) ** 0.5, times[0], GUIDANCE), known)
        if steps == 2:
            z = zhat + second * sigmas[middle]
            zhat = paint(f(z / (sigmas[middle] ** 2 + 1) ** 0.5, times[middle], GUIDANCE), known)
        return zhat

    for steps in (1, 2):
        latents = sample(steps)
        kept[f"latents.{steps}"] = latents
        kept[f"wave.{steps}"] = vocoder(decode(latents).squeeze(1))
    kept["latents.continued"] = sample(2, known)

    kept = {name: tensor.detach().contiguous() for name, tensor in kept.items()}
    save_file(kept, FOLDER / "expected.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main()
