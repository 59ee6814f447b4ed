/* requant/requant.h — the whole library. */
#ifndef REQUANT_REQUANT_H
#define REQUANT_REQUANT_H

#include <requant/agreement.h>
#include <requant/autograd.h>
#include <requant/batch_norm.h>
#include <requant/calibrator.h>
#include <requant/dataset.h>
#include <requant/eager.h>
#include <requant/edit.h>
#include <requant/ends.h>
#include <requant/exec.h>
#include <requant/fake_quantize.h>
#include <requant/fake_quantizer.h>
#include <requant/file.h>
#include <requant/graph.h>
#include <requant/image.h>
#include <requant/learned_quantize.h>
#include <requant/linear_quantizer.h>
#include <requant/linear_quantizer_report.h>
#include <requant/modules.h>
#include <requant/nn.h>
#include <requant/observer.h>
#include <requant/ops.h>
#include <requant/optim.h>
#include <requant/own.h>
#include <requant/profile.h>
#include <requant/ptq.h>
#include <requant/qat.h>
#include <requant/qconfig.h>
#include <requant/qconfig_mapping.h>
#include <requant/qparams.h>
#include <requant/qtype.h>
#include <requant/quant_desc.h>
#include <requant/ranges.h>
#include <requant/recipe.h>
#include <requant/report.h>
#include <requant/session.h>
#include <requant/state.h>
#include <requant/status.h>
#include <requant/strided.h>
#include <requant/tensor.h>
#include <requant/tensor_quant.h>
#include <requant/tensor_quantizer.h>
#include <requant/train.h>

#endif
