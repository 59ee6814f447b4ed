/* algo/profile.c — the runtimes a file can be made for, a row each (docs/onnx-facts.md 5.1 to 5.5). */
#include "requant/profile.h"

#include <string.h>

static const struct profile {
    const char *name;
} profiles[RQ_N_PROFILES] = {
    [RQ_PROFILE_ORT_CPU_X64] = { "ort-cpu-x64" },
    [RQ_PROFILE_ORT_CPU_ARM64] = { "ort-cpu-arm64" },
    [RQ_PROFILE_TENSORRT] = { "tensorrt" },
    [RQ_PROFILE_OPENVINO] = { "openvino" },
    [RQ_PROFILE_QNN] = { "qnn" },
};

const char *rq_profile_name(rq_profile p)
{
    return profiles[p].name;
}

bool rq_profile_find(const char *name, rq_profile *out)
{
    for (int i = 0; i < RQ_N_PROFILES; i++)
        if (!strcmp(name, profiles[i].name)) {
            *out = (rq_profile)i;
            return true;
        }
    return false;
}
