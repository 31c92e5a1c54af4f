/* A disk on which one step fails: preloaded into the program, it counts the calls that change a file below FAULTS_BELOW and makes
 * the one of number FAULTS_AT fail with the error FAULTS_ERROR (a number). With FAULTS_STAY=1 all later ones fail too, as on
 * a full disk. Of a write that fails, half of the bytes are written. The count is written to the file FAULTS_COUNT at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long count;

static int below(const char *path) {
    const char *root = getenv("FAULTS_BELOW");
    char whole[PATH_MAX];
    if (!root || !path) return 0;
    if (path[0] != '/') {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(whole, sizeof whole, "%s/%s", here, path) >= (int)sizeof whole) return 0;
        path = whole;
    }
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int below_descriptor(int descriptor) {
    char name[64], path[PATH_MAX];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this step fails; errno is set then. */
static int fails(void) {
    const char *at = getenv("FAULTS_AT"), *error = getenv("FAULTS_ERROR"), *stay = getenv("FAULTS_STAY");
    long number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST), wanted = at ? atol(at) : 0;
    if (!wanted || number < wanted || (number > wanted && !(stay && stay[0] == '1'))) return 0;
    errno = error ? atoi(error) : EIO;
    return 1;
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULTS_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", count);
    fclose(file);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        mode_t mode = 0;                                                  \
        if (flags & (O_CREAT | O_TMPFILE)) {                              \
            va_list more;                                                 \
            va_start(more, flags);                                        \
            mode = va_arg(more, mode_t);                                  \
            va_end(more);                                                 \
        }                                                                 \
        if ((flags & O_CREAT) && below(path) && fails()) return -1;       \
        return REAL(name)(path, flags, mode);                             \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                      \
    int name(int folder, const char *path, int flags, ...) {              \
        mode_t mode = 0;                                                  \
        if (flags & (O_CREAT | O_TMPFILE)) {                              \
            va_list more;                                                 \
            va_start(more, flags);                                        \
            mode = va_arg(more, mode_t);                                  \
            va_end(more);                                                 \
        }                                                                 \
        if ((flags & O_CREAT) && below(path) && fails()) return -1;       \
        return REAL(name)(folder, path, flags, mode);                     \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *bytes, size_t length) {
    if (below_descriptor(descriptor) && fails()) {
        int error = errno;
        if (length > 1 && REAL(write)(descriptor, bytes, length / 2) < 0) error = errno;
        errno = error;
        return -1;
    }
    return REAL(write)(descriptor, bytes, length);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int many) {
    if (below_descriptor(descriptor) && fails()) return -1;
    return REAL(writev)(descriptor, pieces, many);
}

int fsync(int descriptor) { return below_descriptor(descriptor) && fails() ? -1 : REAL(fsync)(descriptor); }
int fdatasync(int descriptor) { return below_descriptor(descriptor) && fails() ? -1 : REAL(fdatasync)(descriptor); }
int rename(const char *from, const char *to) { return below(to) && fails() ? -1 : REAL(rename)(from, to); }
int link(const char *from, const char *to) { return below(to) && fails() ? -1 : REAL(link)(from, to); }
int symlink(const char *from, const char *to) { return below(to) && fails() ? -1 : REAL(symlink)(from, to); }
int mkdir(const char *path, mode_t mode) { return below(path) && fails() ? -1 : REAL(mkdir)(path, mode); }
