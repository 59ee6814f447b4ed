# what a mode dynamic made of Conv is said
requant quantize models/digits-cnn.onnx -o d.onnx --mode dynamic --op Conv | grep -v MB
requant quantize models/digits-cnn.onnx -o d.onnx --mode dynamic | grep -v MB
requant quantize models/digits-cnn.onnx -o d.onnx --mode dynamic --dynamic-conv | grep -v MB
requant quantize models/digits-cnn.onnx -o d.onnx --mode weight-only | grep -v MB
