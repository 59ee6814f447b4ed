/* skips.c — the kinds of case that nothing here compares, each with its reason. Never by id. */
#include "golden.h"

#include <stdlib.h>

static const struct skip {
    const char *mark, *reason; /* the member of a case that makes the kind, as in run_golden.c */
} skips[] = {
    { "package", "Core ML packages are read (test formats_coreml), but not run" },
    { "op_types", "Core ML packages are read (test formats_coreml), but not run" },
};

const char *golden_skip_reason(const golden_case *c)
{
    if (getenv("GOLDEN_NO_SKIPS")) /* to see which entries are needed */
        return NULL;
    for (size_t i = 0; i < sizeof skips / sizeof skips[0]; i++)
        if (json_object_get(c->json, skips[i].mark))
            return skips[i].reason;
    return NULL;
}
