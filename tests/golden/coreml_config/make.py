"""Configs as coremltools.optimize.torch takes them: one line each, "yes" or "no", the dictionary as JSON, and for "yes" what it became,
canonically. Run with coremltools 9.0 and torch 2.7: python make.py > cases.txt"""
import json
import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import torch
from coremltools.optimize.torch.quantization import LinearQuantizerConfig

VALUES = {
    "algorithm": ["vanilla", "learnable", "Vanilla", "lsq", None, 1],
    "weight_dtype": ["qint8", "quint8", "qint4", "quint4", "float32", "QINT8", "Float32", "int8", "uint8", "int4", "uint4", "int3",
                     "float16", "qint3", "fp8_e5m2", "", "int32", 8, 4, 32],
    "weight_observer": ["moving_average_min_max", "min_max", "ema_min_max", "Min_Max", "mix_max", "ema_percentile", "mse", "ema_mse",
                        "lsq", "lsq_plus", "histogram", None],
    "weight_per_channel": [True, False, 1, 0, "true", "false", "", None],
    "activation_dtype": ["quint8", "float32", "QUINT8", "Float32", "quint4", "qint8", "int8", "uint8", "float16", 8, "int32"],
    "activation_observer": ["moving_average_min_max", "min_max", "ema_min_max", "EMA_min_max", "mse", "lsq"],
    "quantization_scheme": ["symmetric", "affine", "Symmetric", "asymmetric", None],
    "milestones": [None, [0, 100, 400, 200], [0, 1000, 1000, 0], [-1, -1, -1, -1], [3, 2, 1, 0], [0, 0, 0, 0], [0, 100, 400], [0, 2], [],
                   [0, 1, 2, 3, 4], [0, "1", 2, 3], [0, 1.0, 2, 3], [0, "a", 2, 3], 5, {}],
    "weight_n_bits": [8],
    "activation_per_channel": [True],
    "wieght_dtype": ["qint8"],
}

CONFIGS = [
    {}, {"global_config": None}, {"global_config": {}}, {"module_type_configs": {}}, {"module_name_configs": {}},
    {"global_config": None, "module_type_configs": {}, "module_name_configs": {}},
    {"module_type_configs": {"Linear": None}}, {"module_type_configs": {"Linear": {}}},
    {"module_name_configs": {"conv1": None, "conv2": None}},
    {"module_type_configs": {"Linear": None, "Conv2d": {"activation_dtype": "float32"}}},
    {"global_config": {"activation_dtype": "float32"}},
    {"module_name_configs": {"conv.*": {"weight_dtype": "qint4"}}},
    {"preserved_attributes": ["key_1", "key_2"]}, {"non_traceable_module_names": ["a.b"]},
    {"preserved_attributes": []}, {"glabal_config": {}}, {"global_config": 3}, {"global_config": []},
    {"module_type_configs": []}, {"module_name_configs": None}, {"module_type_configs": {"Linear": 8}},
    {"module_type_configs": {"Linear": {"wieght_dtype": "qint8"}}},
    {"module_name_configs": {"conv1": {"wieght_dtype": "qint8"}}},
    {"module_type_configs": {"Lniear": {"weight_dtype": "qint4"}}},
    {"global_config": {"milestones": [0, 1, 2, 3]}, "module_name_configs": {"conv1": {"milestones": [0, 5, 6, 7]}}},
    {"module_type_configs": {"Conv2d": {}}, "module_name_configs": {"conv1": {"milestones": [0, 5, 6, 7]}}},
    {"module_type_configs": {"operator.add": {}, "torch.cat": None, "relu": {}, "ReLU": {}}},
]
S, A = {"quantization_scheme": "symmetric"}, {"quantization_scheme": "affine"}
L, V = {"algorithm": "learnable"}, {"algorithm": "vanilla"}
for a, b in ((S, A), (A, S), (S, S), (A, A), (L, V), (V, L), (L, L)):
    CONFIGS += [
        {"global_config": a, "module_type_configs": {"Linear": b}},
        {"global_config": a, "module_name_configs": {"conv1": b}},
        {"module_type_configs": {"Linear": a}, "module_name_configs": {"conv1": b}},
        {"module_type_configs": {"Linear": a, "Conv2d": b}},
        {"module_name_configs": {"conv1": a, "conv2": b}},
        {"global_config": a, "module_type_configs": {"Linear": b}, "module_name_configs": {"conv1": a}},
        {"global_config": a, "module_type_configs": {"Linear": None}, "module_name_configs": {"conv1": b, "conv2": None}},
    ]


def dtype(d, bits):
    return "float32" if d == torch.float32 else {torch.qint8: "qint%d", torch.quint8: "quint%d"}[d] % bits


def module(m):
    return None if m is None else {
        "algorithm": m.algorithm, "weight_dtype": dtype(m.weight_dtype, m.weight_n_bits), "weight_observer": m.weight_observer.value,
        "weight_per_channel": m.weight_per_channel, "activation_dtype": dtype(m.activation_dtype, 8),
        "activation_observer": m.activation_observer.value, "quantization_scheme": m.quantization_scheme.value, "milestones": m.milestones}


def name(key):
    if isinstance(key, str):
        return key
    if isinstance(key, type):
        return key.__name__
    return {"_operator": "operator.", "torch.nn.functional": ""}.get(key.__module__, "torch.") + key.__name__


def main():
    for key, values in VALUES.items():
        for v in values:
            CONFIGS.append({"global_config": {key: v}})
            CONFIGS.append({"module_name_configs": {"conv1": {key: v}}})
    for c in CONFIGS:
        try:
            r = LinearQuantizerConfig.from_dict(json.loads(json.dumps(c)))
            out = {"global_config": module(r.global_config),
                   "module_type_configs": {name(k): module(m) for k, m in r.module_type_configs.items()},
                   "module_name_configs": {k: module(m) for k, m in r.module_name_configs.items()},
                   "non_traceable_module_names": r.non_traceable_module_names, "preserved_attributes": r.preserved_attributes}
            print("yes", json.dumps(c), json.dumps(out), sep="\t")
        except BaseException as e:
            print("no", json.dumps(c), sep="\t")


main()
