#!/usr/bin/env python3
"""lines.py [--out DIR] [--lines N] [--seed S] cls|rec: rendered lines of text to fine-tune the two OCR networks on, as .npz.

Lines of the form of prepare.py's, from another seed, so that none of those it calibrates and judges with is among them. cls: x [n][3][48][192] with labels
(1: upside down) -> DIR/ppocr_cls/train.npz; rec: x [n][3][48][320] without labels, for distillation -> DIR/ppocr_rec/train.npz."""
import argparse
import os
import sys

args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
args.add_argument("--out", default=os.environ.get("RQ_REAL", "real"))
args.add_argument("--lines", type=int, default=800)
args.add_argument("--seed", type=int, default=101)
args.add_argument("task", choices=("cls", "rec"))
args = args.parse_args()

import numpy as np

sys.argv = [sys.argv[0], "--out", args.out, "none"]
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import prepare

rng = np.random.default_rng(args.seed)
words, photos = prepare.words(), prepare.photos(60)
x, labels = [], []
while len(x) < args.lines:
    text, line = prepare.render_line(rng, words, photos)
    if args.task == "cls":
        turned = int(rng.integers(0, 2))
        if len(text) > 5:
            x.append(prepare.fitw(line[::-1, ::-1] if turned else line, 48, 192))
            labels.append(turned)
    elif line.shape[1] / line.shape[0] < 320 / 48:
        x.append(prepare.fitw(line, 48, 320))
folder = f"{args.out}/ppocr_{args.task}"
os.makedirs(folder, exist_ok=True)
arrays = {"x": np.stack(x).astype(np.float32)}
if args.task == "cls":
    arrays["labels"] = np.array(labels, np.int64)
np.savez(f"{folder}/train.npz", **arrays)
print(f"{folder}/train.npz: {len(x)} lines of {arrays['x'].shape[1:]}")
