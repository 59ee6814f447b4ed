"""Makes cases.json, data.npz and the models beside them: quantized operators in forms that tests/golden/onnx lacks.

    python3 make.py          (onnx and onnxruntime; the format is that of tests/golden/onnx/README.md)

The peer is ONNX Runtime's CPU provider with graph optimisations off. Where it has no kernel or refuses a form that the
specification allows, the peer is the formula of the specification in numpy, in 64-bit integers or float64."""
import json
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20)
cases, arrays = [], {}
MS = "com.microsoft"
KINDS = {"u8": (T.UINT8, np.uint8, 0, 255), "s8": (T.INT8, np.int8, -128, 127), "u16": (T.UINT16, np.uint16, 0, 65535),
         "s16": (T.INT16, np.int16, -32768, 32767), "s4": (T.INT4, None, -8, 7), "u4": (T.UINT4, None, 0, 15),
         "s2": (T.INT2, None, -2, 1), "u2": (T.UINT2, None, 0, 3)}


def codes(kind, shape, lo=None, hi=None):
    _, d, a, b = KINDS[kind]
    return rng.integers(a if lo is None else lo, (b if hi is None else hi) + 1, shape).astype(d or np.int8)


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def scales(shape, size=0.02):
    return ((0.5 + rng.random(shape)) * size).astype(np.float32)


