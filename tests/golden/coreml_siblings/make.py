#!/usr/bin/env python3
"""Packages that coremltools palettized, pruned and decompressed, from small programs made here: what test_palettize, test_prune and
test_decompress compare with. Run in this folder with coremltools 9.0 and scikit-learn."""
import json
import tempfile
import zipfile
from pathlib import Path

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

HERE = Path(__file__).parent
TARGETS = {"ios16": ct.target.iOS16, "ios18": ct.target.iOS18}
CLASSES = {
    "palettize": cto.palettize_weights,
    "prune": cto.prune_weights,
    "quantize": cto.linear_quantize_weights,
}


def source(target, half):
    rng = np.random.default_rng(7)
    t = np.float16 if half else np.float32

    def w(*shape):
        return rng.normal(0, 0.3, shape).astype(t)

    levels = rng.choice(np.linspace(-1, 1, 11), (24, 48)).astype(t)

    @mb.program(input_specs=[mb.TensorSpec((1, 8, 4, 4), types.fp16 if half else types.fp32)],
                opset_version=TARGETS[target])
    def prog(x):
        x = mb.conv(x=x, weight=w(16, 8, 3, 3), bias=w(16), pad_type="same", name="conv")
        x = mb.conv(x=x, weight=w(16, 1, 3, 3), groups=16, pad_type="same", name="depth")
        x = mb.conv_transpose(x=x, weight=w(16, 12, 2, 2), name="up")
        x = mb.reshape(x=x, shape=[1, 25, 12], name="flat")
        x = mb.matmul(x=x, y=w(1, 12, 48), name="product")
        x = mb.linear(x=x, weight=levels, name="levels")
        x = mb.linear(x=x, weight=w(10, 24), bias=w(10), name="last")
        return mb.add(x=x, y=w(1, 25, 10), name="sum")

    return ct.convert(prog, minimum_deployment_target=TARGETS[target], compute_units=ct.ComputeUnit.CPU_ONLY,
                      compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32)


def pal(**kw):
    return {"config_type": "OpPalettizerConfig", "global_config": {"weight_threshold": 100, **kw}}


def mag(**kw):
    return {"config_type": "OpMagnitudePrunerConfig", "global_config": {"weight_threshold": 100, **kw}}


def thr(**kw):
    return {"config_type": "OpThresholdPrunerConfig", "global_config": {"weight_threshold": 100, **kw}}


def lin(**kw):
    return {"config_type": "OpLinearQuantizerConfig", "global_config": {"weight_threshold": 100, **kw}}


def typed(config, types=None, names=None):
    out = dict(config)
    if types:
        out["op_type_configs"] = types
    if names:
        out["op_name_configs"] = names
    return out


U = dict(mode="uniform")
G = dict(granularity="per_grouped_channel")
PAL4 = ("palettize", pal(nbits=4, **U), False)
PAL3G = ("palettize", pal(nbits=3, group_size=4, **G, **U), False)
HALF = ("prune", mag(target_sparsity=0.5), False)
QUANT = ("quantize", lin(mode="linear"), False)


def joint(step):
    return step[0], step[1], True


