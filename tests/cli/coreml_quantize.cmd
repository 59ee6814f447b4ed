# weights of a Core ML package, by options and by a config of coremltools
cp -r models/../tests/golden/coreml/weights/conv_iOS16_fp32.mlpackage a.mlpackage; cp -r models/../tests/golden/coreml/weights/linear_iOS18_fp16.mlpackage b.mlpackage
requant quantize a.mlpackage -o q.mlpackage --mode weight-only --weight-threshold 200
requant quantize b.mlpackage -o q.mlpackage --mode weight-only --weights u4 --affine-weights --block-size 16 --weight-threshold 100 --verbose
printf 'config_type: OpLinearQuantizerConfig\nglobal_config: {mode: linear, weight_threshold: 100}\nop_type_configs: {linear: null}\nop_name_configs: {c_weight: {dtype: uint8, granularity: per_tensor, weight_threshold: 100}}\n' > c.yaml
requant quantize a.mlpackage -o q.mlpackage --mode weight-only --config c.yaml --json q.json; grep -c '"op":' q.json; head -1 q.json
requant quantize q.mlpackage -o q.mlpackage --mode weight-only --weight-threshold 100 --quiet && requant info q.mlpackage | grep affine
# a config that asks for nothing: the same bytes
printf 'config_type: OpLinearQuantizerConfig\n' > none.yaml; requant quantize a.mlpackage -o same.mlpackage --mode weight-only --config none.yaml; diff -r a.mlpackage same.mlpackage && echo same
# what is refused
requant quantize a.mlpackage -o r.mlpackage --mode weight-only
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --weights s4 --weight-threshold 0
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --weights s16
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --block-size 16 --weight-threshold 0
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --joint
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --exclude op_28
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --op convolution
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --op const --weight-threshold 0
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --per-tensor --config c.yaml
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --seed 3
requant quantize a.mlpackage -o r.mlpackage --mode weight-only --config missing.yaml
printf 'config_type: OpLinearQuantizerConfig\nglobal_config:\n  dtype: int2\n' > d.yaml; requant quantize a.mlpackage -o r.mlpackage --mode weight-only --config d.yaml
printf 'config_type: OpPalettizerConfig\nglobal_config: {nbits: 4}\n' > p.yaml; requant quantize a.mlpackage -o r.mlpackage --mode weight-only --config p.yaml
printf '{"config_type": "OpLinearQuantizerConfig", "global_config": {"weight_threshold": 0}, "op_type_configs": {"conv": {"weight_threshold": null}}}' > t.json; requant quantize a.mlpackage -o r.mlpackage --mode weight-only --config t.json
mkdir folder.mlpackage; touch folder.mlpackage/x; requant quantize a.mlpackage -o folder.mlpackage --mode weight-only --weight-threshold 0
ls
