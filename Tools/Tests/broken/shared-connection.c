// A client whose worker processes use the connection that the parent opened. Mended: each opens its own.
#include "common.h"

static int connection;

static int work(const char *who) {
    char question[64];
    int right = 0;
    for (int i = 0; i < 20; i++) {
        snprintf(question, sizeof question, "%s asks %d;", who, i);
        right += ask(connection, question);
    }
    return right;
}

static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

int main(void) {
    pid_t server = start_server();
    connection = connect_to_server();
    ask(connection, "hello");
    spawn("logger", idle, NULL);
    struct timeval patience = {.tv_usec = 200000}; // an answer that the other process took
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    pid_t child = fork();
    if (child == 0) {
#ifdef MENDED
        close(connection);
        connection = connect_to_server();
#endif
        _exit(work("child"));
    }
    int ours = work("parent"), theirs = watch(child);
    printf("right answers: parent %d of 20, child %d of 20\n", ours, theirs);
    close(connection);
    stop_server(server);
    return 0;
}
