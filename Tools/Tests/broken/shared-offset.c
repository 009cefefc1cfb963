// Parent and child go through one file of records: each read moves the offset of both. Mended: the child opens the file itself.
#include "common.h"

static char path[64];

static int sum(int fd) {
    int total = 0, record;
    while (read(fd, &record, sizeof record) == sizeof record) total += record;
    return total;
}

static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/shared-offset.%d", getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0, "open");
    for (int i = 0; i < 1000; i++) must(write(fd, &(int){1}, sizeof(int)) == sizeof(int), "write");
    lseek(fd, 0, SEEK_SET);
    spawn("logger", idle, NULL);
    int result[2];
    must(pipe2(result, O_CLOEXEC) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
#ifdef MENDED
        close(fd);
        fd = open(path, O_RDONLY | O_CLOEXEC);
#endif
        int total = sum(fd);
        _exit(write(result[1], &total, sizeof total) != sizeof total);
    }
    int ours = sum(fd), theirs = 0;
    watch(child);
    must(read(result[0], &theirs, sizeof theirs) == sizeof theirs, "read");
    printf("records: parent %d of 1000, child %d of 1000\n", ours, theirs);
    unlink(path);
    return 0;
}
