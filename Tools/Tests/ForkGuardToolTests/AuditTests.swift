internal import Foundation
internal import XCTest

final class AuditTests: XCTestCase {
    override func setUpWithError() throws { try Fixtures.needLibraries() }

    private static let broken = [
        "exit-handlers-in-child", "fork-in-signal-handler", "fork-without-handlers", "goodbye-in-child", "handlers-registered-twice",
        "join-of-vanished-thread", "lock-of-vanished-thread", "shared-connection", "shared-epoll", "shared-offset",
    ]

    func testBrokenProgramsAreFoundByName() throws {
        let directory = try Fixtures.broken()
        for name in Self.broken {
            let run = try AuditedRun(["\(directory.path)/\(name)-broken"])
            let finding = try run.finding(name)
            XCTAssertGreaterThan(finding.count, 0, name)
            XCTAssertFalse(finding.explanation.isEmpty || finding.fix.isEmpty || finding.title == name, "\(name) has no text")
            XCTAssert(run.names.subtracting([name]).isSubset(of: ["hung-child", "lock-of-vanished-thread"]), "\(name): \(run.names)")
            XCTAssertEqual(run.report.notes, [], name)
            // Where it is, in the program's own source.
            XCTAssert(
                finding.places.contains { $0.stack.contains { $0.file?.hasSuffix("\(name).c") ?? false } }, "\(name): \(finding.places)")
        }
    }

    func testMendedTwinsGiveNoFinding() throws {
        let directory = try Fixtures.broken()
        for name in Self.broken {
            let run = try AuditedRun(["\(directory.path)/\(name)-mended"])
            XCTAssertEqual(run.names, [], "\(name): \(run.report.findings.flatMap(\.details))")
            XCTAssertGreaterThan(run.report.forkCount, 0, name)
            XCTAssertGreaterThan(run.report.processes, 1, name)
        }
    }

    func testHungChildIsNamedWithWhatItWaitsForAndWhoHadIt() throws {
        let run = try AuditedRun(["\(try Fixtures.broken().path)/lock-of-vanished-thread-broken"])
        let hung = try run.finding("hung-child")
        XCTAssertEqual(hung.count, 1)
        XCTAssert(
            try XCTUnwrap(hung.details.first).contains("waited for a mutex (cache_lock in lock-of-vanished-thread-broken)"),
            "\(hung.details)")
        XCTAssertEqual(hung.places.first?.stack.first?.function, "look_up")
        let fork = try XCTUnwrap(run.report.forks.first { hung.forks.contains($0.id) })
        XCTAssertEqual(fork.children["hung"], 1)
        // Who vanished, where it was, and what it had taken where.
        let vanished = try XCTUnwrap(fork.vanished.first)
        XCTAssertEqual(vanished.name, "refresher")
        XCTAssert(vanished.stack.contains { $0.function == "refresh" }, "\(vanished)")
        let lock = try XCTUnwrap(fork.held.first)
        XCTAssertEqual(lock.symbol, "cache_lock in lock-of-vanished-thread-broken")
        XCTAssertEqual(lock.thread, "refresher")
        XCTAssertEqual(lock.stack.first?.function, "refresh")
    }

    /// A semaphore has no holder: this child is known by its stillness alone.
    func testChildThatHangsOtherwiseIsFoundByItsStillness() throws {
        let run = try AuditedRun([try Fixtures.program("hangs-on-semaphore", Fixtures.directory(self))])
        let hung = try run.finding("hung-child")
        XCTAssertEqual(hung.details, ["its one thread waited for a lock or condition"])
        XCTAssert(try XCTUnwrap(hung.places.first).stack.contains { $0.function == "ask_for_answer" }, "\(hung.places)")
    }

    /// The stacks of a hundred forks' other threads are read, and none of them notices: a call that ends with EINTR when a thread is
    /// stopped is made again.
    func testThreadsDoNotNoticeThatTheirStacksAreRead() throws {
        let program = try Fixtures.program("waits-for-events", Fixtures.directory(self))
        let run = try AuditedRun([program, "0"])
        XCTAssertEqual(run.report.exitStatus, 0, "a call ended that should not have: 1 epoll_wait, 2 sigtimedwait, 4 write")
        XCTAssertEqual(run.report.findings.count, 0)
        let fork = try XCTUnwrap(run.report.forks.first { $0.count == 100 })
        let loop = try XCTUnwrap(fork.vanished.first { $0.name == "event-loop" })
        XCTAssert(loop.stack.contains { $0.function == "in_epoll_wait" }, "\(loop)")
        XCTAssert(["epoll_wait", "epoll_pwait"].contains(loop.call), "\(loop)")
        XCTAssert(fork.vanished.contains { $0.stack.contains { $0.function == "in_sigwait" } })
    }

