/* algo/version.c — what this build is made of. The version and commit come from CMake (RQ_VERSION, RQ_COMMIT). */
#include <google/protobuf-c/protobuf-c.h>
#include <jansson.h>
#include <sleef.h>
#include <stdio.h>
#include <yaml.h>
#include <zip.h>

#include "base/cpu.h"
#include "kernels/float_dnnl.h"
#include "requant/ops.h"

const char *rq_version(void)
{
    return RQ_VERSION;
}

static void print_cpu(FILE *to)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {
        { RQ_CPU_AVX2, "avx2+fma" },    { RQ_CPU_AVXVNNI, "avx-vnni" }, { RQ_CPU_AVX512, "avx512" },
        { RQ_CPU_VNNI, "avx512-vnni" }, { RQ_CPU_VBMI, "avx512-vbmi" }, { RQ_CPU_AMX, "amx" },
        { RQ_CPU_NEON, "neon" },        { RQ_CPU_DOTPROD, "dotprod" },  { RQ_CPU_I8MM, "i8mm" },
    };
    unsigned flags;
    rq_err err = { 0 };
    if (rq_cpu_pinned(&flags, &err)) {
        fprintf(to, "cpu: %s\n", err.text);
        return;
    }
    fprintf(to, "cpu: scalar");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (flags & names[i].flag)
            fprintf(to, " %s", names[i].name);
    fprintf(to, ", %d cores%s\n", rq_cpu_cores(), flags != rq_cpu_detect() ? " (pinned by RQ_CPU)" : "");
}

void rq_version_print(FILE *to)
{
    int major, minor, patch;
    fprintf(to, "requant %s\ncommit %s\n", RQ_VERSION, RQ_COMMIT);
    print_cpu(to);
    fprintf(to, "onednn %s\n", rq_float_dnnl_version());
    fprintf(to, "libzip %s\n", zip_libzip_version());
    fprintf(to, "jansson %s\n", jansson_version_str());
    yaml_get_version(&major, &minor, &patch);
    fprintf(to, "libyaml %d.%d.%d\n", major, minor, patch);
    fprintf(to, "protobuf-c %s\n", protobuf_c_version());
    fprintf(to, "sleef %d.%d.%d\n", SLEEF_VERSION_MAJOR, SLEEF_VERSION_MINOR, SLEEF_VERSION_PATCHLEVEL);
}
