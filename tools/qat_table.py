#!/usr/bin/env python3
"""The accuracy table of docs/results.md, "Quantization-aware training": each row trained with several seeds by the program itself.

    tools/qat_table.py REQUANT GLYPHS [--seeds 5] [--rows PATTERN] [--out FILE.json] [--table FILE.json]

GLYPHS: the folder of tools/glyphs.py, with the float network in it (glyphs-resnet.onnx, docs/results.md). Float and PTQ are evaluated by the same command: PTQ is
the network with calibrated ranges before any training, at the same bits; QAT is what the integers of the written file give (the verdict)."""
import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import statistics
import subprocess
import tempfile

DIGITS = "--batch 32 --schedule cosine"
GLYPHS = "--batch 64 --schedule cosine --augment crop=2"
LSQ4 = "--preset lsq --optimizer adam --clip-norm 1"
ROWS = [  # name, network, bits of weights, of activations, what else
    ("digits CNN W8A8", "digits-cnn", 8, 8, f"{DIGITS} --epochs 10 --lr 0.002"),
    ("digits CNN W2A4", "digits-cnn", 2, 4, f"{DIGITS} {LSQ4} --epochs 20 --lr 0.001"),
    ("uneven depthwise W4A8", "digits-uneven", 4, 8, f"--batch 16 --schedule cosine {LSQ4} --epochs 80 --lr 0.002 --distill 0.7 --temperature 2"),
    ("glyphs W8A8", "glyphs", 8, 8, f"{GLYPHS} --epochs 1 --lr 0.01"),
    ("glyphs W4A8", "glyphs", 4, 8, f"{GLYPHS} {LSQ4} --epochs 2 --lr 0.001"),
    ("glyphs W4A4", "glyphs", 4, 4, f"{GLYPHS} {LSQ4} --epochs 3 --lr 0.001"),
    ("glyphs W2A4", "glyphs", 2, 4, f"{GLYPHS} {LSQ4} --epochs 4 --lr 0.001"),
]


def one(requant, glyphs, row, seed, threads):
    name, network, w, a, rest = row
    models = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "models")
    if network == "glyphs":
        files = [f"{glyphs}/glyphs-resnet.onnx", f"{glyphs}/glyphs-train.npz", f"{glyphs}/glyphs-test.npz"]
    else:
        files = [f"{models}/{network}.onnx", f"{models}/digits-train.npz", f"{models}/digits-test.npz"]
    with tempfile.TemporaryDirectory() as t:
        command = [requant, "qat", files[0], "-d", files[1], "--eval", files[2], "-o", f"{t}/q.onnx", "--weights-bits", str(w), "--activations-bits", str(a),
                   "--seed", str(seed), "--threads", str(threads), "--keep-last", *rest.split()]
        text = subprocess.run(command, capture_output=True, text=True)
    if text.returncode:
        raise SystemExit(f"{' '.join(command)}: {text.stderr[-500:]}")
    out = text.stdout + text.stderr
    number = lambda pattern: float(re.search(pattern, out).group(1))
    return {"row": name, "seed": seed, "float": number(r"\(float ([\d.]+) %"), "ptq": number(r"ptq .*accuracy +([\d.]+) %"), "qat": number(r"int8 ([\d.]+) %"),
            "differ": number(r"codes differ \(([\d.]+) %\)"), "options": rest}


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("requant", nargs="?")
    args.add_argument("glyphs", nargs="?")
    args.add_argument("--seeds", type=int, default=5)
    args.add_argument("--rows", default="*")
    args.add_argument("--out", default="qat.json")
    args.add_argument("--table")
    args = args.parse_args()
    if args.table:
        runs = json.load(open(args.table))
        print("| network, bits | float | PTQ | QAT, mean of seeds | spread | seeds |\n|---|---|---|---|---|---|")
        for row in ROWS:
            got = [r for r in runs if r["row"] == row[0]]
            if got:
                qat = [r["qat"] for r in got]
                print(f"| {row[0]} | {got[0]['float']:.2f} | {statistics.mean(r['ptq'] for r in got):.2f} | {statistics.mean(qat):.2f} | "
                      f"{min(qat):.2f} to {max(qat):.2f} | {len(qat)} |")
        return
    runs = json.load(open(args.out)) if os.path.exists(args.out) else []
    todo = [(row, seed) for row in ROWS if fnmatch.fnmatch(row[0], args.rows) for seed in range(1, args.seeds + 1)
            if not any(r["row"] == row[0] and r["seed"] == seed for r in runs)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for r in pool.map(lambda t: one(args.requant, args.glyphs, *t, 1), todo):
            runs.append(r)
            json.dump(runs, open(args.out, "w"), indent=1)
            print(r["row"], "seed", r["seed"], "float", r["float"], "ptq", r["ptq"], "qat", r["qat"], flush=True)


if __name__ == "__main__":
    main()
