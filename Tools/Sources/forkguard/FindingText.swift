/// What there is to say of each kind of finding: the one place for it.
struct FindingText {
    let title: String
    let explanation: String
    let fix: String

    static let all: [String: FindingText] = [
        "lock-of-vanished-thread": FindingText(
            title: "a child wants a lock that a vanished thread holds",
            explanation: """
                Another thread held the lock at the fork. The child has a copy of the lock, held, and no copy of the thread: \
                nobody will ever unlock it there.
                """,
            fix: """
                Put the lock inside ForkGuard's gate (ForkMutex, ForkGuard.register(lock:), or all of them with `forkguard run`); \
                or let the child do nothing but execute a program (posix_spawn).
                """),
        "shared-connection": FindingText(
            title: "two processes use one connection",
            explanation: """
                Both ends of a fork have the same socket. What one reads, the other misses; what both write is mixed; \
                each takes answers to the other's questions.
                """,
            fix: """
                Let the child close what it inherited, without a farewell, and connect anew: in discardAfterFork() of a \
                ForkGuard.register'ed resource, with ForkDescriptor or ForkLocal; or connect after the fork.
                """),
        "shared-epoll": FindingText(
            title: "two processes use one epoll set",
            explanation: """
                An epoll set belongs to its open file, not to a process. What the child adds or removes, is added or \
                removed for the parent; each gets events of the other's descriptors.
                """,
            fix: "Let the child close the inherited epoll descriptor and make its own set, before it uses any of the descriptors in it."),
        "shared-offset": FindingText(
            title: "two processes move one file's offset",
            explanation: """
                The inherited descriptor stands for the same open file: each read, write and seek of one process moves the place \
                where the other goes on.
                """,
            fix: "Open the file again in the child, use pread and pwrite with offsets of your own, or append (O_APPEND)."),
        "goodbye-in-child": FindingText(
            title: "a child says goodbye on its parent's connection",
            explanation: """
                The child ends a connection that it only inherited, as a client's destructor or close() does: the server takes the \
                farewell for the parent's, and hangs up on the parent.
                """,
            fix: """
                Abandon what is inherited: close the descriptor, no more. In discardAfterFork(), or with ForkLocal, which never \
                deinitialises an inherited value.
                """),
        "exit-handlers-in-child": FindingText(
            title: "a child runs the exit handlers of its parent",
            explanation: """
                The child ended by exit() or by returning from main. Handlers that were registered before the fork ran a second time: \
                they flush copied buffers, remove files, say goodbye to servers, and wait for threads that are not there.
                """,
            fix: "End a child that does not execute a program with _exit(), after flushing what it wrote itself. ForkGuard.fork does."),
        "join-of-vanished-thread": FindingText(
            title: "a child waits for the end of a thread that is not there",
            explanation: """
                The thread was not copied by the fork, and the C library has taken back its memory in the child: the join waits \
                for ever, crashes, or returns as if the thread had finished its work.
                """,
            fix: "Forget inherited threads in the child and start new ones (ForkWorker does both); join only what this process started."),
        "fork-in-signal-handler": FindingText(
            title: "a signal handler forks",
            explanation: """
                fork() is not async-signal-safe: it runs atfork handlers and takes locks of the C library, which the interrupted \
                code may be in the middle of. The child then goes on in the middle of that code.
                """,
            fix: """
                Only note the signal in the handler (a flag, a pipe, an eventfd), or take it with signalfd or sigwait; fork in a thread.
                """),
        "fork-without-handlers": FindingText(
            title: "a fork that libc did not see",
            explanation: """
                _Fork, and clone and clone3 by syscall(), run no pthread_atfork handlers: locks of the C library (malloc's, \
                stdio's), of runtimes and of ForkGuard are not made ready, and nobody is told that this is a new process.
                """,
            fix: "Call fork(). Where the child executes a program at once, posix_spawn is better still."),
        "handlers-registered-twice": FindingText(
            title: "the same atfork handlers are registered twice",
            explanation: """
                Each of them runs twice at each fork: what locks in prepare locks twice (and hangs), what counts counts twice. \
                They cannot be taken back.
                """,
            fix: "Register once per process: behind pthread_once, or in a constructor; not in a function that is called again after a fork."
        ),
        "hung-child": FindingText(
            title: "a child hung",
            explanation: """
                It waited for what only a thread that is not there could give, until it was killed, or CMD \
                ended, or the time limit was over.
                """,
            fix: """
                See where it waits, above, and, at the fork below, which thread was to end that wait: no child may need a thread of \
                its parent.
                """
        ),
    ]

    /// Also of what a newer library may find.
    static func of(_ name: String) -> FindingText {
        all[name]
            ?? FindingText(title: name, explanation: "This version of the command has no explanation for it.", fix: "See the details.")
    }
}
