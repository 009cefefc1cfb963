import Glibc

/// What the cures of ForkGuardRuntime and ForkGuardProcessLocks cost a process that does nothing but what they make slower: the
/// same program with them and with `FORKGUARD_RUNTIME=off`, as processes that take turns. A process does one load once; medians of the processes are compared.
func benchmarkRuntime() {
    let rounds = 25
    guard runtimeLoad("cures", cures: true) == 1, runtimeLoad("cures", cures: false) == 0 else {
        print("runtime: the cures cannot be switched on here: runtime-load says why not")
        return
    }
    print("the Swift runtime's and the process's locks inside the gate; medians of \(rounds) pairs of processes, nanoseconds a call")
    for (load, what, promise) in [
        ("types-1", "a new generic type, used and cast, 1 thread", Promise.ratio(0.9)),
        ("types-2", "the same, 2 threads at once", .ratio(0.9)),
        ("global", "a lazy global, initialised before", .difference(3)),
        ("globals", "a lazy global's first use", .none),
        ("mutex-1", "a pthread mutex around an increment, 1 thread", .ratio(0.85)),
        ("mutex-2", "the same, 2 threads at once", .ratio(0.85)),
        ("nslock-1", "an NSLock around an increment, 1 thread", .ratio(0.85)),
        ("nslock-2", "the same, 2 threads at once", .ratio(0.85)),
    ] {
        var samples: [[Double]] = [[], []]
        // The first pair warms up; who comes second finds the other's traces in the caches, so they change places.
        for round in 0...rounds {
            for kind in round % 2 == 0 ? [0, 1] : [1, 0] {
                let sample = runtimeLoad(load, cures: kind == 0)
                if round > 0 { samples[kind].append(sample) }
            }
        }
        let with = median(samples[0]), without = median(samples[1])
        let ofPairs = zip(samples[0], samples[1]).map { $1 / $0 }.sorted()
        print("  \(what): \(rounded(with)) with, \(rounded(without)) without; ", terminator: "")
        print("\(rounded(with - without)) more, \(rounded(without / with)) times as fast\(promise)")
        print("    of single pairs: half from \(rounded(ofPairs[rounds / 4])) to \(rounded(ofPairs[rounds * 3 / 4])) times as fast")
    }
}

private enum Promise: CustomStringConvertible {
    case ratio(Double), difference(Double), none

    var description: String {
        switch self {
        case .ratio(let least): "  (promised: at least \(least))"
        case .difference(let most): "  (promised: at most \(most) more)"
        case .none: ""
        }
    }
}

/// Runs the program beside this one, and returns the number that it prints.
private func runtimeLoad(_ load: String, cures: Bool) -> Double {
    let path = directoryOfThisProgram() + "runtime-load"
    var ends: [Int32] = [0, 0]
    precondition(pipe(&ends) == 0)
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
    var arguments = [strdup(path), strdup(load), nil]
    if cures { unsetenv("FORKGUARD_RUNTIME") } else { setenv("FORKGUARD_RUNTIME", "off", 1) }
    var process: pid_t = 0
    guard posix_spawn(&process, path, &actions, nil, &arguments, environ) == 0 else {
        print("cannot start \(path): build it with 'swift build -c release'")
        exit(1)
    }
    posix_spawn_file_actions_destroy(&actions)
    for argument in arguments { free(argument) }
    close(ends[1])
    var text: [UInt8] = [], piece = [UInt8](repeating: 0, count: 64)
    while case let count = read(ends[0], &piece, piece.count), count > 0 { text += piece[..<count] }
    close(ends[0])
    var status: Int32 = 0
    precondition(waitpid(process, &status, 0) == process && status == 0, "\(load) failed")
    return Double(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })!
}
