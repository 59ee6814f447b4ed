"""Packages whose input is a picture, for tests/formats/test_model_input.c: colours, sizes, scale and bias, labels of a classifier.
Needs coremltools 9.0 and torch: python make.py FOLDER. Writes packages, pictures of noise in folders of the labels' names, and outputs.json: what torch
gives for each picture (of the package's size, so that nobody resizes)."""
import json, os, struct, sys, warnings, zlib
warnings.filterwarnings("ignore")
import numpy as np
import torch
import coremltools as ct

OUT = sys.argv[1]


def save_png(path, x):
    """x [height, width, 3] uint8"""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    h, w, _ = x.shape
    rows = b"".join(b"\0" + row.tobytes() for row in x)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def gray(x):
    """As Pillow: ITU-R 601 in 16 bits."""
    r, g, b = (x[..., i].astype(np.int64) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16).astype(np.uint8)


class Net(torch.nn.Module):
    def __init__(s, channels):
        super().__init__()
        s.a, s.b = torch.nn.Conv2d(channels, 4, 3, padding=1), torch.nn.Linear(4, 3)
    def forward(s, x):
        return torch.softmax(s.b(torch.relu(s.a(x)).mean((2, 3))), -1)


def main():
    rng = np.random.default_rng(1)
    labels = ["zebra", "ant", "mole"]
    files = []
    for n, name in enumerate(labels):
        os.makedirs(os.path.join(OUT, "pictures", name), exist_ok=True)
        for k in range(2):
            path = os.path.join("pictures", name, "%d.png" % k)
            x = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            save_png(os.path.join(OUT, path), x)
            files.append((path, n, x))
    files.sort(key=lambda f: f[0])
    result = {"labels": [n for _, n, _ in files]}
    for name, layout, channels in (("rgb", ct.colorlayout.RGB, 3), ("bgr", ct.colorlayout.BGR, 3),
                                   ("gray", ct.colorlayout.GRAYSCALE, 1)):
        for half in (False, True):
            torch.manual_seed(2)
            net = Net(channels).eval()
            scale, bias = 1 / 64, [-2.0, -1.5, -1.0][:channels]
            model = ct.convert(torch.jit.trace(net, torch.rand(1, channels, 6, 8)),
                               inputs=[ct.ImageType(name="picture", shape=(1, channels, 6, 8), scale=scale,
                                                    bias=bias if channels > 1 else bias[0], color_layout=layout)],
                               classifier_config=ct.ClassifierConfig(labels),
                               compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                               minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
            package = "%s_%s" % (name, "f16" if half else "f32")
            model.save(os.path.join(OUT, package + ".mlpackage"))
            outputs = []
            for _, _, x in files:
                x = np.float32(gray(x) if channels == 1 else x)
                x = x[None, None] if channels == 1 else x.transpose(2, 0, 1)[None]
                if name == "bgr":
                    x = x[:, ::-1].copy()
                x = x * scale + np.float32(bias).reshape(1, -1, 1, 1)
                with torch.no_grad():
                    outputs.append([float(v) for v in net(torch.from_numpy(np.float32(x)))[0]])
            result[package] = outputs
    with open(os.path.join(OUT, "outputs.json"), "w") as f:
        json.dump(result, f, indent=0)


main()
