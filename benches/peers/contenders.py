"""Who is timed: our process, PyTorch eager and compiled, ONNX Runtime, each behind `time(runs) -> [milliseconds]`."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


class Twostep:
    """Our side: the benchmark target `peer`, spoken to a line at a time."""

    name = "twostep"

    def __init__(self, binary: Path, model: Path, folder: Path, threads: int):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([binary, model], stdin=pipe, stdout=pipe, text=True, env=environment)
        self.folder = folder

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer.startswith("ok "):
            raise RuntimeError(f"{line}: {answer or 'the process ended'}")
        return answer[3:]

    def export(self) -> Path:
        return Path(self.ask(f"export {self.folder / 'initial.safetensors'}"))

    def load(self, network: str, inputs: dict[str, Tensor]):
        file = self.folder / "inputs.safetensors"
        save_file({name: x.contiguous() for name, x in inputs.items()}, file)
        self.ask(f"load {network} {file}")

    def output(self) -> Tensor | None:
        """The second run's."""
        return load_file(self.ask(f"output {self.folder / 'outputs.safetensors'}")).get("y")

    def time(self, runs: int) -> list[float]:
        return [float(x) for x in self.ask(f"time {runs}").split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """A function of no arguments, run in this process."""

    def __init__(self, name: str, run):
        self.name, self.run = name, run

    def output(self) -> Tensor | None:
        self.run()
        return self.run()

    def time(self, runs: int) -> list[float]:
        millis = []
        for _ in range(runs):
            begin = time.perf_counter()
            self.run()
            millis.append((time.perf_counter() - begin) * 1e3)
        return millis


def stream(call, fixed, state):
    """A run that gives the first result, and hands the others to the next run where there is a state to keep."""
    keeps = bool(state)

    def run():
        nonlocal state
        results = call(*fixed, *state)
        if not isinstance(results, (list, tuple)):
            return results
        if keeps:
            state = results[1:]
        return results[0]

    return run


def torch_peer(name: str, case, module) -> Peer:
    run = stream(module, case.args, case.state)

    def inferred():
        with torch.inference_mode():
            return run()

    return Peer(name, inferred)


def compiled(case) -> Peer:
    import torch._inductor.config as inductor

    # Weights are constants, so that they may be packed once.
    inductor.freezing = True
    torch._dynamo.reset()
    return torch_peer("torch compiled", case, torch.compile(case.module, dynamic=False))


def onnx_runtime(case, folder: Path, threads: int) -> Peer:
    import onnxruntime

    module, args = case.onnx if case.onnx else (case.module, (*case.args, *case.state))
    file = folder / "network.onnx"
    with torch.no_grad():
        torch.onnx.export(module.eval(), args, file, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    arrays = [x.numpy() for x in args if isinstance(x, Tensor)]
    assert len(names) == len(arrays), (names, len(arrays))
    fixed = arrays[: len(arrays) - len(case.state)]

    def call(*arrays):
        return session.run(None, dict(zip(names, arrays)))

    run = stream(call, fixed, arrays[len(fixed) :])
    return Peer("onnx runtime", lambda: torch.from_numpy(np.asarray(run())))
