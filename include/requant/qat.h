/* requant/qat.h — recipes of quantization-aware training: what Core ML Tools, NVIDIA and the papers on learned steps set, as a config of the
 * quantizer and one of the training; and scales from calibrators, to be kept while the weights learn.
 *
 *   rq_qat_preset_cfg p = rq_qat_preset_defaults();
 *   p.original_lr = 0.1, p.original_epochs = 90;
 *   rq_qat_preset_apply(RQ_QAT_NVIDIA, &p, &config, &train, &err);     9 epochs, cosine from 1e-3 to 1e-5
 *   rq_linear_quantizer_create(&q, g, config, &err);  rq_linear_quantizer_prepare(q, &err);
 *   rq_qat_calibrate(q, data, NULL, &err);                             scales are fixed from here on
 *   rq_trainer_create(&t, NULL, q, &train, &err);  rq_trainer_run(t, data, eval, &err);
 *
 * One thread at a time. */
#ifndef REQUANT_QAT_H
#define REQUANT_QAT_H

#include <requant/calibrator.h>
#include <requant/train.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rq_qat_preset {
    RQ_QAT_COREML, /* LinearQuantizer's defaults: observers follow while the network trains. Milestones [0, 10, 40, 20] % of the run, the proportions of
                      its documentation */
    RQ_QAT_NVIDIA, /* scales from calibration, fixed; a tenth of the original epochs, from 1 % of the original rate along a cosine down to 1 % of that
                      (pytorch-quantization's recipe: a scale that changes at every step is another format at every step) */
    RQ_QAT_LSQ, /* learned steps: Esser et al., ICLR 2020, arXiv:1902.08153. Symmetric weights and activations start from 2 mean|x| / sqrt(Qp); rate
                   0.01 (0.001 for 8 bits), weight decay 1e-4 (3 bits: half, 2 bits: a quarter), momentum 0.9, cosine to 0; first and last layer 8 bits */
    RQ_QAT_LSQ_PLUS, /* the same with zero points: Bhalgat et al., CVPR workshops 2020, arXiv:2004.09576. Affine, started from ranges */
    RQ_N_QAT_PRESETS
} rq_qat_preset;
/* "coreml", "nvidia", "lsq", "lsq+"; "?" for none. */
RQ_API const char *rq_qat_preset_name(rq_qat_preset p);
/* From that name ("lsq_plus" too). RQ_BAD_ARG: the nearest is named. */
RQ_API rq_status rq_qat_preset_parse(rq_qat_preset *out, const char *text, rq_err *err);

typedef struct rq_qat_preset_cfg {
    int weights_bits, activations_bits; /* 2..8 */
    int64_t
        steps; /* of the whole run, where milestones are percents of it (COREML, and when LSQ freezes batch norms); 0: milestones null (COREML), the first
                      step (LSQ) */
    double original_lr;      /* NVIDIA: of the original training; 0: the rate in *train is that of the fine-tuning */
    int64_t original_epochs; /* NVIDIA; 0: the epochs in *train */
    const rq_graph *g;       /* LSQ, LSQ_PLUS: its first and last weighted layer get 8 bits; NULL: all are alike */
} rq_qat_preset_cfg;
/* 8 bits, nothing else known. */
RQ_API rq_qat_preset_cfg rq_qat_preset_defaults(void);

/* *config: a new one, yours. *train, which holds what the caller wants: optimizer, schedule and epochs as far as the recipe says them. cfg NULL: defaults. RQ_BAD_ARG:
 * bits, rate or epochs out of range; RQ_NO_MEMORY. On error *config and *train are untouched. */
RQ_API rq_status rq_qat_preset_apply(rq_qat_preset p, const rq_qat_preset_cfg *cfg, rq_linear_quantizer_config **config,
                                     rq_train_cfg *train, rq_err *err);

typedef struct rq_qat_calibrate_cfg {
    rq_calibrator_cfg
        calibrator;        /* of activations; bits and signs are filled in per fake-quantizer. One amax per tensor */
    rq_amax_method method; /* how it is asked */
    rq_amax_params params;
    int64_t batches; /* of data; 0: all */
    int threads;     /* 0: one per core */
} rq_qat_calibrate_cfg;
/* Histograms, asked for the 99.99th percentile, over all of data. */
RQ_API rq_qat_calibrate_cfg rq_qat_calibrate_defaults(void);

/* Scales of all fake-quantizers of a prepared q from calibrators, the float network run over data: scale = amax / (hi - zero point), that is amax / 127 for 8 bits, and
 * amax / 255 for what is never negative. Weights: the largest magnitude (of each channel, where they are per channel). Then observers are off, fake-quantize is on,
 * and learnable ones learn from there. cfg NULL: defaults. RQ_BAD_ARG: not prepared; an affine scheme, which magnitudes say nothing about; a calibrator with axes;
 * what rq_calibrator_create and _amax, rq_autograd_forward and data say. */
RQ_API rq_status rq_qat_calibrate(rq_linear_quantizer *q, rq_dataset *data, const rq_qat_calibrate_cfg *cfg,
                                  rq_err *err);
/* Let the fake-quantizers of a prepared q start from the scales of `quantized`, an 8-bit model (QDQ, QOperator or annotated) of which q's graph is the float form
 * (rq_dequantize of a copy): those that stand behind a value of the same name take them, their observers off, whatever
 * milestones say later; learnable ones learn from there (one whose zero stays in the middle takes the scale that reaches as far). *n_taken: how many. RQ_BAD_ARG: not
 * prepared; RQ_NO_MEMORY, errors of reading the annotations. */
RQ_API rq_status rq_qat_take_scales(rq_linear_quantizer *q, const rq_graph *quantized, int *n_taken, rq_err *err);
/* Scales and zero points stay as they are: observers off, fake-quantize on. Errors of rq_fake_quantizer_forward come later, where nothing was seen. */
RQ_API void rq_qat_freeze_scales(rq_linear_quantizer *q);

#ifdef __cplusplus
}
#endif
#endif
