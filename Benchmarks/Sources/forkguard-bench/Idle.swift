import CIdle
import Glibc

/// What a process that registers nothing and takes no lock pays for a fork because ForkGuard is linked: two programs of the same source,
/// one with ForkGuard in it and one without, as several pairs of processes that take turns. Where a process lies in memory decides how
/// fast it forks, by about as much as what is looked for; so the pairs show how far the difference can be believed.
func benchmarkIdle() {
    for threads in [0, 4] {
        let pairs = 16, rounds = 300, warmUp = 10
        let processes = (0..<pairs).map { _ in [IdleProcess("idle-linked", threads), IdleProcess("idle-bare", threads)] }
        // One list for each kind, of lists for each pair.
        var samples = [[[idle_fork]]](repeating: [[idle_fork]](repeating: [], count: pairs), count: 2)
        for round in 0..<rounds + warmUp {
            for pair in 0..<pairs {
                // Who comes second finds the other's traces in the caches, so they change places.
                for kind in round % 2 == 0 ? [0, 1] : [1, 0] {
                    let sample = processes[pair][kind].fork()
                    if round >= warmUp { samples[kind][pair].append(sample) }
                }
            }
        }
        for process in processes.joined() { process.end() }

        print("fork of an idle process, \(threads) idle threads; medians of \(pairs) pairs x \(rounds) interleaved rounds, microseconds")
        for (kind, name) in ["with ForkGuard linked", "without"].enumerated() {
            let all = samples[kind].flatMap { $0 }
            print(
                "  \(name): fork \(rounded(microseconds(all, \.nanoseconds))), fork to reaped "
                    + "\(rounded(microseconds(all, \.total_nanoseconds))), faults in the parent "
                    + "\(rounded(median(all.map { Double($0.parent_faults) }))), in the child "
                    + "\(rounded(median(all.map { Double($0.child_faults) })))")
        }
        report("fork", \.nanoseconds, samples, promise: "  (promised: at most 3)")
        report("fork to reaped", \.total_nanoseconds, samples, promise: "")
    }
}

private func report(_ what: String, _ time: KeyPath<idle_fork, UInt64>, _ samples: [[[idle_fork]]], promise: String) {
    let difference = microseconds(samples[0].flatMap { $0 }, time) - microseconds(samples[1].flatMap { $0 }, time)
    let ofPairs = zip(samples[0], samples[1]).map { microseconds($0, time) - microseconds($1, time) }.sorted()
    print("  difference, \(what): \(rounded(difference))\(promise); ", terminator: "")
    print("of single pairs: median \(rounded(median(ofPairs))), from \(rounded(ofPairs.first!)) to \(rounded(ofPairs.last!))")
}

private func microseconds(_ samples: [idle_fork], _ time: KeyPath<idle_fork, UInt64>) -> Double {
    median(samples.map { Double($0[keyPath: time]) }) / 1000
}

/// A program beside this one that forks when it is asked to.
private final class IdleProcess {
    private let requests: Int32
    private let answers: Int32
    private var process: pid_t = 0

    init(_ name: String, _ threads: Int) {
        // Closed on exec, so that nobody but this process keeps the others' input open.
        var request: [Int32] = [0, 0], answer: [Int32] = [0, 0]
        precondition(pipe(&request) == 0 && pipe(&answer) == 0)
        for end in request + answer { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, request[0], STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, answer[1], STDOUT_FILENO)
        let path = directoryOfThisProgram() + name
        var arguments = [strdup(path), strdup("\(threads)"), nil]
        guard posix_spawn(&process, path, &actions, nil, &arguments, environ) == 0 else {
            print("cannot start \(path): build it with 'swift build -c release'")
            exit(1)
        }
        posix_spawn_file_actions_destroy(&actions)
        for argument in arguments { free(argument) }
        close(request[0])
        close(answer[1])
        requests = request[1]
        answers = answer[0]
    }

    func fork() -> idle_fork {
        var go: UInt8 = 1
        precondition(write(requests, &go, 1) == 1)
        var sample = idle_fork()
        precondition(read(answers, &sample, MemoryLayout<idle_fork>.size) == MemoryLayout<idle_fork>.size)
        return sample
    }

    func end() {
        close(requests)
        close(answers)
        var status: Int32 = 0
        precondition(waitpid(process, &status, 0) == process && status == 0)
    }
}

func directoryOfThisProgram() -> String {
    var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let length = bytes.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
    precondition(length > 0)
    let path = bytes[..<length]
    return String(decoding: path[...path.lastIndex(of: UInt8(ascii: "/"))!], as: UTF8.self)
}
