requant --help
requant quantize --help
requant train --help
requant qat --help
requant calibrate --help
requant run --help
requant eval --help
requant compare --help
requant convert --help
requant lint --help
requant bench --help
requant info --help
requant ops --help
requant qconfigs --help
requant help info | head -1
requant --version | head -1
