# configs of LinearQuantizer: what is wrong is one sentence with line and key, and nothing is written
printf 'global_config:\n  wieght_dtype: qint8\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'module_name_configs: {"0": {algoritm: learnable}}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'glabal_config: {}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'module_name_configs:\n  first_layer: null\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'module_name_configs: {"conv.*": null}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'module_type_configs: {ConvTranspose2d: null}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'module_type_configs: {Conv2D: null}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'non_traceable_module_names: [head]\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'global_config: {weight_dtype: int32}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'global_config: {activation_dtype: quint4}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'global_config: {milestones: [0, 100, 400]}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'global_config: {milestones: [0, 100, 400.5, 200]}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf 'global_config: {milestones: [0, 100, "400", 200]}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
printf '{"global_config": {"quantization_scheme": "affine"}, "module_name_configs": {"0": {}}}' >c.json; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.json
printf 'global_config: [\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml
requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config none.yaml
ls out.onnx
# with compat a name that fits nothing is a warning, as there; so are milestones that never come
printf 'compat: true\nglobal_config: {milestones: [0, 0, 1, -1]}\nmodule_name_configs: {first_layer: null}\npreserved_attributes: [key_1]\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o out.onnx --config c.yaml --calibrate-only >/dev/null; test -s out.onnx
# weights alone: there are no codes of activations that simulation and integers could have otherwise
printf 'global_config: {quantization_scheme: affine, activation_dtype: float32}\n' >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o weights.onnx --config c.yaml --calibrate-only | grep simulation; test -s weights.onnx
