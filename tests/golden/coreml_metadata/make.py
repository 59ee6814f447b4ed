#!/usr/bin/env python3
"""A small network compressed by coremltools.optimize.torch in every way, as an ONNX file with its state dict beside it, and what coremltools' own
converter makes of it: what test_metadata compares with. Run in this folder with coremltools 9.0, torch 2.7, onnx, safetensors."""
import json
import tempfile
import warnings
import zipfile
from pathlib import Path

warnings.filterwarnings("ignore")
import coremltools as ct
import numpy as np
import onnx
import torch
from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig
from coremltools.optimize.torch.pruning import MagnitudePruner, MagnitudePrunerConfig
from coremltools.optimize.torch.quantization import (LinearQuantizer, LinearQuantizerConfig, PostTrainingQuantizer,
                                                     PostTrainingQuantizerConfig)
from safetensors.torch import save_file

HERE = Path(__file__).parent
X = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 8, 3, padding=1)
        self.tokens = torch.nn.Linear(16, 16)  # of three axes: a MatMul in ONNX
        self.up = torch.nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = torch.nn.Linear(256, 8)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(2)
        x = torch.relu(self.tokens(x)).reshape(1, 8, 4, 4)
        return self.last(torch.relu(self.up(x)).flatten(1))


def net():
    torch.manual_seed(0)
    return Net().eval()


def quantizer(**kw):
    return PostTrainingQuantizer(net(), PostTrainingQuantizerConfig.from_dict({"global_config": kw})).compress()


def linear(**kw):
    q = LinearQuantizer(net(), LinearQuantizerConfig.from_dict({"global_config": {"activation_dtype": "float32", **kw}}))
    m = q.prepare((X,))
    for _ in range(3):
        m.train()(X)
        q.step()
    return q.finalize().eval()


def palettizer(**kw):
    return PostTrainingPalettizer(net(), PostTrainingPalettizerConfig.from_dict({"global_config": kw})).compress(num_kmeans_workers=1)


def pruner():
    p = MagnitudePruner(net(), MagnitudePrunerConfig.from_dict(
        {"global_config": {"scheduler": {"update_steps": [0]}, "target_sparsity": 0.6}}))
    m = p.prepare()
    for _ in range(2):
        p.step()
    return p.finalize().eval()


def by_hand(**buffers):
    """Buffers on `last`, [8, 256]."""
    m = net()
    for k, v in buffers.items():
        if k == "weight":
            m.last.weight.data = v
        else:
            m.last.register_buffer(f"_COREML_/weight/{k}", v)
    return m


def codes(lo, hi, *shape):
    return torch.from_numpy(np.random.default_rng(3).integers(lo, hi + 1, shape)).float()


def hand(lo, hi, nbits, zero=None, types=(3,)):
    scale = torch.linspace(0.01, 0.08, 8).reshape(8, 1)
    q = codes(lo, hi, 8, 256)
    b = dict(weight=q * scale, compression_type=torch.tensor(list(types)), quantization_n_bits=torch.tensor(nbits),
             quantization_scale=scale)
    if zero is not None:
        b["weight"] = (q - zero) * scale
        b["zero_point"] = torch.full((8, 1), zero)
    return by_hand(**b)


def sparse_quantized():
    scale = torch.full((8, 16), 0.03)
    q = codes(-7, 7, 8, 256) * (torch.from_numpy(np.random.default_rng(4).random((8, 256))) > 0.5)
    return by_hand(weight=q * 0.03, compression_type=torch.tensor([1, 3]), quantization_n_bits=torch.tensor(4),
                   quantization_scale=scale)


def sparse_palette():
    table = torch.tensor([0.0, -0.5, 0.25, 0.75])
    w = table[codes(0, 3, 8, 256).long()]
    return by_hand(weight=w, compression_type=torch.tensor([1, 2]), lut=table.reshape(1, 1, 4))


CASES = {
    "ptq_int8": lambda: quantizer(weight_dtype="int8", granularity="per_channel"),
    "ptq_uint8_affine": lambda: quantizer(weight_dtype="uint8", granularity="per_channel", quantization_scheme="affine"),
    "ptq_int8_tensor": lambda: quantizer(weight_dtype="int8", granularity="per_tensor"),
    "ptq_int4_blocks": lambda: quantizer(weight_dtype="int4", granularity="per_block", block_size=2, quantization_scheme="affine"),
    "qat_int8": lambda: linear(weight_dtype="qint8"),
    "qat_int4_affine": lambda: linear(weight_dtype="qint4", quantization_scheme="affine"),
    "palette4": lambda: palettizer(n_bits=4, granularity="per_tensor"),
    "palette2_groups": lambda: palettizer(n_bits=2, granularity="per_grouped_channel", group_size=4),
    "palette3_scaled": lambda: palettizer(n_bits=3, granularity="per_tensor", enable_per_channel_scale=True),
    "palette4_vectors": lambda: palettizer(n_bits=4, granularity="per_tensor", cluster_dim=2),
    "palette4_int8": lambda: palettizer(n_bits=4, granularity="per_tensor", lut_dtype="int8"),
    "pruned": pruner,
    "hand_not_negative": lambda: hand(0, 100, 8),
    "hand_fits_4": lambda: hand(-8, 7, 8),
    "hand_zero_offset": lambda: hand(-100, 100, 8, 0),
    "hand_uint_offset": lambda: hand(0, 255, 8, 128),
    "hand_uint2": lambda: hand(0, 3, 2),
    "sparse_quantized": sparse_quantized,
    "sparse_palette": sparse_palette,
}


def main():
    cases = []
    for old in [*HERE.glob("*.zip"), *HERE.glob("*.onnx"), *HERE.glob("*.safetensors")]:
        old.unlink()
    for name, make in CASES.items():
        try:
            m = make()
        except Exception as e:
            print(name, "was not made:", type(e).__name__, e)
            continue
        save_file({k: v.contiguous() for k, v in m.state_dict().items() if isinstance(v, torch.Tensor)}, str(HERE / f"{name}.safetensors"))
        plain = net()  # the state of a finalized LinearQuantizer holds things that the exporter takes for tensors
        plain.load_state_dict({k: m.state_dict()[k] for k in plain.state_dict()})
        torch.onnx.export(plain, (X,), str(HERE / f"{name}.onnx"), opset_version=17, dynamo=False)
        for target, at in (("ios16", ct.target.iOS16), ("ios18", ct.target.iOS18)):
            for half in (False, True):
                if half and name not in ("ptq_int8", "ptq_int4_blocks", "palette4", "palette4_int8", "pruned"):
                    continue
                case = {"name": name, "target": target, "half": half}
                try:
                    done = ct.convert(torch.jit.trace(m, X), inputs=[ct.TensorType(shape=X.shape)], minimum_deployment_target=at,
                                      compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32)
                except Exception as e:
                    print(name, target, type(e).__name__, str(e)[:200])
                    case["error"] = str(e)
                    cases.append(case)
                    continue
                case["package"] = f"{name}_{target}{'_half' if half else ''}.zip"
                with tempfile.TemporaryDirectory() as folder:
                    package = Path(folder) / "m.mlpackage"
                    done.save(str(package))
                    with zipfile.ZipFile(HERE / case["package"], "w", zipfile.ZIP_DEFLATED) as z:
                        for f in sorted(package.rglob("*")):
                            if f.is_file():
                                z.writestr(zipfile.ZipInfo(str(f.relative_to(folder))), f.read_bytes(), zipfile.ZIP_DEFLATED)
                cases.append(case)
    (HERE / "programs.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
