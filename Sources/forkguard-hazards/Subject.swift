import CForkGuardTesting
import Dispatch
import ForkGuard
import Foundation

/// A parent that forks, in a process of its own: the fresh process that a row is measured in.
///
/// Standard input is a pipe that nobody writes to: when it ends, so has the program. Lines go to descriptor 3.
struct Subject: Sendable {
    private let row: Row
    private let load: Load
    private let column: Column
    private let forks: Int
    private let first: Int
    private let wantsStack: Bool

    static let report: Int32 = 3
    static let childDeadline = 2 * Clock.second
    /// A child with a wrong result.
    static let wrong: Int32 = 3
    /// A child that was told by an error of ForkGuard's what it cannot have.
    static let refused: Int32 = 4

    init(_ arguments: SubjectArguments) {
        row = arguments.row
        load = arguments.load
        column = arguments.column
        forks = arguments.forks
        first = arguments.first
        wantsStack = arguments.wantsStack
    }

    func main() -> Never {
        signal(SIGPIPE, SIG_IGN)
        // With its children: what hangs among them goes away with it.
        setpgid(0, 0)
        // Not even the thread that watches the program.
        if load == .alone { forkAll([]) { row.make(column) } }
        let subject = self
        guard SystemThread("lifeline", { Self.endWithTheProgram() }) != nil, SystemThread("forks", { subject.run() }) != nil else {
            fgt_exit(EX_OSERR)
        }
        if row.drainsMain { dispatchMain() }
        while true { pause() }
    }

    private static func endWithTheProgram() -> Never {
        var lifeline = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        while poll(&lifeline, 1, -1) <= 0 {}
        kill(0, SIGKILL)
        fgt_exit(EX_OSERR)
    }

    /// The thread that forks: not the main one.
    private func run() -> Never {
        let hazard = row.make(column)
        let hammers = (0..<hazard.hammers).map { _ in Hammer() }
        for (index, hammer) in hammers.enumerated() { start(hammer, index, of: hammers.count, hazard) }
        // So that they are in the middle of it, and not always at the same place.
        let turns = load == .idle ? 2 : 2 + first % 17
        wait(atMost: 5 * Clock.second) { hammers.allSatisfy { $0.turns >= turns || (hazard.arrange != nil && load == .hammered) } }
        forkAll(hammers) { hazard }
    }

    /// `hazard` is called in each child; alone, it is made there.
    private func forkAll(_ hammers: [Hammer], _ hazard: @escaping @Sendable () -> Hazard) -> Never {
        var toldStack = !wantsStack
        for index in 0..<forks {
            if load == .hammered {
                hazard().arrange?(index)
                wait(atMost: 10 * Clock.millisecond) { hammers.contains { $0.isInside } }
            }
            let (outcome, isInside, note) = fork(index, hazard, hammers, &toldStack)
            tell(.child(outcome, inside: isInside))
            if let note { tell(.note(note)) }
        }
        tell(.end)
        fgt_exit(0)
    }

    private func start(_ hammer: Hammer, _ index: Int, of count: Int, _ hazard: Hazard) {
        let isIdle = load == .idle
        let started = SystemThread("hammer \(index)") {
            var turn = 0
            while !(isIdle && turn == 2) {
                hazard.hammer(hammer, UInt64(3 + turn * count + index))
                hammer.finishTurn()
                turn += 1
            }
            while true { pause() }
        }
        if started == nil { fatalError("no more threads") }
    }

    /// Ends a child that serves the main queue.
    static func end(_ isRight: Bool) -> Never { fgt_exit(isRight ? 0 : wrong) }

    // ---- one fork ----

    private func fork(
        _ index: Int, _ hazard: @escaping @Sendable () -> Hazard, _ hammers: [Hammer], _ toldStack: inout Bool
    ) -> (Outcome, inside: Bool, note: String?) {
        guard let errors = try? Descriptors.pipe() else { fatalError("no pipe") }
        defer { close(errors.read) }
        // What ForkGuard's handlers say in the child is said before fork() returns there, so the parent's own has to be the pipe meanwhile.
        let own = dup(STDERR_FILENO)
        dup2(errors.write, STDERR_FILENO)
        close(errors.write)
        let isOurs = column == .guarded && (first + index) % 2 == 1
        let isInside = hammers.contains { $0.isInside }
        var pid: Int32 = -1
        var refusal: String?
        do throws(ForkError) {
            pid = try start(index, hazard, isOurs: isOurs)
        } catch {
            refusal = "ForkGuard.fork: \(error)"
        }
        dup2(own, STDERR_FILENO)
        close(own)
        let way = isOurs ? "ForkGuard.fork" : "fork()"
        if let refusal { return (.refused, isInside, refusal) }
        if pid < 0 { return (.crashed, isInside, "\(way) failed: \(String(cString: strerror(-pid)))") }

        var said: [UInt8] = []
        let hasEnded = waitForEnd(of: pid, deadline: Clock.now + Self.childDeadline, errors.read, &said)
        if !hasEnded {
            var note: String?
            if !toldStack {
                toldStack = true
                note = "a child by \(way) hung:\n\(ProcessStack.read(pid))"
            }
            fgt_kill(pid)
            _ = fgt_reap(pid)
            said += Descriptors.available(errors.read) ?? []
            return (.hung, isInside, note.map { $0 + Self.quoted(said) })
        }
        let status = fgt_reap(pid)
        said += Descriptors.available(errors.read) ?? []
        if fgt_exit_code(status) == 0 { return (.ok, isInside, nil) }
        let outcome: Outcome = Self.isRefusal(status, said) ? .refused : .crashed
        return (outcome, isInside, "a child by \(way) \(Self.ending(status))\(Self.quoted(said))")
    }

