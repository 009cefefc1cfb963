import ForkGuard
import ForkGuardTesting
import Foundation
import Wire
import XCTest

/// The daemon in C of Examples, into which ForkGuard was put: its parent forks workers in the midst of its threads, and so do they inherit
/// a table, a log and a pipe.
final class DaemonTests: XCTestCase {
    private static let workers = 4
    private static let threads = 4  // of a worker that answer
    private static let clients = 4

    private let tally = Tally()
    private let seen = ForkMutex<Set<pid_t>>([], name: "workers seen")
    private let isOver = ForkMutex(false, name: "over")
    private var checkers: [TestThread] = []
    private var log = URL(fileURLWithPath: "/")

    override func setUp() { log = FileManager.default.temporaryDirectory.appendingPathComponent("daemon-\(UUID().uuidString).log") }

    override func tearDown() {
        stopCheckers()
        try? FileManager.default.removeItem(at: log)
    }

    /// Workers are replaced and killed under load: every request is answered, and right, but for what a killed worker had in its hands.
    func test_daemon_workersComeAndGo() throws {
        let replacements = 40, kills = 150
        let daemon = try start(Hosts.daemon())
        startCheckers(daemon, patience: .seconds(10))
        guard answered(by: daemon.living) else { return XCTFail(stacks(daemon)) }

        // A worker that is told to end has an answer for all that it has accepted.
        let politely = try load(daemon)
        for round in 0..<replacements {
            let printed = daemon.printed
            daemon.signal(SIGHUP)
            let isReplaced = HTTPSupport.wait(.seconds(5)) {
                daemon.forked(after: printed).count == Self.workers && daemon.workers("exited(0)", after: printed).count == Self.workers
            }
            guard isReplaced && answered(by: daemon.living) else { return XCTFail("replacement \(round): \(stacks(daemon))") }
        }
        let polite = try politely.stop()
        XCTAssert(!polite.others && polite.read == 0 && polite.timeout == 0, polite.text)
        XCTAssertEqual(tally["lost"], 0, "\(tally)")

        // One that is killed loses what it has accepted.
        let rudely = try load(daemon)
        for kill in 0..<kills {
            let printed = daemon.printed
            Glibc.kill(try XCTUnwrap(daemon.living.first), SIGKILL)
            let isReplaced = HTTPSupport.wait(.seconds(5)) { daemon.forked(after: printed).count == 1 }
            guard isReplaced && answered(by: daemon.living) else { return XCTFail("kill \(kill): \(stacks(daemon))") }
        }
        let rude = try rudely.stop()
        stopCheckers()
        XCTAssert(!rude.others && rude.timeout == 0, rude.text)
        XCTAssertLessThanOrEqual(rude.read + tally["lost"], kills * Self.threads, "\(tally); \(rude.text)")
        XCTAssertEqual([tally["wrong"], tally["hung"]], [0, 0], "\(tally); \(stacks(daemon))")
        XCTAssertGreaterThan(tally["right"], 1000)
        XCTAssert(seen.withLock { $0.isSubset(of: daemon.forked()) }, "somebody else answers")

        XCTAssertEqual(try daemon.stop(), 0)
        XCTAssertEqual(daemon.forked().count, Self.workers * (1 + replacements) + kills)
        XCTAssertEqual(daemon.workers("exited(0)").count, Self.workers * (1 + replacements))
        XCTAssertEqual(daemon.workers("signalled(9)").count, kills)
        let log = try Log(log)
        XCTAssertEqual(log.twice, 0)
        XCTAssertGreaterThan(log.lines, 1000)
        // From 1; but what other threads than the first have counted may be written first.
        XCTAssertLessThanOrEqual(log.firstWork.values.max() ?? .max, Self.threads + 1)
        print(
            "daemon: \(daemon.forked().count) workers forked, \(replacements) replacements of all, \(kills) kills; \(polite.requests) and",
            "\(rude.requests) requests by wrk, \(tally); lost by wrk \(rude.read); \(log.lines) lines of log")
    }

