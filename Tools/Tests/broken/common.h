// What the broken programs share: to wait for a child, and for threads.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void must(int condition, const char *what) {
    if (condition) return;
    perror(what);
    _exit(99);
}

static inline pthread_t spawn(const char *name, void *(*run)(void *), void *argument) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, run, argument) == 0, "pthread_create");
    pthread_setname_np(thread, name);
    return thread;
}

// Its exit status; a child that has not ended after two seconds is killed, and counts as 137.
static inline int watch(pid_t child) {
    must(child > 0, "fork");
    for (int i = 0; i < 200; i++) {
        int status;
        if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    fprintf(stderr, "child %d hung\n", child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 137;
}

// Answers every connection with what it says.
static inline void *echo_one(void *argument) {
    int fd = (int)(long)argument;
    char bytes[256];
    for (ssize_t size; (size = recv(fd, bytes, sizeof bytes, 0)) > 0;) {
        if (send(fd, bytes, (size_t)size, MSG_NOSIGNAL) != size) break;
    }
    close(fd);
    return NULL;
}

static inline void *echo_all(void *argument) {
    int listener = (int)(long)argument;
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) pthread_detach(spawn("echo", echo_one, (void *)(long)fd));
    return NULL;
}

static int server_port;

static inline int connect_to_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)server_port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return fd;
}

// A server of its own process: its descriptors are not in question.
static inline pid_t start_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 16) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    server_port = ntohs(address.sin_port);
    pid_t parent = getpid(), server = fork();
    must(server >= 0, "fork");
    if (server == 0) {
        pthread_detach(spawn("accept", echo_all, (void *)(long)listener));
        while (getppid() == parent) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        _exit(0);
    }
    close(listener);
    return server;
}

static inline void stop_server(pid_t server) {
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
}

static inline int ask(int fd, const char *question) {
    char answer[256];
    size_t size = strlen(question), got = 0;
    if (send(fd, question, size, MSG_NOSIGNAL) != (ssize_t)size) return 0;
    for (ssize_t more; got < size && (more = recv(fd, answer + got, size - got, 0)) > 0;) got += (size_t)more;
    return got == size && memcmp(answer, question, size) == 0;
}
