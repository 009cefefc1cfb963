import Glibc

/// What a task costs in a forked child of a process that uses Swift concurrency, next to its parent: a program of its own, with ForkGuardRuntime in it.
func benchmarkTasks() {
    print("Swift concurrency in a forked child, next to its parent; medians of 25 turns each")
    fflush(nil)
    let path = directoryOfThisProgram() + "task-load"
    var arguments = [strdup(path), nil]
    unsetenv("FORKGUARD_RUNTIME")
    var process: pid_t = 0
    guard posix_spawn(&process, path, nil, nil, &arguments, environ) == 0 else {
        print("cannot start \(path): build it with 'swift build -c release'")
        exit(1)
    }
    free(arguments[0])
    var status: Int32 = 0
    precondition(waitpid(process, &status, 0) == process && status == 0, "task-load failed")
}
