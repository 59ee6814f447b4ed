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
# milestones: any order, and below 0; a transition that never comes is a warning
for m in '[-5, 3, 2, -1]' '[5, 0, 3, 1]' '[0, 3, 0, 1]' '[3, 2, 1, 0]' '[0, 100, 100, 0]' '[0, 0, 10, 10]'; do echo "$m"; printf "global_config: {milestones: $m}\n" >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o m.onnx --config c.yaml >/dev/null; echo $?; done
for m in 4 '[]' '[0, 1, 2, 3, 4]' '[0, true, 2, 3]' '[0, null, 2, 3]' '[0, 1e3, 2, 3]' '[0, 10.0, 2, 3]' '[0, 99999999999999999999, 2, 3]' '{a: 1}'; do printf "global_config: {milestones: $m}\n" >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --config c.yaml; echo $?; done
for v in 'weight_dtype: fp8' 'weight_dtype: qint9' 'activation_dtype: qint16' 'activation_n_bits: 9' 'weight_observer: minmax' 'quantization_scheme: asym' 'algorithm: lsq' 'weight_per_channel: maybe'; do printf "global_config: {$v}\n" >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --config c.yaml; echo $?; done
for v in 'quantization_algorithm: vanilla' 'module_type_configs: {LSTM: null}' 'module_name_configs: {"99": {}}' 'module_name_configs: {"(": null}' 'global_config: 3' 'global_config: {weight_dtype: qint8, weight_dtype: qint4}' '[a]'; do printf "%s\n" "$v" >c.yaml; requant qat models/digits-cnn.onnx -d models/digits-train.npz -o never.onnx --config c.yaml; echo $?; done
ls never.onnx
