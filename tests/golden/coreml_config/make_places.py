#!/usr/bin/env python3
"""Where Core ML Tools 9 puts fake-quantizers in small random networks under random configs: places.txt, one network per line.

    python3 tests/golden/coreml_config/make_places.py [SEED [COUNT]]        PyTorch 2.7, coremltools 9.0

A line: config as JSON, tab, operators separated by ";" ("value op module inputs... numbers..."), tab, outputs, tab, letters, tab, weights.
Letters: one per activation_post_process_n - S symmetric, A affine, F fixed range, . none - then ":" and the letter of the first that is the same object.
Weights: "module:bits:axis" of each that has a fake-quantizer, in the order of the modules' names.
"""
import json
import pathlib
import random
import sys
import warnings

import torch
import torch.nn as nn

warnings.simplefilter("ignore")
from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig  # noqa: E402

ACTS = {"ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "LeakyReLU": nn.LeakyReLU, "Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh, "GELU": nn.GELU,
        "Hardswish": nn.Hardswish, "Softmax": lambda: nn.Softmax(1), "Hardsigmoid": nn.Hardsigmoid, "ELU": nn.ELU, "SiLU": nn.SiLU}


class Net(nn.Module):
    def __init__(self, ops, outputs):
        super().__init__()
        self.ops, self.outputs = ops, outputs
        for _, op, name, ins, ch in ops:
            if not name or hasattr(self, name):
                continue
            make = {"conv": lambda: nn.Conv2d(ch, 4, 3, padding=1), "deconv": lambda: nn.ConvTranspose2d(ch, 4, 3, padding=1),
                    "norm": lambda: nn.BatchNorm2d(ch), "pool": lambda: nn.MaxPool2d(1), "drop": nn.Dropout, "id": nn.Identity}
            setattr(self, name, (make.get(op) or ACTS[op])())

    def forward(self, x):
        v = {"x": x}
        for out, op, name, ins, _ in self.ops:
            a = [v[i] for i in ins]
            v[out] = (getattr(self, name)(*a) if name else a[0] + a[1] if op == "add" else a[0] * a[1] if op == "mul" else
                      a[0] - a[1] if op == "sub" else torch.cat(a, 1) if op == "cat" else torch.abs(a[0]))
        return tuple(v[o] for o in self.outputs)


def network(r):
    ops, values, channels, n = [], ["x"], {"x": 4}, 0
    for _ in range(r.randint(3, 11)):
        at = values[-1] if r.random() < 0.75 else r.choice(values)
        kind = r.choices(["conv", "deconv", "norm", "act", "pair", "cat", "pool", "drop", "id", "abs"], [6, 2, 3, 8, 4, 2, 2, 2, 1, 1])[0]
        ins, name, op = [at], f"m{n}", kind
        if kind == "act":
            op = r.choice([*ACTS, "ReLU", "ReLU", "ReLU6"])
        elif kind == "pair":
            other = r.choice([v for v in values if channels[v] == channels[at]])
            if other == at and r.random() < 0.7:
                continue
            op, ins, name = r.choice(["add", "add", "mul", "sub"]), [at, other], ""
        elif kind == "cat":
            ins, name = [at, r.choice(values)], ""
            if sum(channels[i] for i in ins) > 16:
                continue
        elif kind == "abs":
            name = ""
        out = f"v{n}"
        channels[out] = sum(channels[i] for i in ins) if op == "cat" else 4 if op in ("conv", "deconv") else channels[at]
        ops.append((out, op, name, ins, channels[at]))
        values.append(out)
        n += 1
    read = {i for o in ops for i in o[3]}
    return ops, [o[0] for o in ops if o[0] not in read]


def config(r, ops):
    scheme, algorithm = r.choice(["symmetric", "symmetric", "affine"]), r.choice(["vanilla", "vanilla", "learnable"])
    base = {"quantization_scheme": scheme, "algorithm": algorithm}
    c = {"global_config": dict(base)}
    if r.random() < 0.3:
        c["global_config"]["weight_dtype"] = r.choice(["qint4", "quint8", "float32"])
    if r.random() < 0.2:
        c["global_config"]["weight_per_channel"] = False
    if r.random() < 0.1:
        c["global_config"]["activation_dtype"] = "float32"
    names = [o[2] for o in ops if o[2]]
    rules = {}
    for name in r.sample(names, min(len(names), r.choice([0, 0, 1, 1, 2, 3]))):
        rules[name] = r.choice([None, None, {**base, "activation_dtype": "float32"}, {**base, "weight_dtype": "qint4"}])
    if rules:
        c["module_name_configs"] = rules
    return c


def letters(p):
    at = {int(n.name.rsplit("_", 1)[1]): p.get_submodule(n.target) for n in p.graph.nodes if n.name.startswith("activation_post_process")}
    n = max(at) + 1 if at else 0
    kinds = "".join("." if i not in at else "F" if "FixedQParams" in type(getattr(at[i], "activation_post_process", None)).__name__
                    else "S" if "symmetric" in str(at[i].qscheme) else "A" for i in range(n))
    return kinds + ":" + "".join("." if i not in at else chr(97 + min(k for k in at if at[k] is at[i])) for i in range(n))


def weights(p):
    found = {}
    for name, m in p.named_modules():
        f = getattr(m, "weight_fake_quant", None)
        if f is None or "Noop" in type(f).__name__ or "NoopObserver" in type(getattr(f, "activation_post_process", f)).__name__:
            continue
        bits = (f.quant_max - f.quant_min + 1).bit_length() - 1
        axis = f.ch_axis if "channel" in str(f.qscheme) else -1
        found[name.split(".")[0]] = f"{name.split('.')[0]}:{bits}:{axis}"
    return " ".join(found[k] for k in sorted(found, key=lambda m: int(m[1:])))


def main():
    seed, count = (int(sys.argv[1]) if len(sys.argv) > 1 else 5), (int(sys.argv[2]) if len(sys.argv) > 2 else 300)
    r, lines = random.Random(seed), []
    while len(lines) < count:
        ops, outputs = network(r)
        c = config(r, ops)
        if not outputs or not ops:
            continue
        try:
            q = LinearQuantizer(Net(ops, outputs), LinearQuantizerConfig.from_dict(c))
            p = q.prepare(example_inputs=(torch.randn(1, 4, 5, 5),))
        except Exception as e:
            print("left out:", type(e).__name__, str(e)[:80], file=sys.stderr)
            continue
        text = ";".join(f"{out} {op} {name or '-'} {' '.join(ins)} {ch}" for out, op, name, ins, ch in ops)
        lines.append("\t".join([json.dumps(c), text, " ".join(outputs), letters(p), weights(p)]))
    path = pathlib.Path(__file__).resolve().parent / "places.txt" if len(sys.argv) < 4 else pathlib.Path(sys.argv[3])
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