    /// The control: the daemon as it was.
    func test_control_daemonWithoutForkGuardHangs() throws {
        let daemon = try start(Hosts.unguardedDaemon())
        startCheckers(daemon, patience: .seconds(2))
        for _ in 0..<20 where tally["hung"] == 0 {
            let printed = daemon.printed
            daemon.signal(SIGHUP)
            XCTAssert(HTTPSupport.wait(.seconds(2)) { daemon.forked(after: printed).count == Self.workers })
            _ = HTTPSupport.wait(.milliseconds(500)) { tally["hung"] != 0 }
        }
        XCTAssertGreaterThan(tally["hung"], 0, "the control did not fail: \(tally)")
        // The parent kills those that do not hear.
        XCTAssertEqual(try daemon.stop(), 0)
        let log = try Log(log)
        let inherited = log.firstWork.values.filter { $0 > Self.threads + 1 }.count
        print(
            "daemon without ForkGuard: \(tally);",
            "\(daemon.workers("signalled(9)").count) of \(daemon.forked().count) workers had to be killed;",
            "\(inherited) counted the parent's work as their own; \(log.twice) lines of log twice")
    }

    /// Workers have a tombstone for the parent's end of the pipe: when the parent is gone, they notice.
    func test_daemon_workersEndWithTheirParent() throws {
        let daemon = try start(Hosts.daemon()), workers = daemon.living
        daemon.signal(SIGKILL)
        let ending = try? daemon.ending(timeout: .seconds(5))
        if ending == nil { for worker in workers { kill(worker, SIGKILL) } }
        XCTAssertEqual(ending, -SIGKILL)
    }

    /// The control: each worker holds the pipe open for the others.
    func test_control_withoutTombstonesWorkersOutliveTheirParent() throws {
        let daemon = try start(Hosts.unguardedDaemon()), workers = daemon.living
        daemon.signal(SIGKILL)
        XCTAssertThrowsError(try daemon.ending(timeout: .seconds(1)))
        for worker in workers { kill(worker, SIGKILL) }
        XCTAssertEqual(try daemon.ending(timeout: .seconds(5)), -SIGKILL)
    }

    // ---- how ----

    private func start(_ executable: String) throws -> PreforkingServerProcess {
        let daemon = try PreforkingServerProcess(executable, ["\(Self.workers)", log.path])
        XCTAssert(HTTPSupport.wait(.seconds(5)) { daemon.forked().count == Self.workers })
        return daemon
    }

    private func load(_ daemon: PreforkingServerProcess) throws -> LoadGenerator {
        try LoadGenerator("http://127.0.0.1:\(daemon.address.port)/entry/512", connections: 8, seconds: 60)
    }

    private func startCheckers(_ daemon: PreforkingServerProcess, patience: Duration) {
        let (tally, seen, isOver, address) = (tally, seen, isOver, daemon.address)
        checkers = (0..<Self.clients).map { _ in
            TestThread {
                var last: [pid_t: Int] = [:]
                AnswerChecker(address, tally, seen: seen, patience: patience).run(isOver: { isOver.withLock { $0 } }) {
                    let number = Int.random(in: 0..<1024)
                    return (
                        "/entry/\(number)",
                        { process, answer, _ in
                            // Each process counts its own work.
                            let words = answer.split(whereSeparator: { " ,".contains($0) })
                            guard words.count == 8, let count = Int(words[7]), count > last[process, default: 0] else { return false }
                            last[process] = count
                            return answer == "whole entry \(number) of version \(words[5]), work \(count)"
                        }
                    )
                }
            }
        }
    }

    private func stopCheckers() {
        isOver.withLock { $0 = true }
        for checker in checkers { checker.join() }
        checkers = []
    }

    private func answered(by workers: [pid_t]) -> Bool {
        HTTPSupport.wait(.seconds(5)) { seen.withLock { $0.isSuperset(of: workers) } }
    }

    private func stacks(_ daemon: PreforkingServerProcess) -> String {
        "\(tally)\n" + daemon.living.map { "worker \($0)\n\(ProcessStack.read($0))" }.joined(separator: "\n")
    }

    /// What the daemon has logged.
    private struct Log {
        var lines = 0
        /// How many lines were there already.
        var twice = 0
        /// The lowest number of each process's work.
        var firstWork: [pid_t: Int] = [:]

        init(_ file: URL) throws {
            let all = try Data(contentsOf: file).split(separator: UInt8(ascii: "\n"))
            lines = all.count
            twice = lines - Set(all).count
            for line in all {
                let words = String(decoding: line, as: UTF8.self).split(separator: " ")
                let process = try XCTUnwrap(words.first.flatMap { pid_t($0) }), work = try XCTUnwrap(words.last.flatMap { Int($0) })
                firstWork[process] = min(work, firstWork[process] ?? .max)
            }
        }
    }
}
