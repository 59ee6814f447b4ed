"""The float models that ort.py measures, made on demand in a cache folder: random weights for those that PyTorch and torchvision
describe, copies of the real ones where their folder is given; and what feeds them."""
import os
import shutil

import numpy as np

SEED = 20261122
CALIBRATION = 40  # samples

# name: (input shape without batch, options of `requant quantize`)
RANDOM = {
    "mobilenetv2": ((3, 224, 224), []),
    "resnet50": ((3, 224, 224), []),
    "separable": ((3, 224, 224), []),
    "encoder": ((128, 384), []),
}
# name: (folder of the task, options); their shapes are those of its samples
REAL = {
    "opennsfw": ("opennsfw", []),
    "ocr-det": ("ppocr_det", []),
    "ocr-rec": ("ppocr_rec", []),
    "ocr-cls": ("ppocr_cls", []),
    "magika": ("magika", ["--per-tensor"]),
}
NAMES = [*RANDOM, *REAL]


def separable(torch):
    """MobileNetV1: a convolution, then thirteen pairs of a depthwise 3x3 and a pointwise one."""
    nn = torch.nn

    def block(i, o, stride, groups, size):
        return [nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    layers, width = block(3, 32, 2, 1, 3), 32
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers += block(width, width, stride, width, 3) + block(width, out, 1, 1, 1)
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 1000))


def encoder(torch, layers=6, width=384, heads=6):
    """A transformer encoder as BERT has it: attention, residual, LayerNormalization, GELU between two products."""
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x):
            def split(t):
                return t.reshape(-1, 128, heads, width // heads).transpose(1, 2)

            q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))
            scores = torch.softmax(q @ k.transpose(2, 3) * (width // heads) ** -0.5, -1)
            x = self.norm1(x + self.o((scores @ v).transpose(1, 2).reshape(-1, 128, width)))
            return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))

    return nn.Sequential(*[Layer() for _ in range(layers)])


def samples_of(name, n):
    rng = np.random.default_rng(SEED)
    return rng.standard_normal((n, *RANDOM[name][0])).astype(np.float32)


def export(name, path):
    import torch
    import torchvision

    torch.manual_seed(SEED)
    make = {"mobilenetv2": torchvision.models.mobilenet_v2, "resnet50": torchvision.models.resnet50,
            "separable": lambda: separable(torch), "encoder": lambda: encoder(torch)}
    model, x = make[name](), torch.from_numpy(samples_of(name, 8))
    with torch.no_grad():  # normalizations learn the statistics of the noise, so that no layer's range collapses
        for m in model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = None
        for _ in range(2):
            model.train()(x)
    torch.onnx.export(model.eval(), x[:1], path, dynamo=False, input_names=["x"], output_names=["y"], opset_version=17,
                      dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})


def prepare(name, cache, real, quantize):
    """Float model, QDQ model and samples of `name`: paths. quantize(model, samples, out, options) makes the second."""
    folder = os.path.join(cache, name)
    os.makedirs(folder, exist_ok=True)
    model, samples, int8 = (os.path.join(folder, f) for f in ("float.onnx", "samples.npz", "int8.onnx"))
    if name in RANDOM:
        options = RANDOM[name][1]
        if not os.path.exists(model):
            export(name, model + ".part")
            os.replace(model + ".part", model)
        if not os.path.exists(samples):
            np.savez(samples, x=samples_of(name, CALIBRATION))
    else:
        task, options = REAL[name]
        if not real or not os.path.exists(os.path.join(real, task, "model.onnx")):
            return None
        if not os.path.exists(model):
            shutil.copy(os.path.join(real, task, "model.onnx"), model)
        if not os.path.exists(samples):
            data = np.load(os.path.join(real, task, "calib.npz"))
            np.savez(samples, **{k: data[k][:CALIBRATION] for k in data.files})
    if not os.path.exists(int8):
        quantize(model, samples, int8, options)
    return model, int8, samples
