# --dim fixes the batch for every pass, as a model that fixes it does: calibration, trials, verdict
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o b4.onnx --dim batch=4 -q; requant info b4.onnx | mask | grep operators
requant quantize models/digits-cnn.onnx -d models/digits-train.npz -o b7.onnx --dim batch=7 --samples 70 | mask | grep -E '^Verdict|output' | cut -c1-30
requant quantize models/digits-cnn.onnx -o b8.onnx --dim batch=8 --mode dynamic --eval models/digits-test.npz -q
requant calibrate models/digits-cnn.onnx -d models/digits-train.npz -o fours.json --dim batch=4
requant calibrate models/digits-cnn.onnx -d models/digits-train.npz -o some.json --dim batch=4 --samples 40
requant compare models/digits-cnn.onnx b4.onnx -d models/digits-test.npz --dim batch=4 -q
