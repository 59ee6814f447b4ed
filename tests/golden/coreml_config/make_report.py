"""LinearQuantizer.report() of coremltools 9.0 on torch 2.7 (python make_report.py > report.txt): one network and batch, 32 configs. A line has the
config, then a row each: name|type|algorithm|qscheme|per_channel|dtype|qmin|qmax|error|#params. Element i of a tensor is ((37 i + 11) mod 101 - 50) / 64."""
import itertools
import json
import logging
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
import torch
from collections import OrderedDict
from torch import nn
from coremltools.optimize.torch.quantization import LinearQuantizer, LinearQuantizerConfig


def fill(t):
    i = torch.arange(t.numel())
    return (((37 * i + 11) % 101 - 50).float() / 64).reshape(t.shape)


for algorithm, dtype, per_channel, scheme in itertools.product(
        ("vanilla", "learnable"), ("qint4", "quint4", "qint8", "quint8"), (True, False), ("symmetric", "affine")):
    m = {"algorithm": algorithm, "weight_dtype": dtype, "weight_per_channel": per_channel, "quantization_scheme": scheme}
    config = {"global_config": m, "module_name_configs": {"fc2": dict(m, activation_dtype="float32")}}
    model = nn.Sequential(OrderedDict([("conv", nn.Conv2d(1, 4, 3)), ("relu", nn.ReLU()), ("flatten", nn.Flatten()), ("fc1", nn.Linear(64, 6)),
                                       ("fc2", nn.Linear(6, 5))]))
    for p in model.parameters():
        p.data = fill(p)
    x = fill(torch.empty(2, 1, 6, 6))
    q = LinearQuantizer(model, LinearQuantizerConfig.from_dict(json.loads(json.dumps(config))))
    prepared = q.prepare(example_inputs=(x,))
    prepared.train()
    prepared(x)
    rows = []
    for name, r in q.report().items():
        rows.append("|".join(str(v) for v in (name, r["type"], r["algorithm"], r["qscheme"], r["per_channel"], str(r["dtype"]).replace("torch.", ""),
                                              r["qmin"], r["qmax"], "%.9g" % r["error"], r["#params"])))
    print(json.dumps(config), *rows, sep="\t")