    /// A child that checks, by either way to fork; a negative errno when fork() failed.
    private func start(_ index: Int, _ hazard: @escaping @Sendable () -> Hazard, isOurs: Bool) throws(ForkError) -> Int32 {
        if load != .alone, let checkInTask = hazard().checkInTask {
            return try startInTask(index, hazard, isOurs: isOurs, checkInTask)
        }
        if isOurs { return try startByForkGuard(index, hazard) }
        let pid = fgt_fork(Int32(FGT_FORK))
        if pid == 0 { fgt_exit(Self.status(index, hazard)) }
        return pid
    }

    private func startByForkGuard(_ index: Int, _ hazard: @escaping @Sendable () -> Hazard) throws(ForkError) -> Int32 {
        try ForkGuard.fork(options: row.drainsMain ? .onCallingThread : []) { Self.status(index, hazard) }.pid
    }

    private func startInTask(
        _ index: Int, _ hazard: @escaping @Sendable () -> Hazard, isOurs: Bool, _ check: @escaping @Sendable (Int) async -> Bool
    ) throws(ForkError) -> Int32 {
        let started = Latch<Result<Int32, ForkError>>()
        let subject = self
        Task.detached {
            if isOurs {
                started.give(Result { () throws(ForkError) in try subject.startByForkGuard(index, hazard) })
            } else {
                let pid = fgt_fork(Int32(FGT_FORK))
                if pid == 0 { Self.end(await check(index)) }
                started.give(.success(pid))
            }
        }
        return try started.wait().get()
    }

    /// In the child: checks; what it is to exit with.
    private static func status(_ index: Int, _ hazard: () -> Hazard) -> Int32 {
        do {
            return try hazard().check(index) ? 0 : wrong
        } catch {
            Console.error("\(error)\n")
            return error is ForkError ? refused : wrong
        }
    }

    /// False at the deadline.
    private func waitForEnd(of pid: Int32, deadline: UInt64, _ errors: Int32, _ said: inout [UInt8]) -> Bool {
        let pidfd = fgt_pidfd(pid)
        defer { fgt_close(pidfd) }
        var errorsAreOpen = true
        while fgt_has_ended(pid) == 0 {
            let left = Clock.milliseconds(until: deadline)
            if left == 0 { return false }
            var watched = [
                pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0),
                pollfd(fd: errorsAreOpen ? errors : -1, events: Int16(POLLIN), revents: 0),
            ]
            // Without a pidfd, in small steps.
            poll(&watched, 2, pidfd < 0 ? min(left, 5) : left)
            if watched[1].revents != 0 {
                if let more = Descriptors.available(errors) { said += more } else { errorsAreOpen = false }
            }
        }
        return true
    }

    /// An error of ForkGuard's, a trap of it, or its `fork` that could not run the body; the last two have a message that is the last.
    private static func isRefusal(_ status: Int32, _ said: [UInt8]) -> Bool {
        if fgt_exit_code(status) == refused { return true }
        let lines = String(decoding: said, as: UTF8.self).split(separator: "\n")
        guard let last = lines.last, last.hasPrefix("ForkGuard: ") else { return false }
        return [SIGABRT, SIGILL, SIGTRAP].contains(fgt_end_signal(status))
            || [ForkGuard.bodyThrewStatus, ForkGuard.noThreadStatus].contains(fgt_exit_code(status))
    }

    private static func ending(_ status: Int32) -> String {
        let signal = fgt_end_signal(status)
        if signal == 0 { return fgt_exit_code(status) == wrong ? "had a wrong result" : "exited with \(fgt_exit_code(status))" }
        var name = [CChar](repeating: 0, count: 64)
        fgt_signal_name(signal, &name, name.count)
        return "was ended by signal \(signal) (\(String(decoding: name.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)))"
    }

    private static func quoted(_ said: [UInt8]) -> String {
        let text = String(decoding: said.suffix(1500), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        return text.isEmpty ? "" : "\nit said: \(text)"
    }

    private func tell(_ line: SubjectLine) { Console.put(line.text, Self.report) }

    private func wait(atMost limit: UInt64, _ condition: () -> Bool) {
        let end = Clock.now + limit
        while !condition(), Clock.now < end { sched_yield() }
    }
}