    func testInputOutputAndStatusAreTheProgramsOwn() throws {
        let tool = try ToolProcess(["audit", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
        XCTAssertEqual(tool.status, 7)
        XCTAssertEqual(tool.output, "out\n")
        XCTAssert(tool.errors.hasPrefix("err\n== forkguard audit: sh -c "), tool.errors)
        XCTAssert(tool.errors.contains("exit status 7"), tool.errors)
        let killed = try AuditedRun(["sh", "-c", "kill -KILL $$"])
        XCTAssertEqual(killed.tool.status, 128 + SIGKILL)
        XCTAssertEqual(killed.report.signal, SIGKILL)
        XCTAssertNil(killed.report.exitStatus)
    }

    func testSignalsAreHandedOn() throws {
        let program = try Fixtures.program("tells-signal", Fixtures.directory(self))
        let tool = try ToolProcess(["audit", "--", program], signal: SIGTERM)
        XCTAssertEqual(tool.status, 42)
        XCTAssert(tool.errors.contains("exit status 42"), tool.errors)
    }

    func testTimeLimitEndsWhatWasStarted() throws {
        let directory = try Fixtures.directory(self)
        let numbers = directory.appendingPathComponent("numbers").path
        // The shell's child is one that executes a program; both must be gone, and both ignore the first signal.
        let script = "trap '' TERM; sleep 600 & echo $$ $! >\(numbers); wait; sleep 600"
        let run = try AuditedRun(["sh", "-c", script], options: ["--timeout", "1"])
        XCTAssertEqual(run.tool.status, 124)
        XCTAssert(run.report.timedOut)
        let pids = try String(contentsOfFile: numbers, encoding: .utf8).split(whereSeparator: \.isWhitespace).compactMap { Int32($0) }
        XCTAssertEqual(pids.count, 2)
        for pid in pids { XCTAssertFalse(isRunning(pid), "\(pid) is there after --timeout") }
    }

    /// A child that nobody reaped is not running.
    private func isRunning(_ pid: Int32) -> Bool {
        guard let status = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return false }
        return !status.contains(") Z ")
    }

    func testFindingsFailWhereThatIsAskedFor() throws {
        let directory = try Fixtures.broken().path
        let broken = try AuditedRun(["\(directory)/shared-offset-broken"], options: ["--fail-on-findings"])
        XCTAssertEqual(broken.tool.status, 3)
        let mended = try AuditedRun(["\(directory)/shared-offset-mended"], options: ["--fail-on-findings"])
        XCTAssertEqual(mended.tool.status, 0)
    }

    func testTextAndJSONSayTheSame() throws {
        let command = "\(try Fixtures.broken().path)/shared-connection-broken"
        let run = try AuditedRun([command])
        XCTAssertEqual(run.report.version, 1)
        XCTAssertEqual(run.report.command, [command])
        let text = try ToolProcess(["audit", "--", command])
        for finding in run.report.findings { XCTAssert(text.errors.contains("!! \(finding.name): \(finding.title)"), text.errors) }
        for fork in run.report.forks { XCTAssert(text.errors.contains(" \(fork.id): "), text.errors) }
        let shared = try XCTUnwrap(run.report.forks.flatMap(\.descriptors).first { !$0.usedByParent.isEmpty && !$0.usedByChild.isEmpty })
        XCTAssertEqual(shared.kind, "socket")
        // Lines that a terminal shows whole, but for names that are longer.
        for line in text.errors.split(separator: "\n") { XCTAssertLessThan(line.count, 200, String(line)) }
    }

    /// A process that nobody may trace, of a user that may trace nobody else's.
    func testWherePtraceIsNotPermittedTheReportSaysSoAndGoesOn() throws {
        guard getuid() == 0 else { throw XCTSkip("only root can become another user") }
        // Where that user may read it, wherever this package is; the library is found beside the executable.
        let directory = try Fixtures.directory(self)
        try FileManager.default.copyItem(at: ToolProcess.executable(), to: directory.appendingPathComponent("forkguard"))
        let library = try XCTUnwrap(Fixtures.library("libforkguard-audit.so"))
        try FileManager.default.copyItem(atPath: library, toPath: directory.appendingPathComponent("libforkguard-audit.so").path)
        let program = try Fixtures.program("not-dumpable", directory)
        let tool = try ToolProcess(["audit", "--", program], ["FORKGUARD_LIBRARY_PATH": ""], user: 65534, in: directory)
        XCTAssertEqual(tool.status, 0)
        XCTAssertEqual(tool.errors.components(separatedBy: "ptrace is not permitted here").count, 2, tool.errors)
        XCTAssert(tool.errors.contains("-- F1: fork, 1 time"), tool.errors)
        XCTAssert(tool.errors.contains("does what nobody may see"), tool.errors)
    }

    func testForksAreGroupedByTheirStack() throws {
        let run = try AuditedRun(["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do (exit $i); done"])
        XCTAssertEqual(run.report.forkCount, 10)
        XCTAssertEqual(run.report.forks.map(\.count), [10])
        XCTAssertEqual(run.report.forks.first?.children["exited"], 10)
        XCTAssertEqual(run.report.findings.count, 0, "\(run.report.findings)")
    }

    func testLibraryIsThereOnceUnderItself() throws {
        let run = try AuditedRun(["sh", "-c", "echo $LD_PRELOAD"], environment: ["LD_PRELOAD": "libdl.so.2"])
        XCTAssertEqual(run.tool.output.split(separator: ":").count, 2, run.tool.output)
        XCTAssert(run.tool.output.hasSuffix(":libdl.so.2\n"))
    }
}
