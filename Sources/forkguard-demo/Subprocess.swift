#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// This executable once more, in a process of its own, with what it writes to standard output.
///
/// Its standard input is a pipe that nobody writes to: when it ends, so has this process. Nothing else of this process's descriptors reaches it.
struct Subprocess: ~Copyable {
    let pid: Int32
    private let output: Int32
    private let lifeline: Int32

    struct Failure: Error {
        let call: String
        let error: Int32
        var description: String { "\(call): \(String(cString: strerror(error)))" }
    }

    init(arguments: [String]) throws(Failure) {
        let (inputEnd, lifeline) = try Self.pipe()
        let (output, outputEnd) = try Self.pipe()
        defer {
            close(inputEnd)
            close(outputEnd)
        }
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
        #else
            var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, inputEnd, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, outputEnd, STDOUT_FILENO)
        var words: [UnsafeMutablePointer<CChar>?] = (["forkguard-demo"] + arguments).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        var pid: pid_t = 0
        let failure = Self.executable.withCString { posix_spawn(&pid, $0, &actions, nil, &words, environ) }
        guard failure == 0 else {
            close(lifeline)
            close(output)
            throw Failure(call: "posix_spawn", error: failure)
        }
        self.pid = pid
        self.output = output
        self.lifeline = lifeline
    }

    /// Ends it, if it has not: it is asked to, has a moment to end its own children, and is killed.
    deinit {
        close(lifeline)
        close(output)
        let end = MonotonicClock.now + 2 * MonotonicClock.second
        var status: Int32 = 0
        while waitpid(pid, &status, WNOHANG) == 0 {
            if MonotonicClock.now >= end { kill(pid, SIGKILL) }
            MonotonicClock.sleep(MonotonicClock.millisecond)
        }
    }

    /// The next line that it writes, with its end; `nil` if it ends before, or takes longer.
    func readLine(timeout: UInt64) -> String? {
        let end = MonotonicClock.now + timeout
        var line: [UInt8] = []
        while line.last != UInt8(ascii: "\n") {
            let now = MonotonicClock.now
            guard now < end else { return nil }
            var wanted = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&wanted, 1, Int32(clamping: (end - now) / MonotonicClock.millisecond + 1)) > 0 else { continue }
            var byte: UInt8 = 0
            switch read(output, &byte, 1) {
            case 1: line.append(byte)
            case 0: return nil
            default: if errno != EINTR { return nil }
            }
        }
        return String(decoding: line, as: UTF8.self)
    }

    /// In a subprocess: closes what whoever started the demo may have left open.
    static func closeStrayDescriptors() { for descriptor in 3..<Int32(1024) { close(descriptor) } }

    /// In a subprocess: whether whoever started it has ended.
    static func isOrphan(waiting milliseconds: Int32) -> Bool {
        var wanted = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        return poll(&wanted, 1, milliseconds) > 0
    }

    private static var executable: String {
        #if canImport(Darwin)
            var length: UInt32 = 0
            _NSGetExecutablePath(nil, &length)
            return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(length)) { path in
                _NSGetExecutablePath(path.baseAddress!, &length)
                return String(cString: path.baseAddress!)
            }
        #else
            "/proc/self/exe"
        #endif
    }

    /// Neither end is inherited.
    private static func pipe() throws(Failure) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        #if canImport(Glibc)
            let result = Glibc.pipe(&ends)
        #elseif canImport(Musl)
            let result = Musl.pipe(&ends)
        #else
            let result = Darwin.pipe(&ends)
        #endif
        guard result == 0 else { throw Failure(call: "pipe", error: errno) }
        // No other thread forks in between: there is none.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }
}
