// The child waits for a semaphore that a thread of the parent posts: no lock, no join. The parent kills it after three seconds.

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t question, answer;

static void *answering(void *unused) {
    for (;;) {
        sem_wait(&question);
        sem_post(&answer);
    }
    return unused;
}

__attribute__((noinline)) static void ask_for_answer(void) {
    sem_post(&question);
    sem_wait(&answer);
    __asm__ volatile("");
}

int main(void) {
    pthread_t thread;
    sem_init(&question, 0, 0);
    sem_init(&answer, 0, 0);
    pthread_create(&thread, NULL, answering, NULL);
    ask_for_answer();
    pid_t child = fork();
    if (child == 0) {
        ask_for_answer();
        _exit(0);
    }
    for (int i = 0; i < 30 && waitpid(child, NULL, WNOHANG) == 0; i++) usleep(100000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