BOTH = {
    "uniform1": [("palettize", pal(nbits=1, **U), False)],
    "uniform4": [PAL4],
    "uniform6": [("palettize", pal(nbits=6, **U), False)],
    "uniform8": [("palettize", pal(nbits=8, **U), False)],
    "kmeans2": [("palettize", pal(nbits=2), False)],
    "kmeans4": [("palettize", pal(nbits=4), False)],
    "unique": [("palettize", pal(mode="unique"), False)],
    "palette_types": [("palettize", typed(pal(nbits=4, **U), {"conv": dict(nbits=2, weight_threshold=100, **U), "linear": None},
                                          {"levels": dict(mode="unique", weight_threshold=100)}), False)],
    "sparse30": [("prune", mag(target_sparsity=0.3), False)],
    "sparse50": [HALF],
    "sparse0": [("prune", mag(target_sparsity=0.0), False)],
    "sparse100": [("prune", mag(target_sparsity=1.0), False)],
    "threshold": [("prune", thr(threshold=0.25, minimum_sparsity_percentile=0.55), False)],
    "block2": [("prune", mag(target_sparsity=0.5, block_size=2), False)],
    "block3_dim1": [("prune", mag(target_sparsity=0.4, block_size=3, dim=1), False)],
    "ratio12": [("prune", typed(mag(n_m_ratio=[1, 2]), None, {"levels": None}), False)],
    # `levels` has equal numbers, and which of them numpy sorts first is not said
    "ratio35_dim0": [("prune", typed(mag(n_m_ratio=[3, 5], dim=0), None, {"levels": None}), False)],
    "sum_forced": [("prune", typed(mag(n_m_ratio=[2, 4]), None, {"levels": None, "sum_y_0": dict(n_m_ratio=[1, 4], weight_threshold=100)}), False)],
    "mixed": [("palettize", {"config_type": "OpPalettizerConfig", "op_type_configs": {"conv": dict(nbits=4, weight_threshold=100, **U)}}, False),
              ("prune", mag(target_sparsity=0.5), False)],
}
NEW = {
    "uniform3": [("palettize", pal(nbits=3, **U), False)],
    "grouped1": [("palettize", pal(nbits=4, group_size=1, **G, **U), False)],
    "grouped2": [("palettize", pal(nbits=3, group_size=2, **G, **U), False)],
    "grouped4_kmeans": [("palettize", pal(nbits=2, group_size=4, **G), False)],
    "grouped5": [("palettize", pal(nbits=2, group_size=5, **G, **U), False)],
    "grouped_axis1": [("palettize", pal(nbits=2, group_size=2, channel_axis=1, **G, **U), False)],
    "grouped_unique": [("palettize", pal(mode="unique", group_size=1, **G), False)],
    "vector2": [("palettize", pal(nbits=4, cluster_dim=2), False)],
    "vector4": [("palettize", pal(nbits=3, cluster_dim=4, group_size=8, **G), False)],
    "vector2_unique": [("palettize", pal(mode="unique", cluster_dim=2), False)],
    "scaled": [("palettize", pal(nbits=4, enable_per_channel_scale=True, **U), False)],
    # `sum` cannot be grouped; coremltools leaves it divided by its scale all the same
    "scaled_grouped": [("palettize", typed(pal(nbits=2, enable_per_channel_scale=True, group_size=2, **G, **U), None, {"sum": None}), False)],
    "prune_palettize": [HALF, joint(PAL4)],
    "prune_palettize_grouped": [HALF, joint(PAL3G)],
    "prune_vector": [HALF, ("palettize", pal(nbits=4, cluster_dim=2), True)],
    "quantize_palettize": [QUANT, joint(PAL4)],
    "quantize_prune": [QUANT, joint(HALF)],
    "palettize_prune": [PAL4, joint(HALF)],
    "palettize_grouped_prune": [PAL3G, joint(HALF)],
}
# all cases for iOS 16 in fp32, all new ones for iOS 18 in fp16
FEW = {
    "ios16_f16": ["uniform4", "kmeans4", "unique", "sparse30", "sparse50", "threshold", "block2", "ratio12"],
    "ios18_f32": ["kmeans4", "sparse50", "vector2", "scaled", "prune_palettize", "quantize_palettize", "quantize_prune", "palettize_prune"],
    "ios18_f16": ["uniform4", "kmeans4", "unique", "sparse50", "sparse100", "block2", "mixed", *NEW],
}
DECOMPRESSED = ["uniform4", "sparse50", "grouped2", "vector2", "prune_palettize", "quantize_prune", "palettize_prune"]


def run(model, steps):
    for what, config, together in steps:
        model = CLASSES[what](model, cto.OptimizationConfig.from_dict(json.loads(json.dumps(config))), joint_compression=together)
    return model


def main():
    cases = []
    for old in HERE.glob("*.zip"):
        old.unlink()

    def save(model, name):
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / f"{name}.mlpackage"
            model.save(str(package))
            with zipfile.ZipFile(HERE / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as z:
                for f in sorted(package.rglob("*")):
                    if f.is_file():
                        z.writestr(zipfile.ZipInfo(str(f.relative_to(folder))), f.read_bytes(), zipfile.ZIP_DEFLATED)
        return f"{name}.zip"

    for target in TARGETS:
        for half in (False, True):
            base = f"{target}_{'f16' if half else 'f32'}"
            model = source(target, half)
            src = save(model, base)
            for name, steps in {**BOTH, **(NEW if target == "ios18" else {})}.items():
                if base in FEW and name not in FEW[base]:
                    continue
                try:
                    done = run(model, steps)
                except Exception as e:
                    print(base, name, type(e).__name__, e)
                    cases.append({"name": f"{base}_{name}", "source": src, "steps": steps, "error": str(e)})
                    continue
                out = save(done, f"{base}_{name}")
                cases.append({"name": f"{base}_{name}", "source": src, "steps": steps, "package": out})
                if name in DECOMPRESSED:
                    plain = save(cto.decompress_weights(done), f"{base}_{name}_plain")
                    cases.append({"name": f"{base}_{name}_plain", "source": out, "steps": [["decompress", None, False]], "package": plain})
    text = ",\n".join(json.dumps(c) for c in cases)
    (HERE / "programs.json").write_text("[\n" + text + "\n]\n")


main()
