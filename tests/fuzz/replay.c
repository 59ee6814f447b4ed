/* tests/fuzz/replay.c — in place of libFuzzer: run the target once for every file of the folders given. */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz/fuzz.h"

static int n_files;

static void replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) || !S_ISREG(st.st_mode))
        fuzz_wrong("cannot read", path);
    uint8_t *data = malloc((size_t)st.st_size + !st.st_size); /* exact: a sanitizer guards its end */
    if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
        fuzz_wrong("cannot read", path);
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    n_files++;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        if (!d)
            fuzz_wrong("cannot open", argv[i]);
        for (struct dirent *e; (e = readdir(d));) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            replay(path);
        }
        closedir(d);
    }
    printf("%d files\n", n_files);
    return n_files == 0;
}
