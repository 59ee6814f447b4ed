# a package becomes one with integer activations and weights, judged by running it
requant convert models/digits-cnn.onnx d.mlpackage --compute f16
requant quantize d.mlpackage -o w8a8.mlpackage -d models/digits-test.npz --json w8a8.json | mask | grep -v '^Time'; grep -c '"operation":' w8a8.json; requant info w8a8.mlpackage | head -5
requant quantize d.mlpackage -o a8.mlpackage -d models/digits-test.npz --mode activations --activations u8 --verbose -n 50 2>/dev/null | head -5
printf '{config_type: OpLinearQuantizerConfig, global_config: {mode: linear, dtype: uint8, weight_threshold: 0}, op_type_configs: {max_pool: null}}' > c.yaml; requant quantize d.mlpackage -o q.mlpackage -d models/digits-test.npz --config c.yaml --max-drop 2 --quiet && requant eval q.mlpackage -d models/digits-test.npz | head -1
requant compare d.mlpackage w8a8.mlpackage -d models/digits-test.npz | tail -4 | head -1 | mask; requant bench w8a8.mlpackage | head -2 | mask; requant calibrate d.mlpackage -d models/digits-test.npz -o r.json
# what cannot be
requant quantize d.mlpackage -o q.mlpackage --mode activations
requant quantize d.mlpackage -o q.mlpackage -d models/digits-test.npz --method mse
requant quantize d.mlpackage -o q.onnx -d models/digits-test.npz --mode activations
printf '{config_type: OpLinearQuantizerConfig, global_config: {dtype: int4}}' > four.yaml; requant quantize d.mlpackage -o four.mlpackage -d models/digits-test.npz --config four.yaml; ls
# pictures as the package wants them
requant eval models/../tests/golden/coreml_images/bgr_f16.mlpackage -d models/../tests/golden/coreml_images/pictures | head -1
requant quantize models/../tests/golden/coreml_images/rgb_f32.mlpackage -o p.mlpackage -d models/../tests/golden/coreml_images/pictures --weight-threshold 0 --quiet; requant eval p.mlpackage -d models/../tests/golden/coreml_images/pictures | head -1
