"""What ONNX Runtime really does with a file, operator by operator, beside what `requant lint` says it will."""
import json, os, subprocess
import onnx, onnxruntime as ort

INT = ('QLinear', 'QGemm', 'MatMulInteger', 'ConvInteger', 'DynamicQuantize', 'MatMulNBits', 'QAttention')
CODES = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16}


def named(path, out):
    """a copy in which every node has a name of its own"""
    m = onnx.load(path); seen = set()
    for i, n in enumerate(m.graph.node):
        if not n.name or n.name in seen:
            n.name = f'node_{i}_{n.op_type}'
        seen.add(n.name)
    onnx.save(m, out)
    return m


def optimized(path, tmp):
    """the model after fusion, before layouts change (names last until then)"""
    so = ort.SessionOptions(); so.log_severity_level = 3
    so.optimized_model_filepath = tmp + '/optimized.onnx'
    so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(path, so, providers=['CPUExecutionProvider'], disabled_optimizers=['GatherSliceToSplitFusion'])
    return onnx.load(tmp + '/optimized.onnx')


def runs(m):
    """node name -> 'integer' or 'float'"""
    types = {i.name: i.data_type for i in m.graph.initializer} | {i.name: i.type.tensor_type.elem_type for i in m.graph.input}
    where = {}
    for n in m.graph.node:
        codes = bool(n.input) and types.get(n.input[0]) in CODES
        if n.op_type == 'QuantizeLinear':
            types[n.output[0]] = types.get(n.input[2], 2) if len(n.input) > 2 else 2
        elif n.op_type == 'DequantizeLinear':
            types[n.output[0]] = 1
        elif n.op_type.startswith(INT):
            where[n.name.removesuffix('/MatMulAddFusion')] = 'integer'
            to_float = n.op_type in ('MatMulIntegerToFloat', 'DynamicQuantizeMatMul', 'DynamicQuantizeLSTM', 'MatMulNBits') or (n.op_type == 'QGemm' and len(n.input) < 8)
            zero = n.input[1] if n.op_type == 'QLinearConcat' else n.input[7] if n.op_type in ('QLinearConv', 'QLinearMatMul') else n.input[-1]
            types[n.output[0]] = 6 if n.op_type in ('MatMulInteger', 'ConvInteger') else 1 if to_float else types.get(zero, 2)
        else:
            where[n.name] = 'integer' if codes else 'float'
            for o in n.output:
                types[o] = types[n.input[0]] if codes and n.op_type != 'ArgMax' else 1
    return where


def check(tool, path, tmp, profile='ort-cpu-x64'):
    """differences as text, and how many operators were compared; None when ONNX Runtime does not take the file"""
    copy = tmp + '/named.onnx'
    try:
        before = named(path, copy)
        real = runs(optimized(copy, tmp))
    except Exception:
        return None, 0
    p = subprocess.run([tool, 'lint', copy, '--profile', profile, '--json', tmp + '/lint.json', '-q'], capture_output=True, text=True)
    if p.returncode:
        return [p.stderr.strip()[-200:]], 0
    bad = []; n = 0
    said = json.load(open(tmp + '/lint.json'))['nodes']
    for x in said:
        name, want = x['name'], real.get(x['name'].removesuffix('/MatMulAddFusion'))
        if want is None: # folded away or fused: what was said to run in float may be part of a float operator now
            if x['runs'] == 'integer' and x['op'] not in ('Add', 'Slice'): # of a Gemm's bias; two Slices are one
                bad.append(f'{x["op"]} {name}: said to run in integers, is gone')
            continue
        n += 1
        if x['runs'] != want:
            bad.append(f'{x["op"]} {name}: said {x["runs"]} ({x["why"]}), is {want}')
    return bad, n
