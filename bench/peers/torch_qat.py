#!/usr/bin/env python3
"""A step of quantization-aware training beside PyTorch's: bench_train and torch.ao's FX QAT (qconfig "x86") in turn.

    cmake --build build --target bench_train
    python3 bench/peers/torch_qat.py build [--threads N] [--steps N] [--rounds N] [--json]

Needs a Python that has torch. The nets are the same on both sides (bench/bench_train.c): ResNet-20 on 32x32, batch 64, and three convolutions with
batch norms on 28x28, batch 32; random images, cross-entropy, SGD with momentum. A step is forward, loss, backward, update. Every round starts a process of ours and
one of theirs per net and mode, one after the other; the fastest step of all rounds counts on both sides, so that a busy machine disturbs little. The peak is
the most memory that a process ever held (VmHWM); PyTorch's includes what its libraries take (`bare`: after they are loaded).

Goals: QAT of ResNet-20 at least 1.7 times as fast, of the small net at least 2 times; at most half the memory."""
import argparse
import json
import subprocess
import sys
import time
import warnings

warnings.filterwarnings("ignore")
NETS, MODES = ("resnet20", "cnn"), ("float", "qat")
GOALS = {("resnet20", "qat"): 1.7, ("cnn", "qat"): 2.0}


def peak_mib():
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) / 1024


def nets():
    import torch
    from torch import nn

    def conv_bn(i, o, k, stride):
        return nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o)

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.conv1, self.bn1 = conv_bn(i, o, 3, stride)
            self.conv2, self.bn2 = conv_bn(o, o, 3, 1)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
            self.down = nn.Sequential(*conv_bn(i, o, 1, stride)) if stride != 1 else nn.Identity()

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
            return self.relu2(y + self.down(x))

    def resnet20():
        blocks = [Block(16 << max(s - (i == 0), 0), 16 << s, 2 if s and i == 0 else 1) for s in range(3) for i in range(3)]
        return nn.Sequential(*conv_bn(3, 16, 3, 1), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def cnn():
        return nn.Sequential(*conv_bn(1, 16, 3, 1), nn.ReLU(), nn.MaxPool2d(2), *conv_bn(16, 32, 3, 1), nn.ReLU(), nn.MaxPool2d(2),
                             *conv_bn(32, 64, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    return {"resnet20": (resnet20, (64, 3, 32, 32)), "cnn": (cnn, (32, 1, 28, 28))}, torch


def theirs(net, mode, threads, steps):
    """One process: fastest and median step, most memory."""
    made, torch = nets()
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    make, shape = made[net]
    model, x, t = make().train(), torch.rand(shape) * 2 - 1, torch.arange(shape[0]) % 10
    if mode == "qat":
        from torch.ao.quantization import get_default_qat_qconfig_mapping
        from torch.ao.quantization.quantize_fx import prepare_qat_fx

        model = prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))
    bare = peak_mib()
    optimizer, loss_of = torch.optim.SGD(model.parameters(), 0.01, 0.9), torch.nn.CrossEntropyLoss()
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        loss = loss_of(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[3:])
    return {"net": net, "mode": mode, "best_ms": seconds[0] * 1e3, "median_ms": seconds[steps // 2] * 1e3, "peak_mib": peak_mib(),
            "bare_mib": bare, "torch": torch.__version__}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def main():
    p = argparse.ArgumentParser(description="bench_train beside PyTorch FX QAT")
    p.add_argument("build", help="build folder that holds bench_train")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=20, help="steps of a process")
    p.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    p.add_argument("--json", action="store_true")
    p.add_argument("--only", help="one net")
    p.add_argument("--theirs", nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.theirs:
        print(json.dumps(theirs(*a.theirs, a.threads, a.steps)))
        return
    same = ["--threads", str(a.threads), "--steps", str(a.steps)]
    rows, bad = [], False
    for net in [n for n in NETS if a.only in (None, n)]:
        for mode in MODES:
            ours, peers = [], []
            for _ in range(a.rounds):
                ours.append(run([f"{a.build}/bench_train", "--json", "--net", net, *(["--float"] if mode == "float" else []), *same]))
                peers.append(run([sys.executable, __file__, a.build, "--theirs", net, mode, *same]))
            us, them = min(r["best_ms"] for r in ours), min(r["best_ms"] for r in peers)
            row = {"net": net, "mode": mode, "ours_ms": us, "torch_ms": them, "ratio": them / us, "goal": GOALS.get((net, mode)),
                   "ours_mib": max(r["peak_mib"] for r in ours), "torch_mib": min(r["peak_mib"] for r in peers),
                   "torch_bare_mib": min(r["bare_mib"] for r in peers), "torch": peers[0]["torch"]}
            bad |= row["ratio"] < (row["goal"] or 0) or row["ours_mib"] > row["torch_mib"] / 2
            rows.append(row)
            if not a.json:
                if len(rows) == 1:
                    print(f"torch {row['torch']}, {a.threads} threads, fastest of {a.rounds} x {a.steps} steps\n"
                          f"{'':16} {'ours ms':>8} {'torch ms':>9} {'ratio':>6} {'goal':>5}   {'ours MiB':>8} {'torch MiB':>9} {'(bare)':>7}")
                print(f"{net + ' ' + mode:16} {us:8.2f} {them:9.2f} {row['ratio']:6.2f} {row['goal'] or '':>5}   {row['ours_mib']:8.0f} "
                      f"{row['torch_mib']:9.0f} {row['torch_bare_mib']:7.0f}", flush=True)
    if a.json:
        print(json.dumps(rows, indent=1))
    sys.exit(bad)


if __name__ == "__main__":
    main()