def const(name, a, kind=None):
    a = np.asarray(a)
    if kind is None or KINDS[kind][1] is not None:
        return nh.from_array(a if kind is None else a.astype(KINDS[kind][1]), name)
    bits = int(kind[1])
    flat = np.zeros(-(-a.size // (8 // bits)) * (8 // bits), np.uint8)
    flat[:a.size] = a.reshape(-1).astype(np.int64) & ((1 << bits) - 1)
    packed = np.zeros(flat.size // (8 // bits), np.uint8)
    for i in range(8 // bits):
        packed |= flat[i :: 8 // bits] << (i * bits)
    return h.make_tensor(name, KINDS[kind][0], a.shape, packed.tobytes(), raw=True)


def case(id, op, nodes, feeds, consts, outs=("y",), tolerance=None, params=None, want=None, opset=21):
    """feeds and consts: name -> array or (array, kind). want: the formula's outputs, where ONNX Runtime is no peer."""
    kind_of = {}
    plain = {}
    for d in (feeds, consts):
        for k, v in d.items():
            if isinstance(v, tuple):
                plain[k], kind_of[k] = v
            else:
                plain[k], kind_of[k] = v, None
    inits = [const(k, plain[k], kind_of[k]) for k in consts]
    ins = [h.make_tensor_value_info(k, h.np_dtype_to_tensor_dtype(np.asarray(plain[k]).dtype), np.shape(plain[k]))
           for k in feeds]
    g = h.make_graph(nodes, id, ins, [h.make_tensor_value_info(o, T.UNDEFINED, None) for o in outs], inits)
    for o in g.output:
        o.ClearField("type")
    m = h.make_model(g, opset_imports=[h.make_opsetid("", opset), h.make_opsetid(MS, 1)], ir_version=10 if opset < 25 else 12)
    peer = "the specification's formula"
    if want is None:
        peer = "onnxruntime " + ort.__version__
        o = ort.SessionOptions()
        o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        o.intra_op_num_threads = 1
        s = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"])
        want = s.run(list(outs), {k: np.asarray(plain[k]) for k in feeds})
    for o, w in zip(g.output, want):
        o.CopyFrom(h.make_tensor_value_info(o.name, h.np_dtype_to_tensor_dtype(w.dtype), w.shape))
    m.graph.CopyFrom(g)
    with open(os.path.join(here, id + ".onnx"), "wb") as f:
        f.write(m.SerializeToString())
    one = {"id": id, "model": id + ".onnx", "params": dict({"op": op}, **(params or {})), "peer": peer,
           "inputs": {}, "outputs": {}, "tolerance": tolerance or {"max_abs": 0}}
    for k in feeds:
        arrays[f"{id}/in/{k}"] = plain[k]
        one["inputs"][k] = f"{id}/in/{k}"
    for k, w in zip(outs, want):
        arrays[f"{id}/out/{k}"] = w
        one["outputs"][k] = f"{id}/out/{k}"
    cases.append(one)


def node(op, ins, outs=("y",), domain="", **attrs):
    return h.make_node(op, list(ins), list(outs), domain=domain, **attrs)


def i64(a):
    return np.asarray(a).astype(np.int64)


def rne(v, kind, zp):
    _, d, lo, hi = KINDS[kind]
    return np.clip(np.rint(v) + zp, lo, hi).astype(d)


# ---- MatMulInteger: all pairs of types, zero points per row, per column, per matrix ----
for a in ("u8", "s8"):
    for b in ("u8", "s8"):
        A, B = codes(a, (5, 37)), codes(b, (37, 19))
        za, zb = codes(a, (5,)), codes(b, (19,))
        want = (i64(A) - i64(za)[:, None]) @ (i64(B) - i64(zb))
        case(f"matmulinteger_{a}{b}_rows", "MatMulInteger", [node("MatMulInteger", "abxz")],
             {"a": A}, {"b": B, "x": za, "z": zb}, want=[want.astype(np.int32)])
        A, B = codes(a, (2, 1, 4, 21)), codes(b, (3, 21, 6))
        za, zb = codes(a, (2, 1, 4, 1)), codes(b, (3, 1, 6))
        want = np.matmul(i64(A) - i64(za), i64(B) - i64(zb))
        case(f"matmulinteger_{a}{b}_batch", "MatMulInteger", [node("MatMulInteger", "abxz")],
             {"a": A, "b": B, "x": za}, {"z": zb}, want=[want.astype(np.int32)])
A, B, zb = codes("u8", (2, 3, 18)), codes("s8", (2, 18, 7)), codes("s8", (7,))
case("matmulinteger_3d_columns", "MatMulInteger", [node("MatMulInteger", ["a", "b", "", "z"])], {"a": A}, {"b": B, "z": zb},
     want=[np.matmul(i64(A), i64(B) - i64(zb)).astype(np.int32)])

# ---- QLinearMatMul: a scale per row of A, types that differ ----
for a, b, y in (("u8", "s8", "u8"), ("s8", "u8", "s8"), ("u8", "u8", "s8"), ("s8", "s8", "u8")):
    A, B = codes(a, (6, 33)), codes(b, (33, 11))
    za, zb, zy = codes(a, (6,)), codes(b, (11,)), codes(y, (), -20, 100)
    sa, sb, sy = scales((6,)), scales((11,)), np.float32(0.31)
    acc = (i64(A) - i64(za)[:, None]) @ (i64(B) - i64(zb))
    m = (sa[:, None] * sb).astype(np.float32) / sy
    want = rne(acc.astype(np.float32) * m, y, int(zy))
    case(f"qlinearmatmul_{a}{b}{y}_rows", "QLinearMatMul", [node("QLinearMatMul", ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"])],
         {"a": A}, {"sa": sa, "za": za, "b": B, "sb": sb, "zb": zb, "sy": sy, "zy": zy}, want=[want])

# ---- ConvInteger: zero points per channel, groups, weights that are an input ----
def conv2d(x, w, group=1, pad=1, stride=1):
    n, c, hh, ww = x.shape
    o, cg, kh, kw = w.shape
    xp = np.zeros((n, c, hh + 2 * pad, ww + 2 * pad), x.dtype)
    xp[:, :, pad : pad + hh, pad : pad + ww] = x
    oh, ow = (hh + 2 * pad - kh) // stride + 1, (ww + 2 * pad - kw) // stride + 1
    y = np.zeros((n, o, oh, ow), x.dtype)
    for m in range(o):
        g = m // (o // group)
        for i in range(kh):
            for j in range(kw):
                part = xp[:, g * cg : (g + 1) * cg, i : i + oh * stride : stride, j : j + ow * stride : stride]
                y[:, m] += np.einsum("nchw,c->nhw", part, w[m, :, i, j])
    return y


for x, w, group, given in (("u8", "s8", 1, False), ("s8", "u8", 1, True), ("u8", "u8", 2, False), ("s8", "s8", 4, True)):
    X, W = codes(x, (2, 4, 7, 6)), codes(w, (8, 4 // group, 3, 3))
    zx, zw = codes(x, ()), codes(w, (8,))
    want = conv2d(i64(X) - int(zx), i64(W) - i64(zw)[:, None, None, None], group)
    case(f"convinteger_{x}{w}_g{group}", "ConvInteger", [node("ConvInteger", "xwpz", group=group, pads=[1, 1, 1, 1])],
         {"x": X, "w": W, "p": zx} if given else {"x": X, "p": zx}, {"z": zw} if given else {"w": W, "z": zw},
         want=[want.astype(np.int32)])

# ---- other integer operators of com.microsoft ----
A, B = codes("s16", (5, 40), -3000, 3000), codes("s16", (40, 7), -3000, 3000)
case("matmulinteger16", "MatMulInteger16", [node("MatMulInteger16", "ab", domain=MS)], {"a": A}, {"b": B},
     want=[(i64(A) @ i64(B)).astype(np.int32)])
A, B = codes("s16", (2, 3, 9), -900, 900), codes("s16", (2, 9, 4), -900, 900)
case("matmulinteger16_batch", "MatMulInteger16", [node("MatMulInteger16", "ab", domain=MS)], {"a": A, "b": B}, {},
     want=[np.matmul(i64(A), i64(B)).astype(np.int32)])
for k in ("u8", "s8"):
    A, B, za, zb = codes(k, (3, 1, 5)), codes(k, (4, 5)), codes(k, ()), codes(k, ())
    case(f"mulinteger_{k}", "MulInteger", [node("MulInteger", ["a", "za", "b", "zb"], domain=MS)], {"a": A, "b": B},
         {"za": za, "zb": zb}, want=[((i64(A) - int(za)) * (i64(B) - int(zb))).astype(np.int32)])
    case(f"mulinteger_{k}_nozp", "MulInteger", [node("MulInteger", ["a", "", "b"], domain=MS)], {"a": A, "b": B}, {},
         want=[(i64(A) * i64(B)).astype(np.int32)])
    for keep in (0, 1):
        X = codes(k, (3, 4, 5))
        case(f"reducesuminteger_{k}_{keep}", "ReduceSumInteger",
             [node("ReduceSumInteger", "x", domain=MS, axes=[-1, 0], keepdims=keep)], {"x": X}, {},
             want=[i64(X).sum((0, 2), keepdims=bool(keep)).astype(np.int32)])

# ---- MatMulNBits ----
def nbits(id, bits, block, K, N, zp, level, x_shape, bias=False, g_idx=False, half=False, float_zp=False, rel=2e-6):
    blocks = -(-K // block)
    q = rng.integers(0, 256, (N, blocks, block * bits // 8)).astype(np.uint8)
    f = np.float16 if half else np.float32
    ins = {"x": floats(*x_shape, K).astype(f)}
    consts = {"w": q, "s": (scales((N, blocks)) * rng.choice([-1, 1], (N, blocks))).astype(f)}
    names = ["x", "w", "s", "", "", ""]
    if zp:
        consts["z"] = (rng.random((N, blocks)) * 7).astype(f) if float_zp else rng.integers(0, 256, (N, -(-blocks * bits // 8))).astype(np.uint8)
        names[3] = "z"
    if g_idx:
        consts["g"] = rng.integers(0, blocks, K).astype(np.int32)
        names[4] = "g"
    if bias:
        consts["c"] = floats(N).astype(f)
        names[5] = "c"
    while not names[-1]:
        names.pop()
    case(id, "MatMulNBits", [node("MatMulNBits", names, domain=MS, K=K, N=N, bits=bits, block_size=block, accuracy_level=level)],
         ins, consts, tolerance={"rel_to_max": rel}, params={"bits": bits, "block_size": block, "accuracy_level": level})


nbits("nbits_4_bias", 4, 32, 80, 13, True, 0, (2, 3), bias=True)
nbits("nbits_4_groups", 4, 16, 64, 9, False, 0, (4,), g_idx=True)
nbits("nbits_4_level4_bias", 4, 64, 150, 21, True, 4, (2, 2), bias=True, rel=1e-5)
nbits("nbits_8_level4", 8, 32, 96, 10, True, 4, (5,), rel=1e-5)
nbits("nbits_8_level4_row", 8, 128, 256, 33, False, 4, (1,), rel=1e-5)
nbits("nbits_4_half", 4, 32, 64, 8, False, 0, (3,), half=True, rel=2e-3)
nbits("nbits_4_level4_float_zp", 4, 32, 64, 8, True, 4, (3,), float_zp=True, rel=1e-5)
nbits("nbits_2_bias", 2, 64, 128, 5, True, 0, (3,), bias=True)

# ---- MatMulBnb4 ----
for quant, name in ((0, "fp4"), (1, "nf4")):
    K, N, block = 48, 7, 16
    case(f"bnb4_{name}", "MatMulBnb4",
         [node("MatMulBnb4", "xws", domain=MS, K=K, N=N, block_size=block, quant_type=quant)],
         {"x": floats(3, K)}, {"w": rng.integers(0, 256, (N * K + 1) // 2).astype(np.uint8), "s": scales((N * K // block,), 1)},
         tolerance={"rel_to_max": 2e-6}, params={"quant_type": quant})

# ---- GatherBlockQuantized ----
idx = np.array([[3, 0], [-1, 2]], np.int64)
for bits, kinds in ((4, ("s4", "u4")), (8, ("u8",))):
    for kind in kinds:
        for zp in (False, True):
            for block, last in ((16, 48), (32, 64)):
                rows = 5
                blocks = last // block
                q = codes(kind, (rows, last))
                consts = {"q": (q, kind), "s": scales((rows, blocks))}
                names = ["q", "i", "s"]
                if zp:
                    consts["z"] = (codes(kind, (rows, blocks)), kind)
                    names.append("z")
                case(f"gather_{kind}_{block}_{int(zp)}", "GatherBlockQuantized",
                     [node("GatherBlockQuantized", names, domain=MS, block_size=block, bits=bits, gather_axis=0, quantize_axis=1)],
                     {"i": idx}, consts)
for zp in (False, True): # packed in bytes, three blocks: rows of zero points end within a byte
    consts = {"q": rng.integers(0, 256, (5, 24)).astype(np.uint8), "s": scales((5, 3))}
    names = ["q", "i", "s"]
    if zp:
        consts["z"] = rng.integers(0, 256, (5, 2)).astype(np.uint8)
        names.append("z")
    case(f"gather_packed_{int(zp)}", "GatherBlockQuantized",
         [node("GatherBlockQuantized", names, domain=MS, block_size=16, bits=4, gather_axis=0, quantize_axis=1)], {"i": idx}, consts)
case("gather_s4_axes", "GatherBlockQuantized",
     [node("GatherBlockQuantized", "qis", domain=MS, block_size=16, gather_axis=1, quantize_axis=0)], {"i": np.array([4, 1, -2])},
     {"q": (codes("s4", (32, 6, 2)), "s4"), "s": scales((2, 6, 2))})

# ---- DynamicQuantizeLSTM ----
def lstm(id, direction, w, per_column, batch=3, steps=4, inp=5, hid=6, lens=False, state=False, peep=False):
    d = 2 if direction == "bidirectional" else 1
    n = (d, 4 * hid) if per_column else (d,)
    zero = np.zeros(n, KINDS[w][1]) if w == "s8" else np.full(n, 128, np.uint8)
    consts = {"W": codes(w, (d, inp, 4 * hid)), "R": codes(w, (d, hid, 4 * hid)), "B": floats(d, 8 * hid),
              "ws": scales(n, 0.01), "wz": zero, "rs": scales(n, 0.01), "rz": zero}
    names = ["x", "W", "R", "B", "", "", "", "", "ws", "wz", "rs", "rz"]
    if lens:
        consts["lens"] = rng.integers(1, steps + 1, batch).astype(np.int32)
        consts["lens"][0] = steps
        names[4] = "lens"
    if state:
        consts["h"], consts["c"] = floats(d, batch, hid), floats(d, batch, hid)
        names[5:7] = ["h", "c"]
    if peep:
        consts["P"] = floats(d, 3 * hid)
        names[7] = "P"
    case(id, "DynamicQuantizeLSTM", [node("DynamicQuantizeLSTM", names, ("Y", "H", "C"), MS, direction=direction, hidden_size=hid)],
         {"x": floats(steps, batch, inp)}, consts, outs=("Y", "H", "C"), tolerance={"max_abs": 1e-5})


lstm("lstm_state", "forward", "s8", False, state=True, peep=True)
lstm("lstm_lens", "forward", "u8", True, lens=True)
lstm("lstm_both", "bidirectional", "s8", True, state=True)

# ---- DynamicQuantizeMatMul, MatMulIntegerToFloat: batches ----
case("dynamicmatmul_3d", "DynamicQuantizeMatMul", [node("DynamicQuantizeMatMul", "xwsz", domain=MS)], {"x": floats(2, 3, 20)},
     {"w": codes("s8", (20, 9)), "s": scales((9,)), "z": codes("s8", (9,))}, tolerance={"max_abs": 0, "rel": 1e-7})
case("integertofloat_3d", "MatMulIntegerToFloat", [node("MatMulIntegerToFloat", ["a", "b", "sa", "sb", "za", "zb", "c"], domain=MS)],
     {"a": codes("u8", (2, 4, 20)), "sa": np.float32(0.02)},
     {"b": codes("s8", (20, 9)), "sb": scales((9,)), "za": codes("u8", ()), "zb": codes("s8", (9,)), "c": floats(9)},
     tolerance={"max_abs": 0, "rel": 1e-7})

# ---- operators that ONNX Runtime has in its schema only, and parameters that are inputs ----
X, s, z = codes("u8", (2, 3, 4, 5)), np.float32(0.03), codes("u8", ())
for id, keep, ty in (("qlinearreducemean_u8", 1, "u8"), ("qlinearreducemean_flat", 0, "u8")):
    zy, sy = codes(ty, ()), np.float32(0.02)
    mean = ((i64(X) - int(z)) * float(s)).mean((1, 3), keepdims=bool(keep))
    case(id, "QLinearReduceMean", [node("QLinearReduceMean", ["x", "s", "z", "sy", "zy"], domain=MS, axes=[1, 3], keepdims=keep)],
         {"x": X}, {"s": s, "z": z, "sy": sy, "zy": zy}, want=[rne(mean / float(sy), ty, int(zy))], tolerance={"max_abs": 1}, opset=17)
for k in ("u8", "s8"):
    X, W = codes(k, (1, 4, 5, 6)), codes("s8", (4, 3, 3, 2))
    sx, sw, sy, zx, zy = np.float32(0.02), scales((3,)), np.float32(0.6), codes(k, ()), codes(k, ())
    C = rng.integers(-3000, 3000, 3).astype(np.int32)
    acc = np.zeros((1, 3, 5 * 2 + 1, 6 + 1), np.int64)  # strides 2 and 1
    for i in range(5):
        for j in range(6):
            acc[0, :, 2 * i : 2 * i + 3, j : j + 2] += np.einsum("c,cmhw->mhw", i64(X)[0, :, i, j] - int(zx), i64(W))
    acc += C[:, None, None]
    m = (sx * sw).astype(np.float32) / sy
    case(f"qlinearconvtranspose_{k}", "QLinearConvTranspose",
         [node("QLinearConvTranspose", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "c"], domain=MS, strides=[2, 1])], {"x": X},
         {"sx": sx, "zx": zx, "w": W, "sw": sw, "zw": np.zeros(3, np.int8), "sy": sy, "zy": zy, "c": C},
         want=[rne(acc.astype(np.float32) * m[:, None, None], k, int(zy))])
A, B, C = codes("u8", (4, 20)), codes("s8", (20, 6)), rng.integers(-5000, 5000, 6).astype(np.int32)
sa, sb, za, sy, zy = np.float32(0.02), scales((6,)), codes("u8", ()), np.float32(0.2), codes("u8", ())
for id, given in (("qgemm_given", ("sa", "sy")), ("qgemm_given_weight", ("sb",))):
    every = {"sa": sa, "za": za, "b": B, "sb": sb, "zb": np.zeros(6, np.int8), "c": C, "sy": sy, "zy": zy}
    case(id, "QGemm", [node("QGemm", ["a", "sa", "za", "b", "sb", "zb", "c", "sy", "zy"], domain=MS, alpha=0.5)],
         dict({"a": A}, **{k: every[k] for k in given}), {k: v for k, v in every.items() if k not in given},
         tolerance={"max_abs": 1})
for id, c in (("qgemm_scalar_bias", np.int32(700)), ("qgemm_column_bias", rng.integers(-900, 900, (4, 1)).astype(np.int32))):
    case(id, "QGemm", [node("QGemm", ["a", "sa", "za", "b", "sb", "zb", "c", "sy", "zy"], domain=MS)], {"a": A},
         {"sa": sa, "za": za, "b": B, "sb": sb, "zb": np.zeros(6, np.int8), "c": c, "sy": sy, "zy": zy})
X, W, C = codes("u8", (1, 3, 6, 6)), codes("s8", (4, 3, 3, 3)), rng.integers(-5000, 5000, 4).astype(np.int32)
every = {"sx": np.float32(0.02), "zx": codes("u8", ()), "w": W, "sw": scales((4,)), "zw": np.zeros(4, np.int8), "sy": np.float32(0.3),
         "zy": codes("u8", ()), "c": C}
for id, given in (("qlinearconv_given", ("sx", "zx", "sy")), ("qlinearconv_given_bias", ("c",)), ("qlinearconv_given_scales", ("sw", "zy"))):
    case(id, "QLinearConv", [node("QLinearConv", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "c"], pads=[1, 1, 1, 1])],
         dict({"x": X}, **{k: every[k] for k in given}), {k: v for k, v in every.items() if k not in given})

# ---- QAttention, QEmbedLayerNormalization ----
def qattention(id, a, w, per_column=False, mask=None, past=0, **attrs):
    batch, rows, width, heads, hid = 2, 5, 12, 2, 8
    n = (3 * hid,) if per_column else ()
    feeds = {"x": codes(a, (batch, rows, width))}
    consts = {"w": codes(w, (width, 3 * hid)), "b": floats(3 * hid), "sx": np.float32(0.02), "sw": scales(n),
              "zx": codes(a, ()), "zw": codes(w, n)}
    names = ["x", "w", "b", "sx", "sw", "", "zx", "zw"]
    if mask is not None:
        consts["m"], names[5] = np.asarray(mask, np.int32), "m"
    if past:
        feeds["past"] = floats(2, batch, heads, past, hid // heads)
        names.append("past")
    case(id, "QAttention", [node("QAttention", names, ("y", "present") if past else ("y",), MS, num_heads=heads, **attrs)],
         feeds, consts, outs=("y", "present") if past else ("y",), tolerance={"rel_to_max": 2e-6})


qattention("qattention_u8s8", "u8", "s8", mask=[3, 5])
qattention("qattention_u8u8", "u8", "u8", unidirectional=1)
qattention("qattention_u8s8_columns", "u8", "s8", True)
qattention("qattention_u8s8_past", "u8", "s8", True, past=3, unidirectional=1)
for k in ("u8", "s8"):
    hid = 12
    consts = {}
    for name, shape in (("words", (20, hid)), ("places", (6, hid)), ("kinds", (2, hid)), ("gamma", (hid,)), ("beta", (hid,))):
        consts[name] = codes(k, shape)
        consts[name + "_s"] = scales(())
        consts[name + "_z"] = codes(k, ())
    order = ["words", "places", "kinds", "gamma", "beta"]
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)
    case(f"qembed_{k}", "QEmbedLayerNormalization",
         [node("QEmbedLayerNormalization", ["ids", "seg"] + order + ["mask"] + [o + "_s" for o in order] + [o + "_z" for o in order],
               ("y", "kept"), MS, epsilon=1e-5)],
         {"ids": rng.integers(0, 20, (2, 4)).astype(np.int32), "seg": rng.integers(0, 2, (2, 4)).astype(np.int32), "mask": mask},
         {n: consts[n] for n in consts}, outs=("y", "kept"), tolerance={"rel_to_max": 2e-6})

# ---- Q/DQ: codes of 16 bits, weights of 4 and 2 bits and in blocks. The peer evaluates them as floats: a code may be one off ----
def q(x, y, s, z):
    return node("QuantizeLinear", [x, s, z], [y])


def dq(x, y, s, z, **attrs):
    return node("DequantizeLinear", [x, s, z], [y], **attrs)


def qdq(id, op, act, weight, w_shape, x_shape, out=None, axis=None, block=0, bias=False, opset=21, out_scale=None, params=None, **attrs):
    """x -> Q DQ -> op with a DQ weight -> Q DQ"""
    out = out or act
    lo, hi = KINDS[act][2:]
    sx = np.float32(6.0 / (hi - lo))
    zx = codes(act, (), lo + (hi - lo) // 3, lo + 2 * (hi - lo) // 3)
    if block:
        sshape = list(w_shape)
        sshape[axis] = -(-w_shape[axis] // block)
    else:
        sshape = [] if axis is None else [w_shape[axis]]
    wlo, whi = KINDS[weight][2:]
    sw = scales(sshape, 1.0 / (whi - wlo))
    zw = np.zeros(sshape, int) if weight[0] == "s" and weight != "s4" else codes(weight, sshape)
    depth = int(np.prod(w_shape)) // w_shape[{"Conv": 0, "ConvTranspose": 1, "MatMul": -1}.get(op, 0 if attrs.get("transB") else 1)]
    reach = float(out_scale or 1.2 * np.sqrt(depth))
    olo, ohi = KINDS[out][2:]
    sy = np.float32(reach / (ohi - olo))
    zy = codes(out, (), olo + (ohi - olo) // 2 - 3, olo + (ohi - olo) // 2 + 3)
    wattrs = {} if axis is None else {"axis": axis}
    if block:
        wattrs["block_size"] = block
    consts = {"sx": sx, "zx": (zx, act), "w": (codes(weight, w_shape), weight), "sw": sw, "zw": (zw, weight), "sy": sy, "zy": (zy, out)}
    nodes = [q("x", "xq", "sx", "zx"), dq("xq", "xd", "sx", "zx"), dq("w", "wd", "sw", "zw", **wattrs)]
    ins = ["xd", "wd"]
    if bias:
        n = w_shape[0] if op == "Conv" or attrs.get("transB") else w_shape[1]
        consts["c"] = floats(n)
        ins.append("c")
    nodes += [node(op, ins, ["o"], **attrs), q("o", "oq", "sy", "zy"), dq("oq", "y", "sy", "zy")]
    x, want = floats(*x_shape), None
    if weight[1:] == "2":  # no kernel in this ONNX Runtime
        xr = (i64(rne(x / sx, act, int(zx))) - int(zx)) * float(sx)
        along = [-1 if i == axis else 1 for i in range(len(w_shape))]
        wr = (i64(consts["w"][0]) - i64(zw).reshape(along)) * sw.astype(float).reshape(along)
        o = conv2d(xr, wr) if op == "Conv" else xr @ (wr.T if attrs.get("transB") else wr)
        if bias:
            o = o + consts["c"].astype(float).reshape([-1, 1, 1] if op == "Conv" else [-1])
        want = [((i64(rne(o / float(sy), out, int(zy))) - int(zy)) * sy).astype(np.float32)]
    case(id, "QDQ " + op, nodes, {"x": x}, consts, opset=opset, want=want,
         tolerance={"max_abs_steps": 2 if "16" in out else 1, "max_fraction_off": 0.25 if "16" in out else 0.01},
         params=dict({"output_step": float(sy), "activation": act, "weight": weight}, **(params or {})))


for act in ("u16", "s16"):
    qdq(f"qdq_matmul_{act}_s8", "MatMul", act, "s8", (40, 12), (5, 40), axis=1)
    qdq(f"qdq_matmul_{act}_{act}", "MatMul", act, act, (40, 12), (2, 5, 40))
    qdq(f"qdq_gemm_{act}_u8", "Gemm", act, "u8", (12, 40), (5, 40), axis=0, bias=True, transB=1)
    qdq(f"qdq_conv_{act}_s8", "Conv", act, "s8", (8, 3, 3, 3), (2, 3, 9, 8), axis=0, bias=True, pads=[1, 1, 1, 1])
    qdq(f"qdq_depthwise_{act}_s8", "Conv", act, "s8", (6, 1, 3, 3), (1, 6, 9, 8), axis=0, group=6, strides=[2, 2], pads=[1, 1, 1, 1])
    qdq(f"qdq_conv_{act}_{act}", "Conv", act, act, (6, 2, 3, 3), (1, 4, 9, 8), group=2, pads=[1, 0, 1, 0])
for act, w in (("u16", "s8"), ("s16", "s16"), ("u8", "s4"), ("s8", "u4")):
    qdq(f"qdq_deconv_{act}_{w}", "ConvTranspose", act, w, (4, 6, 3, 2), (2, 4, 5, 6), axis=1, bias=True, strides=[2, 1], pads=[1, 0, 0, 1])
    qdq(f"qdq_deconv_groups_{act}_{w}", "ConvTranspose", act, w, (4, 3, 2, 2), (1, 4, 5, 6), axis=1, group=2, strides=[2, 2])
qdq("qdq_matmul_u8_s8_u16", "MatMul", "u8", "s8", (64, 12), (5, 64), out="u16", axis=1)
qdq("qdq_matmul_u16_s8_u8", "MatMul", "u16", "s8", (64, 12), (5, 64), out="u8", axis=1)
qdq("qdq_matmul_u8_u16", "MatMul", "u8", "u16", (33, 12), (5, 33), out="s8")
for w in ("s4", "u4", "s2", "u2"):
    opset = 25 if w[1] == "2" else 21
    qdq(f"qdq_matmul_u8_{w}", "MatMul", "u8", w, (48, 12), (5, 48), axis=1, opset=opset)
    qdq(f"qdq_gemm_s8_{w}", "Gemm", "s8", w, (12, 48), (5, 48), axis=0, bias=True, transB=1, opset=opset)
    qdq(f"qdq_conv_u8_{w}", "Conv", "u8", w, (8, 5, 3, 3), (2, 5, 9, 8), axis=0, bias=True, pads=[1, 1, 1, 1], opset=opset)
    qdq(f"qdq_conv_u16_{w}", "Conv", "u16", w, (8, 5, 3, 3), (1, 5, 9, 8), axis=0, pads=[1, 1, 1, 1], opset=opset)
for w in ("s8", "u8", "s4", "u4"):
    qdq(f"qdq_matmul_blocks_{w}", "MatMul", "u8", w, (70, 12), (2, 5, 70), axis=0, block=16)
    qdq(f"qdq_gemm_blocks_{w}", "Gemm", "s8", w, (12, 64), (5, 64), axis=1, block=32, bias=True, transB=1)
    qdq(f"qdq_conv_blocks_{w}", "Conv", "u8", w, (8, 10, 3, 3), (2, 10, 9, 8), axis=1, block=4, bias=True, pads=[1, 1, 1, 1], strides=[2, 1])
    qdq(f"qdq_conv_blocks_groups_{w}", "Conv", "s8", w, (6, 4, 1, 3), (1, 8, 5, 8), axis=1, block=3, group=2, out="u16")

# ---- weights alone in codes, large enough that they stay codes ----
def alone(id, op, weight, w_shape, axis, block, bias=False, **attrs):
    sshape = [w_shape[axis]] if not block else [-(-d // block) if i == axis else d for i, d in enumerate(w_shape)]
    consts = {"w": (codes(weight, w_shape), weight), "s": scales(sshape), "z": (codes(weight, sshape), weight)}
    ins = ["x", "wd"]
    if bias:
        consts["c"] = floats(w_shape[0 if attrs.get("transB") else 1])
        ins.append("c")
    depth = w_shape[1 if attrs.get("transB") else 0]
    wattrs = {"axis": axis}
    if block:
        wattrs["block_size"] = block
    case(id, "weights alone", [node("DequantizeLinear", "wsz", ["wd"], **wattrs), node(op, ins, **attrs)], {"x": floats(2, depth)},
         consts, tolerance={"rel_to_max": 2e-6}, params={"weight": weight})


alone("alone_matmul_u4", "MatMul", "u4", (300, 900), 0, 32)
alone("alone_gemm_s4", "Gemm", "s4", (900, 300), 1, 16, bias=True, transB=1)
alone("alone_matmul_s8", "MatMul", "s8", (300, 900), 1, 0)

w, sw, zw = codes("u4", (1100, 256)), scales((1100, 8)), codes("u4", (1100, 8))
case("alone_gather_u4", "weights alone", [node("DequantizeLinear", "wsz", ["wd"], axis=1, block_size=32), node("Gather", ["wd", "i"])],
     {"i": np.array([[7, -1, 1099], [0, 500, 3]], np.int64)}, {"w": (w, "u4"), "s": sw, "z": (zw, "u4")})
w = codes("s8", (300, 900))
case("alone_gather_columns", "weights alone", [node("DequantizeLinear", "wsz", ["wd"], axis=1), node("Gather", ["wd", "i"], axis=1)],
     {"i": np.array([7, -1, 899], np.int32)}, {"w": w, "s": scales((900,)), "z": codes("s8", (900,))})

np.savez(os.path.join(here, "data.npz"), **{k: np.asarray(v) for k, v in arrays.items()})
with open(os.path.join(here, "cases.json"), "w") as f:
    json.dump(cases, f, indent=0)
print(len(cases), "cases")
