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
# Dynamic quantization, name: (how, of what, batch; None: samples as they are). "peer": ONNX Runtime's quantize_dynamic; "own": `requant quantize --mode dynamic`
DYNAMIC = {
    "encoder-dynamic": ("peer", "encoder", 1),
    "encoder-own-dynamic": ("own", "encoder", 1),
    "magika-dynamic": ("own", "magika", 1),
    "ocr-rec-dynamic": ("own", "ocr-rec", 1),
    "lstm-80-steps": ("peer", ("LSTM", 128, 96, True, 80), None),
    "lstm-1-step": ("peer", ("LSTM", 128, 128, False, 1), None),
    "gru-80-steps": ("own", ("GRU", 128, 96, True, 80), None),
}


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


def export_cell(shape, path, samples):
    """An LSTM or a GRU from `inputs` to `hidden`, in one direction or both: [steps, 1, inputs]."""
    import torch

    kind, inputs, hidden, both, steps = shape
    torch.manual_seed(SEED)

    class Outputs(getattr(torch.nn, kind)):
        def forward(self, x):
            return super().forward(x)[0]

    x = torch.randn(steps, 1, inputs)
    np.savez(samples, x=x.numpy())
    torch.onnx.export(Outputs(inputs, hidden, bidirectional=both).eval(), x, path, dynamo=False, input_names=["x"], output_names=["y"], opset_version=17)


def prepare_dynamic(name, cache, real, quantize, anew=False):
    """A file of DYNAMIC, its samples, the batch, and what ONNX Runtime runs beside it: the same file, but the GRU in reals, for which it has no operator of integers and a
    function that is slower. None: it wants the real networks."""
    how, of, batch = DYNAMIC[name]
    folder = os.path.join(cache, name)
    os.makedirs(folder, exist_ok=True)
    model, samples, out = (os.path.join(folder, f) for f in ("float.onnx", "samples.npz", "dynamic.onnx"))
    if isinstance(of, str):
        found = prepare_float(of, cache, real)
        if not found:
            return None
        model, samples = found
    elif not os.path.exists(model) or not os.path.exists(samples):
        export_cell(of, model, samples)
    if anew or not os.path.exists(out):
        if how == "own":
            quantize(model, None, out, ["--mode", "dynamic"])
        else:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(model, out, weight_type=QuantType.QInt8)
    return out, samples, batch, model if of[0] == "GRU" else out


def prepare_float(name, cache, real):
    """Float model and samples of `name`: paths; None: it wants the real networks."""
    folder = os.path.join(cache, name)
    os.makedirs(folder, exist_ok=True)
    model, samples = (os.path.join(folder, f) for f in ("float.onnx", "samples.npz"))
    if name in RANDOM:
        if not os.path.exists(model):
            export(name, model + ".part")
            os.replace(model + ".part", model)
        if not os.path.exists(samples):
            np.savez(samples, x=samples_of(name, CALIBRATION))
    else:
        task = REAL[name][0]
        if not real or not os.path.exists(os.path.join(real, task, "model.onnx")):
            return None
        if not os.path.exists(model):
            shutil.copy(os.path.join(real, task, "model.onnx"), model)
        if not os.path.exists(samples):
            data = np.load(os.path.join(real, task, "calib.npz"))
            np.savez(samples, **{k: data[k][:CALIBRATION] for k in data.files})
    return model, samples


def prepare(name, cache, real, quantize, anew=False):
    """Float model, QDQ model and samples of `name`: paths. quantize(model, samples, out, options) makes the second."""
    found = prepare_float(name, cache, real)
    if not found:
        return None
    model, samples = found
    int8 = os.path.join(cache, name, "int8.onnx")
    if anew or not os.path.exists(int8):
        quantize(model, samples, int8, (RANDOM.get(name) or REAL[name])[1])
    return model, int8, samples
