"""What coremltools 9.0 makes of configs: one line each, `YAML<tab>what it becomes`, or `YAML<tab>!why not`. Written to configs.txt beside this
file; run with an interpreter that has coremltools and PyYAML."""
import os
import yaml
import coremltools.optimize.coreml as cto
from coremltools.converters.mil.mil import types
from coremltools.optimize.coreml._config import CompressionGranularity

LINEAR = """mode: LINEAR|mode: Linear|mode: linear|mode: linear_foo|mode: 3|mode: null|dtype: int8|dtype: INT8|dtype: int2|dtype: int32|dtype: fp16|dtype: uint4
dtype: ui4|dtype: bool|dtype: 8|dtype: null|granularity: Per_Channel|granularity: per_grouped_channel|granularity: per_tensor|granularity: per_block
granularity: 3|granularity: null|block_size: 3.0|block_size: "3"|granularity: per_block, block_size: 0|granularity: per_block, block_size: [0, 1]
block_size: [0, 1.0]|block_size: -1|block_size: [-1]|granularity: per_block, block_size: []|block_size: null|weight_threshold: null|weight_threshold: "5"
weight_threshold: 0|weight_threshold: -9|foo: 1|nbits: 4|config_type: OpPalettizerConfig, nbits: 4|config_type: Foo|config_type: null
mode: linear, dtype: uint8, granularity: per_block, block_size: 16, weight_threshold: 1024|mode: linear_symmetric, dtype: int4, granularity: per_tensor"""
PALETTE = """nbits: 4||nbits: "4"|nbits: 5|nbits: 3|mode: unique|mode: UNIFORM, nbits: 3|mode: custom|mode: unique, nbits: 3|mode: foo, nbits: 2
nbits: 4, granularity: per_channel|nbits: 4, granularity: per_grouped_channel, group_size: 2|nbits: 4, group_size: 0|nbits: 4, group_size: null
nbits: 4, channel_axis: 1|nbits: 4, channel_axis: null|nbits: 4, cluster_dim: 2|nbits: 4, enable_per_channel_scale: true|nbits: 4, num_kmeans_workers: 3
nbits: 4, lut_function: null|nbits: 9|nbits: 6, weight_threshold: 7|nbits: 7|nbits: 2, weight_threshold: -1|nbits: 2, bits: 2"""
MAGNITUDE = """|target_sparsity: 0.5|target_sparsity: 1|target_sparsity: 1.2|target_sparsity: -0.1|n_m_ratio: [1, 2]|n_m_ratio: [3, 2]|n_m_ratio: [1, 2, 3]
n_m_ratio: ["1", 2]|n_m_ratio: [1, 2], target_sparsity: 0.5|target_sparsity: 0.5, block_size: 2|target_sparsity: 0.5, block_size: 1
target_sparsity: 0.5, block_size: 2, dim: 1|target_sparsity: 0.5, dim: 1|n_m_ratio: [1, 2], block_size: 2|n_m_ratio: [1, 2], dim: 2|n_m_ratio: 3
target_sparsity: null, n_m_ratio: [1, 1]|n_m_ratio: [3, 4], dim: 0|target_sparsity: 0.5, weight_threshold: -2|target_sparsity: 0.25, weight_threshold: null"""
THRESHOLD = """|threshold: 0|threshold: -1|threshold: 1.0e-3|threshold: 1e-3|minimum_sparsity_percentile: 1.1|minimum_sparsity_percentile: 0
minimum_sparsity_percentile: null|weight_threshold: null|threshold: 0.5, minimum_sparsity_percentile: 0.25, weight_threshold: 10|target_sparsity: 0.5"""
WHOLE = """{}|{config_type: 3}|{config_type: OpLinearQuantizerConfig}|{config_type: OpLinearQuantizerConfig, foo: 1}
{config_type: OpLinearQuantizerConfig, global_config: null}|{config_type: OpLinearQuantizerConfig, global_config: {}}|{config_type: OpLinearQuantizerConfig, global_config: 3}
{config_type: OpLinearQuantizerConfig, op_type_configs: [conv]}|{config_type: OpLinearQuantizerConfig, op_type_configs: null}
{config_type: OpLinearQuantizerConfig, op_name_configs: {a: null, b: {dtype: int4}}}|{config_type: Foo, global_config: {}}
{config_type: OpMagnitudePrunerConfig, op_type_configs: {add: {n_m_ratio: [1, 2]}}}|{config_type: OpMagnitudePrunerConfig, op_type_configs: {add: {target_sparsity: 0.5}}}
{config_type: OpMagnitudePrunerConfig, op_name_configs: {add: {n_m_ratio: [1, 2]}}}|{config_type: OpLinearQuantizerConfig, op_type_configs: {conv: []}}
{config_type: OpThresholdPrunerConfig, global_config: {threshold: 0.5}, op_type_configs: {conv: {config_type: OpMagnitudePrunerConfig, n_m_ratio: [3, 4]}, linear: null}}
{config_type: OpLinearQuantizerConfig, global_config: &g {mode: linear, dtype: uint8}, op_type_configs: {conv: {<<: *g, dtype: int8}}}
[]|{global_config: {}}|{config_type: OpPalettizerConfig, global_config: {nbits: 8}, op_type_configs: {conv: {nbits: 6}, linear: {nbits: 4}}, op_name_configs: {conv1: {nbits: 2}}}"""


def text(c):
    if c is None:
        return 'None'
    f = []
    if isinstance(c, cto.OpLinearQuantizerConfig):
        f += ['mode=' + c.mode.lower(), 'dtype=' + types.builtin_to_string(c.dtype), 'granularity=' + c.granularity.name.lower()]
        if c.granularity == CompressionGranularity.PER_BLOCK:
            f += [f'block_size={c.block_size}']
    elif isinstance(c, cto.OpPalettizerConfig):
        f += ['mode=' + c.mode.lower(), f'nbits={c.nbits or 0}', 'granularity=' + c.granularity.name.lower(), f'group_size={c.group_size}',
              f'cluster_dim={c.cluster_dim}']
    elif isinstance(c, cto.OpMagnitudePrunerConfig):
        f += [f'n_m_ratio={c.n_m_ratio}, dim={c.dim}' if c.n_m_ratio else f'target_sparsity={c.target_sparsity:.10g}']
        if c.block_size:
            f += [f'block_size={c.block_size}, dim={c.dim}']
    else:
        f += [f'threshold={c.threshold:.10g}', f'minimum_sparsity_percentile={c.minimum_sparsity_percentile:.10g}']
    return f'{type(c).__name__}({", ".join(f)}, weight_threshold={c.weight_threshold})'


def outcome(y):
    try:
        c = cto.OptimizationConfig.from_dict(yaml.safe_load(y))
    except Exception as e:
        while getattr(e, 'exceptions', None):
            e = e.exceptions[0]
        return '!' + str(e).split('\n')[0]
    return '; '.join([text(c.global_config)] + [f'type {k} {text(v)}' for k, v in c.op_type_configs.items()] +
                     [f'name {k} {text(v)}' for k, v in c.op_name_configs.items()])


lines = []
for name, cases in ('Linear Quantizer', LINEAR), ('Palettizer', PALETTE), ('MagnitudePruner', MAGNITUDE), ('ThresholdPruner', THRESHOLD):
    for case in cases.replace('\n', '|').split('|'):
        lines.append('{config_type: Op%sConfig, global_config: {%s}}' % (name.replace(' ', ''), case))
lines += WHOLE.replace('\n', '|').split('|')
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'configs.txt'), 'w') as f:
    for y in lines:
        f.write(f'{y}\t{outcome(y)}\n')
