/* bad_sectors.c: reads of live files named BAD-SECTOR fail behind their first 64 KiB, as on a dying disk.
 *
 * Loaded before libc by one test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static const off_t good_bytes = 64 * 1024;

static int is_bad(int fd, off_t end) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "/live/") && strstr(path, "BAD-SECTOR") && end > good_bytes;
}

ssize_t read(int fd, void *to, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (at >= 0 && is_bad(fd, at + (off_t)count)) { errno = EIO; return -1; }
    return real(fd, to, count);
}

ssize_t pread64(int fd, void *to, size_t count, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    if (is_bad(fd, at + (off_t)count)) { errno = EIO; return -1; }
    return real(fd, to, count, at);
}
