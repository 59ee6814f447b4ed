"""The second runtime: OpenVINO's CPU plugin runs a file, and tells in which precision each operator ran."""
import os
os.environ.setdefault('OPENVINO_TELEMETRY', '0')
import numpy as np
import openvino

CORE = openvino.Core()


def load(path):
    return CORE.compile_model(CORE.read_model(path), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1})


def run(path, feeds):
    c = load(path)
    out = c([feeds[i.any_name] for i in c.inputs])
    return {o.any_name: np.asarray(out[o]) for o in c.outputs}


def precisions(path):
    """name of an ONNX node (or of its output) -> 'u8', 'i8', 'f32' ..., as far as the plugin keeps names"""
    where = {}
    for op in load(path).get_runtime_model().get_ordered_ops():
        info = {k: str(getattr(v, 'value', v)) for k, v in op.rt_info.items()}
        for n in info.get('originalLayersNames', '').split(','):
            where.setdefault(n.removesuffix('/WithoutBiases'), info.get('runtimePrecision'))
    return where
