"""Plays a Twostep stream through the sound card, or writes some of it to a WAV file.

    pip install websockets sounddevice
    python examples/listen.py "gentle rain"
    python examples/listen.py "gentle rain" "church bells" --seconds 10 --out rain.wav

A line that is typed while it plays is the next prompt. A server with keys wants TWOSTEP_API_KEY in the environment.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import wave

import websockets

RATE, FRAME = 48_000, 4
# version, flags, payload, channels, epoch, first sample, sequence, samples: PROTOCOL.md, "Binary frames".
HEADER = struct.Struct("<BBBBIQII")
REPLACE, PCM = 1, 0


class Timeline:
    """16-bit stereo by its place in the stream; what is heard is forgotten."""

    def __init__(self):
        self.heard, self.held = 0, bytearray()

    def put(self, first, flags, pcm):
        at = FRAME * (first - self.heard)
        if at < 0:  # Part of a replacement came too late.
            at, pcm = 0, pcm[-at:]
        end = len(self.held) if flags & REPLACE else at + len(pcm)
        self.held[at:max(at, end)] = pcm

    def take(self, samples):
        pcm = bytes(self.held[: FRAME * samples])
        del self.held[: len(pcm)]
        self.heard += len(pcm) // FRAME
        return pcm


def sound_card(timeline):
    import sounddevice

    def fill(out, samples, _time, _status):
        pcm = timeline.take(samples)
        out[:] = pcm + bytes(len(out) - len(pcm))

    return sounddevice.RawOutputStream(RATE, channels=2, dtype="int16", callback=fill)


async def prompts_typed(send):
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip():
            await send(type="prompts.set", prompts=[{"text": line.strip(), "weight": 1}])


async def listen(args):
    key = os.environ.get("TWOSTEP_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeline, wanted = Timeline(), int(args.seconds * RATE) if args.seconds else None
    async with websockets.connect(args.url, subprotocols=["twostep.v1"], additional_headers=headers) as socket:

        async def send(**message):
            await socket.send(json.dumps(message))

        prompts = [{"text": text, "weight": 1} for text in args.prompts]
        await send(type="session.start", sample_rate=RATE, prompts=prompts)
        await send(type="playback.set", state="PLAY")
        file = card = typed = None
        if args.out:
            file = wave.open(args.out, "wb")
            file.setparams((2, 2, RATE, 0, "NONE", ""))
        else:
            card, typed = sound_card(timeline), asyncio.create_task(prompts_typed(send))
            card.start()
        try:
            async for message in socket:
                if isinstance(message, str):
                    event = json.loads(message)
                    if event["type"] in ("error", "warning", "prompt.filtered"):
                        print(message, file=sys.stderr)
                    continue
                _version, flags, payload, _channels, _epoch, first, _sequence, samples = HEADER.unpack_from(message)
                if payload != PCM:
                    continue
                timeline.put(first, flags, message[HEADER.size :])
                if file:
                    file.writeframes(timeline.take(samples if wanted is None else min(samples, wanted - timeline.heard)))
                await send(type="played", sample=timeline.heard)
                if wanted is not None and timeline.heard >= wanted:
                    break
        finally:
            for thing in (file, card):
                if thing:
                    thing.close()
            if typed:
                typed.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT")
    parser.add_argument("--url", default="ws://localhost:3000/v1/stream")
    parser.add_argument("--seconds", type=float, help="end after so much; without it goes on until interrupted")
    parser.add_argument("--out", help="WAV file to write instead of playing")
    try:
        asyncio.run(listen(parser.parse_args()))
    except KeyboardInterrupt:
        pass
