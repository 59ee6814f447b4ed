#!/usr/bin/env python3
"""Letters and digits from the fonts of Debian packages: a data set of 62 classes, 28x28 grey, for docs/results.md.

    tools/glyphs.py OUT [--images 20000] [--seed 1] [--list]

Needs pillow and numpy, and the packages of PACKAGES (apt install). Writes OUT/glyphs-train.npz and OUT/glyphs-test.npz (x: f32 [n][1][28][28],
ink 1, paper 0; labels: int64 [n], 0-9 A-Z a-z) and OUT/glyphs-fonts.txt. Every fifth typeface is kept for the test set alone, so that a network
is judged on shapes it never saw. Each picture: a random face, size, place, slant, stroke of grey and a little noise, all from the seed."""
import argparse
import os
import subprocess

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PACKAGES = """fonts-cabin fonts-cantarell fonts-comfortaa fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core fonts-dejavu-extra
fonts-ebgaramond fonts-firacode fonts-freefont-ttf fonts-gfs-didot fonts-hack fonts-inconsolata fonts-junicode fonts-lato fonts-liberation2
fonts-linuxlibertine fonts-open-sans fonts-oxygen fonts-play fonts-quicksand fonts-roboto-unhinted""".split()
CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
AVOID = ("Symbol", "Dingbats", "Math", "Emoji", "Initials", "Display-Glyphs", "Keyboard", "Awesome", "Libertinus_I")


def fonts():
    """Font files of the packages, by family, sorted: the same on every machine that has the same packages."""
    found = {}
    for package in PACKAGES:
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True)
        if listing.returncode:
            raise SystemExit(f"glyphs: package {package} is not installed (apt install {' '.join(PACKAGES)})")
        for path in sorted(listing.stdout.split("\n")):
            if path.endswith((".ttf", ".otf")) and os.path.isfile(path) and not any(a in path for a in AVOID):
                family = os.path.basename(path).split("-")[0].split(".")[0]
                found.setdefault(family, []).append(path)
    return found


def draw(rng, font_files, cache, char):
    size = int(rng.integers(18, 25))
    path = font_files[rng.integers(len(font_files))]
    font = cache.setdefault((path, size), ImageFont.truetype(path, size))
    image = Image.new("L", (56, 56), 0)
    ImageDraw.Draw(image).text((28, 36), char, fill=int(rng.integers(170, 256)), font=font, anchor="ms")
    shear, turn, zoom = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1), rng.uniform(0.92, 1.1)
    a, b = np.cos(turn) / zoom, np.sin(turn) / zoom + shear
    d, e = -np.sin(turn) / zoom, np.cos(turn) / zoom
    cx, cy = 28 + rng.uniform(-1.5, 1.5), 28 + rng.uniform(-1.5, 1.5)
    image = image.transform((56, 56), Image.Transform.AFFINE, (a, b, cx - a * 28 - b * 28, d, e, cy - d * 28 - e * 28), Image.Resampling.BILINEAR)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    x = np.asarray(image.crop((14, 14, 42, 42)), np.float32) / 255
    return np.clip(x + rng.normal(0, rng.uniform(0, 0.06), x.shape), 0, 1).astype(np.float32)


def make(rng, font_files, n):
    labels = rng.permutation(np.arange(n) % len(CLASSES)).astype(np.int64)
    cache = {}
    return np.stack([draw(rng, font_files, cache, CLASSES[k]) for k in labels])[:, None], labels


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("out")
    args.add_argument("--images", type=int, default=20000)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    families = fonts()
    names = sorted(families)
    test = [f for i, n in enumerate(names) if i % 5 == 4 for f in families[n]]
    train = [f for i, n in enumerate(names) if i % 5 != 4 for f in families[n]]
    rng = np.random.default_rng(args.seed)
    os.makedirs(args.out, exist_ok=True)
    for name, files, n in (("train", train, args.images * 4 // 5), ("test", test, args.images // 5)):
        x, labels = make(rng, files, n)
        np.savez(f"{args.out}/glyphs-{name}.npz", x=x, labels=labels)
        print(f"{name}: {n} pictures of {len(CLASSES)} classes from {len(files)} fonts, mean {x.mean():.4f}")
    with open(f"{args.out}/glyphs-fonts.txt", "w") as f:
        f.writelines(f"{'test' if p in test else 'train'} {p}\n" for p in sorted(train + test))


if __name__ == "__main__":
    main()
