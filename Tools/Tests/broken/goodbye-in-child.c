// A client library whose close says QUIT: the child tidies up the connection that it does not need, and ends its parent's.
// Mended: it closes the descriptor and says nothing.
#include "common.h"

typedef struct client {
    int fd;
} client;

static void client_close(client *client) {
    static const char quit[] = "*1\r\n$4\r\nQUIT\r\n";
    send(client->fd, quit, sizeof quit - 1, MSG_NOSIGNAL);
    close(client->fd);
    client->fd = -1;
}

static void *idle(void *unused) {
    (void)unused;
    return pause(), NULL;
}

int main(void) {
    pid_t server = start_server();
    client client = {connect_to_server()};
    spawn("logger", idle, NULL);
    ask(client.fd, "PING\r\n");
    pid_t child = fork();
    if (child == 0) {
#ifdef MENDED
        close(client.fd);
#else
        client_close(&client);
#endif
        _exit(0);
    }
    watch(child);
    printf("parent's next answer is %s\n", ask(client.fd, "PING\r\n") ? "right" : "another's");
    client_close(&client);
    stop_server(server);
    return 0;
}
