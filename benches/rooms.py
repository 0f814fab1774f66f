"""What a room costs the server beside one stream: processor time of its process, in turns.

    pip install websockets
    cargo build --release
    python benches/rooms.py target/release/twostep

The clients are this process: a machine with two cores has one for them.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import struct
import subprocess
import threading
import urllib.request
from time import monotonic

import websockets

# version, flags, payload, channels, epoch, first sample, sequence, samples: PROTOCOL.md, "Binary frames".
HEADER = struct.Struct("<BBBBIQII")
SPECTROGRAM = 16
PROMPT = "gentle rain"
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A server of its own, on a port that the system chooses."""

    def __init__(self, program):
        self.process = subprocess.Popen(
            [program, "serve", "--listen", "127.0.0.1:0", "--device", "cpu", "--max-per-address", "10000",
             "--max-connections-per-address", "10000"],
            stderr=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stderr if "Listen at" in line)
        self.address = line.split("http://")[1].strip().rstrip("/")
        # A server whose log nobody reads waits in the end.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def seconds(self):
        """Processor seconds so far, (user, system)."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return int(fields[11]) / TICKS, int(fields[12]) / TICKS

    def open_room(self, name):
        body = json.dumps({"name": name, "prompt": PROMPT}).encode()
        urllib.request.urlopen(urllib.request.Request(f"http://{self.address}/v1/rooms", body)).close()


async def listen(server, path, start):
    """Hears whatever comes, and says so where the stream waits for it."""
    address = f"ws://{server.address}{path}"
    async with websockets.connect(address, subprotocols=["twostep.v1"], max_size=None, compression=None) as socket:
        await socket.send(json.dumps({"type": "session.start", **start}))
        alone = path == "/v1/stream"
        if alone:
            await socket.send(json.dumps({"type": "playback.set", "state": "PLAY"}))
        async for message in socket:
            if alone and isinstance(message, bytes):
                _, _, payload, _, _, first, _, samples = HEADER.unpack_from(message)
                if payload != SPECTROGRAM:
                    await socket.send(json.dumps({"type": "played", "sample": first + samples}))


async def measure(server, path, listeners, start, seconds):
    """Share of a core, (user, system)."""
    tasks = [asyncio.create_task(listen(server, path, start)) for _ in range(listeners)]
    await asyncio.sleep(5)
    before, began = server.seconds(), monotonic()
    await asyncio.sleep(seconds)
    after, took = server.seconds(), monotonic() - began
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(ended, asyncio.CancelledError):
            raise ended or RuntimeError("a listener was let go")
    return [(now - then) / took for now, then in zip(after, before)]


async def compare(server, args):
    sound = {"format": args.format}
    ratios = []
    for turn in range(args.turns):
        name = f"turn{turn}"
        alone = await measure(server, "/v1/stream", 1, {**sound, "prompts": [{"text": PROMPT}]}, args.seconds)
        server.open_room(name)
        room = await measure(server, f"/v1/rooms/{name}", args.listeners, sound, args.seconds)
        ratios.append(sum(room) / sum(alone))
        for what, (user, system) in (("one stream", alone), (f"room of {args.listeners}", room)):
            print(f"{what:>14}: {user:.2%} of a core, and {system:.2%} in the kernel", flush=True)
        await asyncio.sleep(args.away)
    print(f"a room of {args.listeners} costs {statistics.median(ratios):.2f} streams "
          f"(median of {args.turns} turns, {min(ratios):.2f} to {max(ratios):.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?", default="target/release/twostep")
    parser.add_argument("--listeners", type=int, default=100)
    parser.add_argument("--format", default="pcm_s16le", help="pcm_s16le, pcm_f32le, or opus where the server has it")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--away", type=float, default=61, help="seconds after which an empty room is gone")
    args = parser.parse_args()
    server = Server(args.program)
    try:
        asyncio.run(compare(server, args))
    finally:
        server.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(10)


if __name__ == "__main__":
    main()
