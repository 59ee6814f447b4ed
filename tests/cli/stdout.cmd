# `-` and /dev/stdout are the output as it stands: what is there stays, what comes later follows
(echo header; requant info models/digits-cnn.onnx -q --json -; echo trailer) >f; head -2 f; tail -2 f
echo header >g; requant ops -q --json - >>g; head -2 g
(echo header; requant info models/digits-cnn.onnx -q --json /dev/fd/3) 3>h >&3; head -2 h
requant info models/digits-cnn.onnx -q --json - >&-
