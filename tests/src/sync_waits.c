/* Lets syncs of the log wait for as long as there is the file that HF_SYNC_WAITS names: a disk that has stopped, on
   a node that is otherwise well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fdatasync(int fd) {
    static int (*next)(int);
    char link[64], path[4096];
    const char *waits = getenv("HF_SYNC_WAITS");
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    while (waits && strstr(path, "/log/wal-") && access(waits, F_OK) == 0) usleep(10000);
    return next(fd);
}
