"""The networks of a model here, in PyTorch and in ONNX Runtime: same weights, same machine, alternating runs.

    python benches/peers/run.py

Builds our side with cargo, checks that all outputs agree, prints a table and keeps it in benches/results.
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

import training
from cases import NETWORKS, Model, case
from contenders import Twostep, compiled, onnx_runtime, torch_peer

ROOT = Path(__file__).resolve().parents[2]
# Largest difference of outputs, relative to the largest output.
TOLERANCE = 1e-3
# Milliseconds of uninterrupted runs of one contender, and the rest before the next one's: worker threads of the one
# before spin for a while.
BLOCK_MS = 150
REST_S = 0.03


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/default", help="folder of the model")
    parser.add_argument("--networks", default=",".join(NETWORKS + training.STEPS), help="which, separated by commas")
    parser.add_argument("--batches", default="1,4,16", help="batches of the forward passes")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side")
    parser.add_argument("--rounds", type=int, default=15, help="alternations a comparison")
    parser.add_argument("--parts", type=int, default=2, help="parts of our training steps, as in twostep train")
    parser.add_argument("--machine", default=machine_name(), help="name of the machine in the results' file names")
    parser.add_argument("--only-eager", action="store_true", help="leave torch.compile and ONNX Runtime out")
    parser.add_argument("--results", type=Path, default=ROOT / "benches/results", help="where to keep the figures")
    return parser.parse_args()


def processor() -> str:
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", about.read_text()) if about.exists() else None
    return found[1].strip() if found else platform.processor()


def machine_name() -> str:
    return f"{re.sub('[^a-z0-9]+', '-', processor().lower()).strip('-')}-{os.cpu_count()}"


def build() -> Path:
    """Our side's executable."""
    command = ["cargo", "bench", "--bench", "peer", "--no-run", "--message-format=json"]
    messages = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in messages.splitlines()]
    return next(Path(a["executable"]) for a in artifacts if a.get("executable") and a["target"]["name"] == "peer")


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    # One scale for a whole output, but one each for loss and gradient norm.
    scale = theirs.abs() if theirs.numel() == 2 else theirs.abs().max()
    return ((ours - theirs).abs() / scale).max().item()


def check(name: str, batch: int, peer: str, ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The difference of outputs; too large a one ends the program."""
    found = difference(ours, theirs)
    if not found < TOLERANCE:
        sys.exit(f"{name} at batch {batch}: {peer} differs by {found:.1e}")
    return found


def measure(contenders: list, rounds: int) -> dict[str, list[float]]:
    """Every contender's median run of every round."""
    count = {}
    for c in contenders:
        c.time(2)
        count[c.name] = max(1, round(BLOCK_MS / median(c.time(3))))
    medians = {c.name: [] for c in contenders}
    for i in range(rounds):
        for c in contenders if i % 2 == 0 else contenders[::-1]:
            time.sleep(REST_S)
            c.time(1)
            medians[c.name].append(median(c.time(count[c.name])))
    return medians


def compare(name: str, batch: int, ours: Twostep, peers: list, differences: dict, rounds: int) -> dict:
    """Times one network; `ours` has it loaded."""
    medians = measure([ours, *peers], rounds)
    mine = medians.pop(ours.name)
    result = {"network": name, "batch": batch, "ms": median(mine), "peers": {}}
    for peer, theirs in medians.items():
        # Ratios of neighbouring runs: a machine that slows down slows both.
        ratio = median(their / our for their, our in zip(theirs, mine))
        result["peers"][peer] = {"ms": median(theirs), "ratio": ratio, "difference": differences.get(peer)}
    return result


def table(results: list[dict]) -> str:
    peers = list(dict.fromkeys(peer for r in results for peer in r["peers"]))
    lines = [
        "| network | batch | twostep (ms) | " + " | ".join(f"{p} (ms) | ratio" for p in peers) + " | difference |",
        "|---|--:|--:|" + "--:|--:|" * len(peers) + "--:|",
    ]
    for r in results:
        cells = [r["network"], str(r["batch"]), f"{r['ms']:.3f}"]
        for peer in peers:
            found = r["peers"].get(peer)
            cells += [f"{found['ms']:.3f}", f"**{found['ratio']:.2f}**"] if found else ["-", "-"]
        differences = [p["difference"] for p in r["peers"].values() if p["difference"] is not None]
        cells.append(f"{max(differences):.0e}" if differences else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def about(arguments: argparse.Namespace) -> dict:
    import onnxruntime

    def git(*command):
        return subprocess.run(["git", *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    return {
        "machine": arguments.machine,
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else ""),
        "model": arguments.model.name,
        "torch": torch.__version__,
        "torch_cpu": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "onnxruntime": onnxruntime.__version__,
        "rounds": arguments.rounds,
        "parts": arguments.parts,
    }


def main():
    arguments = options()
    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    heading, results = about(arguments), []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        ours = Twostep(build(), arguments.model, folder, arguments.threads)
        model = Model(arguments.model, ours.export())
        for name in arguments.networks.split(","):
            if name in training.STEPS:
                step = training.step(model, name)
                ours.load(name, {**step.inputs, "parts": torch.ones(1)})
                # The second step's loss follows from the first one's gradient.
                found = check(name, step.batch, step.peer.name, ours.output(), step.peer.output())
                ours.load(name, {**step.inputs, "parts": torch.tensor([float(arguments.parts)])})
                results.append(compare(name, step.batch, ours, [step.peer], {step.peer.name: found}, arguments.rounds))
                print(table(results[-1:]), flush=True)
                continue
            for batch in map(int, arguments.batches.split(",")):
                c = case(model, name, batch)
                peers = [torch_peer("torch", c, c.module)]
                if not arguments.only_eager:
                    peers += [compiled(c), onnx_runtime(c, folder, arguments.threads)]
                ours.load(name, c.inputs)
                outputs = {peer.name: peer.output() for peer in peers} if c.compared else {}
                expected = ours.output() if c.compared else None
                differences = {peer: check(name, batch, peer, expected, y) for peer, y in outputs.items()}
                results.append(compare(name, batch, ours, peers, differences, arguments.rounds))
                print(table(results[-1:]), flush=True)
        ours.close()
    text = report(heading, results)
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    stem = arguments.results / f"peers-{arguments.machine}-{heading['date']}"
    stem.with_suffix(".json").write_text(json.dumps({**heading, "results": results}, indent=2) + "\n")
    stem.with_suffix(".md").write_text(text)


def report(heading: dict, results: list[dict]) -> str:
    h = heading
    return (
        f"{h['processor']}, {h['cores']} cores, {h['threads']} threads a side, {h['date']}, commit {h['commit']}, "
        f"model {h['model']}, torch {h['torch']} ({h['torch_cpu']}), ONNX Runtime {h['onnxruntime']}.\n"
        "Ratio: time of the other over ours, the median over alternating runs; above 1 we are faster.\n\n"
    ) + table(results)


if __name__ == "__main__":
    main()
