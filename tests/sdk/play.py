"""Plays five seconds with google-genai, unmodified, and changes the prompts on the way."""

import array
import asyncio
import importlib.metadata
import os
import sys
import time

from google import genai
from google.genai import types

RATE, SECONDS = 48_000, 5


async def main(base_url: str) -> None:
    options = types.HttpOptions(base_url=base_url, api_version="v1alpha")
    client = genai.Client(api_key=os.environ["TWOSTEP_API_KEY"], http_options=options)
    pcm, heard, filtered, began, first = bytearray(), [], [], None, None
    async with client.aio.live.music.connect(model="models/lyria-realtime-exp") as session:
        await session.set_weighted_prompts([types.WeightedPrompt(text="gentle rain", weight=1.0)])
        await session.set_music_generation_config(types.LiveMusicGenerationConfig(guidance=2.0, seed=7, top_k=40))
        await session.play()
        began, changed = time.monotonic(), False
        async for message in session.receive():
            if message.filtered_prompt:
                filtered.append(message.filtered_prompt.text)
            for chunk in message.server_content.audio_chunks if message.server_content else ():
                first = first or time.monotonic() - began
                pcm += chunk.data
                source = [(p.text, p.weight) for p in chunk.source_metadata.client_content.weighted_prompts]
                if not heard or heard[-1] != source:
                    heard.append(source)
                assert chunk.source_metadata.music_generation_config.seed == 7
                assert chunk.mime_type.startswith("audio/l16;rate=48000;channels=2"), chunk.mime_type
            seconds = len(pcm) / (4 * RATE)
            if seconds > 2 and not changed:
                changed = True
                await session.set_weighted_prompts([
                    types.WeightedPrompt(text="gentle rain", weight=0.5),
                    types.WeightedPrompt(text="distant church bells", weight=1.0),
                    types.WeightedPrompt(text="zzxqv", weight=1.0),
                ])
            if seconds >= SECONDS:
                break
        took = time.monotonic() - began
        await session.pause()
        await session.reset_context()
        await session.stop()
    samples = array.array("h", bytes(pcm))
    loudness = (sum(x * x for x in samples) / len(samples)) ** 0.5 / 32768
    assert heard == [[("gentle rain", 1.0)], [("gentle rain", 0.5), ("distant church bells", 1.0)]], heard
    assert filtered == ["zzxqv"], filtered
    assert loudness > 1e-4, loudness
    version = importlib.metadata.version("google-genai")
    print(f"python google-genai {version}: {len(samples) / 2 / RATE:.2f} s in {took:.2f} s, first sound after "
          f"{first * 1000:.0f} ms, RMS {loudness:.3f}, prompts heard: {heard}")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
