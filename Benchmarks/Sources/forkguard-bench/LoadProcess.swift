import CForkLoad
import Glibc

/// A program beside this one that holds a load and forks when it is told to (CForkLoad).
final class LoadProcess {
    private let requests: Int32
    private let answers: Int32
    private let process: pid_t

    /// With ForkGuard in it, or without.
    init(guarded: Bool, _ load: String, _ size: Int) {
        (process, requests, answers) = start(guarded ? "fork-load" : "fork-load-bare", [load, "\(size)"])
    }

    /// Lets it fork: once, or a hundred times if it is hammered meanwhile.
    func fork() -> [load_fork] {
        var go: UInt8 = 1
        precondition(write(requests, &go, 1) == 1)
        var count: UInt32 = 0
        withUnsafeMutableBytes(of: &count, fill)
        return [load_fork](unsafeUninitializedCapacity: Int(count)) { forks, initialized in
            fill(UnsafeMutableRawBufferPointer(forks))
            initialized = Int(count)
        }
    }

    func end() {
        close(requests)
        close(answers)
        reap(process)
    }

    private func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < bytes.count {
            let more = read(answers, bytes.baseAddress! + done, bytes.count - done)
            precondition(more > 0, "a fork-load ended")
            done += more
        }
    }
}

/// What a program beside this one prints.
func output(of name: String, _ arguments: String...) -> String {
    let (process, input, output) = start(name, arguments)
    close(input)
    var text: [UInt8] = [], piece = [UInt8](repeating: 0, count: 4096)
    while case let count = read(output, &piece, piece.count), count > 0 { text += piece[..<count] }
    close(output)
    reap(process)
    return String(decoding: text, as: UTF8.self)
}

private func start(_ name: String, _ arguments: [String]) -> (process: pid_t, input: Int32, output: Int32) {
    // Closed on exec, so that nobody but this process keeps the others' input open.
    var input: [Int32] = [0, 0], output: [Int32] = [0, 0]
    precondition(pipe(&input) == 0 && pipe(&output) == 0)
    for end in input + output { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO)
    posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO)
    let path = directoryOfThisProgram() + name
    var strings = ([path] + arguments).map { strdup($0) } + [nil]
    var process: pid_t = 0
    guard posix_spawn(&process, path, &actions, nil, &strings, environ) == 0 else {
        standardError("cannot start \(path): build it with 'swift build -c release'")
        exit(1)
    }
    posix_spawn_file_actions_destroy(&actions)
    for string in strings { free(string) }
    close(input[0])
    close(output[1])
    return (process, input[1], output[0])
}

private func reap(_ process: pid_t) {
    var status: Int32 = 0
    precondition(waitpid(process, &status, 0) == process && status == 0, "a load failed")
}

private func directoryOfThisProgram() -> String {
    var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
    let length = bytes.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
    precondition(length > 0)
    let path = bytes[..<length]
    return String(decoding: path[...path.lastIndex(of: UInt8(ascii: "/"))!], as: UTF8.self)
}
