import CForkGuardTesting
import Foundation

/// A subject, as the program that started it sees it.
struct SubjectProcess: ~Copyable {
    let pid: Int32
    private let report: Int32
    private let errors: Int32
    private let lifeline: Int32
    /// Readable when it has ended: its report has no end as long as one of its children has it open.
    private let pidfd: Int32
    private var unread: [UInt8] = []
    private var said: [UInt8] = []

    init(_ arguments: SubjectArguments, home: String) throws(Descriptors.Failure) {
        let input = try Descriptors.pipe()
        let report = try Descriptors.pipe()
        let errors = try Descriptors.pipe()
        defer { for end in [input.read, report.write, errors.write] { close(end) } }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input.read, STDIN_FILENO)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, errors.write, STDERR_FILENO)
        posix_spawn_file_actions_adddup2(&actions, report.write, Subject.report)
        var words: [UnsafeMutablePointer<CChar>?] = (["forkguard-hazards"] + arguments.words).map { strdup($0) } + [nil]
        var environment: [UnsafeMutablePointer<CChar>?] =
            Self.environment(arguments.column, home: home).map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for word in words + environment { free(word) } }
        var pid: pid_t = 0
        let failure = posix_spawn(&pid, "/proc/self/exe", &actions, nil, &words, &environment)
        guard failure == 0 else {
            for end in [input.write, report.read, errors.read] { close(end) }
            throw Descriptors.Failure(call: "posix_spawn", error: failure)
        }
        self.pid = pid
        self.report = report.read
        self.errors = errors.read
        lifeline = input.write
        pidfd = fgt_pidfd(pid)
    }

    /// Ends it and its children.
    deinit {
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)
        _ = fgt_reap(pid)
        for end in [report, errors, lifeline, pidfd] { fgt_close(end) }
    }

    private static func environment(_ column: Column, home: String) -> [String: String] {
        var environment = ProcessInfo.processInfo.environment
        environment["FORKGUARD_RUNTIME"] = column == .unguarded ? "off" : nil
        // A backtrace of each crash would take a second.
        environment["SWIFT_BACKTRACE"] = "enable=no"
        // UserDefaults writes files there.
        environment["HOME"] = home
        environment["CFFIXED_USER_HOME"] = home
        environment["XDG_CONFIG_HOME"] = home
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] { environment[name] = nil }
        return environment
    }

    /// The next line; `nil` when it ended, or wrote none until the deadline.
    mutating func readLine(deadline: UInt64) -> String? {
        var errorsAreOpen = true
        while true {
            if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: unread[..<end], as: UTF8.self)
                unread.removeFirst(end + 1)
                return line
            }
            let left = Clock.milliseconds(until: deadline)
            if left == 0 { return nil }
            var watched = [
                pollfd(fd: report, events: Int16(POLLIN), revents: 0),
                pollfd(fd: errorsAreOpen ? errors : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0),
            ]
            poll(&watched, 3, left)
            if watched[1].revents != 0 {
                if let more = Descriptors.available(errors) { said += more } else { errorsAreOpen = false }
            }
            if watched[0].revents != 0 {
                guard let more = Descriptors.available(report) else { return nil }
                unread += more
            } else if watched[2].revents != 0 {
                // After its last line, which comes before its end.
                guard let more = Descriptors.available(report), !more.isEmpty else { return nil }
                unread += more
            }
        }
    }

    /// Why there was no further line: `hung` when it runs still, with its stack.
    mutating func failure() -> (Outcome, String) {
        // The end of its report is a moment before its end.
        let deadline = Clock.now + Clock.second
        while fgt_has_ended(pid) == 0, Clock.now < deadline { sched_yield() }
        said += Descriptors.available(errors) ?? []
        let text = String(decoding: said.suffix(1500), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        let words = text.isEmpty ? "" : "\nit said: \(text)"
        if fgt_has_ended(pid) == 0 {
            return (.hung, "the parent itself hung:\n\(ProcessStack.read(pid))\(words)")
        }
        return (.crashed, "the parent itself ended\(words)")
    }
}
