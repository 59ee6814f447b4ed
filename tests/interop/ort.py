"""What the checks share: running a model in ONNX Runtime, and comparing two sets of outputs."""
import numpy as np
import onnxruntime


def session(model, optimise=True):
    """model: a path, or bytes"""
    o = onnxruntime.SessionOptions()
    o.intra_op_num_threads = 1
    o.log_severity_level = 4
    if not optimise:
        o.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, o, providers=['CPUExecutionProvider'])


def run(model, feeds, optimise=True):
    s = session(model, optimise)
    names = [o.name for o in s.get_outputs()]
    return dict(zip(names, s.run(names, {i.name: feeds[i.name] for i in s.get_inputs() if i.name in feeds})))


def relative(got, want):
    """largest difference over the largest finite expected value; NaN and equal infinities agree in the same place"""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return np.inf
    if not want.size:
        return 0.0
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid='ignore'):
        d = np.where(same, 0, np.abs(got - want))
    d = np.where(np.isnan(d), np.inf, d)
    top = np.abs(want[np.isfinite(want)]).max(initial=0)
    return float(d.max() / top) if top > 0 else float(d.max())


def same_bytes(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and (a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind in 'fc'))


def differing(got, want, step):
    """share of elements that are another code"""
    return float((np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)) > step / 2).mean())


def output_step(model, name):
    """scale of the DequantizeLinear that makes output `name`, or None"""
    import onnx
    from onnx import numpy_helper
    g = model.graph
    init = {i.name: i for i in g.initializer}
    for n in g.node:
        if name in n.output:
            if n.op_type == 'DequantizeLinear' and n.input[1] in init:
                s = numpy_helper.to_array(init[n.input[1]])
                return float(s) if s.size == 1 else None
            return None
    return None
